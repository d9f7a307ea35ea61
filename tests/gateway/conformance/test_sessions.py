"""Sessions (3.1.2.4, 3.1.2.11, 4.1): what lasts, for how long, and what does not."""

import time

import pytest
from brokers import LASTING, Broker, begin, resume
from versions import ALL_VERSIONS, NEW_VERSIONS, VERSION_3, VERSION_5

from ingest.mqtt.packets import PUBREC, PUBREL, V5, V311, Ack, Publish, Subscription, Version


@ALL_VERSIONS
def test_a_new_durable_session_is_not_present_and_then_it_is(broker: Broker, version: Version) -> None:
    """MQTT 3.1 has no such flag."""
    client = broker.client("a", version)
    begin(client)
    client.disconnect()
    resume(client)
    client.vanish()
    resume(client)


@pytest.mark.parametrize("qos", [1, 2])
@ALL_VERSIONS
def test_messages_wait_for_a_durable_session(broker: Broker, version: Version, qos: int) -> None:
    """In their order, at the lower QoS of both, without DUP; of several subscriptions."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic(1), 1)
    client.subscribe(broker.data("+"), 2)
    client.disconnect()
    for number in range(30):
        publisher.publish(broker.topic(1) if number % 2 else broker.data("a"), b"%d" % number, qos)
    resume(client)
    received = [client.message() for _ in range(30)]
    assert sorted(int(packet.payload) for packet in received) == list(range(30))
    for topic, granted in ((broker.topic(1), 1), (broker.data("a"), 2)):
        mine = [packet for packet in received if packet.topic == topic]
        assert [int(packet.payload) for packet in mine] == sorted(int(packet.payload) for packet in mine)
        assert {packet.qos for packet in mine} == {min(qos, granted)}
    assert not any(packet.dup or packet.retain for packet in received)
    client.nothing()


@ALL_VERSIONS
def test_subscriptions_of_a_durable_session_go_on(broker: Broker, version: Version) -> None:
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic(), 2)
    client.disconnect()
    resume(client)
    for qos in (0, 1, 2):
        publisher.publish(broker.topic(), b"1", qos)
        client.message(b"1", qos)


@ALL_VERSIONS
def test_a_clean_start_discards_the_session(broker: Broker, version: Version) -> None:
    """Its subscriptions, what is queued, what was not acknowledged; and the new one is not durable."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    publisher.publish(broker.topic(), b"open", 2)
    client.expect(Publish)
    client.vanish()
    publisher.publish(broker.topic(), b"queued", 1)
    assert not client.connect().session_present
    publisher.publish(broker.topic(), b"live", 1)
    client.nothing()
    client.disconnect()
    begin(client)
    client.nothing()


@VERSION_5
def test_a_clean_start_may_begin_a_durable_session(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.connect(properties={0x11: LASTING})
    client.subscribe(broker.topic())
    client.disconnect()
    broker.connect("b").publish(broker.topic(), b"1")
    resume(client)
    client.message(b"1")


@VERSION_5
def test_clean_start_0_without_expiry_resumes_and_ends_with_the_connection(
    broker: Broker, version: Version
) -> None:
    client = broker.durable("a", version)
    client.subscribe(broker.topic())
    client.disconnect()
    assert client.connect(clean=False).session_present
    client.publish(broker.topic(), b"1")
    client.message(b"1")
    client.disconnect()
    begin(client)


@ALL_VERSIONS
def test_a_clean_session_leaves_nothing(broker: Broker, version: Version) -> None:
    client, publisher = broker.connect("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    client.vanish()
    publisher.publish(broker.topic(), b"1")
    begin(client)
    publisher.publish(broker.topic(), b"2")
    client.nothing()


@ALL_VERSIONS
def test_sessions_belong_to_their_client_ids(broker: Broker, version: Version) -> None:
    one, two = broker.durable("a", version), broker.durable("A", version)
    one.subscribe(broker.topic(1))
    two.subscribe(broker.topic(2))
    one.disconnect()
    two.disconnect()
    publisher = broker.connect("b")
    publisher.publish(broker.topic(1), b"1")
    publisher.publish(broker.topic(2), b"2")
    resume(two)
    two.message(b"2")
    two.nothing()
    resume(one)
    one.message(b"1")
    one.nothing()


@pytest.mark.parametrize("pair", [(V311, V5), (V5, V311)], ids=["3.1.1_to_5", "5_to_3.1.1"])
def test_a_session_may_go_on_in_another_version(broker: Broker, pair: tuple[Version, Version]) -> None:
    first, then = pair
    client, publisher = broker.durable("a", first), broker.connect("b", V5)
    client.subscribe(broker.topic())
    client.disconnect()
    publisher.publish(broker.topic(), b"1", 1, properties={0x26: [("a", "b")]})
    client = broker.client("a", then)
    resume(client)
    assert client.message(b"1", 1).properties == ({0x26: [("a", "b")]} if then == V5 else {})
    publisher.publish(broker.topic(), b"2", 2)
    client.message(b"2", 2)


@VERSION_5
def test_a_session_lasts_as_long_as_its_expiry(broker: Broker, version: Version) -> None:
    """That of CONNECT, or the later one of DISCONNECT; while it is connected it does not end."""
    publisher = broker.connect("p")
    wanted = {"short": 1, "shortened": LASTING, "lengthened": 1, "forever": 0xFFFFFFFF, "connected": 1}
    clients = {name: broker.client(name, version) for name in wanted}
    for name, client in clients.items():
        client.connect(properties={0x11: wanted[name]})
        client.subscribe(broker.topic())
    clients["short"].vanish()
    clients["shortened"].disconnect(properties={0x11: 1})
    clients["lengthened"].disconnect(properties={0x11: LASTING})
    clients["forever"].vanish()
    resume(clients["forever"], properties={0x11: 0xFFFFFFFF})
    clients["forever"].vanish()
    publisher.publish(broker.topic(), b"1")
    time.sleep(2.1)
    begin(clients["short"])
    begin(clients["shortened"])
    resume(clients["lengthened"])
    resume(clients["forever"])
    clients["connected"].message(b"1")
    for name in ("short", "shortened", "connected"):
        clients[name].nothing()
    for name in ("lengthened", "forever"):
        clients[name].message(b"1")


@VERSION_5
def test_a_disconnect_with_expiry_0_ends_the_session(broker: Broker, version: Version) -> None:
    client = broker.durable("a", version)
    client.disconnect(properties={0x11: 0})
    begin(client)


@VERSION_5
def test_a_session_expiry_that_the_server_shortens_is_told(broker: Broker, version: Version) -> None:
    answer = broker.client("a", version).connect(properties={0x11: 0xFFFFFFFF})
    assert answer.properties.get(0x11, 0xFFFFFFFF) > 0


@VERSION_5
def test_messages_expire_and_their_time_is_counted_down(broker: Broker, version: Version) -> None:
    """Queued ones, retained ones; in a QoS 2 flow the acknowledgements go on."""
    publisher = broker.connect("p", version)
    begun, away, late = (
        broker.durable("a", version),
        broker.durable("b", version),
        broker.connect("c", version),
    )
    begun.subscribe(broker.topic(1))
    for number in (1, 2, 3):
        away.subscribe(broker.topic(number))
    away.disconnect()
    publisher.publish(broker.topic(1), b"short", 2, retain=True, properties={0x02: 1})
    publisher.publish(broker.topic(2), b"long", 1, retain=True, properties={0x02: 60})
    publisher.publish(broker.topic(3), b"for ever", 1, retain=True)
    delivery = begun.expect(Publish)
    assert (delivery.payload, delivery.properties) == (b"short", {0x02: 1})
    time.sleep(2.1)
    begun.send(Ack(PUBREC, delivery.packet_id, 0, {}))
    begun.ack(PUBREL, delivery.packet_id)
    resume(away)
    long, for_ever = sorted((away.message() for _ in range(2)), key=lambda packet: packet.topic)
    assert (long.payload, for_ever.payload, for_ever.properties) == (b"long", b"for ever", {})
    assert 40 <= long.properties[0x02] <= 58
    away.nothing()
    for number in (1, 2, 3):
        late.subscribe(broker.topic(number))
    kept = late.message()
    assert kept.payload == b"long"
    assert 40 <= kept.properties[0x02] <= 58
    assert late.message().payload == b"for ever"
    late.nothing()


@VERSION_5
def test_a_delivery_that_has_begun_does_not_expire(broker: Broker, version: Version) -> None:
    publisher, client = broker.connect("p", version), broker.durable("a", version)
    client.subscribe(broker.topic())
    publisher.publish(broker.topic(), b"1", 2, properties={0x02: 1})
    first = client.expect(Publish)
    client.vanish()
    time.sleep(1.2)
    resume(client)
    again = client.expect(Publish)
    assert again._replace(properties={}) == first._replace(dup=True, properties={})
    client.accept(again)


@VERSION_5
def test_a_live_message_keeps_its_expiry(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.subscribe(broker.topic())
    client.publish(broker.topic(), b"1", properties={0x02: 60})
    properties = client.message(b"1").properties
    assert 40 <= properties.pop(0x02) <= 60
    assert properties == {}


@NEW_VERSIONS
def test_a_window_of_a_slow_subscriber_does_not_lose_messages(broker: Broker, version: Version) -> None:
    """More than fit into a window at once, none acknowledged before all are published."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic(), 1)
    for number in range(100):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    assert [int(client.message().payload) for _ in range(100)] == list(range(100))


@VERSION_3
def test_qos_0_messages_need_not_wait(broker: Broker, version: Version) -> None:
    """They may, and then in their order, which is not that of others. Those at QoS 1 come in any case."""
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe_all([Subscription(broker.topic(), 1, False, False, 0)])
    client.disconnect()
    for number in range(4):
        publisher.publish(broker.topic(), b"%d" % number, number % 2)
    resume(client)
    received = client.messages_until(b"3")
    assert [packet.payload for packet in received if packet.qos == 1] == [b"1"]
    assert [packet.payload for packet in received if packet.qos == 0] in ([], [b"0"], [b"0", b"2"])
