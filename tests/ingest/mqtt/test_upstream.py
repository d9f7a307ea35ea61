"""How a link to the upstream broker ends, and how the next one of the same client begins."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from ingest.mqtt import upstream
from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V5, ConnAck, Connect, Disconnect
from ingest.mqtt.properties import Property
from ingest.mqtt.upstream import Link, Refused

SECONDS = 10
EXPIRY = {Property.SESSION_EXPIRY_INTERVAL: 60}
CONNACK = encode(ConnAck(False, 0, {}), V5)


@pytest.fixture(autouse=True)
def _none_is_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_leaving", {})


class Broker:
    """Takes any client, and closes its side after the client's end only when `let_go` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.first_connack = asyncio.Event()
        self.first_connack.set()
        self.third = asyncio.Event()
        self.clients = 0
        self.received: list[bytes] = []  # by connection, after CONNECT until the client's end
        self.ended = asyncio.Event()
        self.let_go = asyncio.Event()
        self._serving: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append(asyncio.current_task())
        await reader.read(1000)
        self.clients += 1
        if self.clients == 1:
            await self.first_connack.wait()
        if self.clients == 3:
            self.third.set()
        writer.write(CONNACK)
        self.received.append(await reader.read(1000))
        self.ended.set()
        await self.let_go.wait()
        writer.close()

    async def stop(self) -> None:
        """Once all links have been closed."""
        self.let_go.set()
        await asyncio.gather(*filter(None, self._serving), *upstream._leaving.values())

    def link(self, client_id: str = "U000001:d1") -> Link:
        connect = Connect(V5, client_id, True, 0, None, None, None, {})
        address = ("127.0.0.1", self.port, None, None)
        return Link(address, connect, lambda packet: None, lambda present: None)


@asynccontextmanager
async def running() -> AsyncIterator[Broker]:
    broker = Broker()
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server, asyncio.timeout(SECONDS):
        broker.port = server.sockets[0].getsockname()[1]
        yield broker
        await broker.stop()


def with_broker(test: Callable[[Broker], Awaitable[None]]) -> None:
    """On the event loop that the gateway has."""

    async def run() -> None:
        async with running() as broker:
            await test(broker)

    uvloop.run(run())


@pytest.mark.parametrize("properties", [None, EXPIRY])
def test_the_broker_hears_of_the_end_once(properties: dict[int, int] | None) -> None:
    """The embedded one takes a DISCONNECT and the end of the connection for two."""

    async def test(broker: Broker) -> None:
        link = broker.link()
        await link.open()
        link.close(properties)
        await broker.ended.wait()
        assert broker.received == [encode(Disconnect(0, properties), V5) if properties else b""]

    with_broker(test)


def test_the_next_one_of_the_same_client_waits_for_the_end_of_the_last() -> None:
    async def test(broker: Broker) -> None:
        last, following, other = broker.link(), broker.link(), broker.link("U000001:d2")
        await last.open()
        last.close()
        opening = asyncio.create_task(following.open())
        await other.open()
        assert (broker.clients, following.up) == (2, False)
        broker.let_go.set()
        await opening
        assert (broker.clients, following.up) == (3, True)
        following.close()
        other.close()

    with_broker(test)


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "CLOSE_SECONDS", 0.1)

    async def test(broker: Broker) -> None:
        last, following = broker.link(), broker.link()
        await last.open()
        last.close()
        await following.open()
        assert following.up
        following.close()

    with_broker(test)


def test_after_a_connack_that_was_late_it_connects_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(upstream, "CLOSE_SECONDS", 0.2)

    async def test(broker: Broker) -> None:
        broker.first_connack.clear()
        link, up = broker.link(), asyncio.Event()
        link._opened = lambda present: up.set()
        with pytest.raises(Refused):
            await link.open()
        assert (broker.clients, link.up) == (1, False)
        broker.first_connack.set()
        await up.wait()
        with pytest.raises(TimeoutError):  # in which it would have come again
            await asyncio.wait_for(broker.third.wait(), 0.5)
        assert link.up
        link.close()

    with_broker(test)
