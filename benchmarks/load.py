"""A load generator for MQTT 3.1.1 at QoS 1 and 2: one process, packets prebuilt, all work a slice, and
nothing between it and the system's calls, which are most of what it costs.

`python benchmarks/load.py --self-test` drives a server that only acknowledges, and so shows what it could
drive at most.
"""

import argparse
import asyncio
import multiprocessing
import select
import socket
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
RARE = b'{"temp":95.1,"humidity":50}'
ACK = 4  # bytes of an acknowledgement in MQTT 3.1.1
PINGREQ, PINGRESP = b"\xc0\0", b"\xd0\0"
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
CONNACK = b"\x20\x02\0\0"
CONNACKS = (CONNACK, b"\x20\x02\1\0")  # the second: the session goes on
TICK_SECONDS = 0.001
SILENCE_SECONDS = 30
SEND_BUFFER = 2**18  # bytes: more than a full window


@dataclass(frozen=True)
class Load:
    """`total` messages over `clients` connections with at most `window` unacknowledged each; `rate`: messages
    a second, all connections together, 0: as fast as they are acknowledged. Where `topic` has `{message}` in
    it, each message of a connection has a topic of its own."""

    clients: int
    window: int
    total: int
    qos: int = 1
    rate: float = 0
    topic: str = "json/bench-{connection}"  # without the token
    retain: bool = False
    clean: bool = True
    client_id: str = "bench-{connection}"
    rare: int = 0  # one of so many messages of a connection is RARE in place of PAYLOAD

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
    second_port: int = 0  # every other connection goes there


class Result(NamedTuple):
    """Latencies from the moment a message was due (PUBREC at QoS 2), in milliseconds."""

    rate: float
    p50: float
    p99: float
    generator_us: float  # of processor time, a message
    started: float  # time.perf_counter() at the first publish


class Client:
    """One connection. A full window fits into its buffer, so that sending never has to wait."""

    def __init__(self, target: Target, load: Load, number: int) -> None:
        self.latencies: list[tuple[float, int]] = []  # seconds, messages
        self._count, self._window, self._qos = load.sent // load.clients, load.window, load.qos
        self._paced = load.rate > 0
        self._cycle = min(65_535, 2 * load.window)  # an id comes again long after its acknowledgement
        if "{message" in load.topic:
            self._cycle = self._count
        self._block, self._size = packets(target, load, number, self._cycle)
        self._sent = self._answered = self._finished = 0
        self._open: deque[tuple[int, float]] = deque()  # (last message, when it was due) of each write
        self._rest = b""
        port = target.second_port if target.second_port and number % 2 else target.port
        self._socket = socket.create_connection((target.host, port), SILENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        token = target.token.encode()
        name = load.client_id.format(connection=number)
        hello = Connect(V311, name, load.clean, 0, target.user_id, token, None, {})
        self._socket.sendall(encode(hello, V311))

    def wait_connected(self) -> None:
        answer = self._socket.recv(len(CONNACK), socket.MSG_WAITALL)
        if answer not in CONNACKS:
            raise ConnectionError(f"refused: {answer.hex()}")
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def answered(self) -> int:
        """Messages, so far."""
        return self._answered

    def send(self, most: int, due: float) -> int:
        """As many as the window has room for; returns how many."""
        room = min(self._window - (self._sent - self._finished), self._count - self._sent, most)
        if room <= 0:
            return 0
        first = self._sent % self._cycle
        last = first + room
        data = self._block[first * self._size : last * self._size]
        if last > self._cycle:
            data += self._block[: (last - self._cycle) * self._size]
        self._write(data)
        self._sent += room
        self._open.append((self._sent, due))
        return room

    def receive(self) -> int:
        """Takes acknowledgements, and sends what there is room for then, unless paced. Returns how many
        messages are finished by it."""
        data = self._socket.recv(65_536)
        if self._rest or len(data) % ACK or not data:
            data = self._whole(data)
        kinds, now = data[::ACK], time.perf_counter()
        answered = kinds.count(PUBACK if self._qos == 1 else PUBREC)
        finished = answered if self._qos == 1 else kinds.count(PUBCOMP)
        if len(kinds) != (answered if self._qos == 1 else answered + finished):
            raise ConnectionError("something else than acknowledgements came in")
        if answered:
            self._measure(answered, now)
            if self._qos == 2:
                self._write(release(data, not finished))
        self._finished += finished
        if finished and not self._paced:
            self.send(self._window, now)
        return finished

    def ping(self) -> None:
        """Its answer is for wait_pong()."""
        self._write(PINGREQ)

    def wait_pong(self) -> None:
        self._socket.setblocking(True)
        if self._socket.recv(len(PINGRESP), socket.MSG_WAITALL) != PINGRESP:
            raise ConnectionError("no answer to a ping")
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def _write(self, data: bytes) -> None:
        if self._socket.send(data) != len(data):
            raise ConnectionError("the system took only a part")

    def _whole(self, data: bytes) -> bytes:
        if not data:
            raise ConnectionError("closed by the server")
        data = self._rest + data
        whole = len(data) // ACK * ACK
        self._rest = data[whole:]
        return data[:whole]

    def _measure(self, answered: int, now: float) -> None:
        """Answers come in the order of sending."""
        until = self._answered + answered
        while self._answered < until:
            last, due = self._open[0]
            step = min(last, until) - self._answered
            self._answered += step
            self.latencies.append((now - due, step))
            if self._answered == last:
                self._open.popleft()


def packets(target: Target, load: Load, connection: int, count: int) -> tuple[bytes, int]:
    """PUBLISH packets with the ids from 1, joined, and the size of one."""

    def packet(number: int) -> bytes:
        topic = f"{target.token}/{load.topic}".format(connection=connection, message=number)
        return encode(Publish(topic, PAYLOAD, load.qos, load.retain, False, number + 1, {}), V311)

    sample = packet(0)
    if "{message" in load.topic:  # which fills it with zeros, so that all have one size
        return b"".join(map(packet, range(count))), len(sample)
    place = len(sample) - len(PAYLOAD) - 2
    block = bytearray(sample * count)
    ids = b"".join(number.to_bytes(2, "big") for number in range(1, count + 1))
    block[place :: len(sample)], block[place + 1 :: len(sample)] = ids[::2], ids[1::2]
    for number in range(connection % load.rare, count, load.rare) if load.rare else ():
        end = (number + 1) * len(sample)
        block[end - len(RARE) : end] = RARE
    return bytes(block), len(sample)


def release(data: bytes, only_received: bool) -> bytes:
    """PUBREL for each PUBREC."""
    if not only_received:
        places = range(0, len(data), ACK)
        data = b"".join(data[place : place + ACK] for place in places if data[place] == PUBREC)
    answer = bytearray(data)
    answer[::ACK] = bytes((PUBREL,)) * (len(data) // ACK)
    return bytes(answer)


def run(target: Target, load: Load) -> Result:
    clients = connect(target, load)
    cpu, started = time.process_time(), time.perf_counter()
    drive(clients, load, started)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    for client in clients:
        client.close()
    p50, p99 = percentiles([pair for client in clients for pair in client.latencies], (0.5, 0.99))
    return Result(load.sent / seconds, p50 * 1e3, p99 * 1e3, cpu / load.sent * 1e6, started)


def connect(target: Target, load: Load) -> list[Client]:
    """A hundred at a time: a thousand at once could overflow the server's backlog."""
    clients: list[Client] = []
    for first in range(0, load.clients, 100):
        numbers = range(first, min(first + 100, load.clients))
        some = [Client(target, load, number) for number in numbers]
        for client in some:
            client.wait_connected()
        clients += some
    return clients


def drive(clients: Sequence[Client], load: Load, started: float) -> None:
    """Until every message is finished."""
    by_file = {client.fileno(): client for client in clients}
    pace = Pace(clients, load, started) if load.rate else None
    with select.epoll() as waiting:
        for file in by_file:
            waiting.register(file, select.EPOLLIN)
        if not pace:
            for client in clients:
                client.send(load.window, time.perf_counter())
        left, heard = load.sent, started
        while left:
            if pace:
                pace.send()
            ready = waiting.poll(TICK_SECONDS if pace else SILENCE_SECONDS, len(clients))
            for file, _ in ready:
                left -= by_file[file].receive()
            now = time.perf_counter()
            heard = now if ready else heard
            if now - heard > SILENCE_SECONDS:
                raise TimeoutError(f"{left:,} messages are not acknowledged.")


class Pace:
    """Sends what is due, over the clients in turn. A full window makes a message late, and its latency counts
    from when it was due."""

    def __init__(self, clients: Sequence[Client], load: Load, started: float) -> None:
        self._clients, self._load, self._started = clients, load, started
        self._sent = self._turn = 0

    def send(self) -> None:
        rate, total = self._load.rate, self._load.sent
        due = min(int((time.perf_counter() - self._started) * rate) + 1, total)
        full = 0
        while self._sent < due and full < len(self._clients):
            one = self._clients[self._turn % len(self._clients)].send(1, self._started + self._sent / rate)
            self._turn += 1
            full = 0 if one else full + 1
            self._sent += one


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
            self._transport.write(CONNACK)
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
        return [run(target, load) for load in loads]
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
