"""A load generator for HTTP/1.1: one asyncio process, requests prebuilt, connections kept alive.

`python benchmarks/http_load.py --self-test` drives a server that only answers, and so shows what it could
drive at most.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from typing import NamedTuple, cast

import uvloop

END = b"\r\n\r\n"
LENGTH = b"\r\nContent-Length: "
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LIMIT_SECONDS = 300


class Load(NamedTuple):
    """Each connection sends its own request, or its own ones in turn, so many times, the next one when it has
    the answer."""

    requests: Sequence[bytes | Sequence[bytes]]
    times: int
    status: int = 200
    size: int = 1  # messages in a request

    @property
    def messages(self) -> int:
        return len(self.requests) * self.times * self.size


class Result(NamedTuple):
    rate: float  # messages a second
    p50: float  # milliseconds, a request
    p99: float
    generator_us: float  # of processor time, a message


def request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END + body


class Client(asyncio.Protocol):
    def __init__(self, load: Load, requests: Sequence[bytes]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []  # seconds
        self._requests, self._times = requests, load.times
        self._expected = b"HTTP/1.1 %d " % load.status
        self._rest = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        head = data.find(END)
        if head < 0 or len(data) < head + len(END) + content_length(data):
            self._rest = data
            return
        self._rest = b""
        if not data.startswith(self._expected):
            self.done.set_exception(ConnectionError(data.decode()))
            self._transport.close()
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        if len(self.latencies) < self._times:
            self.send()
        else:
            self.done.set_result(None)

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests[len(self.latencies) % len(self._requests)])

    def close(self) -> None:
        self._transport.close()


def content_length(head: bytes) -> int:
    """0 where it is not told, as with status 204."""
    start = head.find(LENGTH)
    return int(head[start + len(LENGTH) : head.index(b"\r", start + len(LENGTH))]) if start >= 0 else 0


async def run(port: int, load: Load) -> Result:
    loop = asyncio.get_running_loop()
    each = [[request] if isinstance(request, bytes) else request for request in load.requests]
    clients = [Client(load, requests) for requests in each]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    cpu, started = time.process_time(), time.perf_counter()
    for client in clients:
        client.send()
    async with asyncio.timeout(LIMIT_SECONDS):
        await asyncio.gather(*(client.done for client in clients))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    for client in clients:
        client.close()
    found = sorted(seconds for client in clients for seconds in client.latencies)
    p50, p99 = (found[int(share * len(found))] * 1e3 for share in (0.5, 0.99))
    return Result(load.messages / seconds, p50, p99, cpu / load.messages * 1e6)


def drive(port: int, load: Load) -> Result:
    result: Result = uvloop.run(run(port, load))
    return result


# The self-test


class Answerer(asyncio.Protocol):
    """Answers each request, all being of the same size as the first, without looking at it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._size = self._received = 0

    def data_received(self, data: bytes) -> None:
        if not self._size:
            self._size = data.index(END) + len(END) + int(data.split(b"Content-Length: ")[1].split(b"\r")[0])
        self._received += len(data)
        if self._received == self._size:
            self._received = 0
            self._transport.write(ANSWER)


def answer(port: "multiprocessing.Queue[int]") -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answerer, "127.0.0.1", 0, backlog=2048)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def self_test(load: Load) -> Result:
    context = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = context.Queue()
    server = context.Process(target=answer, args=(port,), daemon=True)
    server.start()
    try:
        return drive(port.get(timeout=20), load._replace(status=200))
    finally:
        server.terminate()
        server.join()


def show(result: Result) -> str:
    return (
        f"{result.rate:,.0f} requests/s, p50 {result.p50:.2f} ms, p99 {result.p99:.2f} ms,"
        f" generator {result.generator_us:.1f} us a request"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", required=True)
    parser.parse_args()
    small, large = (request("/", {}, b"x" * size) for size in (20, 40_000))
    print("64 connections, 20 bytes:", show(self_test(Load([small] * 64, 2000))))
    print("4 connections, 40,000 bytes:", show(self_test(Load([large] * 4, 2000))))


if __name__ == "__main__":
    main()
