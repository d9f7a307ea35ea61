"""Properties of MQTT 5, section 2.2.2: each against each packet, its type and its range, written by hand."""

import pytest

from ingest.mqtt.codec import decode, encode
from ingest.mqtt.packets import (
    V5,
    V311,
    Connect,
    Packet,
    ProtocolError,
    Publish,
    ReasonCode,
    Subscribe,
    Subscription,
    Will,
)
from ingest.mqtt.properties import Property

# How each packet looks around its properties: first byte, bytes before, bytes after.
PACKETS: dict[str, tuple[int, bytes, bytes]] = {
    "CONNECT": (0x10, b"\x00\x04MQTT\x05\x02\x00\x00", b"\x00\x01d"),
    "WILL": (0x10, b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01d", b"\x00\x01w\x00\x00"),
    "CONNACK": (0x20, b"\x00\x00", b""),
    "PUBLISH": (0x32, b"\x00\x01t\x00\x01", b"payload"),
    "PUBACK": (0x40, b"\x00\x01\x00", b""),
    "PUBREC": (0x50, b"\x00\x01\x00", b""),
    "PUBREL": (0x62, b"\x00\x01\x00", b""),
    "PUBCOMP": (0x70, b"\x00\x01\x00", b""),
    "SUBSCRIBE": (0x82, b"\x00\x01", b"\x00\x01t\x00"),
    "SUBACK": (0x90, b"\x00\x01", b"\x00"),
    "UNSUBSCRIBE": (0xA2, b"\x00\x01", b"\x00\x01t"),
    "UNSUBACK": (0xB0, b"\x00\x01", b"\x00"),
    "DISCONNECT": (0xE0, b"\x00", b""),
    "AUTH": (0xF0, b"\x18", b""),
}
ANSWERS = "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"

# table 2-4: wire bytes with the identifier, the value they stand for, the packets that may carry them
TABLE: list[tuple[Property, bytes, object, str]] = [
    (Property.PAYLOAD_FORMAT_INDICATOR, b"\x01\x01", 1, "PUBLISH WILL"),
    (Property.MESSAGE_EXPIRY_INTERVAL, b"\x02\x00\x00\x01\x00", 256, "PUBLISH WILL"),
    (Property.CONTENT_TYPE, b"\x03\x00\x04json", "json", "PUBLISH WILL"),
    (Property.RESPONSE_TOPIC, b"\x08\x00\x03r/t", "r/t", "PUBLISH WILL"),
    (Property.CORRELATION_DATA, b"\x09\x00\x02\x00\xff", b"\x00\xff", "PUBLISH WILL"),
    (Property.SUBSCRIPTION_IDENTIFIER, b"\x0b\xff\xff\xff\x7f", [268_435_455], "PUBLISH SUBSCRIBE"),
    (Property.SESSION_EXPIRY_INTERVAL, b"\x11\xff\xff\xff\xff", 0xFFFFFFFF, "CONNECT CONNACK DISCONNECT"),
    (Property.ASSIGNED_CLIENT_IDENTIFIER, b"\x12\x00\x02id", "id", "CONNACK"),
    (Property.SERVER_KEEP_ALIVE, b"\x13\x00\x1e", 30, "CONNACK"),
    (Property.AUTHENTICATION_METHOD, b"\x15\x00\x01m", "m", "CONNECT CONNACK AUTH"),
    (Property.AUTHENTICATION_DATA, b"\x16\x00\x01\x80", b"\x80", "CONNECT CONNACK AUTH"),
    (Property.REQUEST_PROBLEM_INFORMATION, b"\x17\x00", 0, "CONNECT"),
    (Property.WILL_DELAY_INTERVAL, b"\x18\x00\x00\x00\x05", 5, "WILL"),
    (Property.REQUEST_RESPONSE_INFORMATION, b"\x19\x01", 1, "CONNECT"),
    (Property.RESPONSE_INFORMATION, b"\x1a\x00\x01r", "r", "CONNACK"),
    (Property.SERVER_REFERENCE, b"\x1c\x00\x01h", "h", "CONNACK DISCONNECT"),
    (Property.REASON_STRING, b"\x1f\x00\x02no", "no", ANSWERS),
    (Property.RECEIVE_MAXIMUM, b"\x21\xff\xff", 65535, "CONNECT CONNACK"),
    (Property.TOPIC_ALIAS_MAXIMUM, b"\x22\x00\x00", 0, "CONNECT CONNACK"),
    (Property.TOPIC_ALIAS, b"\x23\x00\x01", 1, "PUBLISH"),
    (Property.MAXIMUM_QOS, b"\x24\x00", 0, "CONNACK"),
    (Property.RETAIN_AVAILABLE, b"\x25\x00", 0, "CONNACK"),
    (
        Property.USER_PROPERTY,
        b"\x26\x00\x01k\x00\x00",
        [("k", "")],
        "CONNECT WILL PUBLISH SUBSCRIBE UNSUBSCRIBE " + ANSWERS,
    ),
    (Property.MAXIMUM_PACKET_SIZE, b"\x27\x00\x00\x00\x01", 1, "CONNECT CONNACK"),
    (Property.WILDCARD_SUBSCRIPTION_AVAILABLE, b"\x28\x01", 1, "CONNACK"),
    (Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE, b"\x29\x01", 1, "CONNACK"),
    (Property.SHARED_SUBSCRIPTION_AVAILABLE, b"\x2a\x00", 0, "CONNACK"),
]


def frame(kind: str, properties: bytes) -> tuple[int, bytes]:
    first, before, after = PACKETS[kind]
    assert len(properties) < 128
    return first, before + bytes((len(properties),)) + properties + after


def read(kind: str, properties: bytes) -> Packet:
    return decode(*frame(kind, properties), V5)


def properties_of(packet: Packet, kind: str) -> object:
    if kind == "WILL":
        assert isinstance(packet, Connect)
        assert packet.will
        return packet.will.properties
    return getattr(packet, "properties", None)


def fails(kind: str, properties: bytes) -> ReasonCode:
    with pytest.raises(ProtocolError) as caught:
        read(kind, properties)
    return caught.value.reason


def needed(kind: str, key: Property) -> tuple[bytes, dict[int, object]]:
    """An authentication method where a packet is not valid without one."""
    alone = key != Property.AUTHENTICATION_METHOD and (kind == "AUTH" or key == Property.AUTHENTICATION_DATA)
    return (b"\x15\x00\x01m", {Property.AUTHENTICATION_METHOD: "m"}) if alone else (b"", {})


def test_the_table_is_complete() -> None:
    assert [row[0] for row in TABLE] == list(Property)


@pytest.mark.parametrize("kind", PACKETS)
@pytest.mark.parametrize(
    ("key", "data", "value", "allowed"), [pytest.param(*row, id=row[0].name) for row in TABLE]
)
def test_each_property_in_each_packet(
    key: Property, data: bytes, value: object, allowed: str, kind: str
) -> None:
    if kind in allowed.split():
        prefix, others = needed(kind, key)
        packet = read(kind, prefix + data)
        assert properties_of(packet, kind) == {**others, key: value}
        first, body = frame(kind, prefix + data)
        assert encode(packet, V5) == bytes((first, len(body))) + body
    else:
        assert fails(kind, data) is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize(
    ("key", "data", "_value", "allowed"), [pytest.param(*row, id=row[0].name) for row in TABLE]
)
def test_twice(key: Property, data: bytes, _value: object, allowed: str) -> None:
    for kind in allowed.split():
        prefix, _ = needed(kind, key)
        if key == Property.USER_PROPERTY or (key == Property.SUBSCRIPTION_IDENTIFIER and kind == "PUBLISH"):
            read(kind, prefix + data + data)
        else:
            assert fails(kind, prefix + data + data) is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("key", "data", "_value", "allowed"), [pytest.param(*row, id=row[0].name) for row in TABLE]
)
def test_cut_short(key: Property, data: bytes, _value: object, allowed: str) -> None:
    """A value may not reach beyond the property length, even where the packet has more bytes."""
    kind = allowed.split(maxsplit=1)[0]
    for size in range(1, len(data)):
        assert fails(kind, data[:size]) is ReasonCode.MALFORMED_PACKET, key


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param("PUBLISH", b"\x01\x02", id="payload-format-indicator-2"),
        pytest.param("PUBLISH", b"\x0b\x00", id="subscription-identifier-0-in-publish"),
        pytest.param("SUBSCRIBE", b"\x0b\x00", id="subscription-identifier-0-MQTT-3.8.2.1.2"),
        pytest.param("PUBLISH", b"\x23\x00\x00", id="topic-alias-0-MQTT-3.3.2-8"),
        pytest.param("PUBLISH", b"\x08\x00\x01#", id="response-topic-with-wildcard-MQTT-3.3.2-14"),
        pytest.param("WILL", b"\x08\x00\x03a/+", id="response-topic-of-a-will"),
        pytest.param("PUBLISH", b"\x08\x00\x00", id="response-topic-empty-MQTT-4.7.3-1"),
        pytest.param("WILL", b"\x01\xff", id="payload-format-indicator-of-a-will"),
        pytest.param("CONNECT", b"\x17\x02", id="request-problem-information-2"),
        pytest.param("CONNECT", b"\x19\x02", id="request-response-information-2"),
        pytest.param("CONNECT", b"\x21\x00\x00", id="receive-maximum-0"),
        pytest.param("CONNECT", b"\x27\x00\x00\x00\x00", id="maximum-packet-size-0"),
        pytest.param("CONNECT", b"\x16\x00\x00", id="authentication-data-without-method"),
        pytest.param("CONNACK", b"\x21\x00\x00", id="receive-maximum-0-of-a-server"),
        pytest.param("CONNACK", b"\x24\x02", id="maximum-qos-2"),
        pytest.param("CONNACK", b"\x25\x02", id="retain-available-2"),
        pytest.param("CONNACK", b"\x27\x00\x00\x00\x00", id="maximum-packet-size-0-of-a-server"),
        pytest.param("CONNACK", b"\x28\x02", id="wildcard-subscription-available-2"),
        pytest.param("CONNACK", b"\x29\x02", id="subscription-identifier-available-2"),
        pytest.param("CONNACK", b"\x2a\x02", id="shared-subscription-available-2"),
        pytest.param("AUTH", b"", id="auth-without-method-section-3.15.2.2.2"),
        pytest.param("AUTH", b"\x16\x00\x00", id="auth-with-data-only"),
    ],
)
def test_protocol_errors(kind: str, data: bytes) -> None:
    assert fails(kind, data) is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00", id="identifier-0"),
        pytest.param(b"\x04\x00", id="identifier-that-does-not-exist"),
        pytest.param(b"\x2b\x00", id="identifier-after-the-last"),
        pytest.param(b"\xff\x01", id="identifier-of-two-bytes"),
        pytest.param(b"\x81\x00\x01", id="identifier-not-minimal-MQTT-1.5.5-1"),
        pytest.param(b"\xff\xff\xff\xff\x7f", id="identifier-of-five-bytes"),
        pytest.param(b"\x0b\x81\x00", id="value-not-minimal-MQTT-1.5.5-1"),
        pytest.param(b"\x0b\xff\xff\xff\xff\x01", id="value-of-five-bytes"),
        pytest.param(b"\x03\x00\x02\xc0\xaf", id="overlong-utf8-MQTT-1.5.4-1"),
        pytest.param(b"\x03\x00\x03\xed\xa0\x80", id="surrogate-MQTT-1.5.4-1"),
        pytest.param(b"\x03\x00\x01\x00", id="null-character-MQTT-1.5.4-2"),
        pytest.param(b"\x26\x00\x01\xff\x00\x01v", id="user-property-name-MQTT-1.5.7-1"),
        pytest.param(b"\x26\x00\x01k\x00\x01\xff", id="user-property-value-MQTT-1.5.7-1"),
        pytest.param(b"\x26\x00\x01k", id="user-property-without-value"),
    ],
)
def test_malformed(data: bytes) -> None:
    assert fails("PUBLISH", data) is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x00\x01t\x00\x01", id="no-property-length"),
        pytest.param(b"\x00\x01t\x00\x01\x05\x23\x00\x01", id="property-length-beyond-the-packet"),
        pytest.param(b"\x00\x01t\x00\x01\x80\x00", id="property-length-not-minimal"),
        pytest.param(b"\x00\x01t\x00\x01\xff\xff\xff\xff\x01", id="property-length-of-five-bytes"),
    ],
)
def test_malformed_property_length(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(0x32, body, V5)
    assert caught.value.reason is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize(("size", "length"), [(124, b"\x7f"), (125, b"\x80\x01"), (16381, b"\x80\x80\x01")])
def test_property_length_at_its_edges(size: int, length: bytes) -> None:
    body = b"\x00\x01t" + length + b"\x09" + size.to_bytes(2, "big") + bytes(size) + b"Z"
    packet = decode(0x30, body, V5)
    assert packet == Publish("t", b"Z", 0, False, False, 0, {Property.CORRELATION_DATA: bytes(size)})
    assert encode(packet, V5).endswith(body)


def test_longest_string() -> None:
    body = b"\xff\xff" + b"x" * 65535
    packet = decode(0x30, body, V311)
    assert encode(packet, V311) == b"\x30\x81\x80\x04" + body


def test_two_byte_property_length() -> None:
    pairs = b"\x26\x00\x01k\x00\x1b" + b"v" * 27
    packet = decode(0x30, b"\x00\x01t\xc6\x01" + pairs * 6 + b"Z", V5)
    assert isinstance(packet, Publish)
    assert packet.properties == {Property.USER_PROPERTY: [("k", "v" * 27)] * 6}
    assert packet.payload == b"Z"


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({0x04: 1}, ReasonCode.MALFORMED_PACKET),
        ({Property.MAXIMUM_QOS: 1}, ReasonCode.MALFORMED_PACKET),
        ({Property.TOPIC_ALIAS: 0}, ReasonCode.PROTOCOL_ERROR),
        ({Property.TOPIC_ALIAS: 65536}, ReasonCode.PROTOCOL_ERROR),
        ({Property.MESSAGE_EXPIRY_INTERVAL: -1}, ReasonCode.PROTOCOL_ERROR),
        ({Property.RESPONSE_TOPIC: "+"}, ReasonCode.PROTOCOL_ERROR),
        ({Property.CONTENT_TYPE: "x" * 65536}, ReasonCode.MALFORMED_PACKET),
        ({Property.CONTENT_TYPE: "\ud800"}, ReasonCode.MALFORMED_PACKET),
        ({Property.CONTENT_TYPE: "\0"}, ReasonCode.MALFORMED_PACKET),
        ({Property.CORRELATION_DATA: bytes(65536)}, ReasonCode.MALFORMED_PACKET),
    ],
)
def test_encode_refuses_what_decode_would(properties: dict[int, object], reason: ReasonCode) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(Publish("t", b"", 0, False, False, 0, properties), V5)
    assert caught.value.reason is reason


def test_encode_refuses_two_identifiers_in_subscribe_and_a_will_with_properties_of_others() -> None:
    subscription = Subscription("t", 0, False, False, 0)
    will = Will("w", b"", 0, False, {Property.TOPIC_ALIAS: 1})
    for packet in (
        Subscribe(1, [subscription], {Property.SUBSCRIPTION_IDENTIFIER: [1, 2]}),
        Connect(V5, "d", True, 0, None, None, will, {}),
        Connect(V5, "d", True, 0, None, None, None, {Property.AUTHENTICATION_DATA: b""}),
    ):
        with pytest.raises(ProtocolError):
            encode(packet, V5)
