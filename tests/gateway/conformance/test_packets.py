"""Bytes on the wire: strings, lengths, flags, packet identifiers (chapters 1 and 2)."""

import pytest
from brokers import Broker
from client import Client, frame, text
from versions import ALL_VERSIONS, NEW_VERSIONS, VERSION_5

from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    Ack,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
)

NOT_UTF_8 = {
    "cut": b"\xc3(",
    "surrogate": b"\xed\xa0\x80",
    "overlong": b"\xc0\xaf",
    "above": b"\xf4\x90\x80\x80",
    "byte": b"\xff",
}
BAD = 0x81, 0x82, 0x85, 0x8F, 0x90  # malformed, protocol error, client id, topic filter, topic name


def empty(version: Version) -> bytes:
    """No properties."""
    return b"\0" if version == V5 else b""


def publish_frame(version: Version, topic: bytes, first: int = 0x30) -> bytes:
    return frame(first, text(topic), b"\0\7" if first & 6 else b"", empty(version), b"1")


def subscribe_frame(version: Version, topic_filter: bytes) -> bytes:
    return frame(0x82, b"\0\7", empty(version), text(topic_filter), b"\0")


def unsubscribe_frame(version: Version, topic_filter: bytes) -> bytes:
    return frame(0xA2, b"\0\7", empty(version), text(topic_filter))


def connect_frame(
    client: Client,
    flags: int = 0xC2,
    *,
    level: int | None = None,
    name: str = "",
    client_id: bytes | None = None,
    will: bytes = b"",
    username: bytes | None = None,
    rest: bytes | None = None,
    properties: bytes | None = None,
) -> bytes:
    """A CONNECT of which anything may be wrong; `rest` stands for all that follows the keep alive."""
    version = client.version
    if rest is None:
        _port, user, password = client.endpoint
        rest = (empty(version) if properties is None else properties) + text(
            client.client_id if client_id is None else client_id
        )
        rest += will + text(user if username is None else username) + text(password)
    protocol = name or ("MQIsdp" if version < 4 else "MQTT")
    return frame(0x10, text(protocol), bytes((version if level is None else level, flags)), b"\0\x3c", rest)


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
@NEW_VERSIONS
def test_a_topic_that_is_not_utf_8_ends_the_connection(broker: Broker, version: Version, bad: bytes) -> None:
    for make in (publish_frame, subscribe_frame, unsubscribe_frame):
        client = broker.connect("a", version)
        client.send(make(version, broker.topic().encode() + bad))
        client.closed(*BAD)


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
@NEW_VERSIONS
def test_a_connect_with_a_string_that_is_not_utf_8_is_refused(
    broker: Broker, version: Version, bad: bytes
) -> None:
    client = broker.client("a", version)
    will = empty(version) + text(broker.topic().encode() + bad) + text("gone")
    for wrong in (
        connect_frame(client, client_id=bad),
        connect_frame(client, username=bad),
        connect_frame(client, 0xC6, will=will),
    ):
        client.dial()
        client.send(wrong)
        client.closed(*BAD, 0x86, 0x87)


@VERSION_5
def test_a_property_that_is_not_utf_8_ends_the_connection(broker: Broker, version: Version) -> None:
    bad = b"\xc3("
    content_type, response_topic = b"\3" + text(bad), b"\x08" + text(bad)
    for pair in (
        content_type,
        response_topic,
        b"\x26" + text(bad) + text("value"),
        b"\x26" + text("name") + text(bad),
    ):
        client = broker.connect("a", version)
        client.send(frame(0x30, text(broker.topic()), bytes((len(pair),)), pair, b"1"))
        client.closed(0x81, 0x82, 0x99)


@NEW_VERSIONS
def test_a_null_character_in_a_string_ends_the_connection(broker: Broker, version: Version) -> None:
    topic = broker.topic().encode()[:-1] + b"\0"
    for make in (publish_frame, subscribe_frame, unsubscribe_frame):
        client = broker.connect("a", version)
        client.send(make(version, topic))
        client.closed(*BAD)
    client = broker.client("a", version)
    client.dial()
    client.send(connect_frame(client, client_id=b"a\0b"))
    client.closed(*BAD)


@NEW_VERSIONS
def test_a_byte_order_mark_is_a_character_like_others(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    assert client.subscribe(broker.data("with\ufeffin"), 0) == 0
    client.publish(broker.data("within"), b"1", 0)
    client.publish(broker.data("with\ufeffin"), b"2", 0)
    assert client.message(b"2").topic == broker.data("with\ufeffin")


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 50_000])
@NEW_VERSIONS
def test_lengths_take_as_few_bytes_as_possible(broker: Broker, version: Version, size: int) -> None:
    """The client's FrameReader refuses a longer form. The size is that of the packet behind its length."""
    client = broker.connect("a", version)
    topic = broker.topic()
    client.subscribe(topic, 0)
    payload = b"x" * (size - len(text(topic)) - len(empty(version)))
    client.send(Publish(topic, payload, 0, False, False, 0, {}))
    first, body = client.wire.frame() or (0, b"")
    assert (first, len(body)) == (0x30, size)


FLAGS = {
    "subscribe": [0x80, 0x83, 0x8A],
    "unsubscribe": [0xA0, 0xA3, 0xAA],
    "pubrel": [0x60, 0x61, 0x66],
    "puback": [0x41],
    "pubrec": [0x52],
    "pubcomp": [0x78],
    "pingreq": [0xC1, 0xC2],
    "disconnect": [0xE1, 0xE8],
    "auth": [0xF1],
    "type 0": [0x00],
}


@pytest.mark.parametrize("name", FLAGS)
@NEW_VERSIONS
def test_wrong_flags_in_the_first_byte_end_the_connection(
    broker: Broker, version: Version, name: str
) -> None:
    topic = text(broker.topic())
    bodies = {
        "subscribe": b"\0\7" + empty(version) + topic + b"\0",
        "unsubscribe": b"\0\7" + empty(version) + topic,
        **dict.fromkeys(("puback", "pubrec", "pubrel", "pubcomp"), b"\0\7"),
    }
    for first in FLAGS[name]:
        client = broker.connect("a", version)
        client.send(frame(first, bodies.get(name, b"")))
        client.closed(0x81, 0x82)


@VERSION_5
def test_wrong_flags_of_a_disconnect_are_called_malformed(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(frame(0xE1))
    assert client.closed() == 0x81


@pytest.mark.parametrize("first", [0x20, 0x90, 0xB0, 0xD0], ids=["connack", "suback", "unsuback", "pingresp"])
@NEW_VERSIONS
def test_packets_that_only_a_server_sends_end_the_connection(
    broker: Broker, version: Version, first: int
) -> None:
    client = broker.connect("a", version)
    client.send(frame(first, b"\0\7\0" if first != 0xD0 else b""))
    client.closed(0x81, 0x82)


@NEW_VERSIONS
def test_a_packet_id_of_0_ends_the_connection(broker: Broker, version: Version) -> None:
    topic, none = text(broker.topic()), empty(version)
    for bad in (
        frame(0x82, b"\0\0", none, topic, b"\0"),
        frame(0xA2, b"\0\0", none, topic),
        frame(0x32, topic, b"\0\0", none, b"1"),
        frame(0x34, topic, b"\0\0", none, b"1"),
    ):
        client = broker.connect("a", version)
        client.send(bad)
        client.closed(0x81, 0x82)


@ALL_VERSIONS
def test_open_deliveries_have_packet_ids_of_their_own(broker: Broker, version: Version) -> None:
    client, publisher = broker.connect("a", version), broker.connect("b", version)
    client.subscribe(broker.topic())
    for number in range(18):
        publisher.publish(broker.topic(), b"%d" % number, 1 + number % 2)
    ids = {client.expect(Publish).packet_id for _ in range(18)}
    assert len(ids) == 18
    assert 0 not in ids


@ALL_VERSIONS
def test_a_delivery_at_qos_0_is_no_more_than_topic_and_payload(broker: Broker, version: Version) -> None:
    """No packet identifier; in MQTT 5 the properties' length, which is 0."""
    client = broker.connect("a", version)
    client.subscribe(broker.topic(), 0)
    client.send(Publish(broker.topic(), b"payload", 0, False, False, 0, {}))
    assert client.wire.frame() == (0x30, text(broker.topic()) + empty(version) + b"payload")


@pytest.mark.parametrize("packet_id", [1, 0x1234, 0xFFFF])
@ALL_VERSIONS
def test_answers_carry_the_packet_id_of_what_they_answer(
    broker: Broker, version: Version, packet_id: int
) -> None:
    client = broker.connect("a", version)
    topic = broker.topic()
    client.send(Publish(topic, b"1", 1, False, False, packet_id, {}))
    client.ack(PUBACK, packet_id)
    client.send(Publish(topic, b"1", 2, False, False, packet_id, {}))
    client.ack(PUBREC, packet_id)
    client.send(Ack(PUBREL, packet_id, 0, {}))
    client.ack(PUBCOMP, packet_id)
    client.send(Subscribe(packet_id, [Subscription(topic, 0, False, False, 0)], {}))
    assert client.expect(SubAck).packet_id == packet_id
    client.send(Unsubscribe(packet_id, [topic], {}))
    assert client.expect(UnsubAck).packet_id == packet_id


PROPERTIES = {
    "unknown": b"\x7f\0",
    "of_another_packet": b"\x11\0\0\0\1",  # Session Expiry Interval
    "twice": b"\1\1\1\1",  # Payload Format Indicator
    "out_of_range": b"\1\2",
    "cut": b"\2\0",
    "response_topic_with_wildcard": b"\x08" + text("a/+"),
    "alias_0": b"\x23\0\0",
    "subscription_identifier": b"\x0b\1",
}


@pytest.mark.parametrize("name", PROPERTIES)
@VERSION_5
def test_a_publish_with_a_wrong_property_ends_the_connection(
    broker: Broker, version: Version, name: str
) -> None:
    client = broker.connect("a", version)
    block = PROPERTIES[name]
    client.send(frame(0x30, text(broker.topic()), bytes((len(block),)), block, b"1"))
    client.closed(0x81, 0x82, 0x90, 0x94)


CUT = {
    "publish": frame(0x32, b"\0\x09a"),
    "subscribe_options": frame(0x82, b"\0\7", text("a")),
    "subscribe_filter": frame(0x82, b"\0\7\0\0\7a"),
    "unsubscribe": frame(0xA2, b"\0\7\0\0\7a"),
    "puback": frame(0x40, b"\0"),
    "pubrel": frame(0x62),
    "pingreq": frame(0xC0, b"a"),
    "length": b"\x30\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("name", CUT)
@NEW_VERSIONS
def test_a_packet_that_is_too_short_or_too_long_ends_the_connection(
    broker: Broker, version: Version, name: str
) -> None:
    client = broker.connect("a", version)
    client.send(CUT[name])
    client.closed(0x81, 0x82, 0x8F, 0x90, 0x95)


@ALL_VERSIONS
def test_packets_may_come_in_any_pieces(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    topic = broker.topic()
    client.subscribe(topic, 0)
    for piece in publish_frame(version, topic.encode()):
        client.wire.write(bytes((piece,)))
    client.message(b"1", 0)
    client.send(*[Publish(topic, b"%d" % number, 0, False, False, 0, {}) for number in range(50)])
    assert [client.message().payload for _ in range(50)] == [b"%d" % number for number in range(50)]
