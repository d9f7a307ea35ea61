"""Django's WSGI handler as an ASGI application: each request in one of a few threads.

a2wsgi would go on making an answer whose client has left, and wait for ever for one that does not read.
Either holds a thread; here the answer ends, and with it the reading of datapoints.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from a2wsgi import WSGIMiddleware

THREADS = 8
SEND_SECONDS = 60.0  # that a client may take to read a part
PART = 256 * 1024  # bytes
_GONE = "thingscale.gone"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class WSGIThreads:
    def __init__(self, wsgi: Callable[[WSGIEnvironment, StartResponse], Any], threads: int = THREADS) -> None:
        self._wsgi = wsgi
        self._asgi: Any = WSGIMiddleware(cast(Any, self._parts), workers=threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = threading.Event()
        body: asyncio.Queue[Message] = asyncio.Queue(1)
        watch = asyncio.create_task(_watch(receive, body, gone))

        async def send_in_time(message: Message) -> None:
            if gone.is_set():
                return
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)
            except TimeoutError:
                gone.set()  # the server sees an answer without its end, and closes the connection

        try:
            await self._asgi({**scope, _GONE: gone}, body.get, send_in_time)
        finally:
            watch.cancel()

    def _parts(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        """The answer, in a thread, until its client is gone; in parts, which bound what waits to be sent."""
        gone: threading.Event = environ["asgi.scope"][_GONE]
        answer = self._wsgi(environ, start_response)
        try:
            for text in answer:
                for start in range(0, len(text), PART):
                    if gone.is_set():
                        return
                    yield text[start : start + PART]
        finally:
            answer.close()


async def _watch(receive: Receive, body: asyncio.Queue[Message], gone: threading.Event) -> None:
    """Hands on the request's body, and looks one message ahead, to see the client leave."""
    while not gone.is_set():
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
        await body.put(message)
