"""Reads from the broker behind which the gateway of an earlier release stood: retained messages, and the
queues of its clients. There, topics and client ids begin with the user id.

It uses our own codec instead of a client library, since messages are acknowledged once they are committed
here."""

import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

from ingest.mqtt.codec import FrameReader, decode, encode
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
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolError,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Unsubscribe,
    Version,
)
from ingest.mqtt.properties import Property
from thingscale.lib.env import Broker

SECONDS = 10.0  # for an answer
KEEP_ALIVE = 120  # seconds; some brokers refuse 0
MAX_PACKET = 2**28
NEVER = 0xFFFFFFFF
AT_ONCE = 100  # messages of a transaction, and filters of a subscription
PAUSE = 0.2  # seconds, between two looks whether there is more


class Away(Exception):
    """The broker can't be used; the text is a sentence for people."""


class Link:
    """One client's connection. `present`: whether the broker has a session of it."""

    def __init__(self, address: Broker, version: Version, client_id: str, clean: bool) -> None:
        host, port, username, password = address
        self.version = version
        self._reader = FrameReader(MAX_PACKET)
        self._frames: list[tuple[int, bytes]] = []
        self._packet_id = 0
        self._pinged = False  # and not answered
        self._socket = socket.create_connection((host, port), SECONDS)
        properties: Properties = (
            {Property.SESSION_EXPIRY_INTERVAL: NEVER} if version == V5 and not clean else {}
        )
        secret = password.encode() if password is not None else None
        try:
            self.send(Connect(version, client_id, clean, KEEP_ALIVE, username, secret, None, properties))
            answer = self.receive()
            if not isinstance(answer, ConnAck):
                raise ConnectionError("it closed the connection")
            if answer.code:
                raise ConnectionError(f"it refused the connection with code {answer.code}")
        except BaseException:
            self._socket.close()
            raise
        self.present = answer.session_present

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sends DISCONNECT and waits until the broker closes: otherwise the embedded broker would end the
        next connection of this client."""
        with contextlib.suppress(OSError, ProtocolError):
            self.send(Disconnect(0, {}))
            while self.receive():
                pass
        self._socket.close()

    def send(self, *packets: Packet) -> None:
        self._socket.sendall(b"".join(encode(packet, self.version) for packet in packets))

    def receive(self) -> Packet | None:
        """The next packet; None once the broker has closed."""
        while not self._frames:
            data = self._socket.recv(2**16)
            if not data:
                return None
            self._frames = self._reader.feed(data)
        return decode(*self._frames.pop(0), self.version)

    def next_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def batches(self) -> Iterator[list[Publish]]:
        """What the broker sends, until it has no more. A batch is acknowledged when the next one is asked
        for."""
        quiet = 0
        while quiet < 2:
            # Messages up to the answer to a ping, or AT_ONCE of them.
            batch: list[Publish] = []
            released = False
            if not self._pinged:
                self.send(PingReq())
                self._pinged = True
            while self._pinged and len(batch) < AT_ONCE:
                packet = self._expect()
                if isinstance(packet, Publish):
                    batch.append(packet)
                elif isinstance(packet, Ack) and packet.type == PUBREL:
                    released = True
                    self.send(Ack(PUBCOMP, packet.packet_id, 0, {}))
                elif isinstance(packet, PingResp):
                    self._pinged = False
            if batch:
                yield batch
                self._acknowledge(batch)
            quiet = 0 if batch or released else quiet + 1
            if quiet == 1:
                time.sleep(PAUSE)

    def _acknowledge(self, batch: Sequence[Publish]) -> None:
        kinds = {1: PUBACK, 2: PUBREC}
        self.send(*(Ack(kinds[each.qos], each.packet_id, 0, {}) for each in batch if each.qos))

    def _expect(self) -> Packet:
        packet = self.receive()
        if packet is None or isinstance(packet, Disconnect):
            raise ConnectionError("it closed the connection")
        return packet

    def subscribe(self, filters: Sequence[str], qos: int) -> list[Publish]:
        """The messages that come with it."""
        packet_id = self.next_id()
        wanted = [Subscription(each, qos, False, False, 0) for each in filters]
        self.send(Subscribe(packet_id, wanted, {}))
        found: list[Publish] = []
        while not isinstance(packet := self._expect(), SubAck):
            if isinstance(packet, Publish):  # some are faster than the answer
                found.append(packet)
                self._acknowledge([packet])
        if any(code >= 0x80 for code in packet.codes):
            raise ConnectionError("it refused the subscription")
        for batch in self.batches():
            found += batch
        self.send(Unsubscribe(self.next_id(), list(filters), {}))
        return [message for message in found if message.retain]


class OldBroker:
    """`address`: for MQTT 3.1.1; `address5`: for MQTT 5, which may be the same."""

    def __init__(self, address: Broker, address5: Broker) -> None:
        self._address = address
        self._address5 = address5
        self._open: Callable[[str, bool], Link] | None = None

    def link(self, client_id: str, clean: bool) -> Link:
        """By MQTT 5 if the broker speaks it, for the messages' properties. Raises Away."""
        if self._open:
            return _or_away(self._open, client_id, clean)
        try:
            self._open = self._link5
            return self._link5(client_id, clean)
        except (OSError, ProtocolError):
            self._open = self._link311
            return _or_away(self._link311, client_id, clean)

    def _link5(self, client_id: str, clean: bool) -> Link:
        return Link(self._address5, V5, client_id, clean)

    def _link311(self, client_id: str, clean: bool) -> Link:
        return Link(self._address, V311, client_id, clean)

    def retained(self, user_id: str) -> Iterator[list[Publish]]:
        """All below the user id. At QoS 0 first: brokers hold back what is more than their window for a
        subscription at another QoS; then topic by topic as they were published."""
        with self.link(f"thingscale-import-{secrets.token_hex(4)}", True) as link:
            found = {message.topic: message for message in link.subscribe([f"{user_id}/#"], 0)}
            topics = sorted(found)
            for start in range(0, len(topics), AT_ONCE):
                chunk = topics[start : start + AT_ONCE]
                again = {message.topic: message for message in link.subscribe(chunk, 2)}
                yield [again.get(topic, found[topic]) for topic in chunk]

    def session(self, user_id: str, client_id: str) -> Link:
        return self.link(_name(user_id, client_id), False)

    def end_session(self, user_id: str, client_id: str) -> None:
        """A clean one takes its place [MQTT-3.1.2-6]."""
        with self.link(_name(user_id, client_id), True):
            pass


def _or_away(connect: Callable[[str, bool], Link], client_id: str, clean: bool) -> Link:
    try:
        return connect(client_id, clean)
    except (OSError, ProtocolError) as error:
        raise Away(f"The broker can't be used: {error}.") from None


def _name(user_id: str, client_id: str) -> str:
    return f"{user_id}:{quote(client_id, safe='')}"
