"""PUBLISH and its four acknowledgements (sections 3.3 to 3.7): the packets that have to be fast."""

import struct
from typing import Final, NoReturn

from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Ack,
    Properties,
    ProtocolError,
    Publish,
    ReasonCode,
    Version,
)
from ingest.mqtt.properties import Property, read_properties, write_properties
from ingest.mqtt.wire import (
    Reader,
    check_code,
    malformed,
    violation,
    write_frame,
    write_packet_id,
    write_text,
)

# first byte -> QoS, RETAIN, DUP; what is missing here is malformed
_FLAGS: Final = {
    PUBLISH << 4 | dup << 3 | qos << 1 | retain: (qos, bool(retain), bool(dup))
    for dup in (0, 1)
    for qos in (0, 1, 2)
    for retain in (0, 1)
    if qos or not dup  # [MQTT-3.3.1-2]
}
_FIRST: Final = {PUBACK: 0x40, PUBREC: 0x50, PUBREL: 0x62, PUBCOMP: 0x70}
_PUBLISHED: Final = frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
_RELEASED: Final = frozenset((0x00, 0x92))
_CODES: Final = {PUBACK: _PUBLISHED, PUBREC: _PUBLISHED, PUBREL: _RELEASED, PUBCOMP: _RELEASED}

_pack_ack: Final = struct.Struct(">BBH").pack
_pack_ack_with_code: Final = struct.Struct(">BBHB").pack
_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


def decode_publish(first: int, body: bytes, version: Version) -> Publish:
    """One flat function, mostly without a Reader, for speed: run the benchmarks before you change it."""
    flags = _FLAGS.get(first)
    if flags is None:
        raise malformed("PUBLISH has QoS 3, or DUP at QoS 0.")
    qos, retain, dup = flags
    size = len(body)
    pos = 2 + (body[0] << 8 | body[1]) if size >= 2 else 2
    if pos + (2 if qos else 0) > size:
        raise malformed("PUBLISH ends within its topic or packet identifier.")
    try:
        topic = body[2:pos].decode()
    except UnicodeDecodeError:
        raise malformed("The topic is not valid UTF-8.") from None
    if "+" in topic or "#" in topic or "\0" in topic or not (topic or version == V5):
        _refuse_topic(topic)
    packet_id = 0
    if qos:
        packet_id = body[pos] << 8 | body[pos + 1]
        if not packet_id:
            raise violation("Packet identifier 0 is not allowed.")
        pos += 2
    properties: Properties = {}
    if version == V5:
        if topic and body[pos : pos + 1] == b"\0":
            pos += 1
        else:
            reader = Reader(body, pos)
            properties, pos = read_properties(reader, PUBLISH), reader.pos
            if not topic and Property.TOPIC_ALIAS not in properties:
                raise violation("PUBLISH has neither a topic nor a topic alias.")
    return _new(Publish, (topic, body[pos:], qos, retain, dup, packet_id, properties))


def encode_publish(packet: Publish, version: Version) -> bytes:
    topic, payload, qos, retain, dup, packet_id, properties = packet
    first = PUBLISH << 4 | dup << 3 | qos << 1 | retain
    if first not in _FLAGS:
        raise malformed("PUBLISH has a QoS above 2, or DUP at QoS 0.")
    if "+" in topic or "#" in topic or not (topic or (version == V5 and Property.TOPIC_ALIAS in properties)):
        _refuse_topic(topic)
    head = write_text(topic)
    if qos:
        head += write_packet_id(packet_id)
    if version == V5:
        head += write_properties(properties, PUBLISH)
    return write_frame(first, head + payload)


def decode_ack(kind: int, reader: Reader, version: Version) -> Ack:
    packet_id = reader.packet_id()
    if version != V5 or not reader:
        return Ack(kind, packet_id, 0, {})
    code = check_code(reader.byte(), _CODES[kind])
    return Ack(kind, packet_id, code, read_properties(reader, kind) if reader else {})


def encode_ack(type_: int, packet_id: int, code: int = 0, version: Version = V311) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP without properties. MQTT 3 has no codes: there `code` is left out."""
    if not packet_id:
        raise violation("Packet identifier 0 is not allowed.")
    try:
        if code and version == V5:
            return _pack_ack_with_code(_FIRST[type_], 3, packet_id, check_code(code, _CODES[type_]))
        return _pack_ack(_FIRST[type_], 2, packet_id)
    except struct.error:
        raise violation(f"{packet_id} is not a packet identifier.") from None


def encode_full_ack(packet: Ack, version: Version) -> bytes:
    kind, packet_id, code, properties = packet
    if version != V5 or not properties:
        return encode_ack(kind, packet_id, code, version)
    body = write_packet_id(packet_id) + bytes((check_code(code, _CODES[kind]),))
    return write_frame(_FIRST[kind], body + write_properties(properties, kind))


def _refuse_topic(topic: str) -> NoReturn:
    if "\0" in topic:
        raise malformed("The topic contains the character U+0000.")
    problem = "contains a wildcard" if topic else "is empty"
    raise ProtocolError(ReasonCode.TOPIC_NAME_INVALID, f"The topic of a PUBLISH {problem}.")
