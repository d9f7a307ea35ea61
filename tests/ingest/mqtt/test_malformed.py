"""What both specifications forbid, each case with bytes written by hand and the reason it is refused for."""

import pytest

from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    V5,
    V31,
    V311,
    Ack,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    ProtocolError,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from ingest.mqtt.properties import Property

ALL = (V31, V311, V5)
V3 = (V31, V311)
NEW = (V311, V5)
BAD = ReasonCode.MALFORMED_PACKET
WRONG = ReasonCode.PROTOCOL_ERROR
VERSION = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
CLIENT = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
TOPIC = ReasonCode.TOPIC_NAME_INVALID
FILTER = ReasonCode.TOPIC_FILTER_INVALID

Case = tuple[str, tuple[Version, ...], bytes, ReasonCode]

HEADERS: list[Case] = [
    ("type-0", ALL, b"\x00\x00", BAD),
    ("type-15-before-MQTT-5", V3, b"\xf0\x00", BAD),
    ("pingreq-body-section-3.12", ALL, b"\xc0\x01\x00", BAD),
    ("pingresp-body-section-3.13", ALL, b"\xd0\x01\x00", BAD),
    ("disconnect-body-section-3.14", V3, b"\xe0\x01\x00", BAD),
    ("puback-body", V3, b"\x40\x03\x00\x01\x00", BAD),
    ("unsuback-body", V3, b"\xb0\x03\x00\x01\x00", BAD),
    ("connack-body", V3, b"\x20\x03\x00\x00\x00", BAD),
]

# 3.1.1 names these statements so; MQTT 5 has them in the same sections
CONNECTS: list[Case] = [
    ("empty", ALL, b"\x10\x00", BAD),
    ("name-only", ALL, b"\x10\x06\x00\x04MQTT", BAD),
    ("name-overruns", ALL, b"\x10\x06\x00\x05MQTT", BAD),
    ("other-name-MQTT-3.1.2-1", ALL, b"\x10\x0d\x00\x04mqtt\x04\x02\x00\x00\x00\x01d", VERSION),
    ("level-6-MQTT-3.1.2-2", ALL, b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x00\x00\x01d", VERSION),
    ("level-3-with-the-new-name", ALL, b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x00\x00\x01d", VERSION),
    ("level-4-with-the-old-name", ALL, b"\x10\x0f\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01d", VERSION),
    ("3.1.1-reserved-flag-MQTT-3.1.2-3", ALL, b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x00\x00\x01d", BAD),
    ("5-reserved-flag-MQTT-3.1.2-3", ALL, b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01d", BAD),
    ("will-qos-without-will-MQTT-3.1.2-13", ALL, b"\x10\x0d\x00\x04MQTT\x04\x0a\x00\x00\x00\x01d", BAD),
    ("will-retain-without-will-MQTT-3.1.2-15", ALL, b"\x10\x0d\x00\x04MQTT\x04\x22\x00\x00\x00\x01d", BAD),
    ("5-will-qos-without-will", ALL, b"\x10\x0e\x00\x04MQTT\x05\x12\x00\x00\x00\x00\x01d", BAD),
    ("will-qos-3-MQTT-3.1.2-14", ALL, b"\x10\x12\x00\x04MQTT\x04\x1e\x00\x00\x00\x01d\x00\x01w\x00\x00", BAD),
    ("3.1-will-qos-3", ALL, b"\x10\x14\x00\x06MQIsdp\x03\x1e\x00\x00\x00\x01d\x00\x01w\x00\x00", BAD),
    ("will-missing-MQTT-3.1.2-9", ALL, b"\x10\x0d\x00\x04MQTT\x04\x06\x00\x00\x00\x01d", BAD),
    (
        "will-message-missing-MQTT-3.1.2-9",
        ALL,
        b"\x10\x10\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x01w",
        BAD,
    ),
    (
        "will-topic-wildcard-MQTT-4.7.1-1",
        ALL,
        b"\x10\x12\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x01#\x00\x00",
        TOPIC,
    ),
    (
        "will-topic-empty-MQTT-4.7.3-1",
        ALL,
        b"\x10\x11\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x00\x00\x00",
        TOPIC,
    ),
    (
        "password-without-user-MQTT-3.1.2-22",
        ALL,
        b"\x10\x10\x00\x04MQTT\x04\x42\x00\x00\x00\x01d\x00\x01p",
        WRONG,
    ),
    ("3.1-password-without-user", ALL, b"\x10\x12\x00\x06MQIsdp\x03\x42\x00\x00\x00\x01d\x00\x01p", WRONG),
    ("user-missing-MQTT-3.1.2-19", ALL, b"\x10\x0d\x00\x04MQTT\x04\x82\x00\x00\x00\x01d", BAD),
    ("password-missing-MQTT-3.1.2-21", ALL, b"\x10\x10\x00\x04MQTT\x04\xc2\x00\x00\x00\x01d\x00\x01u", BAD),
    ("user-not-expected-MQTT-3.1.2-18", ALL, b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x01d\x00\x01u", BAD),
    ("user-not-utf8-MQTT-3.1.3-11", ALL, b"\x10\x10\x00\x04MQTT\x04\x82\x00\x00\x00\x01d\x00\x01\xff", BAD),
    ("client-id-missing-MQTT-3.1.3-3", ALL, b"\x10\x0a\x00\x04MQTT\x04\x02\x00\x00", BAD),
    ("client-id-not-utf8-MQTT-3.1.3-4", ALL, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xc3", BAD),
    ("client-id-null-MQTT-1.5.3-2", ALL, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00", BAD),
    (
        "client-id-empty-without-clean-MQTT-3.1.3-8",
        ALL,
        b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
        CLIENT,
    ),
    ("3.1-client-id-empty", ALL, b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", CLIENT),
    ("5-no-properties", ALL, b"\x10\x0a\x00\x04MQTT\x05\x02\x00\x00", BAD),
]

SESSIONS: list[Case] = [
    ("connack-reserved-flags-MQTT-3.2.2-1", NEW, b"\x20\x03\x02\x00\x00", BAD),
    ("connack-session-in-refusal-MQTT-3.2.2-4", (V311,), b"\x20\x02\x01\x01", WRONG),
    ("connack-session-in-refusal-MQTT-3.2.2-6", (V5,), b"\x20\x03\x01\x87\x00", WRONG),
    ("connack-reserved-code", V3, b"\x20\x02\x00\x06", WRONG),
    ("connack-code-of-others-MQTT-3.2.2-8", (V5,), b"\x20\x03\x00\x8e\x00", WRONG),
    ("connack-without-code", ALL, b"\x20\x01\x00", BAD),
    ("connack-without-properties", (V5,), b"\x20\x02\x00\x00", BAD),
    ("disconnect-code-of-others-MQTT-3.14.2-1", (V5,), b"\xe0\x01\x01", WRONG),
    ("disconnect-banned-is-for-connack-only", (V5,), b"\xe0\x01\x8a", WRONG),
    ("disconnect-trailing", (V5,), b"\xe0\x03\x00\x00\x00", BAD),
    ("auth-code-of-others-MQTT-3.15.2-1", (V5,), b"\xf0\x02\x80\x00", WRONG),
    ("auth-without-properties", (V5,), b"\xf0\x01\x18", BAD),
]

PUBLISHES: list[Case] = [
    ("qos-3-MQTT-3.3.1-4", ALL, b"\x36\x05\x00\x01t\x00\x01", BAD),
    ("qos-3-dup-retain", ALL, b"\x3f\x05\x00\x01t\x00\x01", BAD),
    ("dup-at-qos-0-MQTT-3.3.1-2", ALL, b"\x38\x03\x00\x01t", BAD),
    ("empty", ALL, b"\x30\x00", BAD),
    ("one-byte", ALL, b"\x30\x01\x00", BAD),
    ("topic-overruns", ALL, b"\x30\x03\x00\x02t", BAD),
    ("no-packet-id", ALL, b"\x32\x03\x00\x01t", BAD),
    ("half-a-packet-id", ALL, b"\x34\x04\x00\x01t\x01", BAD),
    ("packet-id-0-MQTT-2.3.1-1", ALL, b"\x32\x05\x00\x01t\x00\x00", WRONG),
    ("packet-id-0-qos-2", ALL, b"\x34\x06\x00\x01t\x00\x00\x00", WRONG),
    ("topic-empty-MQTT-4.7.3-1", V3, b"\x30\x02\x00\x00", TOPIC),
    ("topic-empty-without-alias-section-3.3.2.1", (V5,), b"\x30\x03\x00\x00\x00", WRONG),
    ("topic-plus-MQTT-3.3.2-2", ALL, b"\x30\x06\x00\x03a/+\x00", TOPIC),
    ("topic-hash-MQTT-3.3.2-2", ALL, b"\x30\x06\x00\x03a#b\x00", TOPIC),
    ("topic-null-MQTT-4.7.3-2", ALL, b"\x30\x06\x00\x03a\x00b\x00", BAD),
    ("topic-surrogate-MQTT-1.5.3-1", ALL, b"\x30\x06\x00\x03\xed\xbf\xbf\x00", BAD),
    ("topic-surrogate-pair-MQTT-1.5.3-1", ALL, b"\x30\x09\x00\x06\xed\xa0\x80\xed\xb0\x80\x00", BAD),
    ("topic-overlong-null", ALL, b"\x30\x05\x00\x02\xc0\x80\x00", BAD),
    ("topic-beyond-U+10FFFF", ALL, b"\x30\x07\x00\x04\xf4\x90\x80\x80\x00", BAD),
    ("topic-cut-character", ALL, b"\x30\x04\x00\x01\xe2\x00", BAD),
    ("no-properties", (V5,), b"\x30\x03\x00\x01t", BAD),
]

ACKS: list[Case] = [
    *[
        (f"packet-id-0-MQTT-2.3.1-1-{first:02x}", ALL, bytes((first, 2, 0, 0)), WRONG)
        for first in (0x40, 0x50, 0x62, 0x70)
    ],
    *[
        (f"half-a-packet-id-{first:02x}", ALL, bytes((first, 1, 1)), BAD)
        for first in (0x40, 0x50, 0x62, 0x70, 0xB0)
    ],
    *[(f"empty-{first:02x}", ALL, bytes((first, 0)), BAD) for first in (0x40, 0x50, 0x62, 0x70, 0x90, 0xB0)],
    ("puback-code-of-others-MQTT-3.4.2-1", (V5,), b"\x40\x03\x00\x01\x92", WRONG),
    ("pubrec-code-of-others-MQTT-3.5.2-1", (V5,), b"\x50\x03\x00\x01\x01", WRONG),
    ("pubrel-code-of-others-MQTT-3.6.2-1", (V5,), b"\x62\x03\x00\x01\x10", WRONG),
    ("pubcomp-code-of-others-MQTT-3.7.2-1", (V5,), b"\x70\x03\x00\x01\x80", WRONG),
    ("puback-trailing", (V5,), b"\x40\x05\x00\x01\x00\x00\x00", BAD),
]

SUBSCRIPTIONS: list[Case] = [
    ("subscribe-empty-MQTT-3.8.3-3", V3, b"\x82\x02\x00\x01", WRONG),
    ("subscribe-empty-MQTT-3.8.3-2", (V5,), b"\x82\x03\x00\x01\x00", WRONG),
    ("subscribe-packet-id-0", ALL, b"\x82\x07\x00\x00\x00\x00\x01t\x00", WRONG),
    ("subscribe-qos-3-MQTT-3.8.3-4", V3, b"\x82\x06\x00\x01\x00\x01t\x03", WRONG),
    ("subscribe-qos-3", (V5,), b"\x82\x07\x00\x01\x00\x00\x01t\x03", WRONG),
    ("subscribe-reserved-bits-MQTT-3-8.3-4", (V311,), b"\x82\x06\x00\x01\x00\x01t\x04", BAD),
    ("subscribe-reserved-bits-high", (V311,), b"\x82\x06\x00\x01\x00\x01t\x81", BAD),
    ("subscribe-reserved-bit-6-MQTT-3.8.3-5", (V5,), b"\x82\x07\x00\x01\x00\x00\x01t\x40", BAD),
    ("subscribe-reserved-bit-7-MQTT-3.8.3-5", (V5,), b"\x82\x07\x00\x01\x00\x00\x01t\x80", BAD),
    ("subscribe-retain-handling-3", (V5,), b"\x82\x07\x00\x01\x00\x00\x01t\x30", WRONG),
    ("subscribe-no-local-shared-MQTT-3.8.3-4", (V5,), b"\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x04", WRONG),
    ("subscribe-share-name-MQTT-4.8.2-2", (V5,), b"\x82\x10\x00\x01\x00\x00\x0a$share/+/t\x00", FILTER),
    ("subscribe-without-options", V3, b"\x82\x05\x00\x01\x00\x01t", BAD),
    ("subscribe-filter-overruns", V3, b"\x82\x06\x00\x01\x00\x09t\x00", BAD),
    ("subscribe-filter-empty-MQTT-4.7.3-1", V3, b"\x82\x05\x00\x01\x00\x00\x00", FILTER),
    ("subscribe-hash-not-last-MQTT-4.7.1-2", V3, b"\x82\x08\x00\x01\x00\x03#/a\x00", FILTER),
    ("subscribe-plus-in-level-MQTT-4.7.1-3", V3, b"\x82\x07\x00\x01\x00\x02a+\x00", FILTER),
    ("subscribe-not-utf8-MQTT-3.8.3-1", V3, b"\x82\x06\x00\x01\x00\x01\xff\x00", BAD),
    ("suback-reserved-code-MQTT-3.9.3-2", V3, b"\x90\x03\x00\x01\x03", WRONG),
    ("suback-code-of-others-MQTT-3.9.3-2", (V5,), b"\x90\x04\x00\x01\x00\x10", WRONG),
    ("suback-empty", V3, b"\x90\x02\x00\x01", WRONG),
    ("suback-empty-5", (V5,), b"\x90\x03\x00\x01\x00", WRONG),
    ("suback-packet-id-0", ALL, b"\x90\x04\x00\x00\x00\x00", WRONG),
    ("unsubscribe-empty-MQTT-3.10.3-2", V3, b"\xa2\x02\x00\x01", WRONG),
    ("unsubscribe-empty-5", (V5,), b"\xa2\x03\x00\x01\x00", WRONG),
    ("unsubscribe-packet-id-0", ALL, b"\xa2\x06\x00\x00\x00\x00\x01t", WRONG),
    ("unsubscribe-filter-MQTT-4.7.1-2", V3, b"\xa2\x06\x00\x01\x00\x02a#", FILTER),
    ("unsubscribe-not-utf8-MQTT-3.10.3-1", V3, b"\xa2\x05\x00\x01\x00\x01\xff", BAD),
    ("unsuback-code-of-others-MQTT-3.11.3-2", (V5,), b"\xb0\x04\x00\x01\x00\x01", WRONG),
    ("unsuback-empty-5", (V5,), b"\xb0\x03\x00\x01\x00", WRONG),
    ("unsuback-packet-id-0", V3, b"\xb0\x02\x00\x00", WRONG),
]

# a valid packet of each type but PUBLISH; its flags are the low four bits of its first byte
VALID: list[tuple[str, tuple[Version, ...], bytes]] = [
    ("connect", ALL, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01d"),
    ("connack", V3, b"\x20\x02\x00\x00"),
    ("connack", (V5,), b"\x20\x03\x00\x00\x00"),
    ("puback", ALL, b"\x40\x02\x00\x01"),
    ("pubrec", ALL, b"\x50\x02\x00\x01"),
    ("pubrel-MQTT-3.6.1-1", ALL, b"\x62\x02\x00\x01"),
    ("pubcomp", ALL, b"\x70\x02\x00\x01"),
    ("subscribe-MQTT-3.8.1-1", V3, b"\x82\x06\x00\x01\x00\x01t\x00"),
    ("subscribe-MQTT-3.8.1-1", (V5,), b"\x82\x07\x00\x01\x00\x00\x01t\x00"),
    ("suback", V3, b"\x90\x03\x00\x01\x00"),
    ("suback", (V5,), b"\x90\x04\x00\x01\x00\x00"),
    ("unsubscribe-MQTT-3.10.1-1", V3, b"\xa2\x05\x00\x01\x00\x01t"),
    ("unsubscribe-MQTT-3.10.1-1", (V5,), b"\xa2\x06\x00\x01\x00\x00\x01t"),
    ("unsuback", V3, b"\xb0\x02\x00\x01"),
    ("unsuback", (V5,), b"\xb0\x04\x00\x01\x00\x00"),
    ("pingreq", ALL, b"\xc0\x00"),
    ("pingresp", ALL, b"\xd0\x00"),
    ("disconnect-MQTT-3.14.1-1", ALL, b"\xe0\x00"),
    ("auth-MQTT-3.15.1-1", (V5,), b"\xf0\x00"),
]


def fails(data: bytes, version: Version) -> ProtocolError:
    ((first, body),) = FrameReader(1 << 20).feed(data)
    with pytest.raises(ProtocolError) as caught:
        decode(first, body, version)
    return caught.value


@pytest.mark.parametrize(
    ("version", "data", "reason"),
    [
        pytest.param(version, data, reason, id=f"{version.name}-{name}")
        for name, versions, data, reason in HEADERS + CONNECTS + SESSIONS + PUBLISHES + ACKS + SUBSCRIPTIONS
        for version in versions
    ],
)
def test_refused(version: Version, data: bytes, reason: ReasonCode) -> None:
    error = fails(data, version)
    assert error.reason is reason
    assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("version", "data"),
    [
        pytest.param(version, data, id=f"{version.name}-{name}-MQTT-2.2.2-2")
        for name, versions, data in VALID
        for version in versions
    ],
)
def test_reserved_flags_of_the_first_byte(version: Version, data: bytes) -> None:
    for flags in range(16):
        again = version == V31 and data[0] & 2 and flags == 0x0A  # MQTT 3.1: DUP on what is sent again
        changed = bytes((data[0] & 0xF0 | flags,)) + data[1:]
        if flags == data[0] & 0x0F or again:
            decode(changed[0], changed[2:], version)
        else:
            assert fails(changed, version).reason is BAD


@pytest.mark.parametrize(
    ("version", "data"),
    [pytest.param(v, d, id=f"{v.name}-{n}") for n, versions, d in VALID for v in versions],
)
def test_trailing_and_missing_bytes(version: Version, data: bytes) -> None:
    """Every shorter body is refused; so is a longer one, but for packets that go on in MQTT 5."""
    shortest = {0xE0: 0, 0xF0: 0}.get(data[0], len(data) - 2)
    for size in range(shortest):
        assert fails(bytes((data[0], size)) + data[2 : 2 + size], version).reason in (BAD, WRONG)
    assert fails(bytes((data[0], data[1] + 1)) + data[2:] + b"\xff", version).reason in (BAD, WRONG)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", V31),
        (b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00", V311),
        (b"\x10\x0a\x00\x04MQTT\x05\x02\x00\x00", V5),
        (b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x00\x00\x01d", None),
    ],
)
def test_error_of_a_connect_says_in_which_version_to_answer(data: bytes, version: Version | None) -> None:
    assert fails(data, V311).version is version


@pytest.mark.parametrize(
    ("version", "packet", "reason"),
    [
        (V311, Publish("a/#", b"", 0, False, False, 0, {}), TOPIC),
        (V311, Publish("", b"", 0, False, False, 0, {Property.TOPIC_ALIAS: 1}), TOPIC),
        (V5, Publish("", b"", 0, False, False, 0, {}), TOPIC),
        (V5, Publish("a\0", b"", 0, False, False, 0, {}), BAD),
        (V311, Publish("x" * 65536, b"", 0, False, False, 0, {}), BAD),
        (V311, Publish("t", b"", 1, False, False, 0, {}), WRONG),
        (V311, Publish("t", b"", 3, False, False, 1, {}), BAD),
        (V311, Publish("t", b"", 0, False, True, 0, {}), BAD),
        (V311, Publish("t", bytes(268_435_455), 0, False, False, 0, {}), ReasonCode.PACKET_TOO_LARGE),
        (V5, Ack(PUBACK, 1, 0x92, {}), WRONG),
        (V5, Ack(PUBACK, 1, 300, {Property.REASON_STRING: ""}), WRONG),
        (V311, Connect(V311, "", False, 0, None, None, None, {}), CLIENT),
        (V5, Connect(V311, "d", False, 0, None, b"p", None, {}), WRONG),
        (V311, Connect(V311, "d", False, 65536, None, None, None, {}), BAD),
        (V311, Connect(V311, "d", False, 0, None, None, Will("+", b"", 0, False, {}), {}), TOPIC),
        (V311, Connect(V311, "d", False, 0, None, None, Will("t", b"", 3, False, {}), {}), BAD),
        (V311, Connect(V311, "d", False, 0, None, None, Will("t", b"", 4, False, {}), {}), BAD),
        (V5, ConnAck(True, 0x87, {}), WRONG),
        (V311, ConnAck(False, 6, {}), WRONG),
        (V5, Disconnect(0x8A, {}), WRONG),
        (V5, Auth(0x18, {}), WRONG),
        (V311, Auth(0, {}), WRONG),
        (V311, Subscribe(1, [], {}), WRONG),
        (V311, Subscribe(1, [Subscription("#a", 0, False, False, 0)], {}), FILTER),
        (V311, Subscribe(1, [Subscription("t", 4, False, False, 0)], {}), WRONG),
        (V5, SubAck(1, [3], {}), WRONG),
        (V311, SubAck(0, [0], {}), WRONG),
        (V311, Unsubscribe(1, [], {}), WRONG),
        (V5, UnsubAck(1, [], {}), WRONG),
    ],
)
def test_encode_refuses(version: Version, packet: Packet, reason: ReasonCode) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(packet, version)
    assert caught.value.reason is reason


@pytest.mark.parametrize("packet_id", [0, -1, 0x10000])
def test_encode_ack_checks_the_packet_id(packet_id: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode_ack(PUBACK, packet_id)
    assert caught.value.reason is WRONG
