"""Properties of MQTT 5 (section 2.2.2): which packet may carry which, and their values."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from ingest.mqtt import wire
from ingest.mqtt.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Properties,
    valid_topic_name,
)
from ingest.mqtt.wire import Reader, malformed, violation

WILL: Final = 0  # stands beside the packet types: the will of a CONNECT has properties of its own


class Property(IntEnum):
    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


class _Type(NamedTuple):
    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]
    largest: int = 0


class _Rule(NamedTuple):
    type: _Type
    packets: tuple[int, ...]
    smallest: int = 0
    repeats: tuple[int, ...] = ()  # packets in which it may come more than once; its value then is a list


_FLAG = _Type(Reader.byte, wire.write_byte, 1)  # every property of one byte is 0 or 1
_U16 = _Type(Reader.u16, wire.write_u16, 0xFFFF)
_U32 = _Type(Reader.u32, wire.write_u32, 0xFFFF_FFFF)
_VARINT = _Type(Reader.varint, wire.write_varint, wire.MAX_VARINT)
_TEXT = _Type(Reader.text, wire.write_text)
_TOPIC = _Type(
    lambda reader: _checked_topic(reader.text()), lambda topic: wire.write_text(_checked_topic(topic))
)
_BINARY = _Type(Reader.binary, wire.write_binary)
_PAIR = _Type(Reader.pair, wire.write_pair)

_ANSWERS = (CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)
_ALL = (CONNECT, WILL, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, *_ANSWERS)

_RULES: Final[dict[int, _Rule]] = {
    Property.PAYLOAD_FORMAT_INDICATOR: _Rule(_FLAG, (PUBLISH, WILL)),
    Property.MESSAGE_EXPIRY_INTERVAL: _Rule(_U32, (PUBLISH, WILL)),
    Property.CONTENT_TYPE: _Rule(_TEXT, (PUBLISH, WILL)),
    Property.RESPONSE_TOPIC: _Rule(_TOPIC, (PUBLISH, WILL)),
    Property.CORRELATION_DATA: _Rule(_BINARY, (PUBLISH, WILL)),
    Property.SUBSCRIPTION_IDENTIFIER: _Rule(_VARINT, (PUBLISH, SUBSCRIBE), 1, repeats=(PUBLISH,)),
    Property.SESSION_EXPIRY_INTERVAL: _Rule(_U32, (CONNECT, CONNACK, DISCONNECT)),
    Property.ASSIGNED_CLIENT_IDENTIFIER: _Rule(_TEXT, (CONNACK,)),
    Property.SERVER_KEEP_ALIVE: _Rule(_U16, (CONNACK,)),
    Property.AUTHENTICATION_METHOD: _Rule(_TEXT, (CONNECT, CONNACK, AUTH)),
    Property.AUTHENTICATION_DATA: _Rule(_BINARY, (CONNECT, CONNACK, AUTH)),
    Property.REQUEST_PROBLEM_INFORMATION: _Rule(_FLAG, (CONNECT,)),
    Property.WILL_DELAY_INTERVAL: _Rule(_U32, (WILL,)),
    Property.REQUEST_RESPONSE_INFORMATION: _Rule(_FLAG, (CONNECT,)),
    Property.RESPONSE_INFORMATION: _Rule(_TEXT, (CONNACK,)),
    Property.SERVER_REFERENCE: _Rule(_TEXT, (CONNACK, DISCONNECT)),
    Property.REASON_STRING: _Rule(_TEXT, _ANSWERS),
    Property.RECEIVE_MAXIMUM: _Rule(_U16, (CONNECT, CONNACK), 1),
    Property.TOPIC_ALIAS_MAXIMUM: _Rule(_U16, (CONNECT, CONNACK)),
    Property.TOPIC_ALIAS: _Rule(_U16, (PUBLISH,), 1),
    Property.MAXIMUM_QOS: _Rule(_FLAG, (CONNACK,)),
    Property.RETAIN_AVAILABLE: _Rule(_FLAG, (CONNACK,)),
    Property.USER_PROPERTY: _Rule(_PAIR, _ALL, repeats=_ALL),
    Property.MAXIMUM_PACKET_SIZE: _Rule(_U32, (CONNECT, CONNACK), 1),
    Property.WILDCARD_SUBSCRIPTION_AVAILABLE: _Rule(_FLAG, (CONNACK,)),
    Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: _Rule(_FLAG, (CONNACK,)),
    Property.SHARED_SUBSCRIPTION_AVAILABLE: _Rule(_FLAG, (CONNACK,)),
}


def read_properties(reader: Reader, packet: int) -> Properties:
    """`packet` is a packet type, or WILL."""
    part = reader.part(reader.varint())
    properties: Properties = {}
    while part:
        key = part.varint()
        rule = _rule(key, packet)
        value = rule.type.read(part)
        if rule.type.largest:
            _check_range(key, rule, value)
        if key in properties and packet not in rule.repeats:
            raise violation(f"Property {Property(key).name} appears twice.")
        if rule.repeats:
            properties.setdefault(key, []).append(value)
        else:
            properties[key] = value
    return properties


def write_properties(properties: Properties, packet: int) -> bytes:
    """With their length in front; `packet` is a packet type, or WILL."""
    if not properties:
        return b"\0"
    out = b""
    for key, value in properties.items():
        rule = _rule(key, packet)
        values = value if rule.repeats else (value,)
        if len(values) > 1 and packet not in rule.repeats:
            raise violation(f"Property {Property(key).name} appears twice.")
        for each in values:
            if rule.type.largest:
                _check_range(key, rule, each)
            out += bytes((key,)) + rule.type.write(each)
    return wire.write_varint(len(out)) + out


def _rule(key: int, packet: int) -> _Rule:
    """[MQTT-2.2.2-2]: an identifier that is unknown or belongs to other packets is malformed."""
    rule = _RULES.get(key)
    if rule is None:
        raise malformed(f"Property 0x{key:02X} does not exist.")
    if packet not in rule.packets:
        raise malformed(f"Property {Property(key).name} is not allowed in this packet.")
    return rule


def _check_range(key: int, rule: _Rule, value: int) -> None:
    if not rule.smallest <= value <= rule.type.largest:
        raise violation(f"Property {Property(key).name} must not be {value}.")


def _checked_topic(topic: str) -> str:
    if not valid_topic_name(topic):  # [MQTT-3.3.2-14]
        raise violation("The response topic is not a valid topic name.")
    return topic
