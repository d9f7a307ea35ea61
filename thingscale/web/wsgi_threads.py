"""Django's WSGI handler as an ASGI application: each request in one of a few threads, once its body is here.

a2wsgi's own way takes a task, a queue and three changes between thread and loop for each answer, goes on
making one whose client has left, and waits for ever for one that does not read. Here a short answer comes
back whole when the thread is done. A long one ends when its client does, and with it the reading of
datapoints.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from a2wsgi.wsgi import build_environ

from thingscale.web import request_body
from thingscale.web.request_body import Body, Message, Receive, Scope, Send
from thingscale.web.timeouts import Timeouts

THREADS = 8
SEND_SECONDS = 60.0  # that a client may take to read a part
PART = 256 * 1024  # bytes


class Client:
    """Who reads the answer."""

    def __init__(self, send: Send, timeouts: Timeouts) -> None:
        self.gone = False  # or does not read
        self._send = send
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()

    async def watch(self, receive: Receive) -> None:
        """After the body, the one message that comes is that the client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True

    async def send(self, messages: list[Message]) -> None:
        for message in messages:
            if self.gone:
                return
            try:
                await self._timeouts.wait_for(SEND_SECONDS, self._send(message))
            except TimeoutError:
                self.gone = True  # the server sees an answer without its end, and closes the connection

    def send_from_thread(self, messages: list[Message]) -> None:
        asyncio.run_coroutine_threadsafe(self.send(messages), self._loop).result()


class WSGIThreads:
    """For one event loop: the first that calls it."""

    def __init__(self, wsgi: Callable[[WSGIEnvironment, StartResponse], Any], threads: int = THREADS) -> None:
        self._wsgi = wsgi
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="WSGI")
        self._timeouts: Timeouts | None = None  # of the event loop, which is not there yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeouts = self._timeouts = self._timeouts or Timeouts()
        body = Body()
        with body.file:
            try:
                refusal = await body.receive(receive, timeouts)
            except request_body.ClientDisconnected:
                return
            if refusal:
                await request_body.refuse(scope["path"], send, refusal)
            else:
                await self._answer(scope, body, receive, Client(send, timeouts))

    async def _answer(self, scope: Scope, body: Body, receive: Receive, client: Client) -> None:
        environ: WSGIEnvironment = cast(Any, build_environ)(scope, body.file)
        environ["CONTENT_LENGTH"] = str(body.size)
        watch = asyncio.create_task(client.watch(receive))
        loop = asyncio.get_running_loop()
        try:
            await client.send(await loop.run_in_executor(self._threads, self._make, environ, client))
        finally:
            watch.cancel()

    def _make(self, environ: WSGIEnvironment, client: "Client") -> list[Message]:
        """In a thread: the answer, or the end of one that has been sent in parts as they were made."""
        messages: list[Message] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            encoded = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
            messages.append({"type": "http.response.start", "status": int(status[:3]), "headers": encoded})

        answer = self._wsgi(environ, cast(Any, start))
        try:
            for text in answer:
                messages += parts(text)
                if getattr(answer, "streaming", True):
                    client.send_from_thread(messages)
                    messages.clear()
                if client.gone:
                    return []
        finally:
            answer.close()
        return ended(messages)


def parts(text: bytes) -> list[Message]:
    """They bound what waits to be sent."""
    return [
        {"type": "http.response.body", "body": text[start : start + PART], "more_body": True}
        for start in range(0, len(text), PART)
    ]


def ended(messages: list[Message]) -> list[Message]:
    """What is left of an answer, which may be nothing or its head, with its end."""
    if not messages or messages[-1]["type"] == "http.response.start":
        messages.append({"type": "http.response.body", "body": b""})
    messages[-1]["more_body"] = False
    return messages
