"""Runs Django's WSGI handler as an ASGI application, in a few threads that accounts share fairly.

A thread makes an answer, or a part of a long one, and is free again: the event loop sends it, however slowly
the client reads. Reads of datapoints have threads of their own. If the account's share is in use, the request
waits a little in the event loop, and is then refused. A request whose client has left meanwhile never starts.
See docs/decisions/0027-threads-and-static-files.md.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from a2wsgi.wsgi import build_environ
from django.conf import settings
from django.db import close_old_connections
from django.urls import Resolver404, resolve

from thingscale.web import request_body
from thingscale.web.body_room import BodyRoom, NoRoom
from thingscale.web.callers import Callers, Credential, Identify, address, find_credential
from thingscale.web.fair_semaphore import Busy, FairSemaphore
from thingscale.web.fair_threads import ClientLeft, FairThreads
from thingscale.web.request_body import Body, Message, Receive, Refusal, Scope, Send
from thingscale.web.timeouts import Timeouts

PART = 256 * 1024  # bytes sent at once
# For so long a client may let us wait, and one second more for each MIN_RATE bytes that it has taken.
PATIENCE = 30.0
MIN_RATE = 4096  # bytes a second
STREAM_SECONDS = 3600.0  # for all of an answer
WAIT_SECONDS = 5.0  # for a place to stream from
RETRY_SECONDS = 5

HEAVY = re.compile(r"/v[12]/stream/|/streams/\d|/devices/export/")  # what reads many rows
MAX_BYTES = 256 * 2**20  # of bodies that are still coming, in memory and files
MAX_BYTES_PER_ACCOUNT = 64 * 2**20
TOO_MANY = Refusal(
    429,
    "TOO_MANY_REQUESTS",
    "Too many of your requests are being answered at once: wait for some of them, then send this again.",
)


class AnswerReader:
    """The client that reads the answer."""

    def __init__(self, send: Send, timeouts: Timeouts) -> None:
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send = send
        self._timeouts = timeouts
        self._taken = 0  # bytes
        self._waited = 0.0

    async def watch(self, receive: Receive) -> None:
        """After the body, the only message to come is that the client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self.left.done():
            self.left.set_result(None)

    async def send(self, message: Message) -> None:
        """Raises ClientLeft. The answer then has no end, so the server breaks the connection."""
        if self.left.done():
            raise ClientLeft
        begun = time.monotonic()
        try:
            allowed = PATIENCE + self._taken / MIN_RATE - self._waited
            await self._timeouts.wait_for(max(0.0, allowed), self._send(message))
        except TimeoutError:
            raise ClientLeft from None
        self._waited += time.monotonic() - begun
        self._taken += len(message.get("body", b""))

    async def send_body(self, text: bytes, more: bool) -> None:
        for start in range(0, len(text) or 1, PART):
            end = start + PART
            part = text if len(text) <= PART else text[start:end]
            await self.send(
                {"type": "http.response.body", "body": part, "more_body": more or end < len(text)}
            )


class DjangoAnswer:
    """Django's answer. Several threads make parts of it, never two at once."""

    def __init__(self) -> None:
        self.head: Message = {}
        self.whole = b""
        self.streaming = False
        self._parts: Iterator[bytes] = iter(())
        self._wsgi_answer: Any = None
        self._lock = threading.Lock()

    def begin(
        self, wsgi: Callable[[WSGIEnvironment, StartResponse], Any], environ: WSGIEnvironment
    ) -> "DjangoAnswer":
        """Makes all of a short answer; of a streaming one, only the head."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            encoded = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
            self.head = {"type": "http.response.start", "status": int(status[:3]), "headers": encoded}

        self._wsgi_answer = wsgi(environ, cast(Any, start))
        self.streaming = getattr(self._wsgi_answer, "streaming", True)
        if self.streaming:
            self._parts = iter(self._wsgi_answer)
        else:
            try:
                self.whole = b"".join(self._wsgi_answer)
            finally:
                self._wsgi_answer.close()
        return self

    def next_part(self) -> bytes | None:
        """None at the end. Joins small parts, since each call takes a turn of a thread."""
        with self._lock:
            close_old_connections()  # this thread's may have broken since its last request
            joined, size = [], 0
            for part in self._parts:
                joined.append(part)
                size += len(part)
                if size >= PART:
                    break
            return b"".join(joined) or None

    def close(self) -> None:
        with self._lock:
            self._wsgi_answer.close()


class WSGIThreads:
    """For one event loop, the first that calls it."""

    def __init__(
        self, wsgi: Callable[[WSGIEnvironment, StartResponse], Any], identify: Identify, threads: int = 8
    ) -> None:
        self._wsgi = wsgi
        self._ordinary = FairThreads("django", threads, share=-(-threads * 3 // 4))
        self._heavy = FairThreads("reads", -(-threads // 2), settings.READS_AT_ONCE)
        self._lookups = FairThreads("callers", 2, share=1)
        self._streams = FairSemaphore(100, settings.STREAMS_AT_ONCE, waiting=500, waiting_per_account=20)
        self._bodies = BodyRoom(MAX_BYTES, MAX_BYTES_PER_ACCOUNT)
        self._identify = identify
        self._callers = Callers(identify, self._identified, settings.SESSION_COOKIE_NAME)
        self._timeouts: Timeouts | None = None  # of the event loop, which is not there yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeouts = self._timeouts = self._timeouts or Timeouts()
        headers = dict(scope["headers"])
        body = Body(headers.get(b"content-encoding", b""))
        with body.file:
            try:
                refusal = await self._receive(scope, headers, body, receive, timeouts)
            except request_body.ClientDisconnected:
                return
            except (Busy, NoRoom):
                refusal = TOO_MANY
            if refusal:
                await request_body.refuse(scope["path"], send, refusal)
                return
            client = AnswerReader(send, timeouts)
            watch = asyncio.create_task(client.watch(receive)) if body.complete else None
            try:
                await self._answer(scope, body, client)
            except ClientLeft:
                pass
            except Busy:
                await request_body.refuse(scope["path"], send, TOO_MANY, RETRY_SECONDS)
            finally:
                if watch:
                    watch.cancel()

    async def _receive(
        self, scope: Scope, headers: dict[bytes, bytes], body: Body, receive: Receive, timeouts: Timeouts
    ) -> Refusal | None:
        """Receives a large body only from clients that have signed in, and only for a path that exists.
        Otherwise the request goes to Django without its body, and Django says what is wrong. Raises
        ClientDisconnected."""
        if int(headers.get(b"content-length") or 0) <= request_body.MAX_ANONYMOUS:
            refusal = await body.receive(receive, timeouts, request_body.MAX_ANONYMOUS)
            if refusal or body.complete:
                return refusal
        credential = find_credential(scope, settings.SESSION_COOKIE_NAME)
        try:
            resolve(scope["path"])
        except Resolver404:
            credential = None
        if credential:
            account = await self._callers.account(scope)
            signed_in = account.startswith("account ")
            # Looked up again: the credential may have been unknown before, or the database away.
            if signed_in or await self._identified(self._identify, credential, address(scope)) is not None:
                with self._bodies.counted(account, receive) as counting:
                    return await body.receive(counting, timeouts)
        body.empty()
        return None

    async def _answer(self, scope: Scope, body: Body, client: AnswerReader) -> None:
        """Raises ClientLeft; Busy before anything is sent."""
        account = await self._callers.account(scope)
        announced = {b"content-length", b"transfer-encoding"} & {name for name, _ in scope["headers"]}
        kept = [header for header in scope["headers"] if header[0] != b"content-encoding"]  # it is expanded
        environ: WSGIEnvironment = cast(Any, build_environ)({**scope, "headers": kept}, body.file)
        # Without CONTENT_LENGTH, the API answers 411 where there has to be a body.
        if announced or body.size or scope["method"] not in {"POST", "PUT"}:
            environ["CONTENT_LENGTH"] = str(body.size)
        heavy = scope["method"] in {"GET", "HEAD"} and HEAVY.match(scope["path"])
        lane = self._heavy if heavy else self._ordinary
        answer = await lane.run(account, client.left, DjangoAnswer().begin, self._wsgi, environ)
        if not answer.streaming:
            await client.send(answer.head)
            await client.send_body(answer.whole, more=False)
            return
        try:
            await self._stream(lane, account, answer, client)
        finally:
            lane.run_later(answer.close)

    async def _stream(
        self, lane: FairThreads, account: str, answer: DjangoAnswer, client: AnswerReader
    ) -> None:
        """Each part is made while the client reads the one before it. If making a part fails, the connection
        breaks, so that the client does not take the answer for a whole one."""
        if not await self._streams.acquire(account, WAIT_SECONDS, client.left):
            raise ClientLeft
        ends = time.monotonic() + STREAM_SECONDS

        def make() -> asyncio.Task[bytes | None]:
            left = max(0.0, ends - time.monotonic())
            task = asyncio.create_task(lane.run(account, client.left, answer.next_part, seconds=left))
            # Reads the error, or asyncio would report it where the client left before the task was awaited.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            return task

        making = make()
        try:
            await client.send(answer.head)
            while part := await making:
                if time.monotonic() > ends:
                    raise ClientLeft
                making = make()
                await client.send_body(part, more=True)
            await client.send_body(b"", more=False)
        except Busy:
            raise ClientLeft from None
        finally:
            making.cancel()
            self._streams.release(account)

    async def _identified(self, identify: Identify, credential: Credential, address: str) -> int | None:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return await self._lookups.run(address, never, identify, credential)
