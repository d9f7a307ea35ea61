"""Django's threads are free again when a client leaves or does not read, and wait for no body."""

import asyncio
import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from stack import Stack
from support import Account

from thingscale.web import request_body, wsgi_threads
from thingscale.web.request_body import BODY_SECONDS
from thingscale.web.wsgi_threads import WSGIThreads

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
        self.streaming = True
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


def threads(application: Any, count: int = 1) -> WSGIThreads:
    return WSGIThreads(application, lambda credential: None, threads=count)


async def ask(application: WSGIThreads, client: Client) -> None:
    async with asyncio.timeout(60):
        await application(dict(SCOPE), client.receive, client.send)


def test_an_answer_comes_whole_and_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_threads, "PART", 3)

    async def run() -> None:
        answer = Answer(iter([b"", b"abcdefg", b"hi"]))
        client = Client(100, leaves=False)
        await ask(threads(wsgi(answer)), client)
        assert client.sent[0]["status"] == 200
        assert [message["body"] for message in client.sent[1:]] == [b"abc", b"def", b"g", b"hi", b""]
        assert client.sent[-1].get("more_body", False) is False
        assert await asyncio.to_thread(answer.closed.wait, 60)

    asyncio.run(run())


@pytest.mark.parametrize("leaves", [True, False])
def test_a_thread_is_free_again(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_threads, "PATIENCE", 0.1)
    monkeypatch.setattr(wsgi_threads, "PART", 100)

    async def run() -> None:
        answer = Answer()
        application = threads(wsgi(answer))
        client = Client(5, leaves)
        await ask(application, client)
        assert await asyncio.to_thread(answer.closed.wait, 60)
        assert answer.made < 100
        assert all(message.get("more_body", True) for message in client.sent)  # a cut answer has no end
        other = Client(100, leaves=False)
        application._wsgi = wsgi(Answer(iter([b"next"])))
        await ask(application, other)
        assert other.sent[1]["body"] == b"next"

    asyncio.run(run())


def cut(client: Client) -> bool:
    return all(message.get("more_body", True) for message in client.sent)


class SlowClient(Client):
    """Takes each part, after a while."""

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0.02)
        await super().send(message)


@pytest.mark.parametrize("slow", [True, False])
def test_b1_an_answer_has_a_minimum_rate_and_an_end(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that always takes a little in time is not waited for without end, nor is one that reads on."""
    monkeypatch.setattr(wsgi_threads, "PART", 100)
    if slow:
        monkeypatch.setattr(wsgi_threads, "PATIENCE", 0.2)
        monkeypatch.setattr(wsgi_threads, "MIN_RATE", 1e6)
    else:
        monkeypatch.setattr(wsgi_threads, "STREAM_SECONDS", 0.2)

    async def run() -> None:
        answer = Answer()
        client = SlowClient(10**9, leaves=False) if slow else Client(10**9, leaves=False)
        application = threads(wsgi(answer))
        await ask(application, client)
        assert len(client.sent) > 3
        assert cut(client)
        assert await asyncio.to_thread(answer.closed.wait, 60)
        assert not application._streams.taken

    asyncio.run(run())


def test_b1_slow_readers_use_up_the_places_of_their_own_account_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_threads, "WAIT_SECONDS", 0.1)

    async def run() -> None:
        application = WSGIThreads(wsgi(Answer()), lambda credential: int(credential.text), threads=2)

        def request(account: int) -> dict[str, Any]:
            return SCOPE | {"headers": [(b"x-apitoken", str(account).encode())]}

        slow = [Client(1, leaves=False) for _ in range(4)]
        tasks = [asyncio.create_task(application(request(1), each.receive, each.send)) for each in slow]
        async with asyncio.timeout(60):
            while application._streams.taken["account 1"] < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            refused = Client(100, leaves=False)
            await application(request(1), refused.receive, refused.send)
            assert refused.sent[0]["status"] == 429
            assert (b"retry-after", b"5") in refused.sent[0]["headers"]
            other = Client(3, leaves=True)
            await application(request(2), other.receive, other.send)
            assert other.sent[0]["status"] == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not application._streams.taken

    asyncio.run(run())


def test_a_short_answer_leaves_its_thread_before_it_is_read() -> None:
    async def run() -> None:
        short, slow = Answer(iter([b"short"])), Client(0, leaves=False)
        short.streaming = False
        application = threads(wsgi(short))
        unread = asyncio.create_task(ask(application, slow))
        await asyncio.to_thread(short.closed.wait, 60)
        application._wsgi = wsgi(Answer(iter([b"next"])))
        await ask(application, other := Client(100, leaves=False))
        assert other.sent[1]["body"] == b"next"
        assert not unread.done()
        unread.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("body", [[], [b""], [b"whole"]])
def test_a_short_answer_has_one_end(body: list[bytes]) -> None:
    async def run() -> None:
        answer, client = Answer(iter(body)), Client(100, leaves=False)
        answer.streaming = False
        await ask(threads(wsgi(answer)), client)
        assert [(message["body"], message["more_body"]) for message in client.sent[1:]] == [
            (b"".join(body), False)
        ]

    asyncio.run(run())


class Sender(Client):
    """Sends the parts, and ends there, or stops in the middle."""

    def __init__(self, *parts: bytes, stops: bool = False) -> None:
        super().__init__(100, leaves=False)
        last = None if stops else len(parts) - 1
        self._request = [
            {"type": "http.request", "body": part, "more_body": place != last}
            for place, part in enumerate(parts)
        ][::-1]


def echo(environ: Any, start_response: Any) -> Answer:
    start_response("200 OK", [])
    return Answer(iter([environ["CONTENT_LENGTH"].encode(), b" ", environ["wsgi.input"].read()]))


def asked(client: Client, path: str = "/") -> tuple[int, bytes]:
    async def run() -> None:
        async with asyncio.timeout(60):
            await threads(echo)(SCOPE | {"path": path}, client.receive, client.send)

    asyncio.run(run())
    return client.sent[0]["status"], b"".join(message["body"] for message in client.sent[1:])


@pytest.mark.parametrize("in_memory", [1, 100])
def test_a_body_comes_whole(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "IN_MEMORY", in_memory)
    assert asked(Sender(b"ab", b"cd", b"ef")) == (200, b"6 abcdef")
    assert asked(Sender(b"")) == (200, b"0 ")


def test_half_a_body_takes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.2)

    async def run() -> None:
        application = threads(echo)
        halves = [Sender(b"ab", stops=True) for _ in range(3)]
        asking = [asyncio.create_task(ask(application, half)) for half in halves]
        await asyncio.sleep(0)
        await ask(application, whole := Sender(b"whole"))
        assert whole.sent[0]["status"] == 200
        assert not any(task.done() for task in asking)
        await asyncio.gather(*asking)
        assert [half.sent[0]["status"] for half in halves] == [408] * 3

    asyncio.run(run())


def test_who_leaves_before_the_end_is_not_answered() -> None:
    client = Sender(b"ab", stops=True)
    client._left.set()
    asyncio.run(ask(threads(echo), client))
    assert client.sent == []


def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MAX_BODY", 4)
    assert asked(Sender(b"ab", b"cd")) == (200, b"4 abcd")
    status, text = asked(Sender(b"ab", b"cd", b"e"), "/v2/stream/0")
    assert (status, json.loads(text)["error"]) == (413, "TOO_LARGE")
    endless = Sender(*[b"abc"] * 100, stops=True)
    status, text = asked(endless, "/devices/import/")
    assert (status, text) == (413, request_body.TOO_LARGE.detail.encode())
    assert len(endless._request) == 97  # nobody reads on for ever


@pytest.mark.e2e
def test_half_sent_forms_stop_nobody(stack: Callable[..., Stack]) -> None:
    port = stack("web").http
    head = (
        b"POST /signin/ HTTP/1.1\r\nHost: localhost\r\nCookie: csrftoken=%s\r\nContent-Length: 1000\r\n\r\nab"
    )
    with contextlib.ExitStack() as clients:
        for _ in range(10):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(head % (b"x" * 32))
        before_they_end = BODY_SECONDS / 2
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=before_they_end).status_code == 200


@pytest.mark.e2e
def test_too_large_an_upload_is_answered(stack: Callable[..., Stack], account: Account) -> None:
    running, large = stack("web"), b"x" * (request_body.MAX_BODY + 1)
    own = {"X-APITOKEN": account.api_token}
    answer = requests.post(running.url("/v2/stream/0"), data=large, headers=own, timeout=60)
    assert (answer.status_code, answer.json()["error"]) == (413, "TOO_LARGE")
    fits = requests.post(running.url("/v2/stream/0"), data=large[1:], headers=own, timeout=60)
    assert fits.status_code == 404
    stranger = requests.post(running.url("/v2/stream/0"), data=large[1:], timeout=60)
    assert stranger.status_code == 401
    chunked = requests.post(running.url("/signin/"), data=iter([large[:100]]), timeout=60)
    assert chunked.status_code == 403
