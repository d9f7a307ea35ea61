"""A client's side of deliveries, for their tests."""

from ingest.gateway.outgoing_message import Delivery, OutgoingMessage
from ingest.mqtt.codec import FrameReader, decode
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V311,
    Ack,
    Packet,
    Publish,
    Version,
)

NOW = 1_800_000_000.0


def message(payload: bytes = b"21.5", topic: str = "json/d1") -> OutgoingMessage:
    return OutgoingMessage(topic, payload, {})


def delivery(payload: bytes = b"21.5", qos: int = 0, seq: int = 0) -> Delivery:
    return Delivery(message(payload), qos, seq=seq)


def packets(data: bytes, version: Version = V311) -> list[Packet]:
    reader = FrameReader(10_000_000)
    frames = reader.feed(data)
    assert not reader.buffered
    return [decode(first, body, version) for first, body in frames]


def publishes(data: bytes, version: Version = V311) -> list[Publish]:
    found = packets(data, version)
    assert all(isinstance(packet, Publish) for packet in found)
    return [packet for packet in found if isinstance(packet, Publish)]


def puback(packet_id: int, code: int = 0) -> Ack:
    return Ack(PUBACK, packet_id, code, {})


def pubrec(packet_id: int, code: int = 0) -> Ack:
    return Ack(PUBREC, packet_id, code, {})


def pubrel(packet_id: int, code: int = 0) -> Ack:
    return Ack(PUBREL, packet_id, code, {})


def pubcomp(packet_id: int, code: int = 0) -> Ack:
    return Ack(PUBCOMP, packet_id, code, {})
