"""The drills' own clients. Each message has a number in its value; what was not acknowledged is sent again:
by MQTT with DUP after a reconnect, by HTTP and REST under the same Idempotency-Key."""

import asyncio
import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import Message
from http.client import HTTPException
from typing import Any

from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Ack,
    ConnAck,
    Connect,
    Packet,
    Publish,
    ReasonCode,
    Version,
    Will,
)
from ingest.mqtt.properties import Property

RECONNECT_SECONDS = 0.02
BURST_SECONDS = 0.05  # whose messages may come at once, where there is a pace
LASTING_SECONDS = 3600


def connect_packet(
    version: Version, name: str, user_id: str, token: str, durable: bool, will: Will | None = None
) -> Connect:
    lasting: dict[int, Any] = (
        {Property.SESSION_EXPIRY_INTERVAL: LASTING_SECONDS} if durable and version == V5 else {}
    )
    return Connect(version, name, not durable, 0, user_id, token.encode(), will, lasting)


class Gate:
    """How many messages may have been sent by now, all senders together: at most `pace` a second."""

    def __init__(
        self, total: int, limit: int | None = None, start: int = 0, pace: float = float("inf")
    ) -> None:
        self.total = total
        self.limit = total if limit is None else limit
        self._next = start
        self._pace, self._next_at = pace, 0.0

    def open(self, more: int) -> None:
        self.limit = min(self.limit + more, self.total)

    def shut(self) -> None:
        self.limit = self.total = self._next

    def take(self) -> int | None:
        """The next number."""
        now = time.monotonic()
        if self._next >= self.limit or now < self._next_at:
            return None
        self._next += 1
        self._next_at = max(self._next_at, now - BURST_SECONDS) + 1 / self._pace
        return self._next - 1

    @property
    def finished(self) -> bool:
        return self._next >= self.total


class Sender:
    """One client at QoS 1 or 2 with at most `window` messages unacknowledged."""

    def __init__(
        self,
        port: int,
        user_id: str,
        token: str,
        name: str,
        gate: Gate,
        *,
        version: Version = V311,
        qos: int = 1,
        window: int = 100,
        device: str = "d1",
        topic: str = "",
        durable: bool = False,
    ) -> None:
        """`topic`: without the token, in place of the device's."""
        self.acked: set[int] = set()
        self.repeated = self.connections = 0
        self.flights: dict[int, tuple[int, bytes]] = {}  # packet id -> number, PUBLISH (later PUBREL)
        self.window = window
        self.deaf = False  # acknowledgements are lost on their way
        self.arrays = True
        self.source = ""  # address that it connects from
        self.name = name
        self._tried: set[int] = set()
        self._port, self._gate, self._version, self._qos = port, gate, version, qos
        self._topic = f"{token}/{topic or f'json/{device}'}"
        self._connect = connect_packet(version, name, user_id, token, durable)
        self._packet_id = 0
        self._writer: asyncio.StreamWriter | None = None  # once the server has taken us

    async def run(self) -> None:
        """Until everything is acknowledged."""
        filling = asyncio.create_task(self._keep_filling())
        try:
            while not self.done:
                with contextlib.suppress(OSError):
                    await self._session()
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            filling.cancel()

    @property
    def done(self) -> bool:
        return self._gate.finished and not self.flights

    def move(self, port: int | None = None) -> None:
        """Breaks the connection without a goodbye, whatever is on its way, and goes on at that port."""
        self._port = port or self._port
        if self._writer:
            self._writer.transport.abort()
            self._writer = None

    async def _session(self) -> None:
        reader, writer = await dial(self._port, self.source)
        frames = FrameReader(2**20)
        try:
            writer.write(encode(self._connect, self._version))
            while not self.done and (data := await reader.read(65_536)):
                for first, body in frames.feed(data):
                    self._take(decode(first, body, self._version), writer)
                self._fill()
        finally:
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, packet: Packet, writer: asyncio.StreamWriter) -> None:
        match packet:
            case ConnAck(code=0):
                self.connections += 1
                self._writer = writer
                for number, data in self.flights.values():
                    self._write(number, data)
            case Ack() if packet.packet_id in self.flights and not self.deaf:
                self._acknowledged(packet)

    def _acknowledged(self, ack: Ack) -> None:
        # A new process does not know the PUBREL of a message that the old one had stored.
        assert ack.code in {0, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND}, f"refused with {ack.code:#x}"
        number = self.flights[ack.packet_id][0]
        if ack.type in {PUBACK, PUBREC}:
            self.acked.add(number)
        if ack.type in {PUBACK, PUBCOMP}:
            del self.flights[ack.packet_id]
        elif ack.type == PUBREC:
            release = encode_ack(PUBREL, ack.packet_id)
            self.flights[ack.packet_id] = (number, release)
            self._write(number, release)

    async def _keep_filling(self) -> None:
        """The gate may open while nothing comes in."""
        while True:
            self._fill()
            if self.done and self._writer:
                self._writer.close()  # nothing is to come any more
            await asyncio.sleep(0.01)

    def _fill(self) -> None:
        while self._writer and len(self.flights) < self.window:
            number = self._gate.take()
            if number is None:
                return
            self._packet_id = self._packet_id % 65_535 + 1
            packet = self._publish(number)._replace(qos=self._qos, packet_id=self._packet_id)
            self.flights[self._packet_id] = (number, encode(packet, self._version))
            self._write(number, self.flights[self._packet_id][1])

    def _publish(self, number: int) -> Publish:
        return Publish(self._topic, payload(number, self.arrays), 0, False, False, 0, {})

    def _write(self, number: int, data: bytes) -> None:
        assert self._writer
        if data[0] >> 4 == 3 and number in self._tried:
            self.repeated += 1
            data = bytes((data[0] | 0x08,)) + data[1:]
        self._tried.add(number)
        self._writer.write(data)


class Load:
    """Several senders at once."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self.senders = senders

    @property
    def acked(self) -> set[int]:
        return set().union(*(sender.acked for sender in self.senders))

    @property
    def count(self) -> int:
        return sum(len(sender.acked) for sender in self.senders)

    @property
    def in_flight(self) -> int:
        return sum(len(sender.flights) for sender in self.senders)

    @property
    def repeated(self) -> int:
        return sum(sender.repeated for sender in self.senders)

    @asynccontextmanager
    async def flowing(self, seconds: float) -> AsyncIterator[None]:
        """Waits at its end until everything is acknowledged, at most so many seconds."""
        tasks = [asyncio.create_task(sender.run()) for sender in self.senders]
        try:
            yield
            await asyncio.wait_for(asyncio.gather(*tasks), seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def payload(number: int, arrays: bool) -> bytes:
    """Of a device: every third as an array, which 339bf98 did not take yet."""
    value = b'{"n":%d}' % number
    return b'[{"value":%s}]' % value if arrays and number % 3 == 0 else value


class HttpSender:
    """Posts one message after the other and keeps each answer: status, body, Retry-After, when it came.

    Under an Idempotency-Key it tries again until it is acknowledged; without one it can't: `maybe` has what
    was not acknowledged, and may be stored or not."""

    ok = 200

    def __init__(self, port: int, token: str, gate: Gate, device: str = "d2", keyed: bool = True) -> None:
        self.acked: set[int] = set()
        self.maybe: set[int] = set()
        self.answers: list[tuple[int, str, str, float]] = []
        self.broken = 0  # connections, also those that were not made
        self.deaf = False  # answers are lost on their way
        self.arrays = True
        self._url = f"http://127.0.0.1:{port}/post_v2/"
        self._headers = {"X-DEVICETOKEN": token, "X-DEVICEID": device}
        self._name, self._gate, self._keyed = device, gate, keyed

    async def run(self) -> None:
        """Until the gate is shut."""
        while not self._gate.finished:
            number = self._gate.take()
            if number is None:
                await asyncio.sleep(0.01)
            else:
                await self._deliver(number)

    async def _deliver(self, number: int) -> None:
        while not await asyncio.to_thread(self._post, number):
            if not self._keyed:
                self.maybe.add(number)
                return
            await asyncio.sleep(RECONNECT_SECONDS)
        self.acked.add(number)

    def _body(self, number: int) -> bytes:
        return payload(number, self.arrays)

    def _post(self, number: int) -> bool:
        """Whether it is acknowledged."""
        key = {"Idempotency-Key": f"{self._name}-{number}"} if self._keyed else {}
        request = urllib.request.Request(self._url, self._body(number), self._headers | key)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._keep(answer.status, answer.read(), answer.headers)
                return answer.status == self.ok and not self.deaf
        except urllib.error.HTTPError as error:
            with error, contextlib.suppress(OSError, HTTPException):
                self._keep(error.code, error.read(), error.headers)
        except (OSError, HTTPException):
            self.broken += 1
        return False

    def _keep(self, status: int, body: bytes, headers: Message) -> None:
        self.answers.append((status, body.decode(), headers.get("Retry-After", ""), time.monotonic()))


class RestSender(HttpSender):
    """The same by POST /v2/stream/CHANNEL."""

    ok = 201

    def __init__(self, port: int, api_token: str, gate: Gate, channel: int) -> None:
        super().__init__(port, "", gate, "rest")
        self._url = f"http://127.0.0.1:{port}/v2/stream/{channel}"
        self._headers = {"X-APITOKEN": api_token}

    def _body(self, number: int) -> bytes:
        return b'{"value":{"n":%d}}' % number


async def dial(port: int, source: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """From that address of this machine."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0) if source else None)


async def until(condition: Callable[[], object], seconds: float, pause: float = 0.005) -> None:
    """Polls; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(pause)
