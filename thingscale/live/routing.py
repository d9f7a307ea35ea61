"""The path of the WebSocket, and who may open it."""

from typing import Any

from channels.sessions import CookieMiddleware

from thingscale.live.consumers import LiveConsumer

PATH = "/ws/live/"
_consumer = CookieMiddleware(LiveConsumer.as_asgi())


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Accepts only our own pages: a browser sends its cookies, whichever site opens the socket."""
    if from_own_page(dict(scope["headers"])):
        await _consumer(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


def from_own_page(headers: dict[bytes, bytes]) -> bool:
    host = headers.get(b"host", b"").lower()
    return headers.get(b"origin", b"").lower() in {b"http://" + host, b"https://" + host}
