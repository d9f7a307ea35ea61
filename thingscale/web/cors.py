"""Lets pages of other origins, if a setting lists them, call REST and the connectors: with a token in a
header, never with cookies."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = b"GET, POST, PUT, DELETE, OPTIONS"
EXPOSED_HEADERS = (
    b"ETag, RateLimit, RateLimit-Policy, Retry-After, X-Held"  # besides those that every page may read
)
PREFLIGHT_SECONDS = b"3600"


def origin_of(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The page's origin, if it is listed."""
    for name, origin in headers:
        if name == b"origin":
            listed = settings.CORS_ORIGINS
            return origin if "*" in listed or origin.decode("latin-1") in listed else None
    return None


class Cors:
    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = origin_of(scope["headers"])
        if origin and scope["method"] == "OPTIONS":
            # A preflight is answered without a token, since browsers send none with it.
            asked = dict(scope["headers"]).get(b"access-control-request-headers", b"*")
            headers = [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", asked),
                (b"access-control-max-age", PREFLIGHT_SECONDS),
                (b"vary", b"Origin, Access-Control-Request-Headers"),
            ]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        more = [(b"vary", b"Origin")]  # also without an origin: a cache may keep the answer for a page
        if origin:
            more += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED_HEADERS),
            ]

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self._application(scope, receive, add)
