"""The HTTP connector as a raw ASGI application: Django's request cycle would cost most of its speed."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from django.conf import settings
from django.db import Error

from ingest.connectors import http
from ingest.connectors.intake.door import IntakeDoor
from ingest.connectors.large_bodies import LargeBodies
from ingest.device_tokens import TokenOwner
from ingest.message import Outcome, RawMessage
from ingest.metrics_server import MetricsServer
from ingest.record_limiter import RecordLimiter
from ingest.service import Ingest
from ingest.writer import Completion, QueueFull, Submission
from thingscale.background.watched import log_failure
from thingscale.lib.rate_limiter import RateLimiter
from thingscale.web import http_response
from thingscale.web.body_room import FREE, BodyRoom, NoRoom
from thingscale.web.fair_semaphore import Busy
from thingscale.web.fair_threads import ClientLeft
from thingscale.web.http_parser import Request
from thingscale.web.http_response import Response
from thingscale.web.request_body import Message, Receive, Scope, Send
from thingscale.web.timeouts import Timeouts

BODY_SECONDS = 30


class HttpConnector:
    """To be started once, in the event loop that calls it."""

    _loop: asyncio.AbstractEventLoop
    timeouts: Timeouts

    def __init__(self) -> None:
        self.intakes = IntakeDoor(self)
        self.ingest = Ingest(self._dispatch, on_change=self.intakes.shared.cache.on_change)
        self.lookups = ThreadPoolExecutor(2, thread_name_prefix="tokens")
        self.bodies = BodyRoom()
        self.large = LargeBodies()
        self._rate_limiter = RateLimiter(settings.HTTP_RATE)
        self._too_fast = RecordLimiter(30, 60.0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bad_tokens = RecordLimiter(60, 60.0)
        gauges = self.ingest.writer.gauges
        self._metrics_server = MetricsServer(settings.WEB_METRICS_PORT, self.ingest, gauges, protocol="http")

    # The direct way (thingscale/web/http_protocol.py) has no await, so that it needs no task

    @property
    def store_seconds(self) -> float:
        return float(settings.HTTP_STORE_SECONDS)

    @property
    def too_slow(self) -> Response:
        return _response(http.TOO_SLOW, as_json=False)

    def admit(self, request: Request, answer: Callable[[Response], None]) -> "Exchange | Response | None":
        """None: the request goes the other way, as ASGI. That is so for everything but a POST to the
        connector, for a body that needs room, and for a token that only the database knows."""
        if request.method != "POST" or not http.kind_of(request.path):
            return None
        if request.chunked or (request.length or 0) > FREE:
            return None
        headers = request.fields
        if settings.CORS_ORIGINS and b"origin" in headers:
            return None  # thingscale/web/cors.py completes the answer
        token_owner = self.ingest.device_tokens.cached(headers.get(b"x-devicetoken", b"").decode("latin-1"))
        if token_owner is None:
            return None
        as_json = http.wants_json(headers.get(b"accept", b""))
        if not isinstance(token_owner, TokenOwner):
            self._note_bad_token(request.path, headers)
            return _response(http.AUTH_REQUIRED, as_json)
        if refusal := http.refuse_body(headers):
            return _response(refusal, as_json)
        decision = http.check_rate(self._rate_limiter, token_owner.user, headers)
        if decision.refusal:
            if self._too_fast.should_record(token_owner.user, http.sender(headers), self._loop.time()):
                self._record(http.too_fast(request.path, token_owner.user, headers))
            return _response(decision.on(decision.refusal), as_json)
        return Exchange(self, request, token_owner.user, Reply(decision, as_json, answer))

    def take_large(self, exchange: "Exchange", body: bytes) -> None:
        task = self._loop.create_task(exchange.take_large(self.large, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    # Life

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.timeouts = Timeouts()
        self.ingest.start()
        self.intakes.shared.log.start()
        self._metrics_server.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self.ingest.stop)
        await asyncio.to_thread(self.intakes.shared.log.stop)
        self.lookups.shutdown(wait=False)
        self.large.stop()
        self._metrics_server.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: http.Headers = dict(scope["headers"])
        answer = await self._answer(scope, headers, receive)
        if answer is not None:
            start, body = _written(answer, http.wants_json(headers.get(b"accept", b"")))
            await send(start)
            await send(body)

    async def _answer(self, scope: Scope, headers: http.Headers, receive: Receive) -> http.Answer | None:
        """None if the client has gone."""
        if scope["method"] != "POST":
            return http.METHOD_NOT_ALLOWED
        path, token = scope["path"], headers.get(b"x-devicetoken", b"").decode("latin-1")
        token_owner = self.ingest.device_tokens.cached(token)
        if token_owner is None:
            try:
                found = self._loop.run_in_executor(self.lookups, self.ingest.device_tokens.find, token)
                token_owner = await self.timeouts.wait_for(settings.HTTP_STORE_SECONDS, found)
            except (Error, TimeoutError):
                return http.TRY_AGAIN
        if not isinstance(token_owner, TokenOwner):
            self._note_bad_token(path, headers)
            return http.AUTH_REQUIRED
        user = token_owner.user
        if refusal := http.refuse_body(headers):
            return refusal
        decision = http.check_rate(self._rate_limiter, user, headers)
        if decision.refusal:
            if self._too_fast.should_record(user, http.sender(headers), self._loop.time()):
                self._record(http.too_fast(path, user, headers))
            return decision.on(decision.refusal)
        try:
            reading = self.bodies.read(user, receive, http.MAX_BODY)
            body = await self.timeouts.wait_for(BODY_SECONDS, reading)
        except TimeoutError:
            return decision.on(http.TOO_SLOW)
        except NoRoom:
            return decision.on(http.TRY_AGAIN)
        return None if body is None else decision.on(await self._store(path, user, headers, body))

    def _record(self, message: RawMessage) -> None:
        """A request that was refused already, so that nobody waits for its outcome."""
        with contextlib.suppress(QueueFull):
            self.ingest.writer.accept([message], lambda outcomes: None)

    def _note_bad_token(self, path: str, headers: http.Headers) -> None:
        """In the list of its account, if it is the token of one."""
        token = headers.get(b"x-devicetoken", b"").decode("latin-1")
        user = self.ingest.device_tokens.whose(token)
        if user and self._bad_tokens.should_record(user, token, self._loop.time()):
            self._record(http.bad_token(path, user, headers))

    async def _store(self, path: str, user: int, headers: http.Headers, body: bytes) -> http.Answer:
        stored: asyncio.Future[Outcome] = self._loop.create_future()

        def done(outcomes: list[Outcome]) -> None:
            if not stored.done():
                stored.set_result(outcomes[0])

        def accept(body: bytes) -> Submission:
            return self.ingest.writer.accept([http.message(path, user, headers, body)], done)

        try:
            if http.takes_long(headers, body):
                never: asyncio.Future[None] = self._loop.create_future()
                submission = await self.large.read(user, body, never, accept, settings.HTTP_STORE_SECONDS)
            else:
                submission = accept(body)
        except (QueueFull, Busy):
            return http.TRY_AGAIN
        try:
            return http.answer(await self.timeouts.wait_for(settings.HTTP_STORE_SECONDS, stored))
        except TimeoutError:
            submission.cancelled = True  # unless it is in a transaction already
            return http.TRY_AGAIN

    def _dispatch(self, completions: list[Completion]) -> None:
        writer = self.ingest.writer
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(writer.acknowledge, completions, writer.received)


class Reply(NamedTuple):
    """How and where a message on the direct way is answered."""

    decision: http.RateDecision
    as_json: bool
    send: Callable[[Response], None]

    def response(self, answer: http.Answer) -> Response:
        return _response(self.decision.on(answer), self.as_json)


class Exchange:
    """One message on the direct way."""

    __slots__ = ("_connector", "_given_up", "_left", "_reply", "_request", "_submission", "_user")
    max_body = http.MAX_BODY

    def __init__(self, connector: HttpConnector, request: Request, user: int, reply: Reply) -> None:
        self._connector = connector
        self._request = request
        self._user = user
        self._reply = reply
        self._submission: Submission | None = None
        self._given_up = False
        self._left: asyncio.Future[None] | None = None  # done when it is given up

    def take(self, body: bytes) -> None:
        if http.takes_long(self._request.fields, body):
            self._connector.take_large(self, body)
            return
        try:
            self._accept(body)
        except QueueFull:
            self._reply.send(self.give_up())

    async def take_large(self, large: LargeBodies, body: bytes) -> None:
        self._left = asyncio.get_running_loop().create_future()
        if self._given_up:
            return
        try:
            await large.read(self._user, body, self._left, self._accept, settings.HTTP_STORE_SECONDS)
        except (QueueFull, Busy):
            if not self._given_up:
                self._reply.send(self.give_up())
        except ClientLeft:
            pass  # it was given up before its turn came

    def _accept(self, body: bytes) -> None:
        """Raises QueueFull. Runs in a thread where it takes long, while this exchange may be given up."""
        message = http.message(self._request.path, self._user, self._request.fields, body)
        submission = self._connector.ingest.writer.accept([message], self._done)
        self._submission = submission
        if self._given_up:
            submission.cancelled = True

    def give_up(self) -> Response:
        self._given_up = True
        if self._left and not self._left.done():
            self._left.set_result(None)
        if self._submission:
            self._submission.cancelled = True  # unless it is in a transaction already
        return self._reply.response(http.TRY_AGAIN)

    def _done(self, outcomes: list[Outcome]) -> None:
        if not self._given_up:
            self._reply.send(self._reply.response(http.answer(outcomes[0])))


def _headers(answer: http.Answer, as_json: bool) -> tuple[dict[str, str], bytes]:
    content_type, body = answer.body(as_json)
    return {"Content-Type": content_type} | answer.headers, body


@functools.lru_cache(1000)  # there are few, and most are the same
def _response(answer: http.Answer, as_json: bool) -> Response:
    headers, body = _headers(answer, as_json)
    return http_response.response(answer.status, headers, body)


@functools.lru_cache(1000)
def _written(answer: http.Answer, as_json: bool) -> tuple[Message, Message]:
    """The two messages that send it."""
    headers, body = _headers(answer, as_json)
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    start = {"type": "http.response.start", "status": answer.status, "headers": encoded}
    return start, {"type": "http.response.body", "body": body}
