"""PUBLISH and its flows, retained messages, properties, aliases, order, windows (3.3 to 3.7, 4.3 to 4.9)."""

from typing import Any, Final

import pytest
from brokers import Broker, begin, resume
from client import frame, text
from test_packets import empty, publish_frame
from versions import ALL_VERSIONS, NEW_VERSIONS, VERSION_5

from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V31,
    V311,
    Ack,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    Subscription,
    Version,
)

PROPERTIES: Final[dict[int, Any]] = {
    0x01: 1,
    0x03: "application/json; v=2",
    0x09: b"\x00correlation\xff",
    0x26: [("b", "2"), ("a", "1"), ("b", "2"), ("", "")],
}
QOS = pytest.mark.parametrize("qos", [1, 2])
EVERY_QOS = pytest.mark.parametrize("qos", [0, 1, 2])


# Flows


@EVERY_QOS
@pytest.mark.parametrize("granted", [0, 1, 2], ids=["sub0", "sub1", "sub2"])
@ALL_VERSIONS
def test_a_delivery_has_the_lower_qos_of_both(
    broker: Broker, version: Version, qos: int, granted: int
) -> None:
    client = broker.connect("a", version)
    assert client.subscribe(broker.topic(), granted) == granted
    client.publish(broker.topic(), b"payload", qos)
    delivery = client.message(b"payload", min(qos, granted))
    assert (delivery.topic, delivery.retain, delivery.dup) == (broker.topic(), False, False)
    client.nothing()


@ALL_VERSIONS
def test_a_publish_is_answered_by_its_qos(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    topic = broker.topic()
    client.send(Publish(topic, b"0", 0, False, False, 0, {}))
    client.nothing()
    client.send(Publish(topic, b"1", 1, False, False, 7, {}))
    assert client.ack(PUBACK, 7).code in (0, 0x10)
    client.send(Publish(topic, b"2", 2, False, False, 8, {}))
    assert client.ack(PUBREC, 8).code in (0, 0x10)
    client.send(Ack(PUBREL, 8, 0, {}))
    assert client.ack(PUBCOMP, 8).code == 0
    client.nothing()


@pytest.mark.parametrize("first", [0x36, 0x3E], ids=["new", "dup"])
@ALL_VERSIONS
def test_a_publish_of_qos_3_ends_the_connection(broker: Broker, version: Version, first: int) -> None:
    client = broker.connect("a", version)
    client.send(publish_frame(version, broker.topic().encode(), first))
    client.closed(0x81, 0x82, 0x9B)


@pytest.mark.parametrize(
    "end", ["/+", "/#", "#", "+"], ids=["plus", "hash", "in_level_hash", "in_level_plus"]
)
@NEW_VERSIONS
def test_a_publish_to_a_topic_with_wildcards_ends_the_connection(
    broker: Broker, version: Version, end: str
) -> None:
    client = broker.connect("a", version)
    client.send(publish_frame(version, broker.topic().encode() + end.encode()))
    client.closed(0x81, 0x82, 0x90)


@NEW_VERSIONS
def test_a_publish_to_an_empty_topic_ends_the_connection(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(publish_frame(version, b""))
    client.closed(0x81, 0x82, 0x90)


@ALL_VERSIONS
def test_a_forbidden_publish_is_acknowledged_or_ends_the_connection(broker: Broker, version: Version) -> None:
    """MQTT 3 has no other way to say it; MQTT 5 may give a reason. Subscribers get nothing."""
    client = broker.connect("a", version)
    for qos, first in ((1, PUBACK), (2, PUBREC)):
        client.send(Publish(broker.server.forbidden, b"1", qos, False, False, 7, {}))
        answer = client.receive()
        if answer is not None:
            assert isinstance(answer, Ack)
            assert (answer.type, answer.packet_id) == (first, 7)
            assert answer.code in (0, 0x10, 0x87, 0x90)
            if qos == 2 and answer.code < 0x80:
                client.send(Ack(PUBREL, 7, 0, {}))
                client.ack(PUBCOMP, 7)
        else:
            client.connect()


@QOS
@ALL_VERSIONS
def test_a_packet_id_may_be_used_again_after_its_flow(broker: Broker, version: Version, qos: int) -> None:
    """Then it is a new message, whatever its DUP flag says."""
    client, watcher = broker.connect("a", version), broker.connect("w")
    watcher.subscribe(broker.topic())
    for payload, dup in ((b"1", False), (b"2", False), (b"3", True)):
        client.send(Publish(broker.topic(), payload, qos, False, dup, 5, {}))
        client.ack(PUBACK if qos == 1 else PUBREC, 5)
        if qos == 2:
            client.send(Ack(PUBREL, 5, 0, {}))
            client.ack(PUBCOMP, 5)
        watcher.message(payload, qos)


@ALL_VERSIONS
def test_a_qos_2_publish_sent_again_is_delivered_once(broker: Broker, version: Version) -> None:
    client, watcher = broker.connect("a", version), broker.connect("w")
    watcher.subscribe(broker.topic())
    for dup in (False, True, True):
        client.send(Publish(broker.topic(), b"1", 2, False, dup, 5, {}))
        client.ack(PUBREC, 5)
    client.send(Ack(PUBREL, 5, 0, {}))
    client.ack(PUBCOMP, 5)
    client.publish(broker.topic(), b"2")
    watcher.message(b"1", 2)
    watcher.message(b"2", 1)


@ALL_VERSIONS
def test_a_pubrel_sent_again_is_answered_again(broker: Broker, version: Version) -> None:
    client, watcher = broker.connect("a", version), broker.connect("w")
    watcher.subscribe(broker.topic())
    client.send(Publish(broker.topic(), b"1", 2, False, False, 5, {}))
    client.ack(PUBREC, 5)
    for _ in range(3):
        client.send(Ack(PUBREL, 5, 0, {}))
        client.ack(PUBCOMP, 5)
    client.publish(broker.topic(), b"2")
    watcher.message(b"1", 2)
    watcher.message(b"2", 1)


@pytest.mark.parametrize("kind", ["topic", "data"])
@NEW_VERSIONS
def test_a_qos_2_publish_is_not_lost_after_pubrec(broker: Broker, version: Version, kind: str) -> None:
    """The wire breaks after PUBREC; the client comes back and only sends PUBREL. It is delivered once."""
    topic = broker.topic() if kind == "topic" else broker.data("a")
    watcher, client = broker.connect("w"), broker.durable("a", version)
    watcher.subscribe(topic)
    client.send(Publish(topic, b"1", 2, False, False, 5, {}))
    client.ack(PUBREC, 5)
    client.vanish()
    resume(client)
    client.send(Ack(PUBREL, 5, 0, {}))
    assert client.ack(PUBCOMP, 5).code == 0
    client.publish(topic, b"2", 1)
    watcher.message(b"1", 2)
    watcher.message(b"2", 1)


@NEW_VERSIONS
def test_a_qos_2_publish_sent_again_after_a_reconnect_is_delivered_once(
    broker: Broker, version: Version
) -> None:
    watcher, client = broker.connect("w"), broker.durable("a", version)
    watcher.subscribe(broker.topic())
    client.send(Publish(broker.topic(), b"1", 2, False, False, 5, {}))
    client.ack(PUBREC, 5)
    client.vanish()
    resume(client)
    client.send(Publish(broker.topic(), b"1", 2, False, True, 5, {}))
    client.ack(PUBREC, 5)
    client.send(Ack(PUBREL, 5, 0, {}))
    client.ack(PUBCOMP, 5)
    client.publish(broker.topic(), b"2", 1)
    watcher.message(b"1", 2)
    watcher.message(b"2", 1)


@ALL_VERSIONS
def test_pubrel_of_an_unknown_packet_id_is_answered(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(Ack(PUBREL, 4711, 0, {}))
    assert client.ack(PUBCOMP, 4711).code in ((0, 0x92) if version == V5 else (0,))
    client.nothing()


@ALL_VERSIONS
def test_acknowledgements_of_unknown_packet_ids_do_no_harm(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(Ack(PUBACK, 4711, 0, {}), Ack(PUBCOMP, 4712, 0, {}), Ack(PUBREC, 4713, 0, {}), PingReq())
    packet = client.receive()
    if isinstance(packet, Ack):
        assert (packet.type, packet.packet_id) == (PUBREL, 4713)
        packet = client.receive()
    assert isinstance(packet, PingResp), packet


@ALL_VERSIONS
def test_acknowledgements_come_in_the_order_of_the_publishes(broker: Broker, version: Version) -> None:
    """Of all kinds of topics, those that are stored and those that are not."""
    client = broker.connect("a", version)
    topics = [broker.topic(), broker.data("a"), broker.errors(), broker.data("b")]
    ids = range(1, 19)
    client.send(*[Publish(topics[i % 4], b"%d" % i, 1, i % 3 == 0, False, i, {}) for i in ids])
    assert [client.expect(Ack)[:2] for _ in ids] == [(PUBACK, i) for i in ids]
    client.send(*[Publish(topics[i % 4], b"%d" % i, 2, False, False, i, {}) for i in ids])
    assert [client.expect(Ack)[:2] for _ in ids] == [(PUBREC, i) for i in ids]
    client.send(*[Ack(PUBREL, i, 0, {}) for i in ids])
    assert [client.expect(Ack)[:2] for _ in ids] == [(PUBCOMP, i) for i in ids]


# Deliveries at QoS 1 and 2, and again


@ALL_VERSIONS
def test_the_flow_of_a_qos_2_delivery(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.subscribe(broker.topic())
    broker.connect("b").publish(broker.topic(), b"1", 2)
    delivery = client.expect(Publish)
    assert (delivery.qos, delivery.dup) == (2, False)
    client.nothing()
    client.send(Ack(PUBREC, delivery.packet_id, 0, {}))
    client.ack(PUBREL, delivery.packet_id)
    client.nothing()
    client.send(Ack(PUBCOMP, delivery.packet_id, 0, {}))
    client.nothing()


@QOS
@ALL_VERSIONS
def test_what_is_not_acknowledged_is_sent_again_after_a_reconnect(
    broker: Broker, version: Version, qos: int
) -> None:
    """With its packet id, DUP (MQTT 3.1 and later), in its order; and at no other time."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    for number in range(5):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    first = [client.expect(Publish) for _ in range(5)]
    assert not any(packet.dup for packet in first)
    client.nothing()
    for _ in range(2):
        client.vanish()
        resume(client)
        again = [client.expect(Publish) for _ in range(5)]
        assert again == [packet._replace(dup=True) for packet in first]
    for packet in again:
        client.accept(packet)
    client.disconnect()
    resume(client)
    client.nothing()


@NEW_VERSIONS
def test_what_is_acknowledged_is_not_sent_again(broker: Broker, version: Version) -> None:
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    for number in range(3):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    packets = [client.expect(Publish) for _ in range(3)]
    client.accept(packets[0])
    client.ping()
    client.vanish()
    resume(client)
    assert [client.message().payload for _ in range(2)] == [b"1", b"2"]
    client.nothing()


@ALL_VERSIONS
def test_pubrel_is_sent_again_after_a_reconnect(broker: Broker, version: Version) -> None:
    """The wire breaks between the subscriber's PUBREC and PUBCOMP: PUBREL comes again, the message not."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    publisher.publish(broker.topic(), b"1", 2)
    packet_id = client.expect(Publish).packet_id
    client.send(Ack(PUBREC, packet_id, 0, {}))
    client.ack(PUBREL, packet_id)
    for _ in range(2):
        client.vanish()
        resume(client)
        client.ack(PUBREL, packet_id)
        client.nothing()
    client.send(Ack(PUBCOMP, packet_id, 0, {}))
    client.disconnect()
    resume(client)
    client.nothing()


@ALL_VERSIONS
def test_pubrel_follows_after_a_reconnect_though_pubrec_was_the_last_word(
    broker: Broker, version: Version
) -> None:
    """The wire breaks right after PUBREC, before PUBREL could be read."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    publisher.publish(broker.topic(), b"1", 2)
    packet_id = client.expect(Publish).packet_id
    client.send(Ack(PUBREC, packet_id, 0, {}), Disconnect(0, {}))
    while client.wire.frame():
        pass
    resume(client)
    client.ack(PUBREL, packet_id)
    client.send(Ack(PUBCOMP, packet_id, 0, {}))
    client.nothing()


@VERSION_5
def test_a_publish_refused_with_pubrec_frees_its_packet_id(broker: Broker, version: Version) -> None:
    """Where the server refuses none, the flow goes on to its end."""
    client = broker.connect("a", version)
    client.subscribe(broker.topic())
    client.send(Publish(broker.data(), b"{", 2, False, False, 5, {}))
    if client.ack(PUBREC, 5).code < 0x80:
        client.send(Ack(PUBREL, 5, 0, {}))
        client.ack(PUBCOMP, 5)
    client.send(Publish(broker.topic(), b"new", 2, False, True, 5, {}))
    assert client.answer(Ack, 5).code in (0, 0x10)
    client.send(Ack(PUBREL, 5, 0, {}))
    assert client.answer(Ack, 5).type == PUBCOMP
    client.message(b"new", 2)


@NEW_VERSIONS
def test_pubrels_come_in_the_order_of_the_pubrecs(broker: Broker, version: Version) -> None:
    client, publisher = broker.connect("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    for number in range(5):
        publisher.publish(broker.topic(), b"%d" % number, 2)
    ids = [client.expect(Publish).packet_id for _ in range(5)]
    client.send(*[Ack(PUBREC, packet_id, 0, {}) for packet_id in ids])
    assert [client.expect(Ack)[:2] for _ in ids] == [(PUBREL, packet_id) for packet_id in ids]


@pytest.mark.parametrize("kind", [PUBACK, PUBREC], ids=["puback", "pubrec"])
@VERSION_5
def test_a_delivery_that_is_refused_is_done(broker: Broker, version: Version, kind: int) -> None:
    """PUBACK or PUBREC with 0x80 and above: neither sent again nor in the window."""
    client, publisher = broker.client("a", version), broker.connect("b")
    options: dict[str, Any] = {"properties": {0x21: 1}}
    begin(client, **options)
    client.subscribe(broker.topic())
    for _ in range(2):
        publisher.publish(broker.topic(), b"refused", 1 if kind == PUBACK else 2)
        client.send(Ack(kind, client.expect(Publish).packet_id, 0x80, {}))
    publisher.publish(broker.topic(), b"next")
    client.message(b"next")
    client.vanish()
    resume(client, **options)
    client.nothing()


@ALL_VERSIONS
def test_a_delivery_never_has_the_dup_of_its_publish(broker: Broker, version: Version) -> None:
    client, watcher = broker.connect("a", version), broker.connect("w", version)
    watcher.subscribe(broker.topic(1), 2)
    watcher.subscribe(broker.topic(2), 0)
    client.send(Publish(broker.topic(1), b"1", 1, False, True, 5, {}))
    client.ack(PUBACK, 5)
    assert not watcher.message(b"1", 1).dup
    client.send(Publish(broker.topic(2), b"2", 1, False, True, 6, {}))
    client.ack(PUBACK, 6)
    assert not watcher.message(b"2", 0).dup


# Order


@EVERY_QOS
@ALL_VERSIONS
def test_deliveries_keep_the_order_of_the_publishes(broker: Broker, version: Version, qos: int) -> None:
    client, publisher = broker.connect("a", version), broker.connect("b", version)
    topics = [broker.topic(), broker.data("a")]
    for topic in topics:
        client.subscribe(topic)
    for start in range(0, 90, 15):
        ids = range(start + 1, start + 16)
        for topic in topics:
            publisher.send(*[Publish(topic, b"%d" % i, qos, False, False, i if qos else 0, {}) for i in ids])
            for i in ids if qos else ():
                publisher.answer(Ack, i)
                if qos == 2:
                    publisher.send(Ack(PUBREL, i, 0, {}))
                    publisher.answer(Ack, i)
    received = [client.message() for _ in range(180)]
    for topic in topics:
        payloads = [int(packet.payload) for packet in received if packet.topic == topic]
        assert payloads == list(range(1, 91))


@pytest.mark.parametrize("kind", ["topic", "data"])
@NEW_VERSIONS
def test_a_clear_never_overtakes_its_set(broker: Broker, version: Version, kind: str) -> None:
    """A retained message set and cleared at once, without waiting: nothing stays; subscribers see both."""
    client, watcher = broker.connect("a", version), broker.connect("w", version)
    topics = [broker.topic(i) if kind == "topic" else broker.data(f"t{i}") for i in range(1, 9)]
    for topic in topics:
        watcher.subscribe(topic, 1)
    for topic in topics:
        client.send(
            Publish(topic, b"1", 1, True, False, 1, {}),
            Publish(topic, b"", 1, True, False, 2, {}),
            Publish(topic, b"2", 0, True, False, 0, {}),
            Publish(topic, b"", 0, True, False, 0, {}),
        )
        client.ack(PUBACK, 1)
        client.ack(PUBACK, 2)
        assert [watcher.message().payload for _ in range(4)] == [b"1", b"", b"2", b""]
    fresh = broker.connect("f", version)
    for topic in topics:
        fresh.subscribe(topic)
    fresh.nothing()


# Retained messages


@EVERY_QOS
@ALL_VERSIONS
def test_a_retained_message_is_sent_to_new_subscriptions(broker: Broker, version: Version, qos: int) -> None:
    publisher = broker.connect("a", version)
    publisher.publish(broker.topic(), b"old", qos, retain=True)
    publisher.publish(broker.topic(), b"new", qos, retain=True)
    publisher.vanish()
    client = broker.connect("b", version)
    client.subscribe(broker.topic())
    delivery = client.message(b"new", qos)
    assert (delivery.topic, delivery.retain, delivery.dup) == (broker.topic(), True, False)
    client.nothing()


@ALL_VERSIONS
def test_a_retained_message_reaches_established_subscriptions_without_the_flag(
    broker: Broker, version: Version
) -> None:
    client = broker.connect("a", version)
    client.subscribe(broker.topic())
    client.publish(broker.topic(), b"kept", 1, retain=True)
    assert client.message(b"kept").retain is False


@ALL_VERSIONS
def test_an_empty_payload_clears_what_is_retained(broker: Broker, version: Version) -> None:
    """It is delivered like any message, and not stored itself."""
    client = broker.connect("a", version)
    client.publish(broker.topic(), b"kept", retain=True)
    client.subscribe(broker.topic())
    client.message(b"kept")
    client.publish(broker.topic(), b"", retain=True)
    assert client.message(b"").retain is False
    fresh = broker.connect("b", version)
    fresh.subscribe(broker.topic())
    fresh.nothing()


@ALL_VERSIONS
def test_a_message_without_retain_leaves_the_retained_one(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.publish(broker.topic(), b"kept", retain=True)
    client.publish(broker.topic(), b"passing")
    client.publish(broker.topic(), b"")
    client.subscribe(broker.topic())
    client.message(b"kept")
    client.nothing()


@ALL_VERSIONS
def test_a_retained_message_of_qos_0_replaces_the_former(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.publish(broker.topic(), b"former", 2, retain=True)
    client.publish(broker.topic(), b"latter", 0, retain=True)
    client.subscribe(broker.topic())
    client.message(b"latter", 0)
    client.nothing()


@ALL_VERSIONS
def test_a_retained_message_outlives_the_session_of_its_publisher(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.publish(broker.topic(), b"kept", retain=True)
    client.disconnect()
    client.connect()
    client.subscribe(broker.topic())
    client.message(b"kept")


@ALL_VERSIONS
def test_many_retained_messages_come_all_and_within_the_window(broker: Broker, version: Version) -> None:
    publisher = broker.connect("a")
    count = 250
    for number in range(count):
        publisher.send(Publish(broker.data(f"n{number}"), b"%d" % number, 1, True, False, number + 1, {}))
    for number in range(count):
        publisher.answer(Ack, number + 1)
    window = 5
    client = broker.connect("b", version, properties={0x21: window} if version == V5 else None)
    client.subscribe(broker.data("+"), 1)
    if version == V5:
        opened = [client.expect(Publish) for _ in range(window)]
        client.nothing()
    else:
        opened = []
    for packet in opened:
        client.accept(packet)
    received = opened + [client.message(qos=1) for _ in range(count - len(opened))]
    assert {packet.payload for packet in received} == {b"%d" % number for number in range(count)}
    assert all(packet.retain for packet in received)


# Properties of MQTT 5


@pytest.mark.parametrize("way", ["live", "retained", "queued", "data"])
@VERSION_5
def test_properties_reach_subscribers_unaltered(broker: Broker, version: Version, way: str) -> None:
    topic = broker.data("a") if way == "data" else broker.topic()
    properties = PROPERTIES | {0x08: broker.topic(9)}
    publisher, client = broker.connect("p", version), broker.durable("a", version)
    if way != "retained":
        client.subscribe(topic)
    if way == "queued":
        client.disconnect()
    publisher.publish(topic, b"1", 1, retain=way == "retained", properties=properties)
    if way == "queued":
        resume(client)
    if way == "retained":
        client.subscribe(topic)
    received = client.message(b"1").properties
    assert received == properties
    assert received[0x26] == properties[0x26]  # in their order


@pytest.mark.parametrize("format_indicator", [0, 1])
@VERSION_5
def test_a_payload_format_is_passed_on(broker: Broker, version: Version, format_indicator: int) -> None:
    client = broker.connect("a", version)
    client.subscribe(broker.topic())
    client.publish(broker.topic(), b"1", properties={0x01: format_indicator})
    assert client.message(b"1").properties.get(0x01, 0) == format_indicator


@EVERY_QOS
@pytest.mark.parametrize("version", [V31, V311], ids=["3.1", "3.1.1"])
def test_properties_are_nothing_to_a_subscriber_of_mqtt_3(broker: Broker, version: Version, qos: int) -> None:
    """Live, queued and retained; its connection goes on, and so do the publisher's and new subscriptions."""
    properties = PROPERTIES | {0x08: broker.topic(9), 0x02: 600}
    client, publisher = broker.durable("a", version), broker.connect("p", V5)
    client.subscribe(broker.topic())
    publisher.publish(broker.topic(), b"live", qos, retain=True, properties=properties)
    client.message(b"live", qos)
    client.disconnect()
    publisher.publish(broker.topic(), b"queued", max(qos, 1), properties=properties)
    resume(client)
    client.message(b"queued")
    late = broker.connect("l", version)
    late.subscribe(broker.topic())
    late.message(b"live", qos)
    publisher.publish(broker.topic(), b"more", qos)
    late.message(b"more", qos)
    client.message(b"more", qos)


@VERSION_5
def test_a_request_is_answered_where_it_asks_for_it(broker: Broker, version: Version) -> None:
    asker, responder = broker.connect("a", version), broker.connect("r", version)
    responder.subscribe(broker.topic(1))
    asker.subscribe(broker.topic(2))
    asker.publish(broker.topic(1), b"question", properties={0x08: broker.topic(2), 0x09: b"42"})
    request = responder.message(b"question")
    responder.publish(request.properties[0x08], b"answer", properties={0x09: request.properties[0x09]})
    answer = asker.message(b"answer")
    assert (answer.topic, answer.properties) == (broker.topic(2), {0x09: b"42"})


@VERSION_5
def test_topic_aliases_from_the_client(broker: Broker, version: Version) -> None:
    """All up to the server's maximum; a topic with an alias gives it a new meaning; each connection anew."""
    client = broker.client("a", version)
    most = client.connect().properties.get(0x22, 0)
    if not most:
        pytest.skip("The server takes no topic aliases.")
    client.subscribe(broker.topic(1))
    client.subscribe(broker.topic(2))
    for alias in {1, most}:
        for number in (1, 2):
            client.publish(broker.topic(number), b"named", 0, properties={0x23: alias})
            assert client.message(b"named").properties == {}
            for qos in (0, 1, 2):
                client.publish("", b"by alias", qos, properties={0x23: alias})
                assert client.message(b"by alias", qos).topic == broker.topic(number)
    client.connect()
    client.send(Publish("", b"1", 0, False, False, 0, {0x23: 1}))
    client.closed(0x82, 0x94)


@VERSION_5
def test_a_topic_alias_above_the_maximum_ends_the_connection(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    most = client.connect().properties.get(0x22, 0)
    for alias in {0, most + 1} - {65_536}:
        client.connect()
        block = b"\x23" + alias.to_bytes(2, "big")
        client.send(frame(0x30, text(broker.topic()), b"\3", block, b"1"))
        client.closed(0x94, 0x82)


@pytest.mark.parametrize("most", [0, 1, 3])
@VERSION_5
def test_topic_aliases_to_the_client(broker: Broker, version: Version, most: int) -> None:
    """No more than it allows, none if it says nothing; and each stands for the topic given with it."""
    client = broker.connect("a", version, properties={0x22: most} if most else None)
    publisher = broker.connect("b", version)
    topics = [broker.topic(number) for number in range(1, 6)]
    for topic in topics:
        client.subscribe(topic)
    meaning: dict[int, str] = {}
    for topic in topics * 3:
        publisher.publish(topic, topic.encode(), properties={0x23: 1} if most else None)
        packet = client.message()
        alias = packet.properties.get(0x23)
        assert alias is None or 1 <= alias <= most
        if alias and packet.topic:
            meaning[alias] = packet.topic
        assert packet.payload.decode() == (packet.topic or meaning[alias or 0])


# Windows and sizes


@QOS
@VERSION_5
def test_no_more_open_deliveries_than_the_receive_maximum(broker: Broker, version: Version, qos: int) -> None:
    """What is not a delivery at QoS 1 or 2 goes on."""
    client = broker.connect("a", version, properties={0x21: 3})
    publisher = broker.connect("b")
    client.subscribe(broker.topic(1))
    client.subscribe(broker.topic(2), 0)
    for number in range(6):
        publisher.publish(broker.topic(1), b"%d" % number, qos)
    opened = [client.expect(Publish) for _ in range(3)]
    publisher.publish(broker.topic(2), b"at once")
    client.message(b"at once", 0)
    assert client.subscribe(broker.topic(3)) == 2
    client.nothing()
    if qos == 2:  # PUBREC does not make room, PUBCOMP does
        client.send(Ack(PUBREC, opened[0].packet_id, 0, {}))
        client.ack(PUBREL, opened[0].packet_id)
        client.nothing()
        client.send(Ack(PUBCOMP, opened[0].packet_id, 0, {}))
    else:
        client.accept(opened[0])
    assert client.expect(Publish).payload == b"3"
    client.nothing()


@VERSION_5
def test_as_many_open_publishes_as_the_server_allows(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    most = client.connect().properties.get(0x21, 65_535)
    assert most > 0
    ids = range(1, min(most, 200) + 1)
    for start in ids[::20]:
        part = [i for i in range(start, start + 20) if i in ids]
        client.send(*[Publish(broker.topic(), b"1", 2, False, False, i, {}) for i in part])
        for i in part:
            assert client.ack(PUBREC, i).code in (0, 0x10)
    client.send(*[Ack(PUBREL, i, 0, {}) for i in ids])
    for i in ids:
        client.ack(PUBCOMP, i)


@pytest.mark.parametrize("window", [1, 10])
@pytest.mark.parametrize("way", ["live", "queued", "retained"])
@VERSION_5
def test_a_message_above_the_maximum_packet_size_is_left_out(
    broker: Broker, version: Version, way: str, window: int
) -> None:
    """As if it had been delivered: no window is blocked, nothing comes again."""
    client, publisher = broker.client("a", version), broker.connect("b", version)
    properties: dict[str, Any] = {"properties": {0x27: 200, 0x21: window}}
    begin(client, **properties)
    if way != "retained":
        client.subscribe(broker.data("+"))
    if way == "queued":
        client.disconnect()
    retain = way == "retained"
    for number, payload in enumerate((b"1", b'"%s"' % (b"x" * 300), b"3", b'"%s"' % (b"y" * 300), b"5")):
        publisher.publish(broker.data(f"n{number}"), payload, 1 + number % 2, retain=retain)
    if way == "queued":
        resume(client, **properties)
    if retain:
        client.subscribe(broker.data("+"))
    assert {client.message().payload for _ in range(3)} == {b"1", b"3", b"5"}
    client.nothing()
    client.vanish()
    resume(client)
    client.nothing()


@VERSION_5
def test_reason_codes_are_those_of_their_packet(broker: Broker, version: Version) -> None:
    """The client's codec takes no others; here are the ways to get one."""
    client = broker.connect("a", version)
    for topic in (broker.topic(), broker.data("a"), broker.server.forbidden):
        for qos in (1, 2):
            client.send(Publish(topic, b"{", qos, False, False, 5, {}))
            if client.answer(Ack, 5).code < 0x80 and qos == 2:
                client.send(Ack(PUBREL, 5, 0, {}))
                client.answer(Ack, 5)
    client.send(Ack(PUBREL, 6, 0, {}), Ack(PUBREC, 7, 0, {}))
    client.ping()
    wanted = [Subscription(broker.server.forbidden, 0, False, False, 0)]
    assert len(client.subscribe_all(wanted).codes) == 1
    assert len(client.unsubscribe(broker.server.forbidden)) == 1


@VERSION_5
def test_a_publish_that_is_too_large_ends_the_connection_or_is_taken(
    broker: Broker, version: Version
) -> None:
    client = broker.client("a", version)
    most = client.connect().properties.get(0x27)
    if most is None or most > 2**25:
        pytest.skip("The server names no Maximum Packet Size.")
    client.send(frame(0x30, text(broker.topic()), empty(version), b"x" * most))
    client.closed(0x95)
