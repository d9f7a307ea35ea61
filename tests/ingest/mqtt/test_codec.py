"""Both specifications, packet by packet: bytes written by hand, and the packet they are.

The id of each case names its version, its section and, where there is one, the normative statement.
"""

import pytest

from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V31,
    V311,
    Ack,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from ingest.mqtt.properties import Property

Case = tuple[str, Version, bytes, Packet]


def sub(
    filter_: str, qos: int, no_local: bool = False, as_published: bool = False, handling: int = 0
) -> Subscription:
    return Subscription(filter_, qos, no_local, as_published, handling)


def read(data: bytes, version: Version) -> Packet:
    frames = FrameReader(1 << 20).feed(data)
    assert len(frames) == 1
    return decode(*frames[0], version)


CONNECTS: list[Case] = [
    (
        "3.1-connect-minimal",
        V31,
        b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04dev1",
        Connect(V31, "dev1", True, 60, None, None, None, {}),
    ),
    (
        "3.1-connect-client-id-of-24-is-accepted",
        V31,
        b"\x10\x26\x00\x06MQIsdp\x03\x00\x00\x0a\x00\x18abcdefghijklmnopqrstuvwx",
        Connect(V31, "abcdefghijklmnopqrstuvwx", False, 10, None, None, None, {}),
    ),
    (
        "3.1-connect-everything-from-paho-2.2",
        V31,
        b"\x10-\x00\x06MQIsdp\x03\xee\x00\x1e\x00\x04dev1\x00\x05u/lwt\x00\x04gone\x00\x04user\x00\x06secret",
        Connect(V31, "dev1", True, 30, "user", b"secret", Will("u/lwt", b"gone", 1, True, {}), {}),
    ),
    (
        "3.1.1-connect-minimal-MQTT-3.1.2-1",
        V311,
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dev1",
        Connect(V311, "dev1", True, 60, None, None, None, {}),
    ),
    (
        "3.1.1-connect-empty-client-id-with-clean-session-MQTT-3.1.3-7",
        V311,
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
        Connect(V311, "", True, 0, None, None, None, {}),
    ),
    (
        "3.1.1-connect-user-name-without-password-MQTT-3.1.2-19",
        V311,
        b"\x10\x12\x00\x04MQTT\x04\x80\xff\xff\x00\x01d\x00\x03us\x65",
        Connect(V311, "d", False, 65535, "use", None, None, {}),
    ),
    (
        "3.1.1-connect-everything-from-paho-2.2",
        V311,
        b"\x10+\x00\x04MQTT\x04\xee\x00\x1e\x00\x04dev1\x00\x05u/lwt\x00\x04gone\x00\x04user\x00\x06secret",
        Connect(V311, "dev1", True, 30, "user", b"secret", Will("u/lwt", b"gone", 1, True, {}), {}),
    ),
    (
        "3.1.1-connect-empty-will-message-qos-2-MQTT-3.1.2-14",
        V311,
        b"\x10\x12\x00\x04MQTT\x04\x14\x00\x00\x00\x01d\x00\x01w\x00\x00",
        Connect(V311, "d", False, 0, None, None, Will("w", b"", 2, False, {}), {}),
    ),
    (
        "5-connect-minimal-without-client-id",
        V5,
        b"\x10\x0d\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00",
        Connect(V5, "", False, 0, None, None, None, {}),
    ),
    (
        "5-connect-password-without-user-name",
        V5,
        b"\x10\x11\x00\x04MQTT\x05\x42\x00\x00\x00\x00\x01d\x00\x01\xff",
        Connect(V5, "d", True, 0, None, b"\xff", None, {}),
    ),
    (
        "5-connect-everything-from-paho-2.2",
        V5,
        b"\x10>\x00\x04MQTT\x05\xee\x00\x1e\x0c\x11\x00\x00\x00<&\x00\x01a\x00\x01b\x00\x04dev1"
        b"\x05\x18\x00\x00\x00\x05\x00\x05u/lwt\x00\x04gone\x00\x04user\x00\x06secret",
        Connect(
            V5,
            "dev1",
            True,
            30,
            "user",
            b"secret",
            Will("u/lwt", b"gone", 1, True, {Property.WILL_DELAY_INTERVAL: 5}),
            {Property.SESSION_EXPIRY_INTERVAL: 60, Property.USER_PROPERTY: [("a", "b")]},
        ),
    ),
]

SESSIONS: list[Case] = [
    ("3.1-connack-accepted", V31, b"\x20\x02\x00\x00", ConnAck(False, 0, {})),
    ("3.1-connack-refused", V31, b"\x20\x02\x00\x05", ConnAck(False, 5, {})),
    ("3.1.1-connack-session-present-MQTT-3.2.2-2", V311, b"\x20\x02\x01\x00", ConnAck(True, 0, {})),
    ("3.1.1-connack-refused-MQTT-3.2.2-4", V311, b"\x20\x02\x00\x02", ConnAck(False, 2, {})),
    ("5-connack-session-present", V5, b"\x20\x03\x01\x00\x00", ConnAck(True, 0, {})),
    ("5-connack-banned", V5, b"\x20\x03\x00\x8a\x00", ConnAck(False, 0x8A, {})),
    (
        "5-connack-properties",
        V5,
        b"\x20\x0d\x00\x00\x0a\x21\x00\x0a\x12\x00\x02x1\x24\x01",
        ConnAck(
            False,
            0,
            {
                Property.RECEIVE_MAXIMUM: 10,
                Property.ASSIGNED_CLIENT_IDENTIFIER: "x1",
                Property.MAXIMUM_QOS: 1,
            },
        ),
    ),
    ("3.1-disconnect", V31, b"\xe0\x00", Disconnect(0, {})),
    ("3.1.1-disconnect", V311, b"\xe0\x00", Disconnect(0, {})),
    ("5-disconnect-length-0-section-3.14.2.1", V5, b"\xe0\x00", Disconnect(0, {})),
    ("5-disconnect-length-1-section-3.14.2.2.1", V5, b"\xe0\x01\x8e", Disconnect(0x8E, {})),
    ("5-disconnect-with-will", V5, b"\xe0\x01\x04", Disconnect(4, {})),
    (
        "5-disconnect-properties",
        V5,
        b"\xe0\x07\x97\x05\x1f\x00\x02no",
        Disconnect(0x97, {Property.REASON_STRING: "no"}),
    ),
    ("5-auth-length-0-section-3.15.2.1", V5, b"\xf0\x00", Auth(0, {})),
    (
        "5-auth-continue",
        V5,
        b"\xf0\x0c\x18\x0a\x15\x00\x02SC\x16\x00\x02\x00\xff",
        Auth(0x18, {Property.AUTHENTICATION_METHOD: "SC", Property.AUTHENTICATION_DATA: b"\x00\xff"}),
    ),
    ("3.1-pingreq", V31, b"\xc0\x00", PingReq()),
    ("3.1.1-pingresp", V311, b"\xd0\x00", PingResp()),
    ("5-pingreq", V5, b"\xc0\x00", PingReq()),
    ("5-pingresp", V5, b"\xd0\x00", PingResp()),
]

PUBLISHES: list[Case] = [
    ("3.1-publish-qos-0", V31, b"\x30\x06\x00\x03a/bZ", Publish("a/b", b"Z", 0, False, False, 0, {})),
    ("3.1.1-publish-qos-0-retain", V311, b"\x31\x05\x00\x03a/b", Publish("a/b", b"", 0, True, False, 0, {})),
    (
        "3.1.1-publish-from-paho-2.2",
        V311,
        b"2\t\x00\x03u/t\x00\x0121",
        Publish("u/t", b"21", 1, False, False, 1, {}),
    ),
    (
        "3.1.1-publish-qos-1-dup-MQTT-3.3.1-1",
        V311,
        b"\x3a\x07\x00\x01t\x12\x34\x00\xff",
        Publish("t", b"\x00\xff", 1, False, True, 0x1234, {}),
    ),
    (
        "3.1.1-publish-qos-2-retain-dup",
        V311,
        b"\x3d\x05\x00\x01t\xff\xff",
        Publish("t", b"", 2, True, True, 0xFFFF, {}),
    ),
    (
        "3.1.1-publish-BOM-is-kept-MQTT-1.5.3-3",
        V311,
        b"\x30\x05\x00\x03\xef\xbb\xbf",
        Publish("\ufeff", b"", 0, False, False, 0, {}),
    ),
    (
        "3.1.1-publish-control-character",
        V311,
        b"\x30\x05\x00\x03a\x01b",
        Publish("a\x01b", b"", 0, False, False, 0, {}),
    ),
    (
        "3.1.1-publish-four-byte-character",
        V311,
        b"\x30\x06\x00\x04\xf0\xaa\x9b\x94",
        Publish("\U0002a6d4", b"", 0, False, False, 0, {}),
    ),
    (
        "5-publish-from-paho-2.2",
        V5,
        b"2\n\x00\x03u/t\x00\x01\x0021",
        Publish("u/t", b"21", 1, False, False, 1, {}),
    ),
    ("5-publish-qos-0", V5, b"\x30\x05\x00\x01t\x00Z", Publish("t", b"Z", 0, False, False, 0, {})),
    (
        "5-publish-topic-alias-alone-section-3.3.2.3.4",
        V5,
        b"\x30\x07\x00\x00\x03\x23\x00\x05Z",
        Publish("", b"Z", 0, False, False, 0, {Property.TOPIC_ALIAS: 5}),
    ),
    (
        "5-publish-user-properties-and-identifiers-keep-their-order-MQTT-3.3.2-18",
        V5,
        b"\x34\x19\x00\x01t\x00\x09\x12\x0b\x01\x0b\xff\x7f\x26\x00\x01b\x00\x011\x26\x00\x01a\x00\x00Z",
        Publish(
            "t",
            b"Z",
            2,
            False,
            False,
            9,
            {Property.SUBSCRIPTION_IDENTIFIER: [1, 16383], Property.USER_PROPERTY: [("b", "1"), ("a", "")]},
        ),
    ),
]

ACKS: list[Case] = [
    ("3.1-puback", V31, b"\x40\x02\x00\x01", Ack(PUBACK, 1, 0, {})),
    ("3.1.1-puback", V311, b"\x40\x02\xff\xff", Ack(PUBACK, 0xFFFF, 0, {})),
    ("3.1.1-pubrec", V311, b"\x50\x02\x00\x01", Ack(PUBREC, 1, 0, {})),
    ("3.1.1-pubrel-MQTT-3.6.1-1", V311, b"\x62\x02\x00\x01", Ack(PUBREL, 1, 0, {})),
    ("3.1.1-pubcomp", V311, b"\x70\x02\x00\x01", Ack(PUBCOMP, 1, 0, {})),
    ("5-puback-length-2-section-3.4.2.1", V5, b"\x40\x02\x00\x01", Ack(PUBACK, 1, 0, {})),
    ("5-puback-length-3-section-3.4.2.2.1", V5, b"\x40\x03\x00\x01\x87", Ack(PUBACK, 1, 0x87, {})),
    ("5-pubrec-no-subscribers", V5, b"\x50\x03\x00\x01\x10", Ack(PUBREC, 1, 0x10, {})),
    ("5-pubrel-not-found", V5, b"\x62\x03\x00\x01\x92", Ack(PUBREL, 1, 0x92, {})),
    ("5-pubcomp-not-found", V5, b"\x70\x03\x00\x01\x92", Ack(PUBCOMP, 1, 0x92, {})),
    (
        "5-puback-reason-string",
        V5,
        b"\x40\x09\x00\x01\x00\x05\x1f\x00\x02ok",
        Ack(PUBACK, 1, 0, {Property.REASON_STRING: "ok"}),
    ),
]

SUBSCRIPTIONS: list[Case] = [
    (
        "3.1-subscribe-from-paho-2.2",
        V31,
        b"\x82\x0e\x00\x02\x00\x03a/+\x01\x00\x03b/#\x02",
        Subscribe(2, [sub("a/+", 1), sub("b/#", 2)], {}),
    ),
    (
        "3.1.1-subscribe-MQTT-3.8.3-1",
        V311,
        b"\x82\x06\x00\x0a\x00\x01#\x00",
        Subscribe(10, [sub("#", 0)], {}),
    ),
    (
        "5-subscribe-from-paho-2.2",
        V5,
        b"\x82\x0f\x00\x02\x00\x00\x03a/+%\x00\x03b/#\n",
        Subscribe(2, [sub("a/+", 1, True, False, 2), sub("b/#", 2, False, True, 0)], {}),
    ),
    (
        "5-subscribe-identifier-and-shared",
        V5,
        b"\x82\x14\x00\x02\x02\x0b\x07\x00\x0c$share/g/a/b\x01",
        Subscribe(2, [sub("$share/g/a/b", 1)], {Property.SUBSCRIPTION_IDENTIFIER: [7]}),
    ),
    ("3.1-suback", V31, b"\x90\x03\x00\x02\x01", SubAck(2, [1], {})),
    ("3.1.1-suback-MQTT-3.9.3-2", V311, b"\x90\x06\x00\x02\x00\x01\x02\x80", SubAck(2, [0, 1, 2, 0x80], {})),
    ("5-suback", V5, b"\x90\x06\x00\x02\x00\x02\x87\xa2", SubAck(2, [2, 0x87, 0xA2], {})),
    (
        "5-suback-user-property",
        V5,
        b"\x90\x0b\x00\x02\x07\x26\x00\x01k\x00\x01v\x00",
        SubAck(2, [0], {Property.USER_PROPERTY: [("k", "v")]}),
    ),
    (
        "3.1-unsubscribe-from-paho-2.2",
        V31,
        b"\xa2\x0c\x00\x03\x00\x03a/+\x00\x03b/#",
        Unsubscribe(3, ["a/+", "b/#"], {}),
    ),
    ("3.1.1-unsubscribe-MQTT-3.10.3-1", V311, b"\xa2\x05\x00\x03\x00\x01t", Unsubscribe(3, ["t"], {})),
    (
        "5-unsubscribe-from-paho-2.2",
        V5,
        b"\xa2\r\x00\x03\x00\x00\x03a/+\x00\x03b/#",
        Unsubscribe(3, ["a/+", "b/#"], {}),
    ),
    ("3.1-unsuback", V31, b"\xb0\x02\x00\x03", UnsubAck(3, [], {})),
    ("3.1.1-unsuback-MQTT-3.10.4-4", V311, b"\xb0\x02\x00\x03", UnsubAck(3, [], {})),
    ("5-unsuback", V5, b"\xb0\x05\x00\x03\x00\x00\x11", UnsubAck(3, [0, 0x11], {})),
]

CASES = CONNECTS + SESSIONS + PUBLISHES + ACKS + SUBSCRIPTIONS


@pytest.mark.parametrize(
    ("version", "data", "packet"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_wire(version: Version, data: bytes, packet: Packet) -> None:
    assert read(data, version) == packet
    assert type(read(data, version)) is type(packet)
    assert encode(packet, version) == data


@pytest.mark.parametrize(
    ("version", "data", "packet"),
    [
        pytest.param(V5, b"\x40\x04\x00\x01\x00\x00", Ack(PUBACK, 1, 0, {}), id="5-puback-long-form"),
        pytest.param(V5, b"\x40\x03\x00\x01\x00", Ack(PUBACK, 1, 0, {}), id="5-puback-code-0-written-out"),
        pytest.param(V5, b"\x62\x04\x00\x01\x92\x00", Ack(PUBREL, 1, 0x92, {}), id="5-pubrel-long-form"),
        pytest.param(V5, b"\xe0\x01\x00", Disconnect(0, {}), id="5-disconnect-code-0-written-out"),
        pytest.param(V5, b"\xe0\x02\x81\x00", Disconnect(0x81, {}), id="5-disconnect-long-form"),
        pytest.param(V5, b"\xf0\x02\x00\x00", Auth(0, {}), id="5-auth-long-form"),
        pytest.param(V31, b"\x6a\x02\x00\x01", Ack(PUBREL, 1, 0, {}), id="3.1-pubrel-sent-again-has-DUP"),
        pytest.param(
            V31, b"\x8a\x06\x00\x0a\x00\x01t\x00", Subscribe(10, [sub("t", 0)], {}), id="3.1-subscribe-DUP"
        ),
        pytest.param(
            V31, b"\x82\x06\x00\x0a\x00\x01t\xf9", Subscribe(10, [sub("t", 1)], {}), id="3.1-unused-bits"
        ),
        pytest.param(V31, b"\x20\x02\x01\x00", ConnAck(False, 0, {}), id="3.1-connack-has-no-session-flag"),
        pytest.param(
            V31,
            b"\x10\x0f\x00\x06MQIsdp\x03\xc3\x00\x3c\x00\x01d",
            Connect(V31, "d", True, 60, None, None, None, {}),
            id="3.1-remaining-length-takes-precedence-over-user-name-and-password-flags",
        ),
        pytest.param(
            V31,
            b"\x10\x0f\x00\x06MQIsdp\x03\x38\x00\x3c\x00\x01d",
            Connect(V31, "d", False, 60, None, None, None, {}),
            id="3.1-will-qos-and-retain-without-will-are-disregarded",
        ),
    ],
)
def test_other_forms_are_understood(version: Version, data: bytes, packet: Packet) -> None:
    assert read(data, version) == packet


def test_connect_names_its_own_version() -> None:
    data = b"\x10\x0d\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00"
    packet = read(data, V31)
    assert isinstance(packet, Connect)
    assert packet.version is V5
    assert encode(packet, V31) == data


@pytest.mark.parametrize(
    ("version", "packet", "data"),
    [
        (V311, Publish("t", b"", 0, False, False, 0, {Property.TOPIC_ALIAS: 1}), b"\x30\x03\x00\x01t"),
        (V311, Ack(PUBACK, 1, 0x87, {Property.REASON_STRING: "no"}), b"\x40\x02\x00\x01"),
        (V311, Disconnect(0x8E, {Property.REASON_STRING: "no"}), b"\xe0\x00"),
        (V311, Subscribe(1, [sub("t", 1, True, True, 2)], {}), b"\x82\x06\x00\x01\x00\x01t\x01"),
        (V311, SubAck(1, [2, 0x87], {}), b"\x90\x04\x00\x01\x02\x80"),
        (V311, UnsubAck(1, [0x11], {}), b"\xb0\x02\x00\x01"),
        (V31, ConnAck(True, 0, {}), b"\x20\x02\x00\x00"),
        (V311, ConnAck(False, 0x84, {}), b"\x20\x02\x00\x01"),
        (V311, ConnAck(False, 0x85, {}), b"\x20\x02\x00\x02"),
        (V311, ConnAck(False, 0x97, {}), b"\x20\x02\x00\x03"),
        (V31, ConnAck(False, 0x86, {}), b"\x20\x02\x00\x04"),
        (V31, ConnAck(False, 0x87, {}), b"\x20\x02\x00\x05"),
    ],
)
def test_version_3_leaves_out_what_it_has_no_place_for(version: Version, packet: Packet, data: bytes) -> None:
    assert encode(packet, version) == data


def test_encode_ack() -> None:
    assert encode_ack(PUBACK, 0x1234) == b"\x40\x02\x12\x34"
    assert encode_ack(PUBREC, 1, 0x97, V5) == b"\x50\x03\x00\x01\x97"
    assert encode_ack(PUBREL, 1, 0, V5) == b"\x62\x02\x00\x01"
    assert encode_ack(PUBCOMP, 1, 0x92, V311) == b"\x70\x02\x00\x01"
