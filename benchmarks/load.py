"""A load generator for MQTT QoS 1 and 2: prebuilt packets, one asyncio process, acks counted by length.

It is no bottleneck: `python benchmarks/load.py --self-test` runs it against a server that only acknowledges.
"""

import argparse
import asyncio
import json
import struct
import time
from dataclasses import dataclass, field

import uvloop

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect, Publish

CONNACK = 4  # bytes
ACK = 4


@dataclass
class Load:
    """What to send: `total` messages by `clients` connections with at most `window` unacknowledged each;
    `rate` in messages a second, 0 for as fast as acknowledged."""

    host: str
    port: int
    user_id: str
    token: str
    clients: int = 50
    window: int = 100
    total: int = 200_000
    rate: float = 0.0
    qos: int = 1
    devices: int = 0  # 0: one for each client
    latencies: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    def __init__(self, load: Load, number: int, count: int, done: "asyncio.Future[None]") -> None:
        self.load, self.count, self.done = load, count, done
        self.number = number
        self.sent = self.acked = self.rest = 0
        self.connected = asyncio.get_running_loop().create_future()
        self.times: dict[int, float] = {}
        topic = f"{load.token}/json/bench-{number}"
        payload = b'{"temp":25.1,"humidity":50}'
        sample = encode(Publish(topic, payload, load.qos, False, False, 1, {}), V311)
        where = len(sample) - len(payload) - 2
        self.head, self.tail = sample[:where], sample[where + 2 :]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        connect = Connect(
            V311, f"bench-{self.number}", True, 0, self.load.user_id, self.load.token.encode(), None, {}
        )
        transport.write(encode(connect, V311))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.connected.done():
            data = data[CONNACK:]
            self.connected.set_result(None)
        if self.load.qos == 2:
            data = self._release(data)
        self.rest += len(data)
        acked, self.rest = divmod(self.rest, ACK)
        now = time.perf_counter()
        for packet in range(self.acked + 1, self.acked + acked + 1):
            started = self.times.pop(packet, None)
            if started is not None:
                self.load.latencies.append(now - started)
        self.acked += acked
        if self.acked >= self.count:
            if not self.done.done():
                self.done.set_result(None)
        elif not self.load.rate:
            self.fill()

    def _release(self, data: bytes) -> bytes:
        """PUBREC -> PUBREL; returns the PUBCOMPs. Packets come whole in practice; a cut one is kept."""
        data = getattr(self, "partial", b"") + data
        whole = len(data) // 4 * 4
        self.partial = data[whole:]
        packets = [data[i : i + 4] for i in range(0, whole, 4)]
        released = b"".join(b"\x62" + p[1:] for p in packets if p[0] == 0x50)
        if released:
            self.transport.write(released)  # type: ignore[attr-defined]
        return b"".join(p for p in packets if p[0] == 0x70)

    def fill(self, most: int = 1_000_000) -> int:
        """Sends what the window has room for; returns how many."""
        room = min(self.load.window - (self.sent - self.acked), self.count - self.sent, most)
        if room <= 0:
            return 0
        head, tail, pack = self.head, self.tail, struct.Struct(">H").pack
        first = self.sent + 1
        packets = [head + pack((n - 1) % 65535 + 1) + tail for n in range(first, first + room)]
        self.sent += room
        self.times[self.sent] = time.perf_counter()
        self.transport.write(b"".join(packets))  # type: ignore[attr-defined]
        return room

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))


async def run(load: Load) -> float:
    """Sends everything and returns the seconds from the first PUBLISH to the last acknowledgement."""
    loop = asyncio.get_running_loop()
    share = load.total // load.clients
    futures = [loop.create_future() for _ in range(load.clients)]
    clients = []
    for number, done in enumerate(futures):
        _, client = await loop.create_connection(
            lambda n=number, d=done: Client(load, n, share, d), load.host, load.port
        )
        clients.append(client)
    await asyncio.gather(*(client.connected for client in clients))
    started = time.perf_counter()
    if load.rate:
        await _paced(load, clients)
    else:
        for client in clients:
            client.fill()
    await asyncio.wait_for(asyncio.gather(*futures), 300)
    seconds = time.perf_counter() - started
    for client in clients:
        client.transport.close()
    return seconds


async def _paced(load: Load, clients: list[Client]) -> None:
    """Every 2 ms what is due, spread over the clients."""
    started, sent, turn = time.perf_counter(), 0, 0
    total = load.total // load.clients * load.clients
    while sent < total:
        due = min(int((time.perf_counter() - started) * load.rate), total)
        while sent < due:
            sent += clients[turn % load.clients].fill(1)
            turn += 1
            if turn % load.clients == 0 and not any(c.sent - c.acked < load.window for c in clients):
                break
        await asyncio.sleep(0.002)
        if time.perf_counter() - started > 2 * load.total / load.rate + 10:
            break


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("user_id")
    parser.add_argument("token")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--total", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--qos", type=int, default=1)
    a = parser.parse_args()
    load = Load("127.0.0.1", a.port, a.user_id, a.token, a.clients, a.window, a.total, a.rate, a.qos)
    cpu = time.process_time()
    seconds = uvloop.run(run(load))
    print(
        json.dumps(
            {
                "rate": round(load.total / seconds),
                "p50_ms": round(percentile(load.latencies, 0.5) * 1e3, 2),
                "p99_ms": round(percentile(load.latencies, 0.99) * 1e3, 2),
                "generator_us": round((time.process_time() - cpu) / load.total * 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
