"""Django's WSGI handler as an ASGI application: each request in one of a few threads, once its body is here.

a2wsgi would go on making an answer whose client has left, and wait for ever for one that does not read.
Either holds a thread; here the answer ends, and with it the reading of datapoints.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from a2wsgi import WSGIMiddleware

from thingscale import bodies
from thingscale.bodies import Message, Receive, Send

THREADS = 8
SEND_SECONDS = 60.0  # that a client may take to read a part
PART = 256 * 1024  # bytes
_GONE = "thingscale.gone"
_BODY = "thingscale.body"

Scope = MutableMapping[str, Any]


class WSGIThreads:
    def __init__(self, wsgi: Callable[[WSGIEnvironment, StartResponse], Any], threads: int = THREADS) -> None:
        self._wsgi = wsgi
        self._asgi: Any = WSGIMiddleware(cast(Any, self._parts), workers=threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bodies.Body()
        with body.file:
            try:
                refusal = await body.receive(receive)
            except bodies.Gone:
                return
            if refusal:
                await bodies.refuse(scope["path"], send, refusal)
            else:
                await self._answer({**scope, _BODY: body}, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = threading.Event()
        watch = asyncio.create_task(_watch(receive, gone))

        async def send_in_time(message: Message) -> None:
            if gone.is_set():
                return
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)
            except TimeoutError:
                gone.set()  # the server sees an answer without its end, and closes the connection

        try:
            await self._asgi({**scope, _GONE: gone}, receive, send_in_time)
        finally:
            watch.cancel()

    def _parts(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        """The answer, in a thread, until its client is gone; in parts, which bound what waits to be sent."""
        gone: threading.Event = environ["asgi.scope"][_GONE]
        body: bodies.Body = environ["asgi.scope"][_BODY]
        environ |= {"wsgi.input": body.file, "CONTENT_LENGTH": str(body.size)}
        answer = self._wsgi(environ, start_response)
        try:
            for text in answer:
                for start in range(0, len(text), PART):
                    if gone.is_set():
                        return
                    yield text[start : start + PART]
        finally:
            answer.close()


async def _watch(receive: Receive, gone: threading.Event) -> None:
    """After the body, the one message that comes is that the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
