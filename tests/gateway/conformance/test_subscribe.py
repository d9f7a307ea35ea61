"""SUBSCRIBE, UNSUBSCRIBE, filters, shared subscriptions (3.8 to 3.11, 4.7, 4.8)."""

import contextlib
import time

import pytest
from brokers import Broker, resume
from client import Limit, frame, text
from test_packets import empty
from versions import ALL_VERSIONS, NEW_VERSIONS, VERSION_3, VERSION_5

from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V31,
    V311,
    Ack,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Version,
)


def plain(topic_filter: str, qos: int = 1) -> Subscription:
    return Subscription(topic_filter, qos, False, False, 0)


def sent(broker: Broker, version: Version, topic_filter: str, options: int = 1) -> int | None:
    """The code of SUBACK for that filter, written as it is; None if the connection ended."""
    client = broker.connect("raw", version)
    client.send(frame(0x82, b"\0\7", empty(version), text(topic_filter), bytes((options,))))
    answer = client.wire.frame()
    while answer and answer[0] != 0x90:
        answer = client.wire.frame()
    return answer[1][-1] if answer else None


# SUBSCRIBE


@ALL_VERSIONS
def test_a_suback_has_a_code_for_each_filter_in_order(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    wanted = [plain(broker.topic(number), qos) for number, qos in ((1, 2), (2, 0), (3, 1), (4, 0))]
    assert client.subscribe_all(wanted).codes == [2, 0, 1, 0]
    client.publish(broker.topic(1), b"1", 2)
    client.message(b"1", 2)
    client.publish(broker.topic(2), b"2", 2)
    client.message(b"2", 0)
    client.publish(broker.topic(3), b"3", 2)
    client.message(b"3", 1)


@ALL_VERSIONS
def test_a_suback_tells_of_a_forbidden_filter_and_the_others_work(broker: Broker, version: Version) -> None:
    """mosquitto grants all of them; then nothing comes on the forbidden one."""
    client = broker.connect("a", version)
    wanted = [plain(broker.topic(1)), plain(broker.server.forbidden), plain(broker.topic(2))]
    first, forbidden, last = client.subscribe_all(wanted).codes
    assert (first, last) == (1, 1)
    assert forbidden in ((0, 1, 0x80, 0x87) if version == V5 else (0, 1, 0x80))
    client.publish(broker.topic(2), b"1")
    client.message(b"1")


@NEW_VERSIONS
def test_a_subscribe_or_unsubscribe_without_filters_ends_the_connection(
    broker: Broker, version: Version
) -> None:
    for first in (0x82, 0xA2):
        client = broker.connect("a", version)
        client.send(frame(first, b"\0\7", empty(version)))
        client.closed(0x81, 0x82)


@pytest.mark.parametrize("options", [3, 0x80, 0x41], ids=["qos_3", "bit_7", "bit_6"])
@NEW_VERSIONS
def test_wrong_subscription_options_end_the_connection(
    broker: Broker, version: Version, options: int
) -> None:
    client = broker.connect("a", version)
    client.send(frame(0x82, b"\0\7", empty(version), text(broker.topic()), bytes((options,))))
    client.closed(0x81, 0x82)


@pytest.mark.parametrize("options", [0x04, 0x08, 0x10, 0x20], ids=["bit_2", "bit_3", "bit_4", "bit_5"])
@VERSION_3
def test_the_options_of_mqtt_5_do_not_exist_in_3_1_1(broker: Broker, version: Version, options: int) -> None:
    client = broker.connect("a", version)
    client.send(frame(0x82, b"\0\7", text(broker.topic()), bytes((options,))))
    client.closed()


@VERSION_5
def test_retain_handling_3_ends_the_connection(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(frame(0x82, b"\0\7\0", text(broker.topic()), b"\x31"))
    client.closed(0x81, 0x82)


@ALL_VERSIONS
def test_a_subscription_to_the_same_filter_replaces_the_former(broker: Broker, version: Version) -> None:
    """Its QoS is the new one; retained messages come again; there is one delivery, and none is missing."""
    client, publisher = broker.connect("a", version), broker.connect("b")
    publisher.publish(broker.topic(), b"kept", 2, retain=True)
    client.subscribe(broker.topic(), 0)
    client.message(b"kept", 0)
    for number in range(20):
        publisher.publish(broker.topic(), b"%d" % number, 1)
        if number == 10:
            client.send(Subscribe(99, [plain(broker.topic(), 2)], {}))
    client.answer(SubAck)
    publisher.publish(broker.topic(), b"end", 2)
    received = client.messages_until(b"end")
    live = [packet.payload for packet in received if not packet.retain]
    assert live == [b"%d" % number for number in range(20)]
    assert [packet.payload for packet in received if packet.retain] == [b"kept"]
    publisher.publish(broker.topic(), b"2", 2)
    client.message(b"2", 2)


@ALL_VERSIONS
def test_many_filters_are_as_many_subscribes(broker: Broker, version: Version) -> None:
    """Those of the same filter, too: the last counts."""
    client = broker.connect("a", version)
    wanted = [plain(broker.topic(1), 2), plain(broker.topic(2), 1), plain(broker.topic(1), 0)]
    assert client.subscribe_all(wanted).codes == [2, 1, 0]
    client.publish(broker.topic(1), b"1", 2)
    client.message(b"1", 0)
    client.publish(broker.topic(2), b"2", 2)
    client.message(b"2", 1)


@ALL_VERSIONS
def test_overlapping_subscriptions(broker: Broker, version: Version) -> None:
    """One delivery, or one for each; the highest QoS of those that match, in MQTT 5 all their identifiers."""
    client, publisher = broker.connect("a", version), broker.connect("b")
    top = broker.data()
    filters = [(f"{top}/a/b", 1, 11), (f"{top}/#", 2, 12), (f"{top}/+/b", 0, 13), (f"{top}/x", 2, 14)]
    for topic_filter, qos, identifier in filters:
        client.subscribe(topic_filter, qos, identifier=identifier if version == V5 else None)
    publisher.publish(f"{top}/a/b", b"1", 2)
    publisher.publish(f"{top}/x", b"2", 2)
    received = client.messages_until(b"2")
    assert max(packet.qos for packet in received) == 2
    if version == V5:
        identifiers = [one for packet in received for one in packet.properties[0x0B]]
        assert sorted(identifiers) == [11, 12, 13]
        assert len(received) in (1, 3)


@VERSION_5
def test_overlapping_subscriptions_are_one_delivery(broker: Broker, version: Version) -> None:
    """With all their identifiers, and RETAIN as published if one of them asks for that. A client's own
    messages come for those without No Local. (A server may deliver once for each; ours does not.)"""
    client, publisher = broker.durable("a", version), broker.connect("b", version)
    first, second = broker.data("+"), broker.data("a")
    client.subscribe(first, 1, as_published=True, no_local=True, identifier=1)
    client.subscribe(second, 2, identifier=2)
    publisher.publish(second, b"1", 2, retain=True)
    delivery = client.message(b"1", 2)
    assert (delivery.retain, sorted(delivery.properties[0x0B])) == (True, [1, 2])
    client.publish(second, b"2", 2)
    own = client.message(b"2", 2)
    assert own.properties == {0x0B: [2]}
    client.disconnect()
    publisher.publish(second, b"3", 1)
    resume(client)
    away = client.message(b"3", 1)
    assert sorted(away.properties[0x0B]) == [1, 2]
    client.subscribe(second, 2, no_local=True, handling=2)
    client.publish(second, b"4", 2)
    publisher.publish(second, b"5", 2)
    client.message(b"5", 2)
    client.nothing()


@VERSION_5
def test_a_subscription_identifier_goes_with_its_subscription(broker: Broker, version: Version) -> None:
    """Live, retained and queued; replaced with it; one without stays without."""
    client, publisher = broker.durable("a", version), broker.connect("b", version)
    publisher.publish(broker.topic(1), b"kept", 1, retain=True)
    client.subscribe(broker.topic(1), identifier=268_435_455)
    client.subscribe(broker.topic(2))
    assert client.message(b"kept").properties == {0x0B: [268_435_455]}
    publisher.publish(broker.topic(1), b"1")
    assert client.message(b"1").properties == {0x0B: [268_435_455]}
    publisher.publish(broker.topic(2), b"2")
    assert client.message(b"2").properties == {}
    client.disconnect()
    publisher.publish(broker.topic(1), b"3")
    resume(client)
    assert client.message(b"3").properties == {0x0B: [268_435_455]}
    client.subscribe(broker.topic(1), identifier=1, handling=2)
    publisher.publish(broker.topic(1), b"4")
    assert client.message(b"4").properties == {0x0B: [1]}
    client.subscribe(broker.topic(1), handling=2)
    publisher.publish(broker.topic(1), b"5")
    assert client.message(b"5").properties == {}


@VERSION_5
def test_a_subscription_identifier_of_0_ends_the_connection(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(frame(0x82, b"\0\7", b"\2\x0b\0", text(broker.topic()), b"\1"))
    client.closed(0x81, 0x82)


@VERSION_5
def test_no_local(broker: Broker, version: Version) -> None:
    client, other = broker.connect("a", version), broker.connect("b", version)
    client.subscribe(broker.topic(), no_local=True)
    for qos in (0, 1, 2):
        client.publish(broker.topic(), b"own", qos)
    other.publish(broker.topic(), b"of another")
    client.message(b"of another")


@VERSION_5
def test_a_subscription_without_no_local_replaces_one_with_it(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.subscribe(broker.topic(), no_local=True)
    client.subscribe(broker.topic())
    client.publish(broker.topic(), b"own")
    client.message(b"own")
    client.subscribe(broker.topic(), no_local=True)
    client.publish(broker.topic(), b"own")
    client.nothing()


@VERSION_5
def test_no_local_keeps_what_was_published_in_an_earlier_connection(broker: Broker, version: Version) -> None:
    """It goes by the client id, so it counts for what is queued, too."""
    client = broker.durable("a", version)
    client.subscribe(broker.topic(), no_local=True)
    client.publish(broker.topic(), b"own")
    client.disconnect()
    broker.connect("b").publish(broker.topic(), b"of another")
    resume(client)
    client.message(b"of another")
    client.nothing()


@VERSION_5
def test_retain_as_published(broker: Broker, version: Version) -> None:
    plain_one, as_published = broker.connect("a", version), broker.connect("b", version)
    plain_one.subscribe(broker.topic())
    as_published.subscribe(broker.topic(), as_published=True)
    for retain in (True, False):
        plain_one.publish(broker.topic(), b"1", retain=retain)
        assert plain_one.message(b"1").retain is False
        assert as_published.message(b"1").retain is retain


@VERSION_5
def test_retain_handling(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.publish(broker.topic(), b"kept", retain=True)
    client.subscribe(broker.topic(), handling=2)
    client.nothing()
    client.subscribe(broker.topic(), handling=1)
    client.nothing()
    client.subscribe(broker.topic(), handling=0)
    assert client.message(b"kept").retain
    client.unsubscribe(broker.topic())
    client.subscribe(broker.topic(), handling=1)
    assert client.message(b"kept").retain
    client.nothing()


@VERSION_5
def test_retain_handling_knows_the_subscriptions_of_a_resumed_session(
    broker: Broker, version: Version
) -> None:
    client = broker.durable("a", version)
    client.publish(broker.topic(), b"kept", retain=True)
    client.subscribe(broker.topic(), handling=2)
    client.disconnect()
    resume(client)
    client.nothing()
    client.subscribe(broker.topic(), handling=1)
    client.nothing()


# Filters

MATCHES = [
    ("{}/a", "{}/a", True),
    ("{}/a", "{}/A", False),
    ("{}/a", "{}/a/b", False),
    ("{}/+", "{}/a", True),
    ("{}/+", "{}/a/b", False),
    ("{}/+", "{}", False),
    ("{}/+/b", "{}/a/b", True),
    ("{}/+/+", "{}/a/b", True),
    ("{}/a/+", "{}/a", False),
    ("{}/#", "{}", True),
    ("{}/#", "{}/a", True),
    ("{}/#", "{}/a/b/c", True),
    ("{}/a/#", "{}/a", True),
    ("{}/a/#", "{}/ab", False),
    ("{}/+/#", "{}/a", True),
    ("{}/+/#", "{}", False),
    ("{}/a b", "{}/a b", True),
    ("{}/\u00e9", "{}/e\u0301", False),
    ("{}/caf\u00e9", "{}/caf\u00e9", True),
    ("{}/\U0001f600", "{}/\U0001f600", True),
    ("{}/$a", "{}/$a", True),
    ("{}/+", "{}/$a", True),
]


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"), MATCHES, ids=[f"f{n}" for n in range(len(MATCHES))]
)
@NEW_VERSIONS
def test_a_delivery_matches_the_filter(
    broker: Broker, version: Version, topic_filter: str, topic: str, matches: bool
) -> None:
    """Character by character: no letter case, no normal form of Unicode."""
    client = broker.connect("a", version)
    topic, marker = topic.format(broker.data()), f"{broker.data()}.marker"
    client.subscribe_all([plain(topic_filter.format(broker.data())), plain(marker)])
    client.publish(topic, b"1")
    client.publish(marker, b'"marker"')
    found = [packet.topic for packet in client.messages_until(b'"marker"')]
    assert found == [topic] * matches


@ALL_VERSIONS
def test_filters_with_one_wildcard_in_the_device_level(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    start, _, end = broker.topic().rpartition("/")
    client.subscribe(f"{start}/+", 1)
    client.publish(broker.errors(2), b"not")
    client.publish(broker.errors(), b"1")
    assert client.message(b"1").topic == broker.errors()
    client.publish(f"{start}/{end}", b"2")
    assert client.message(b"2").topic == broker.topic()


@ALL_VERSIONS
def test_wildcards_do_not_match_topics_that_start_with_a_dollar(broker: Broker, version: Version) -> None:
    """Neither do they where a server refuses such filters."""
    client, other = broker.connect("a", version), broker.connect("b")
    client.subscribe_all([plain("#"), plain("+/conformance"), plain("+/+/+"), plain(broker.topic())])
    other.send(Publish("$mine/conformance", b"1", 1, False, False, 5, {}))
    other.answer(Ack, 5)
    other.publish(broker.topic(), b"marker")
    while (packet := client.message()).payload != b"marker":
        assert not packet.topic.startswith("$")


INVALID = ["a#", "#/a", "a/#/b", "a+", "+a/b", "a/b+", ""]


@pytest.mark.parametrize("topic_filter", INVALID, ids=[f"f{n}" for n in range(len(INVALID))])
@NEW_VERSIONS
def test_an_invalid_filter_is_refused(broker: Broker, version: Version, topic_filter: str) -> None:
    """With a failure in SUBACK, or the connection's end."""
    whole = f"{broker.data()}/{topic_filter}" if topic_filter else ""
    code = sent(broker, version, whole)
    assert code is None or code >= 0x80


@pytest.mark.parametrize("size", [65_535, 40_000])
@NEW_VERSIONS
def test_a_filter_as_long_as_a_string_may_be(broker: Broker, version: Version, size: int) -> None:
    """It is granted or refused; nobody is hurt."""
    broker.connect("other")
    code = sent(broker, version, f"{broker.data()}/".ljust(size, "x"))
    assert code in (None, 1, 0x80, 0x87, 0x8F, 0x97)
    broker.connect("next").nothing()


# UNSUBSCRIBE


@ALL_VERSIONS
def test_unsubscribe_ends_a_subscription_of_exactly_that_filter(broker: Broker, version: Version) -> None:
    client, publisher = broker.connect("a", version), broker.connect("b")
    top = broker.data()
    client.subscribe(f"{top}/+", 1)
    client.subscribe(broker.topic(), 1)
    codes = client.unsubscribe(f"{top}/a", f"{top}/#", f"{top}/+/")
    assert codes == ([0x11] * 3 if version == V5 else [])
    publisher.publish(f"{top}/a", b"1")
    client.message(b"1")
    assert client.unsubscribe(f"{top}/+") == ([0] if version == V5 else [])
    publisher.publish(f"{top}/a", b"2")
    publisher.publish(broker.topic(), b"3")
    client.message(b"3")


@ALL_VERSIONS
def test_an_unsuback_has_a_code_for_each_filter_in_order(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.subscribe_all([plain(broker.topic(1)), plain(broker.topic(3))])
    codes = client.unsubscribe(broker.topic(1), broker.topic(2), broker.topic(3), broker.topic(1))
    assert codes == ([0, 0x11, 0, 0x11] if version == V5 else [])
    assert client.unsubscribe(broker.topic(4)) == ([0x11] if version == V5 else [])
    client.publish(broker.topic(1), b"1")
    client.publish(broker.topic(3), b"3")
    client.nothing()


@ALL_VERSIONS
def test_unsubscribe_lets_open_deliveries_end(broker: Broker, version: Version) -> None:
    client, publisher = broker.connect("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    publisher.publish(broker.topic(), b"1", 1)
    publisher.publish(broker.topic(), b"2", 2)
    one, two = client.expect(Publish), client.expect(Publish)
    client.unsubscribe(broker.topic())
    client.send(Ack(PUBACK, one.packet_id, 0, {}), Ack(PUBREC, two.packet_id, 0, {}))
    client.ack(PUBREL, two.packet_id)
    client.send(Ack(PUBCOMP, two.packet_id, 0, {}))
    publisher.publish(broker.topic(), b"3", 1)
    client.nothing()


@NEW_VERSIONS
def test_unsubscribe_in_a_durable_session_lasts(broker: Broker, version: Version) -> None:
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe_all([plain(broker.topic(1)), plain(broker.topic(2))])
    client.unsubscribe(broker.topic(1))
    client.disconnect()
    publisher.publish(broker.topic(1), b"1")
    publisher.publish(broker.topic(2), b"2")
    resume(client)
    client.message(b"2")
    client.nothing()


# Shared subscriptions

SHARING = pytest.mark.parametrize("version", [V31, V311, V5], ids=["3.1", "3.1.1", "5"])


@SHARING
def test_a_shared_subscription_divides_the_messages(broker: Broker, version: Version) -> None:
    """Each goes to one of the group, at the QoS of its own subscription; another group gets all."""
    one, two = broker.connect("a", version), broker.connect("b", version)
    other, publisher = broker.connect("c", version), broker.connect("p")
    assert one.subscribe(f"$share/group/{broker.data('+')}", 1) == 1
    assert two.subscribe(f"$share/group/{broker.data('+')}", 0) == 0
    assert other.subscribe(f"$share/other/{broker.data('+')}", 2) == 2
    for number in range(20):
        publisher.publish(broker.data("a"), b"%d" % number, 2)
    assert [int(other.message().payload) for _ in range(20)] == list(range(20))
    received: dict[int, list[int]] = {1: [], 0: []}  # by the QoS of each client's subscription
    deadline = time.monotonic() + Limit.seconds
    while len(received[1] + received[0]) < 20:
        assert time.monotonic() < deadline, received
        for client, qos in ((one, 1), (two, 0)):
            with contextlib.suppress(TimeoutError):
                packet = client.receive(0.02)
                assert isinstance(packet, Publish)
                assert packet.qos == qos
                client.accept(packet)
                received[qos].append(int(packet.payload))
    assert sorted(received[1] + received[0]) == list(range(20))
    assert received[1]
    assert received[0]
    for client in (one, two, other):
        client.nothing()


@SHARING
def test_a_shared_subscription_is_ended_by_its_whole_filter(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    shared = f"$share/group/{broker.topic()}"
    client.subscribe(shared, 1)
    client.unsubscribe(broker.topic(), f"$share/others/{broker.topic()}")
    client.publish(broker.topic(), b"1")
    client.message(b"1")
    codes = client.unsubscribe(shared)
    assert codes == ([0] if version == V5 else [])
    client.publish(broker.topic(), b"2")
    client.nothing()


@VERSION_5
def test_a_shared_subscription_gets_no_retained_messages(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.publish(broker.topic(), b"kept", retain=True)
    client.subscribe(f"$share/group/{broker.topic()}", 1)
    client.nothing()


@VERSION_5
def test_no_local_on_a_shared_subscription_ends_the_connection(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(frame(0x82, b"\0\7\0", text(f"$share/group/{broker.topic()}"), b"\5"))
    client.closed(0x81, 0x82)


@pytest.mark.parametrize(
    "start",
    ["$share/", "$share//", "$share/a+/", "$share/#/", "$share/+/"],
    ids=["s0", "s1", "s2", "s3", "s4"],
)
@VERSION_5
def test_an_invalid_share_is_refused(broker: Broker, version: Version, start: str) -> None:
    code = sent(broker, version, start + (broker.topic() if start != "$share/" else ""))
    assert code is None or code >= 0x80


@VERSION_5
def test_a_shared_delivery_at_qos_2_stays_with_its_client(broker: Broker, version: Version) -> None:
    """Its wire breaks: it gets the message when it comes back, and nobody else does."""
    one, publisher = broker.durable("a", version), broker.connect("p")
    shared = f"$share/group/{broker.topic()}"
    one.subscribe(shared)
    publisher.publish(broker.topic(), b"1", 2)
    delivery = one.expect(Publish)
    two = broker.connect("b", version)
    two.subscribe(shared)
    two.subscribe(broker.topic(2))
    one.vanish()
    publisher.publish(broker.topic(2), b"end")
    resume(one)
    assert one.expect(Publish) == delivery._replace(dup=True)
    two.message(b"end")


@VERSION_5
def test_a_shared_delivery_at_qos_2_goes_to_nobody_else_when_its_session_ends(
    broker: Broker, version: Version
) -> None:
    one, two = broker.connect("a", version), broker.connect("b", version)
    publisher = broker.connect("p")
    shared = f"$share/group/{broker.topic()}"
    one.subscribe(shared)
    publisher.publish(broker.topic(), b"1", 2)
    one.expect(Publish)
    two.subscribe(shared)
    one.disconnect()
    publisher.publish(broker.topic(), b"2", 2)
    two.message(b"2")


@VERSION_5
def test_a_shared_delivery_that_is_refused_goes_to_nobody_else(broker: Broker, version: Version) -> None:
    one, two = broker.connect("a", version), broker.connect("b", version)
    publisher = broker.connect("p")
    shared = f"$share/group/{broker.topic()}"
    for client in (one, two):
        client.subscribe(shared)
        client.subscribe(broker.topic(2), 0)
    publisher.publish(broker.topic(), b"1", 1)
    publisher.publish(broker.topic(2), b"end")
    refused = 0
    for client in (one, two):
        while (packet := client.expect(Publish)).payload != b"end":
            client.send(Ack(PUBACK, packet.packet_id, 0x80, {}))
            refused += 1
        client.nothing()
    assert refused == 1


@VERSION_5
def test_a_shared_message_goes_to_the_next_while_one_is_away(broker: Broker, version: Version) -> None:
    one, two = broker.connect("a", version), broker.connect("b", version)
    shared = f"$share/group/{broker.topic()}"
    one.subscribe(shared)
    two.subscribe(shared)
    one.disconnect()
    publisher = broker.connect("p")
    for number in range(6):
        publisher.publish(broker.topic(), b"%d" % number)
    assert [two.message().payload for _ in range(6)] == [b"%d" % number for number in range(6)]
