"""A load generator for MQTT 3.1.1 at QoS 1 and 2: one asyncio process, packets prebuilt, all work a slice.

`python benchmarks/load.py --self-test` drives a server that only acknowledges, and so shows what it could
drive at most.
"""

import argparse
import asyncio
import multiprocessing
import resource
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect, Publish

PAYLOAD = b'{"temp":25.1,"humidity":50}'
ACK = 4  # bytes of an acknowledgement in MQTT 3.1.1
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
TICK_SECONDS = 0.001
LIMIT_SECONDS = 300


@dataclass(frozen=True)
class Load:
    """`total` messages over `clients` connections with at most `window` unacknowledged each; `rate`: messages
    a second, all connections together, 0: as fast as they are acknowledged."""

    clients: int
    window: int
    total: int
    qos: int = 1
    rate: float = 0

    @property
    def sent(self) -> int:
        """Each connection sends the same number."""
        return self.total // self.clients * self.clients

    @property
    def name(self) -> str:
        fixed = f", fixed {self.rate:,.0f}/s" if self.rate else ""
        return f"QoS {self.qos}, {self.clients:,} connections x {self.window}{fixed}"


class Target(NamedTuple):
    host: str
    port: int
    user_id: str
    token: str


class Result(NamedTuple):
    """Latencies from the moment a message was due (PUBREC at QoS 2), in milliseconds."""

    rate: float
    p50: float
    p99: float
    generator_us: float  # of processor time, a message
    started: float  # time.perf_counter() at the first publish


class Client(asyncio.Protocol):
    def __init__(self, target: Target, load: Load, number: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.latencies: list[tuple[float, int]] = []  # seconds, messages
        self._count, self._window, self._qos = count, load.window, load.qos
        self._paced = load.rate > 0
        self._cycle = min(65_535, 2 * load.window)  # an id comes again long after its acknowledgement
        self._block, self._size = packets(f"{target.token}/json/bench-{number}", load.qos, self._cycle)
        self._hello = encode(
            Connect(V311, f"bench-{number}", True, 0, target.user_id, target.token.encode(), None, {}), V311
        )
        self._sent = self._answered = self._finished = 0
        self._open: deque[tuple[int, float]] = deque()  # (last message, when it was due) of each write
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self.connected, self.done):
            if not future.done():
                future.set_exception(error or ConnectionError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) // ACK * ACK
        data, self._rest = data[:whole], data[whole:]
        if not self.connected.done():
            if data[:4] != b"\x20\x02\0\0":
                raise ConnectionError(f"refused: {data[:4].hex()}")
            self.connected.set_result(None)
            data = data[4:]
        if data:
            self._take(data)

    def send(self, most: int, due: float) -> int:
        """As many as the window has room for; returns how many."""
        room = min(self._window - (self._sent - self._finished), self._count - self._sent, most)
        if room <= 0:
            return 0
        first = self._sent % self._cycle
        last = first + room
        self._transport.write(self._block[first * self._size : last * self._size])
        if last > self._cycle:
            self._transport.write(self._block[: (last - self._cycle) * self._size])
        self._sent += room
        self._open.append((self._sent, due))
        return room

    def fill(self) -> None:
        self.send(self._window, time.perf_counter())

    def close(self) -> None:
        self._transport.close()

    def _take(self, data: bytes) -> None:
        kinds = data[::ACK]
        if self._qos == 1:
            answered = finished = kinds.count(PUBACK)
        else:
            answered, finished = kinds.count(PUBREC), kinds.count(PUBCOMP)
            if answered:
                self._transport.write(release(data, answered == len(kinds)))
        if len(kinds) != (answered if self._qos == 1 else answered + finished):
            raise ConnectionError("something else than acknowledgements came in")
        if answered:
            self._measure(answered)
        self._finished += finished
        if self._finished >= self._count:
            if not self.done.done():
                self.done.set_result(None)
        elif finished and not self._paced:
            self.fill()

    def _measure(self, answered: int) -> None:
        """Answers come in the order of sending."""
        now, until = time.perf_counter(), self._answered + answered
        while self._answered < until:
            last, due = self._open[0]
            step = min(last, until) - self._answered
            self._answered += step
            self.latencies.append((now - due, step))
            if self._answered == last:
                self._open.popleft()


def packets(topic: str, qos: int, count: int) -> tuple[bytes, int]:
    """PUBLISH packets with the ids from 1, joined, and the size of one."""
    sample = encode(Publish(topic, PAYLOAD, qos, False, False, 1, {}), V311)
    place = len(sample) - len(PAYLOAD) - 2
    block = bytearray(sample * count)
    ids = b"".join(number.to_bytes(2, "big") for number in range(1, count + 1))
    block[place :: len(sample)], block[place + 1 :: len(sample)] = ids[::2], ids[1::2]
    return bytes(block), len(sample)


def release(data: bytes, only_received: bool) -> bytes:
    """PUBREL for each PUBREC."""
    if not only_received:
        places = range(0, len(data), ACK)
        data = b"".join(data[place : place + ACK] for place in places if data[place] == PUBREC)
    answer = bytearray(data)
    answer[::ACK] = bytes((PUBREL,)) * (len(data) // ACK)
    return bytes(answer)


async def run(target: Target, load: Load) -> Result:
    clients = await connect(target, load)
    cpu, started = processor_seconds(), time.perf_counter()
    finished = asyncio.gather(*(client.done for client in clients))
    async with asyncio.timeout(LIMIT_SECONDS):
        if load.rate:
            await pace(clients, load, started)
        else:
            for client in clients:
                client.fill()
        await finished
    seconds, cpu = time.perf_counter() - started, processor_seconds() - cpu
    for client in clients:
        client.close()
    p50, p99 = percentiles([pair for client in clients for pair in client.latencies], (0.5, 0.99))
    return Result(load.sent / seconds, p50 * 1e3, p99 * 1e3, cpu / load.sent * 1e6, started)


async def connect(target: Target, load: Load) -> list[Client]:
    """A hundred at a time: a thousand at once could overflow the server's backlog."""
    loop, clients = asyncio.get_running_loop(), []
    for first in range(0, load.clients, 100):
        some = [
            Client(target, load, number, load.total // load.clients)
            for number in range(first, min(first + 100, load.clients))
        ]
        for client in some:
            await loop.create_connection(lambda client=client: client, target.host, target.port)  # type: ignore[misc]
        async with asyncio.timeout(30):
            await asyncio.gather(*(client.connected for client in some))
        clients += some
    return clients


async def pace(clients: Sequence[Client], load: Load, started: float) -> None:
    """What is due, each millisecond, over the clients in turn. A full window makes a message late, and its
    latency counts from when it was due."""
    sent = turn = 0
    while sent < load.sent:
        due = min(int((time.perf_counter() - started) * load.rate) + 1, load.sent)
        full = 0
        while sent < due and full < len(clients):
            one = clients[turn % len(clients)].send(1, started + sent / load.rate)
            turn += 1
            full = 0 if one else full + 1
            sent += one
        await asyncio.sleep(TICK_SECONDS)


def percentiles(latencies: list[tuple[float, int]], shares: Sequence[float]) -> list[float]:
    latencies.sort()
    total = sum(count for _, count in latencies)
    found, seen, places = [], 0, iter(latencies)
    seconds = float("nan")
    for share in shares:
        while seen < share * total:
            seconds, count = next(places)
            seen += count
        found.append(seconds)
    return found


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# The self-test


class Acknowledger(asyncio.Protocol):
    """Answers CONNECT, and every PUBLISH of the same size as the first, without looking at it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._greeted = False
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        if not self._greeted:  # the client waits for CONNACK: this is CONNECT and nothing else
            self._greeted = True
            self._transport.write(b"\x20\x02\0\0")
            return
        data = self._rest + data
        size = data[1] + 2
        topic = int.from_bytes(data[2:4], "big")
        count = len(data) // size
        self._rest = data[count * size :]
        if count:
            answer = bytearray(b"\x40\x02\0\0" * count)
            ids = data[: count * size]
            answer[2::4], answer[3::4] = ids[4 + topic :: size], ids[5 + topic :: size]
            self._transport.write(answer)


def acknowledge(port: "multiprocessing.Queue[int]") -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Acknowledger, "127.0.0.1", 0, backlog=2048)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def self_test(loads: Sequence[Load]) -> list[Result]:
    """QoS 1 only."""
    context = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = context.Queue()
    server = context.Process(target=acknowledge, args=(port,), daemon=True)
    server.start()
    try:
        target = Target("127.0.0.1", port.get(timeout=20), "U000001", "0" * 32)
        return [uvloop.run(run(target, load)) for load in loads]
    finally:
        server.terminate()
        server.join()


def show(load: Load, result: Result) -> str:
    return (
        f"{load.name}: {result.rate:,.0f}/s,"
        f" p50 {result.p50:.2f} ms, p99 {result.p99:.2f} ms, generator {result.generator_us:.2f} us a message"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", required=True)
    parser.parse_args()
    loads = [Load(50, 100, 2_000_000), Load(1000, 1, 300_000), Load(50, 100, 20_000, rate=5000)]
    for load, result in zip(loads, self_test(loads), strict=True):
        print(show(load, result))


if __name__ == "__main__":
    main()
