"""Receives the body of a request to Django before the request gets a thread, so that half a body blocks no
thread.

A body is bounded in size and time. What does not fit into a little memory waits in a file.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from thingscale.lib.content_encoding import READABLE, BadEncoding, Decoder, is_identity, readable
from thingscale.web.timeouts import Timeouts

MAX_BODY = 16 * 2**20  # bytes; bounds what one call can make the server hold
IN_MEMORY = 2**20
MAX_ANONYMOUS = 64 * 1024  # bytes of a body without a known token or session
BODY_SECONDS = 30.0  # in all

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refusal(NamedTuple):
    status: int
    code: str
    detail: str


TOO_LARGE = Refusal(413, "TOO_LARGE", f"A body has at most {MAX_BODY} bytes: send it in parts.")
TOO_SLOW = Refusal(
    408, "TOO_SLOW", f"A body has to come within {BODY_SECONDS:.0f} seconds: send less at once."
)


UNREADABLE = Refusal(
    415, "UNSUPPORTED_ENCODING", f"A body may be compressed with {READABLE}, with one of them."
)
NOT_COMPRESSED = Refusal(400, "BAD_ENCODING", "The body is not compressed as its Content-Encoding says.")


class ClientDisconnected(Exception):
    """The client left before the end of its body."""


async def read_body(receive: Receive, most: int) -> bytes | None:
    """The whole body, cut one byte past `most`, so that the caller sees that it is larger. None if the client
    has gone."""
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        parts.append(bytes(event.get("body", b"")))
        size += len(parts[-1])
        if not event.get("more_body") or size > most:
            return b"".join(parts)[: most + 1]


class Body:
    def __init__(self, encoding: bytes = b"") -> None:
        """`encoding`: the Content-Encoding."""
        self.file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (the caller closes it)
        self.size = 0  # expanded
        self.complete = False
        self._readable = readable(encoding)
        self._decoder = None
        if self._readable and not is_identity(encoding):
            self._decoder = Decoder(encoding, MAX_BODY)
        self._received = 0

    async def receive(self, receive: Receive, timeouts: Timeouts, limit: int | None = None) -> Refusal | None:
        """Receives the whole body; with a limit, it stops as soon as more bytes have come. Raises
        ClientDisconnected."""
        if not self._readable:
            return UNREADABLE
        try:
            await timeouts.wait_for(BODY_SECONDS, self._read(receive, limit))
            if self.complete and self._decoder:
                self._decoder.end()
        except TimeoutError:
            return TOO_SLOW
        except BadEncoding:
            return NOT_COMPRESSED
        if self.complete:
            self.file.seek(0)
        return TOO_LARGE if self.size > MAX_BODY or self._received > MAX_BODY else None

    def empty(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size = 0

    async def _read(self, receive: Receive, limit: int | None) -> None:
        """Reads twice MAX_BODY of a body that is too large: many clients read no answer before they have sent
        everything."""
        while not self.complete and self._received <= 2 * MAX_BODY:
            if limit is not None and self._received > limit:
                return
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            part = message.get("body", b"")
            self._received += len(part)
            if self._decoder:
                part = self._decoder.feed(part)
            self.size += len(part)
            if self.size <= MAX_BODY:
                self.file.write(part)
            self.complete = not message.get("more_body", False)


async def refuse(path: str, send: Send, refusal: Refusal, retry_after: int = 0) -> None:
    """Answers in the API's form, if the path is one of the API."""
    api = path.startswith(("/v1/", "/v2/"))
    content_type = "application/json" if api else "text/plain; charset=utf-8"
    text = json.dumps({"error": refusal.code, "detail": refusal.detail}) if api else refusal.detail
    headers = {"content-type": content_type, "content-length": str(len(text)), "connection": "close"}
    if retry_after:
        headers["retry-after"] = str(retry_after)
    if refusal.status == 415:
        headers["accept-encoding"] = READABLE
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": text.encode()})
