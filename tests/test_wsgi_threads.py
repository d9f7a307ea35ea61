"""Django's threads are free again when a client leaves or does not read."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from thingscale import wsgi_threads
from thingscale.wsgi_threads import WSGIThreads

SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "http_version": "1.1",
    "headers": [],
}
REQUEST = {"type": "http.request", "body": b"", "more_body": False}


class Answer:
    """WSGI's iterable; an endless one unless `parts` are given."""

    def __init__(self, parts: Iterator[bytes] | None = None) -> None:
        self.made = 0
        self.closed = threading.Event()
        self._parts = parts or itertools.repeat(b"x" * 100)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self.made += 1
            yield part

    def close(self) -> None:
        self.closed.set()


def wsgi(answer: Answer) -> Callable[[Any, Any], Answer]:
    def application(environ: Any, start_response: Any) -> Answer:
        start_response("200 OK", [])
        return answer

    return application


class Client:
    """Takes `takes` messages, and then leaves or stops reading."""

    def __init__(self, takes: int, leaves: bool) -> None:
        self.sent: list[Any] = []
        self._takes, self._leaves = takes, leaves
        self._left = asyncio.Event()
        self._request = [REQUEST]

    async def receive(self) -> Any:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if len(self.sent) < self._takes:
            self.sent.append(message)
        elif self._leaves:
            self._left.set()  # from now on the server throws away what is sent
            await asyncio.sleep(0)
        else:
            await asyncio.Event().wait()


async def ask(application: WSGIThreads, client: Client) -> None:
    async with asyncio.timeout(10):
        await application(dict(SCOPE), client.receive, client.send)


def test_an_answer_comes_whole_and_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_threads, "PART", 3)

    async def run() -> None:
        answer = Answer(iter([b"", b"abcdefg", b"hi"]))
        client = Client(100, leaves=False)
        await ask(WSGIThreads(wsgi(answer)), client)
        assert client.sent[0]["status"] == 200
        assert [message["body"] for message in client.sent[1:]] == [b"abc", b"def", b"g", b"hi", b""]
        assert client.sent[-1].get("more_body", False) is False
        assert answer.closed.is_set()

    asyncio.run(run())


@pytest.mark.parametrize("leaves", [True, False])
def test_a_thread_is_free_again(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_threads, "SEND_SECONDS", 0.1)

    async def run() -> None:
        answer = Answer()
        application = WSGIThreads(wsgi(answer), threads=1)
        client = Client(5, leaves)
        await ask(application, client)
        assert answer.closed.is_set()
        assert answer.made < 100
        assert all(message.get("more_body", True) for message in client.sent)  # a cut answer has no end
        other = Client(100, leaves=False)
        application._wsgi = wsgi(Answer(iter([b"next"])))
        await ask(application, other)
        assert other.sent[1]["body"] == b"next"

    asyncio.run(run())


def test_a_body_is_read_as_it_comes() -> None:
    class Reading(Client):
        def __init__(self) -> None:
            super().__init__(100, leaves=False)
            parts = [b"ab", b"cd", b"ef"]
            self._request = [
                {"type": "http.request", "body": part, "more_body": part != parts[-1]} for part in parts[::-1]
            ]

    def application(environ: Any, start_response: Any) -> Answer:
        start_response("200 OK", [])
        return Answer(iter([environ["wsgi.input"].read()]))

    async def run() -> None:
        client = Reading()
        await ask(WSGIThreads(application), client)
        assert client.sent[1]["body"] == b"abcdef"

    asyncio.run(run())
