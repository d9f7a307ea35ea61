"""One request to the ASGI application, and its answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from thingscale.web.http_parser import Request
from thingscale.web.http_response import CLOSE, CONTINUE, KEEP_ALIVE, header_line, response, status_line

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

FAILED = response(500, {"content-type": "text/plain; charset=utf-8"}, b"Internal Server Error")
DISCONNECT = {"type": "http.disconnect"}


class HttpConnection(Protocol):
    """What a cycle needs from its connection."""

    @property
    def date(self) -> bytes: ...
    def keeps(self, possible: bool) -> bool:
        """Whether the connection goes on after this answer, if `possible`. Called once, for the answer's
        head."""

    def write(self, data: bytes, *, more: bool) -> None: ...
    def want_body(self) -> None: ...
    async def drained(self) -> None: ...
    def answered(self) -> None: ...
    def abort(self) -> None: ...


class Cycle:
    __slots__ = (
        *("_body", "_body_complete", "_body_delivered", "_bodyless", "_chunked", "_connection"),
        *("_continued", "_left", "_request", "_started", "_waiting", "complete", "disconnected", "scope"),
    )

    def __init__(self, connection: HttpConnection, request: Request, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.complete = False  # the answer
        self.disconnected = False
        self._connection = connection
        self._request = request
        self._body = bytearray()
        self._body_complete = not request.has_body
        self._body_delivered = False
        self._continued = not request.expects_continue
        self._waiting: asyncio.Future[None] | None = None
        self._started: Message | bool = False  # the start of the answer, until its head is written; then True
        self._bodyless = request.method == "HEAD"  # the answer
        self._chunked = False
        self._left: int | None = None  # bytes of the answer's body, where its head says how many

    # The connection's side

    @property
    def buffered(self) -> int:
        return len(self._body)

    @property
    def started(self) -> bool:
        """Whether a part of the answer has been written."""
        return self._started is True

    def feed(self, body: bytes, complete: bool) -> None:
        self._body += body
        self._body_complete = complete
        self._wake()

    def disconnect(self) -> None:
        self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    async def run(self, application: Application) -> None:
        try:
            await application(self.scope, self.receive, self.send)
        except Exception:
            log.exception("A request failed")
        if self.complete or self.disconnected:
            return
        if self._started is True:
            self._connection.abort()  # so that the client sees that its answer is not whole
            return
        self._started = True
        tail = self._connection.date + b"".join(self._connection_line(possible=False)) + b"\r\n"
        self._connection.write(FAILED.head + tail + FAILED.body, more=False)
        self._end()

    # The application's side

    async def receive(self) -> Message:
        while not self.disconnected and not self.complete:
            if self._body or (self._body_complete and not self._body_delivered):
                body, self._body = bytes(self._body), bytearray()
                self._body_delivered = self._body_complete
                return {"type": "http.request", "body": body, "more_body": not self._body_complete}
            if not self._continued and not self._started:
                self._connection.write(CONTINUE, more=True)
            self._continued = True
            self._connection.want_body()
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return dict(DISCONNECT)

    async def send(self, message: Message) -> None:
        if self.disconnected:
            return
        if self.complete:
            raise RuntimeError("The answer is complete already.")
        if message["type"] == "http.response.start":
            if self._started:
                raise RuntimeError("The answer has begun already.")
            self._started = message
            asyncio.get_running_loop().call_soon(self._send_head)  # does nothing if the body has come by then
            return
        if not self._started:
            raise RuntimeError(f"An answer does not begin with {message['type']}.")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        head = b""
        if isinstance(self._started, MutableMapping):
            head = self._head(self._started["status"], self._started.get("headers", ()), body, more)
            self._started = True
        if self._bodyless:
            body = b""
        elif self._chunked:
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            body = chunk if more else chunk + b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("The answer's body is not as long as its Content-Length says.")
        data = head + body
        if data:
            self._connection.write(data, more=more)
        if not more:
            self._end()
        await self._connection.drained()

    def _send_head(self) -> None:
        """Sends the head first, if the application still makes the body."""
        if isinstance(self._started, MutableMapping) and not self.disconnected:
            head = self._head(self._started["status"], self._started.get("headers", ()), b"", more=True)
            self._started = True
            self._connection.write(head, more=True)

    def _end(self) -> None:
        self.complete = True
        self._wake()
        self._connection.answered()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, more: bool) -> bytes:
        lines = [status_line(status), self._connection.date]
        self._bodyless |= status in {204, 304}
        keep = True
        for name, value in headers:
            match name.lower():
                case b"transfer-encoding" | b"date":  # the server's own
                    continue
                case b"connection":
                    keep = value.lower() != b"close"
                    continue
                case b"content-length":
                    self._left = int(value)
            lines.append(header_line(name, value))
        if self._left is None and not self._bodyless:
            if not more:
                self._left = len(body)
                lines.append(b"Content-Length: %d\r\n" % self._left)
            elif self._request.minor:
                self._chunked = True
                lines.append(b"Transfer-Encoding: chunked\r\n")
            else:
                keep = False  # the answer ends with the connection
        lines += self._connection_line(keep)
        lines.append(b"\r\n")
        return b"".join(lines)

    def _connection_line(self, possible: bool) -> list[bytes]:
        if not self._connection.keeps(possible):
            return [CLOSE]
        return [] if self._request.minor else [KEEP_ALIVE]
