"""Durable sessions on the other side of the drills: clients that keep what they have got, as one does that
stores its own half of the session, and say what was wrong with it."""

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from drill_client import RECONNECT_SECONDS, connect_packet, dial, until

from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    ConnAck,
    Packet,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Version,
)

ANSWER_SECONDS = 0.01  # at most, until what has come is acknowledged
_NUMBER = re.compile(rb'"n":(\d+)')


class DurableSubscriber:
    """It subscribes once. Its answers are late by a random moment, so that a kill finds some of the messages
    sent and not acknowledged. `away`: it only comes now and then, for a moment."""

    def __init__(
        self,
        port: int,
        user_id: str,
        token: str,
        name: str,
        filters: Sequence[str],
        *,
        version: Version,
        qos: int,
        away: bool = False,
    ) -> None:
        self.name = name
        self.got: list[int] = []  # numbers, in the order in which they came first
        self.texts: Counter[str] = Counter()  # what has no number
        self.repeated = 0
        self.faults: list[str] = []
        self.subscribed = False
        self.away = away
        self.source = ""  # address that it connects from
        self.ordered = True  # whether each topic has its messages in order
        self.refusals: tuple[int, ...] = ()  # codes of CONNACK after which it tries again
        self._port, self._version, self._qos = port, version, qos
        self._prefix = len(token) + 1
        self._connect = encode(connect_packet(version, name, user_id, token, durable=True), version)
        wanted = [Subscription(prefixed(each, token), qos, False, False, 2) for each in filters]
        self._subscribe = encode(Subscribe(1, wanted, {}), version)
        self._seen: set[tuple[str, bytes]] = set()
        self._open: dict[int, tuple[str, bytes]] = {}  # by packet id: at QoS 2, until PUBREL
        self._last: dict[str, int] = {}  # by topic: the largest number
        self._answers: list[bytes] = []
        self._chance = random.Random()
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._chance.uniform(0, 0.5) if self.away else None):
                    await self._session()
            await asyncio.sleep(self._chance.uniform(0, 2) if self.away else RECONNECT_SECONDS)

    async def subscribe(self, seconds: float) -> None:
        """Once, in a session of its own."""
        session = asyncio.create_task(self._session())
        await until(lambda: self.subscribed, seconds)
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)

    def move(self) -> None:
        """The connection breaks, whatever is on its way."""
        if self._writer:
            self._writer.transport.abort()

    async def _session(self) -> None:
        """The wire is cut at its end, if the server has not closed it."""
        reader, writer = await dial(self._port, self.source)
        frames = FrameReader(2**20)
        self._answers.clear()
        try:
            writer.write(self._connect)
            self._writer = writer
            while data := await reader.read(65_536):
                for first, body in frames.feed(data):
                    self._take(decode(first, body, self._version))
        finally:
            self._writer = None
            writer.transport.abort()

    def _take(self, packet: Packet) -> None:
        match packet:
            case ConnAck(code=0):
                if not self.subscribed:
                    self._write(self._subscribe)
                elif self._version > 3 and not packet.session_present:
                    self.faults.append("its session was lost")
            case ConnAck() if packet.code not in self.refusals:
                self.faults.append(f"CONNACK {packet.code:#x}")
            case SubAck():
                self.subscribed = True
                if packet.codes != [self._qos] * len(packet.codes):
                    self.faults.append(f"SUBACK {packet.codes}")
            case Publish():
                self._publish(packet)
            case Ack(type=type_) if type_ == PUBREL:
                self._open.pop(packet.packet_id, None)
                self._answer(encode_ack(PUBCOMP, packet.packet_id))

    def _publish(self, packet: Publish) -> None:
        key = packet.topic[self._prefix :], packet.payload
        if not 1 <= packet.qos <= self._qos:
            self.faults.append(f"QoS {packet.qos} of {key}")
        if packet.qos == 1:
            self._answer(encode_ack(PUBACK, packet.packet_id))
            if key in self._seen:
                self.repeated += 1
                if not packet.dup:
                    self.faults.append(f"{key} was repeated without DUP")
                return
        else:
            self._answer(encode_ack(PUBREC, packet.packet_id))
            if packet.packet_id in self._open:
                self.repeated += 1
                if not packet.dup or self._open[packet.packet_id] != key:
                    was = self._open[packet.packet_id]
                    self.faults.append(f"packet {packet.packet_id} was {was}, is {key}, dup {packet.dup}")
                return
            self._open[packet.packet_id] = key
            if key in self._seen:
                self.faults.append(f"{key} came twice at QoS 2, dup {packet.dup}")
        self._seen.add(key)
        self._keep(*key)

    def _keep(self, topic: str, payload: bytes) -> None:
        found = _NUMBER.search(payload)
        if found is None:
            self.texts[payload.decode()] += 1
            return
        number = int(found[1])
        if self.ordered and number < self._last.get(topic, -1):
            self.faults.append(f"{topic}: {number} behind {self._last[topic]}")
        self._last[topic] = number
        self.got.append(number)

    def _answer(self, data: bytes) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_later(
                self._chance.uniform(0, ANSWER_SECONDS), self._write_answers
            )
        self._answers.append(data)

    def _write_answers(self) -> None:
        answers, self._answers = self._answers, []
        self._write(b"".join(answers))

    def _write(self, data: bytes) -> None:
        if self._writer and data and not self._writer.is_closing():
            self._writer.write(data)


def prefixed(topic_filter: str, token: str) -> str:
    """With the token, behind `$share/GROUP/` if there is that."""
    if topic_filter.startswith("$share/"):
        share, group, rest = topic_filter.split("/", 2)
        return f"{share}/{group}/{token}/{rest}"
    return f"{token}/{topic_filter}"


def check_got(wanted: set[int], *subscribers: DurableSubscriber) -> None:
    """Together they have got all of them, each once, and nothing else."""
    names = ", ".join(each.name for each in subscribers)
    got = [number for each in subscribers for number in each.got]
    lost = sorted(wanted - set(got))
    assert not lost, f"{names}: {len(lost)} of {len(wanted)} are lost: {lost[:10]}"
    assert len(got) == len(set(got)), f"{names}: {len(got) - len(set(got))} came twice"
    assert set(got) <= wanted, f"{names}: {sorted(set(got) - wanted)[:10]} were never sent"


def check_faults(subscribers: Iterable[DurableSubscriber]) -> None:
    found = {each.name: (len(each.faults), each.faults[:5]) for each in subscribers if each.faults}
    assert not found, found
