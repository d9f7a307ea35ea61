"""Clients that send as fast as they can, whatever becomes of it."""

import asyncio
import contextlib
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from types import TracebackType
from typing import Self

from private_place import Place

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import PUBACK, PUBREC, V311, Connect, Publish, Subscribe, Subscription

PAYLOAD = b'{"flood":"' + b"x" * 40 + b'"}'
CHUNK = 100  # messages written at a time
CONNACK_BYTES = 4


@cache
def messages(topic: str, qos: int, payload: bytes, count: int) -> tuple[memoryview, int]:
    """All with packet ids of their own; and the size of one."""
    packets = [
        encode(Publish(topic, payload, qos, False, False, number, {}), V311) for number in range(1, count + 1)
    ]
    return memoryview(b"".join(packets)), len(packets[0])


class Flood(threading.Thread):
    """One connection. `sent` and `acked` count messages, without a window: at QoS 1 and 2 packet ids come
    again after `count` messages, which must be more than can be on their way."""

    def __init__(
        self, place: Place, name: str, qos: int, topic: str, payload: bytes = PAYLOAD, count: int = 1000
    ) -> None:
        super().__init__(daemon=True)
        self.sent = self.acked = 0
        self.broken = False
        self._block, self._size = messages(f"{place.token}/{topic}", qos, payload, count)
        self._count = count
        self._socket = connect(place, name)
        self._stopping = threading.Event()
        self._out = memoryview(b"")
        self._in = bytearray()
        self._releases = bytearray()

    def run(self) -> None:
        try:
            while self._out or not self._stopping.is_set():
                self._exchange()
        except OSError:
            self.broken = True

    def _exchange(self) -> None:
        readable, writable, _ = select.select([self._socket], [self._socket], [], 0.1)
        if readable:
            self._read()
        if writable:
            self._out = self._out or self._next()
            self._out = self._out[self._socket.send(self._out) :]

    def _next(self) -> memoryview:
        if self._releases:
            releases, self._releases = self._releases, bytearray()
            return memoryview(releases)
        if self._stopping.is_set():
            return memoryview(b"")
        start = self.sent % self._count
        end = min(start + CHUNK, self._count)
        self.sent += end - start
        return self._block[start * self._size : end * self._size]

    def _read(self) -> None:
        """Acknowledgements, of four bytes each."""
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionResetError
        self._in += data
        whole = len(self._in) // 4 * 4
        for start in range(0, whole, 4):
            kind = self._in[start] >> 4
            self.acked += kind in {PUBACK, PUBREC}
            if kind == PUBREC:
                self._releases += b"\x62\x02" + self._in[start + 2 : start + 4]
        del self._in[:whole]

    def halt(self) -> None:
        """Sends no more; the last message is complete."""
        self._stopping.set()
        self.join(60)
        assert not self.is_alive()

    def read_on(self) -> int:
        """What has come meanwhile; returns how many are acknowledged in all."""
        while select.select([self._socket], [], [], 0)[0]:
            self._read()
        return self.acked

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._socket.close()


def connect(place: Place, name: str) -> socket.socket:
    """After CONNACK."""
    connection = socket.create_connection(("127.0.0.1", place.stack.mqtt), 60)
    try:
        connection.sendall(
            encode(Connect(V311, name, True, 0, place.user_id, place.token.encode(), None, {}), V311)
        )
        assert connection.recv(CONNACK_BYTES, socket.MSG_WAITALL) == b"\x20\x02\x00\x00"
        connection.setblocking(False)
    except BaseException:
        connection.close()
        raise
    return connection


def subscribe(place: Place, name: str, topic: str) -> socket.socket:
    """At QoS 0; SUBACK and all that follows are still to be read."""
    connection = connect(place, name)
    subscription = Subscription(f"{place.token}/{topic}", 0, False, False, 0)
    connection.setblocking(True)
    connection.sendall(encode(Subscribe(1, [subscription], {}), V311))
    connection.settimeout(60)
    assert connection.recv(5, socket.MSG_WAITALL)[0] == 0x90
    return connection


class HttpFlood:
    """One connection that posts again and again; by number, what was answered 200 and what was not."""

    def __init__(self, place: Place, device: str, numbers: Iterator[int]) -> None:
        self.acked: set[int] = set()
        self.maybe: set[int] = set()
        self.answers: Counter[tuple[int, str]] = Counter()  # status, Retry-After
        self.over = False
        self._port, self._numbers = place.stack.http, numbers
        headers = f"Host: drill\r\nX-DEVICETOKEN: {place.token}\r\nX-DEVICEID: {device}\r\n"
        self._head = f"POST /post_v2/ HTTP/1.1\r\n{headers}"

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not self.over:
                await self._post(reader, writer, next(self._numbers))
        finally:
            writer.close()

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        body = f'{{"n":{number}}}'
        self.maybe.add(number)
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        status = int(head.split()[1])
        self.answers[status, fields.get("retry-after", "")] += 1
        if status == 200:
            self.acked.add(number)


class Drain(threading.Thread):
    """Reads all that a connection gets."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._socket = connection

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(2**20):
                self.bytes += len(data)
