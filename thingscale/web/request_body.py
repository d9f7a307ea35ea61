"""Bodies of requests to Django, taken whole before a thread is: half of one holds nothing up.

They are bounded in size and time; what does not fit into a little memory waits in a file.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from thingscale.web.timeouts import Timeouts

MAX_BODY = 16 * 2**20  # bytes; bounds what one call can make the server hold
IN_MEMORY = 2**20
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


class ClientDisconnected(Exception):
    """The client left before the end of its body."""


class Body:
    def __init__(self) -> None:
        self.file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed by who asked for it)
        self.size = 0

    async def receive(self, receive: Receive, timeouts: Timeouts) -> Refusal | None:
        """Raises ClientDisconnected."""
        try:
            await timeouts.wait_for(BODY_SECONDS, self._take(receive))
        except TimeoutError:
            return TOO_SLOW
        self.file.seek(0)
        return TOO_LARGE if self.size > MAX_BODY else None

    async def _take(self, receive: Receive) -> None:
        """Of one too large, as much again is let pass: many clients read no answer until all is sent."""
        more = True
        while more and self.size <= 2 * MAX_BODY:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            part = message.get("body", b"")
            self.size += len(part)
            if self.size <= MAX_BODY:
                self.file.write(part)
            more = message.get("more_body", False)


async def refuse(path: str, send: Send, refusal: Refusal, retry_after: int = 0) -> None:
    """In the API's shape where the API is."""
    api = path.startswith(("/v1/", "/v2/"))
    content_type = "application/json" if api else "text/plain; charset=utf-8"
    text = json.dumps({"error": refusal.code, "detail": refusal.detail}) if api else refusal.detail
    headers = {"content-type": content_type, "content-length": str(len(text)), "connection": "close"}
    if retry_after:
        headers["retry-after"] = str(retry_after)
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": text.encode()})
