"""Thousands of clients: each is connected or on its way back, and has at most one message unacknowledged."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drill_client import until
from private_place import Place

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import PUBACK, V311, Ack, ConnAck, Connect, Publish

AGAIN_SECONDS = 0.2  # at most, before the next try of one that is refused


class Member:
    def __init__(self, place: Place, name: str, topic: str) -> None:
        self.connected = False
        self.refused = 0
        self.acked: set[int] = set()
        self._number: int | None = None
        self._tried = False
        self._topic = topic
        self._port = place.stack.mqtt
        self._connect = encode(
            Connect(V311, name, True, 0, place.user_id, place.token.encode(), None, {}), V311
        )
        self._writer: asyncio.StreamWriter | None = None

    def send(self, number: int) -> None:
        self._number, self._tried = number, False
        if self.connected:
            self._publish()

    @property
    def waiting(self) -> bool:
        return self._number is not None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self._session()
            self.connected = False
            await asyncio.sleep(random.uniform(0, AGAIN_SECONDS))

    async def _session(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        frames = FrameReader(2**20)
        try:
            self._writer.write(self._connect)
            while data := await reader.read(4096):
                for first, body in frames.feed(data):
                    self._take(decode(first, body, V311))
        finally:
            self._writer.close()

    def _take(self, packet: object) -> None:
        match packet:
            case ConnAck(code=0):
                self.connected = True
                if self.waiting:
                    self._publish()
            case ConnAck():
                self.refused += 1
            case Ack(type=type_) if type_ == PUBACK and self._number is not None:
                self.acked.add(self._number)
                self._number = None

    def _publish(self) -> None:
        assert self._writer
        packet = Publish(self._topic, b'{"n":%d}' % (self._number or 0), 1, False, self._tried, 1, {})
        self._tried = True
        self._writer.write(encode(packet, V311))


class Crowd:
    def __init__(self, place: Place, device: str, count: int) -> None:
        topic = f"{place.token}/json/{device}"
        self.members = [Member(place, f"member-{number}", topic) for number in range(count)]
        self._sent = 0

    def send(self) -> None:
        """One message each."""
        for member in self.members:
            member.send(self._sent)
            self._sent += 1

    @property
    def connected(self) -> int:
        return sum(member.connected for member in self.members)

    @property
    def acked(self) -> set[int]:
        return set().union(*(member.acked for member in self.members))

    async def settle(self, seconds: float) -> None:
        """Everybody is connected, and nobody waits for an acknowledgement."""
        await until(
            lambda: all(member.connected and not member.waiting for member in self.members), seconds, 0.02
        )

    @asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(member.run()) for member in self.members]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
