"""An MQTT client on a bare socket: it answers at once what it is sent, or holds its answers back."""

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    Ack,
    ConnAck,
    Disconnect,
    Packet,
    PingResp,
    Publish,
    SubAck,
    UnsubAck,
    Version,
)
from ingest.mqtt.properties import Property
from model.model import Message

SECONDS = 60.0
LARGEST = 2**20

Alter = Callable[[str, Packet], Packet | None]  # what a test makes of a packet before it is looked at


class Event(Enum):
    """What the model has to be told, in this order, about a connection."""

    DELIVERED = auto()
    RECEIVED = auto()
    RELEASED = auto()
    ACKNOWLEDGED = auto()


class Holding(Enum):
    NOTHING = auto()
    COMPLETIONS = auto()
    ALL = auto()


@dataclass(eq=False)
class Outgoing:
    """A message that the server has not acknowledged."""

    message: Message
    packet: Publish
    received: bool = False  # PUBREC has come
    paused: bool = False  # PUBREL waits for a step of its own


@dataclass(eq=False)
class Client:
    """What outlives its connections."""

    name: str
    alter: Alter
    version: Version = V5
    connection: "Connection | None" = None
    outgoing: dict[int, Outgoing] = field(default_factory=dict)
    acknowledged: list[Message] = field(default_factory=list)  # since somebody looked
    refused: list[Message] = field(default_factory=list)
    last_id: int = 0

    def packet_id(self) -> int:
        while True:
            self.last_id = self.last_id % 200 + 1  # small, so that identifiers are used again soon
            if self.last_id not in self.outgoing:
                return self.last_id


class Connection:
    def __init__(self, client: Client, address: tuple[str, int], version: Version, process: int = 0) -> None:
        self.client, self.version = client, version
        self.process = process  # of the server's
        self.socket = socket.create_connection(address, SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open = True  # for what the server sends
        self.writable = True
        self.holding = Holding.NOTHING
        self.connack: ConnAck | None = None
        self.disconnect: Disconnect | None = None
        self.subacks: dict[int, list[int]] = {}
        self.pings = 0  # not answered
        self.aliases: dict[int, str] = {}  # of topics that we send
        self.largest_alias = 0  # that we may send
        self.inbox: deque[tuple[Event, Publish | int]] = deque()
        self._unanswered: list[Publish | Ack] = []
        self._topics: dict[int, str] = {}  # by alias, of topics that the server sends
        self._frames = FrameReader(LARGEST)

    def send(self, *packets: Packet) -> None:
        self.write(b"".join(encode(packet, self.version) for packet in packets))

    def write(self, data: bytes) -> None:
        if self.writable:
            try:
                self.socket.sendall(data)
            except OSError:
                self.writable = False

    def end(self) -> None:
        """The wire is cut behind what was sent; what the server still sends can be read."""
        self.writable = False
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.open = False

    def read(self) -> None:
        try:
            data = self.socket.recv(2**16)
        except OSError:
            data = b""
        if not data:
            self.open = self.writable = False
            self.socket.close()
            return
        for first, body in self._frames.feed(data):
            packet = self.client.alter(self.client.name, decode(first, body, self.version))
            if packet is not None:
                self._take(packet)

    def answer_held(self) -> None:
        held, self._unanswered = self._unanswered, []
        for packet in held:
            self._answer(packet)

    def first_answer(self) -> bytes | None:
        """What the client would send next, if it did not hold it back."""
        if not self._unanswered:
            return None
        packet = self._unanswered[0]
        kind = PUBCOMP if isinstance(packet, Ack) else (PUBACK if packet.qos == 1 else PUBREC)
        return encode_ack(kind, packet.packet_id)

    def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                packet = self._with_topic(packet)
                self.inbox.append((Event.DELIVERED, packet))
                if packet.qos:
                    self._answer_unless(packet, self.holding is Holding.ALL)
            case Ack(type=kind, packet_id=packet_id) if kind == PUBREL:
                self.inbox.append((Event.RELEASED, packet_id))
                self._answer_unless(packet, self.holding is not Holding.NOTHING)
            case Ack():
                self._acknowledged(packet)
            case SubAck(packet_id, codes) | UnsubAck(packet_id, codes):
                self.subacks[packet_id] = codes
            case PingResp():
                self.pings -= 1
            case ConnAck():
                self.connack = packet
                self.largest_alias = packet.properties.get(Property.TOPIC_ALIAS_MAXIMUM, 0)
            case Disconnect():
                self.disconnect = packet

    def _with_topic(self, packet: Publish) -> Publish:
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if alias is None:
            return packet
        if packet.topic:
            self._topics[alias] = packet.topic
        return packet._replace(topic=self._topics[alias])

    def _answer_unless(self, packet: Publish | Ack, held: bool) -> None:
        if held and self.writable:
            self._unanswered.append(packet)
        else:
            self._answer(packet)

    def _answer(self, packet: Publish | Ack) -> None:
        """Where the wire is cut there is none."""
        if not self.writable:
            return
        number = packet.packet_id
        if isinstance(packet, Ack):
            self.write(encode_ack(PUBCOMP, number))
            self.inbox.append((Event.ACKNOWLEDGED, number))
        elif packet.qos == 1:
            self.write(encode_ack(PUBACK, number))
            self.inbox.append((Event.ACKNOWLEDGED, number))
        else:
            self.write(encode_ack(PUBREC, number))
            self.inbox.append((Event.RECEIVED, number))

    def _acknowledged(self, ack: Ack) -> None:
        outgoing = self.client.outgoing.get(ack.packet_id)
        if outgoing is None:
            return
        if ack.type == PUBREC and ack.code < 0x80:
            outgoing.received = True
            if not outgoing.paused:
                self.write(encode_ack(PUBREL, ack.packet_id))
            return
        del self.client.outgoing[ack.packet_id]
        refused = ack.code >= 0x80 and ack.type != PUBCOMP
        (self.client.refused if refused else self.client.acknowledged).append(outgoing.message)

    def alias_for(self, topic: str, alias: int) -> tuple[str, int]:
        """The topic as it is sent, and the alias; 0: none."""
        if self.version != V5 or not 0 < alias <= self.largest_alias:
            return topic, 0
        if self.aliases.get(alias) == topic:
            return "", alias
        self.aliases[alias] = topic
        return topic, alias
