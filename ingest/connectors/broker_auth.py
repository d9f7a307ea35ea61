"""Brokers of the site ask here who a client is and what it may do (docs/broker-mode.md).

A raw ASGI application in the web process: when a broker restarts, all its clients come back at once, so
there is no session, no CSRF token, no limit for an address, and answers mostly come from memory. A secret
switches it on, which brokers send in a header or, where they can't, in the path. Nothing of a request is
logged.
"""

import asyncio
import hmac
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

from django.conf import settings

from ingest.connectors.broker_forms import (
    FORMS,
    REMEMBERED_SECONDS,
    BadForm,
    BrokerAnswer,
    Question,
    read_fields,
)
from ingest.connectors.broker_rules import BrokerRules
from ingest.device_tokens import DeviceTokens, TokenOwner
from thingscale.web.request_body import Receive, Scope, Send, read_body
from thingscale.web.timeouts import Timeouts

log = logging.getLogger(__name__)

PREFIX = "/broker/auth/"
MAX_BODY = 512 * 1024  # bytes: VerneMQ sends the payload too, unless told not to
BODY_SECONDS = 5.0
LOOKUP_SECONDS = 3.0  # brokers wait for five
MAX_LOOKUPS = 1_000  # tokens that wait for the database at once
WARN_SECONDS = 60.0

NOT_FOUND = BrokerAnswer(404, b"Not found", "text/plain; charset=utf-8")
POST_ONLY = BrokerAnswer(405, b"POST: a password in a URL ends up in logs.", "text/plain; charset=utf-8")


class BrokerAuth:
    """To be started, once, in the event loop that calls it."""

    _loop: asyncio.AbstractEventLoop
    _timeouts: Timeouts

    def __init__(self, device_tokens: DeviceTokens) -> None:
        self._device_tokens = device_tokens
        self._rules = BrokerRules(self._find_owner)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="broker-auth")
        self._lookups: dict[str, asyncio.Future[TokenOwner | None]] = {}  # by token
        self._warned_at = -WARN_SECONDS

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = Timeouts()

    def stop(self) -> None:
        self._threads.shutdown(wait=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        if answer is None:
            return
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"max-age=%d" % REMEMBERED_SECONDS if answer.remembered else b"no-store"),
        ]
        if answer.status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> BrokerAnswer | None:
        """None if the broker has gone."""
        name, _, rest = scope["path"].removeprefix(PREFIX).partition("/")
        form = FORMS.get(name)
        if form is None or not settings.BROKER_AUTH_SECRET or settings.INGEST_MODE != "broker":
            return NOT_FOUND
        if scope["method"] != "POST":
            return POST_ONLY
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        in_path, slash, question = rest.partition("/")
        if not slash:
            in_path, question = "", rest
        secret = in_path or headers.get(b"authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(secret.encode(), settings.BROKER_AUTH_SECRET.encode()):
            self._warn(
                "A broker asks with a wrong THINGSCALE_BROKER_AUTH_SECRET, or with none, and is refused."
            )
            return form.refusal
        try:
            body = await self._timeouts.wait_for(BODY_SECONDS, read_body(receive, MAX_BODY))
        except TimeoutError:
            return form.refusal
        if body is None:
            return None
        try:
            if len(body) > MAX_BODY:
                raise BadForm
            fields = read_fields(headers.get(b"content-type", ""), body)
            options = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            asked = Question(question, headers.get(b"vernemq-hook", ""), options, fields)
            return await form.answer(asked, self._rules)
        except BadForm:
            self._warn(
                "A broker's question is not understood, and refused: compare with docs/broker-mode.md."
            )
            return form.refusal

    def _warn(self, sentence: str) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            log.warning("%s", sentence)

    async def _find_owner(self, token: str) -> TokenOwner | None:
        """Raises django.db.Error or TimeoutError. All who ask for one token together cost one look-up."""
        found = self._device_tokens.cached(token)
        if found is None:
            lookup = self._lookups.get(token)
            if lookup is None:
                if len(self._lookups) >= MAX_LOOKUPS:
                    raise TimeoutError
                lookup = self._loop.run_in_executor(self._threads, self._device_tokens.find, token)
                self._lookups[token] = lookup
                lookup.add_done_callback(lambda done: self._looked_up(token, done))
            found = await self._timeouts.wait_for(LOOKUP_SECONDS, asyncio.shield(lookup))
        return found if isinstance(found, TokenOwner) else None

    def _looked_up(self, token: str, done: asyncio.Future[TokenOwner | None]) -> None:
        del self._lookups[token]
        if not done.cancelled():
            done.exception()  # who asked may have given up
