"""What one connected client is sent, message by message. Whole sequences: test_deliveries_models.py."""

from typing import Any

import pytest
from delivering import NOW, delivery, message, packets, puback, pubcomp, publishes, pubrec, pubrel

from ingest.gateway import deliveries, outgoing_message
from ingest.gateway.deliveries import (
    ClientLimits,
    Deliveries,
    DeliveryTotals,
    DurableDeliveries,
    Effects,
    Read,
)
from ingest.gateway.outgoing_message import Delivery, OutgoingMessage
from ingest.mqtt.packets import V5, V31, V311, Ack, Packet, ProtocolError, Publish, ReasonCode, Version
from ingest.mqtt.properties import Property

PREFIX = "TOKEN/"


def clean(version: Version = V311, totals: DeliveryTotals | None = None, **limits: int) -> Deliveries:
    return Deliveries(version, PREFIX, totals or DeliveryTotals(), ClientLimits(**limits))


class Durable(DurableDeliveries):
    """Messages that a test leaves out are done."""

    def deliver(self, delivery: Delivery, now: float) -> Effects:
        if delivery.qos and not self.behind:
            self._known = self._taken = max(self._taken, delivery.seq - 1)
        return super().deliver(delivery, now)


def durable(
    version: Version = V311, totals: DeliveryTotals | None = None, **limits: int
) -> DurableDeliveries:
    return Durable(version, PREFIX, totals or DeliveryTotals(), ClientLimits(**limits))


def ids(outcome: Effects, version: Version = V311) -> list[int]:
    return [packet.packet_id for packet in publishes(outcome.write, version)]


def payloads(outcome: Effects) -> list[bytes]:
    return [packet.payload for packet in publishes(outcome.write)]


@pytest.mark.parametrize("version", [V31, V311, V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("size", [0, 1, 120, 127, 20_000])
def test_a_message_is_written_as_mqtt_says(version: Version, qos: int, retain: bool, size: int) -> None:
    client = clean(version)
    one = Delivery(message(b"x" * size, "a/ü"), qos, retain)
    assert publishes(client.deliver(one, NOW).write, version) == [
        Publish("TOKEN/a/ü", b"x" * size, qos, retain, False, 1 if qos else 0, {})
    ]


def test_properties_come_unaltered_but_for_those_of_the_connection() -> None:
    """An expiry interval counts down, identifiers are the receiver's, an alias is of the publisher only."""
    properties: dict[int, Any] = {
        Property.PAYLOAD_FORMAT_INDICATOR: 1,
        Property.MESSAGE_EXPIRY_INTERVAL: 60,
        Property.CONTENT_TYPE: "text/plain",
        Property.RESPONSE_TOPIC: "other/answers",
        Property.CORRELATION_DATA: b"\0\1",
        Property.USER_PROPERTY: [("k", "1"), ("k", "2"), ("a", "")],
        Property.TOPIC_ALIAS: 9,
    }
    shared = OutgoingMessage("a", b"x", properties, NOW + 60)
    (packet,) = publishes(clean(V5).deliver(Delivery(shared, 1, False, (7, 300)), NOW + 10.4).write, V5)
    del properties[Property.TOPIC_ALIAS]
    properties[Property.MESSAGE_EXPIRY_INTERVAL] = 50
    properties[Property.SUBSCRIPTION_IDENTIFIER] = [7, 300]
    assert packet.properties == properties
    assert publishes(clean(V311).deliver(Delivery(shared, 1, False, (7,)), NOW).write)[0].properties == {}


@pytest.mark.parametrize("relative", [True, False])
def test_a_relative_response_topic_gets_the_prefix_of_who_reads_it(relative: bool) -> None:
    shared = OutgoingMessage("a", b"", {Property.RESPONSE_TOPIC: "d1/answers"}, relative_response=relative)
    client = clean(V5)
    for prefix in ("TOKEN/", "NEW/"):
        client.prefix = prefix
        (packet,) = publishes(client.deliver(Delivery(shared, 0), NOW).write, V5)
        assert packet.topic == f"{prefix}a"
        assert packet.properties[Property.RESPONSE_TOPIC] == f"{prefix if relative else ''}d1/answers"


@pytest.mark.parametrize("version", [V311, V5])
def test_receivers_share_the_bytes_at_qos_0(version: Version) -> None:
    one = delivery(b"x" * 100)
    first, second = (clean(version).deliver(one, NOW).write for _ in range(2))
    assert first is second


def test_encodings_of_one_message_are_bounded() -> None:
    shared = message()
    client = clean(V5)
    for number in range(1, 100):
        (packet,) = publishes(client.deliver(Delivery(shared, 0, False, (number,)), NOW).write, V5)
        assert packet.properties == {Property.SUBSCRIPTION_IDENTIFIER: [number]}
        assert shared._encodings
        assert len(shared._encodings) <= outgoing_message.MAX_ENCODINGS


@pytest.mark.parametrize(
    ("after", "left"), [(0.0, 10), (0.2, 10), (0.7, 9), (9.2, 1), (9.9, 1), (10.0, None), (99.0, None)]
)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_expiry_interval_counts_down_and_what_has_expired_is_dropped(
    qos: int, after: float, left: int | None
) -> None:
    totals = DeliveryTotals()
    one = Delivery(OutgoingMessage("a", b"x", {}, NOW + 10), qos)
    write = clean(V5, totals).deliver(one, NOW + after).write
    intervals = [packet.properties[Property.MESSAGE_EXPIRY_INTERVAL] for packet in publishes(write, V5)]
    assert intervals == ([] if left is None else [left])
    assert totals.expired == (left is None)


def test_what_expires_while_it_waits_is_dropped_and_needs_no_packet_id() -> None:
    totals = DeliveryTotals()
    client = clean(totals=totals, receive_maximum=1)
    client.deliver(delivery(qos=1), NOW)
    for expires_at in (NOW + 5, NOW + 50):
        client.deliver(Delivery(OutgoingMessage("a", b"", {}, expires_at), 1), NOW)
    assert ids(client.acknowledge(puback(1), NOW + 5)) == [2]
    assert (totals.expired, totals.waiting_bytes, client.waiting) == (1, 0, 0)


# The window and the queue


@pytest.mark.parametrize(("receive_maximum", "window"), [(1, 1), (10, 10), (999, 999), (65_535, 10_000)])
def test_no_more_is_in_flight_than_the_client_and_we_allow(receive_maximum: int, window: int) -> None:
    client = clean(receive_maximum=receive_maximum)
    sent = [client.deliver(delivery(qos=1 + number % 2), NOW) for number in range(window + 3)]
    assert [len(ids(outcome)) for outcome in sent] == [1] * window + [0] * 3
    assert (client.in_flight, client.waiting) == (window, 3)
    assert payloads(client.deliver(delivery(b"0", qos=0), NOW)) == [b"0"]  # QoS 0 has no window


@pytest.mark.parametrize(("size", "room"), [(1, 10_000), (200_000, 20)])
def test_a_clean_session_drops_what_its_queue_has_no_room_for(size: int, room: int) -> None:
    totals = DeliveryTotals()
    client = clean(totals=totals, receive_maximum=1)
    for number in range(room + 4):
        client.deliver(delivery(bytes([number % 250]) * size, qos=1), NOW)
    assert (client.waiting, totals.dropped) == (room, 3)
    assert totals.waiting_bytes <= deliveries.MAX_WAITING_BYTES
    received = []
    for number in range(room + 1):
        outcome = client.acknowledge(puback(number + 1), NOW)
        received += [payload[:1] for payload in payloads(outcome)]
    assert received == [bytes([number % 250]) for number in range(1, room + 1)]  # the newest were dropped
    assert (client.in_flight, client.waiting, totals.waiting_bytes) == (0, 0, 0)


def test_the_queues_of_an_account_have_a_limit_together() -> None:
    totals = DeliveryTotals(max_waiting_bytes=1_000)
    clients = [clean(totals=totals, receive_maximum=1) for _ in range(4)]
    for client in clients:
        for _ in range(2):
            client.deliver(delivery(b"x" * 300, qos=1), NOW)
    assert [client.waiting for client in clients] == [1, 1, 1, 0]
    assert totals.dropped == 1
    clients[0].close()
    clients[3].deliver(delivery(b"x" * 300, qos=1), NOW)
    assert clients[3].waiting == 1
    for client in clients:
        client.close()
    assert totals.waiting_bytes == 0


def test_a_congested_connection_gets_answers_only() -> None:
    totals = DeliveryTotals()
    client = clean(totals=totals)
    client.deliver(delivery(qos=2), NOW)
    client.congested = True
    assert client.deliver(delivery(b"0"), NOW) == Effects()
    assert client.deliver(delivery(b"1", qos=1), NOW) == Effects()
    assert packets(client.acknowledge(pubrec(1), NOW).write) == [pubrel(1)]
    assert (totals.dropped, client.waiting, client.ready) == (1, 1, False)
    client.congested = False
    assert (client.waiting, client.ready) == (1, True)
    assert payloads(client.advance(NOW)) == [b"1"]
    assert (client.waiting, client.ready) == (0, False)


def test_a_long_queue_is_written_in_parts() -> None:
    client = clean()
    client.congested = True
    for _ in range(10):
        client.deliver(delivery(b"x" * 30_000, qos=1), NOW)
    client.congested = False
    parts = []
    while client.ready:
        parts.append(len(ids(client.advance(NOW))))
    assert parts == [3, 3, 3, 1]


def test_an_idle_client_holds_neither_dict_nor_queue() -> None:
    client = clean(receive_maximum=1)
    for _ in range(2):
        client.deliver(delivery(qos=1), NOW)
    client.acknowledge(puback(1), NOW)
    client.acknowledge(puback(2), NOW)
    assert (client._open, client._waiting) == (None, None)


def test_packet_ids_go_round_and_pass_over_those_in_flight() -> None:
    client = clean()
    assert ids(client.deliver(delivery(qos=2), NOW)) == [1]
    for expected in range(2, 65_536):
        assert ids(client.deliver(delivery(qos=1), NOW)) == [expected]
        client.acknowledge(puback(expected), NOW)
    assert ids(client.deliver(delivery(qos=1), NOW)) == [2]


# Acknowledgements


def test_qos_2_of_a_clean_session() -> None:
    client = clean()
    client.deliver(delivery(qos=2), NOW)
    assert packets(client.acknowledge(pubrec(1), NOW).write) == [pubrel(1)]
    assert packets(client.acknowledge(pubrec(1), NOW).write) == [pubrel(1)]  # sent again
    assert client.in_flight == 1
    assert client.acknowledge(pubcomp(1), NOW) == Effects()
    assert client.in_flight == 0


@pytest.mark.parametrize(("qos", "ack"), [(1, puback(1, 0x97)), (1, puback(1, 0x10)), (2, pubrec(1, 0x80))])
def test_a_reason_code_ends_a_message_too(qos: int, ack: Ack) -> None:
    """Section 4.3.3: a PUBREC that reports an error gets no PUBREL, and its packet id is free."""
    client = clean(V5, receive_maximum=1)
    client.deliver(delivery(qos=qos), NOW)
    client.deliver(delivery(b"next", qos=1), NOW)
    assert ids(client.acknowledge(ack, NOW), V5) == [2]


def test_a_pubrec_with_an_error_ends_it_after_pubrel_too() -> None:
    client = clean(V5)
    client.deliver(delivery(qos=2), NOW)
    client.acknowledge(pubrec(1), NOW)
    assert client.acknowledge(pubrec(1, 0x83), NOW) == Effects()
    assert client.in_flight == 0


@pytest.mark.parametrize(
    ("version", "ack", "answer"),
    [
        (V311, puback(7), []),
        (V311, pubcomp(7), []),
        (V311, pubrec(7), [pubrel(7)]),
        (V31, pubrec(7), [pubrel(7)]),
        (V5, pubrec(7), [pubrel(7, 0x92)]),
        (V5, pubrec(7, 0x80), []),
        (V5, pubcomp(7, 0x92), []),
    ],
)
@pytest.mark.parametrize("make", [clean, durable])
def test_an_acknowledgement_of_nothing_in_flight(
    version: Version, ack: Ack, answer: list[Packet], make: Any
) -> None:
    totals = DeliveryTotals()
    client = make(version, totals)
    outcome = client.acknowledge(ack, NOW)
    assert (packets(outcome.write, version), outcome.done, outcome.received) == (answer, (), 0)
    assert totals.unexpected == 1
    client.deliver(delivery(qos=1, seq=5), NOW)
    assert client.acknowledge(ack, NOW).done == ()
    assert client.in_flight == 1


@pytest.mark.parametrize("make", [clean, durable])
@pytest.mark.parametrize(
    ("qos", "before", "wrong"),
    [
        (1, None, pubrec),
        (1, None, pubcomp),
        (2, None, puback),
        (2, None, pubcomp),
        (2, pubrec, puback),
    ],
)
def test_an_acknowledgement_out_of_order_is_a_protocol_error(
    make: Any, qos: int, before: Any, wrong: Any
) -> None:
    client = make(V5)
    client.deliver(delivery(qos=qos, seq=1), NOW)
    (packet_id,) = client._open
    if before:
        client.acknowledge(before(packet_id), NOW)
    with pytest.raises(ProtocolError, match=f"of packet {packet_id}") as caught:
        client.acknowledge(wrong(packet_id), NOW)
    assert caught.value.reason == ReasonCode.PROTOCOL_ERROR
    assert client.in_flight == 1


# What a client can't take


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_larger_than_the_client_takes_counts_as_completed(qos: int) -> None:
    """[MQTT-3.1.2-25]; to the byte, the packet id included."""
    limit = len(clean(V5).deliver(delivery(b"x" * 50, qos=qos), NOW).write)
    totals = DeliveryTotals()
    client = clean(V5, totals, maximum_packet_size=limit)
    assert len(publishes(client.deliver(delivery(b"x" * 50, qos=qos), NOW).write, V5)) == 1
    in_flight = client.in_flight
    assert client.deliver(delivery(b"x" * 51, qos=qos), NOW) == Effects()
    assert (totals.too_large, client.in_flight) == (1, in_flight)
    kept = durable(V5, totals, maximum_packet_size=limit)
    assert kept.deliver(delivery(b"x" * 51, qos=1, seq=3), NOW) == Effects(done=(3,))


@pytest.mark.parametrize("properties", [{}, {Property.RESPONSE_TOPIC: "r" * 65_535}])
def test_a_stored_message_that_no_packet_has_room_for_does_not_come_back(properties: Any) -> None:
    """With another client's prefix a topic can be too long. It must not break connection after connection."""
    topic = "a" if properties else "t" * 65_530
    one = Delivery(OutgoingMessage(topic, b"", properties, relative_response=True), 1, seq=8)
    totals = DeliveryTotals()
    client = durable(V5, totals)
    assert client.deliver(one, NOW) == Effects(done=(8,))
    assert totals.too_large == 1
    assert ids(client.deliver(delivery(qos=1, seq=9), NOW), V5) == [10]


def test_topic_aliases_for_who_asks_for_them() -> None:
    client = clean(V5, topic_alias_maximum=2)
    sent = []
    for topic, qos in [("a", 0), ("b", 1), ("a", 1), ("c", 0), ("b", 0), ("c", 2)]:
        (packet,) = publishes(client.deliver(Delivery(message(topic=topic), qos), NOW).write, V5)
        sent.append((packet.topic, packet.properties.get(Property.TOPIC_ALIAS)))
    assert sent == [("TOKEN/a", 1), ("TOKEN/b", 2), ("", 1), ("TOKEN/c", None), ("", 2), ("TOKEN/c", None)]
    client.prefix = "NEW/"  # an alias stands for the whole topic
    (packet,) = publishes(client.deliver(Delivery(message(topic="a"), 0), NOW).write, V5)
    assert packet.topic == "NEW/a"


def test_an_alias_that_was_too_large_to_send_is_not_used() -> None:
    limit = len(clean(V5).deliver(delivery(), NOW).write)
    client = clean(V5, topic_alias_maximum=5, maximum_packet_size=limit)
    for _ in range(2):
        (packet,) = publishes(client.deliver(delivery(), NOW).write, V5)
        assert (packet.topic, packet.properties) == ("TOKEN/json/d1", {})


def test_aliases_are_bounded_by_us_too() -> None:
    client = clean(V5, topic_alias_maximum=65_535)
    for number in range(100):
        client.deliver(Delivery(message(topic=f"t{number}"), 0), NOW)
    assert client._aliases
    assert len(client._aliases) == deliveries.MAX_TOPIC_ALIASES


# Durable sessions


@pytest.mark.parametrize(("seq", "packet_id"), [(1, 2), (65_534, 65_535), (65_535, 1), (200_000, 3_396)])
def test_the_packet_id_follows_from_the_seq(seq: int, packet_id: int) -> None:
    client = durable()
    assert ids(client.deliver(delivery(qos=1, seq=seq), NOW)) == [packet_id]
    assert client.acknowledge(puback(packet_id), NOW) == Effects(done=(seq,))


def test_a_pubrec_is_stored_before_pubrel_is_sent() -> None:
    client = durable()
    client.deliver(delivery(qos=2, seq=70_000), NOW)
    packet_id = 70_000 % 65_535 + 1
    assert client.acknowledge(pubrec(packet_id), NOW) == Effects(received=70_000)
    assert client.acknowledge(pubrec(packet_id), NOW) == Effects()
    with pytest.raises(ProtocolError, match="waits for storage"):
        client.acknowledge(pubcomp(packet_id), NOW)
    assert client.receipt_stored(70_000 - 65_535) == Effects()  # another that had the same packet id
    assert packets(client.receipt_stored(70_000).write) == [pubrel(packet_id)]
    assert client.receipt_stored(70_000) == Effects()
    assert client.acknowledge(pubcomp(packet_id), NOW) == Effects(done=(70_000,))
    assert client.receipt_stored(70_000) == Effects()


def test_a_client_that_gives_a_message_up_while_its_pubrec_is_stored() -> None:
    client = durable(V5)
    client.deliver(delivery(qos=2, seq=1), NOW)
    assert client.acknowledge(pubrec(2), NOW).received == 1
    assert client.acknowledge(pubrec(2, 0x80), NOW) == Effects(done=(1,))
    assert client.receipt_stored(1) == Effects()


def test_a_durable_session_leaves_to_the_database_what_its_queue_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "MAX_WAITING", 2)
    monkeypatch.setattr(deliveries, "READ_MESSAGES", 4)
    totals = DeliveryTotals()
    client = durable(totals=totals, receive_maximum=1)
    for seq in (1, 2, 3, 4, 5):
        client.deliver(delivery(b"%d" % seq, qos=1, seq=seq), NOW)
    assert client.behind
    assert (client.waiting, totals.dropped) == (2, 0)
    assert payloads(client.acknowledge(puback(2), NOW)) == [b"2"]
    assert client.begin_read() == Read(4, 3, deliveries.READ_BYTES)
    assert client.begin_read() is None  # one at a time
    client.deliver(delivery(b"6", qos=1, seq=6), NOW)  # is not in what is being read
    assert client.end_read([delivery(b"4", qos=1, seq=4)], False, NOW) == Effects()
    assert client.waiting == 2
    assert client.begin_read() == Read(6, 2, deliveries.READ_BYTES)  # 5 was gone
    client.fail_read()
    assert client.begin_read() == Read(6, 2, deliveries.READ_BYTES)
    client.end_read([delivery(b"6", qos=1, seq=6)], False, NOW)
    assert client.behind  # there was no room for it
    assert client.begin_read() is None
    assert payloads(client.acknowledge(puback(3), NOW)) == [b"3"]
    assert client.begin_read() == Read(6, 3, deliveries.READ_BYTES)
    client.end_read([delivery(b"6", qos=1, seq=6)], False, NOW)
    assert (client.behind, client.waiting) == (False, 2)
    assert payloads(client.acknowledge(puback(4), NOW)) == [b"4"]
    client.deliver(delivery(b"7", qos=1, seq=7), NOW)
    assert payloads(client.acknowledge(puback(5), NOW)) == [b"6"]
    assert payloads(client.acknowledge(puback(7), NOW)) == [b"7"]


def test_a_session_resumes_where_the_database_says() -> None:
    client = durable(receive_maximum=3)
    released = client.resume(first=3, last=7, sent_through=5, released=[4])
    assert packets(released.write) == [pubrel(5)]
    assert client.begin_read() == Read(3, 100, deliveries.READ_BYTES)
    rows = [delivery(b"%d" % seq, qos=2 if seq == 4 else 1, seq=seq) for seq in (3, 4, 5, 6, 7)]
    again = publishes(client.end_read(rows, False, NOW).write)
    assert [(one.payload, one.packet_id, one.dup) for one in again] == [(b"3", 4, True), (b"5", 6, True)]
    fresh = publishes(client.acknowledge(pubcomp(5), NOW).write)
    assert [(one.payload, one.packet_id, one.dup) for one in fresh] == [(b"6", 7, False)]
    assert client.sent_through == 6


def test_a_message_whose_pubcomp_came_while_it_was_read_is_not_sent_again() -> None:
    client = durable()
    client.resume(first=4, last=4, sent_through=4, released=[4])
    assert client.begin_read()
    assert client.acknowledge(pubcomp(5), NOW) == Effects(done=(4,))
    assert client.end_read([delivery(qos=2, seq=4)], False, NOW) == Effects()


@pytest.mark.parametrize("read", [True, False])
def test_a_message_that_was_committed_before_the_resume_and_routed_after_it_comes_once(read: bool) -> None:
    client = durable()
    client.resume(first=1, last=2, sent_through=0)
    rows = [delivery(qos=2, seq=seq) for seq in (1, 2)]
    assert client.begin_read()
    if read:
        assert ids(client.end_read(rows, False, NOW)) == [2, 3]
    assert client.deliver(rows[0], NOW) == Effects()
    assert client.behind == (not read)
    if not read:
        assert ids(client.end_read(rows, False, NOW)) == [2, 3]
    assert client.deliver(rows[1], NOW) == Effects()
    assert not client.behind


def test_a_message_that_was_committed_while_others_were_read_comes_once() -> None:
    """The read may bring it before it is routed."""
    client = durable()
    client.resume(first=1, last=1, sent_through=0)
    client.begin_read()
    rows = [delivery(qos=2, seq=seq) for seq in (1, 2)]
    assert ids(client.end_read(rows, False, NOW)) == [2, 3]
    assert client.deliver(rows[1], NOW) == Effects()
    assert ids(client.deliver(delivery(qos=1, seq=3), NOW)) == [4]


def test_a_read_may_bring_what_is_done_or_was_taken_already() -> None:
    """Where the database keeps several messages in a row of a table, it reads all of them or none."""
    client = durable(receive_maximum=2)
    client.resume(first=3, last=9, sent_through=9, released=[4], done=[5, 6])
    rows = [delivery(qos=2, seq=seq) for seq in range(1, 10)]
    client.begin_read()
    assert ids(client.end_read(rows[:6], True, NOW)) == [4]
    client.begin_read()
    assert client.end_read(rows[2:], False, NOW) == Effects()  # 7, 8 and 9 wait
    assert (client.waiting, client.behind) == (3, False)
    assert ids(client.acknowledge(pubcomp(5), NOW)) == [8]


def test_a_read_of_nothing_but_what_is_done_goes_on_behind_it() -> None:
    client = durable()
    client.resume(first=1, last=5, sent_through=5, done=[2, 3])
    client.begin_read()
    assert client.end_read([delivery(qos=1, seq=seq) for seq in (2, 3)], True, NOW) == Effects()
    assert client.begin_read() == Read(4, 100, deliveries.READ_BYTES)


@pytest.mark.parametrize("ready", [True, False])
def test_a_pubrec_before_the_repetition_gets_no_pubrel(ready: bool) -> None:
    """It would make the client forget the packet id, and take the repetition for a new message. Whether the
    repetition is still to be read, or waits for a window."""
    client = durable(V5, receive_maximum=1)
    client.resume(first=1, last=2, sent_through=2)
    if ready:
        client.begin_read()
        client.end_read([delivery(qos=1, seq=1), delivery(qos=2, seq=2)], False, NOW)
    assert client.acknowledge(pubrec(3), NOW) == Effects()
    if ready:
        assert ids(client.acknowledge(puback(2), NOW), V5) == [3]
        assert client.acknowledge(pubrec(3), NOW) == Effects(received=2)


@pytest.mark.parametrize(("sent_through", "sent"), [(1, [0]), (0, [])])
def test_what_may_have_been_sent_is_sent_again_even_if_it_has_expired(
    sent_through: int, sent: list[int]
) -> None:
    client = durable(V5)
    client.resume(first=1, last=1, sent_through=sent_through)
    client.begin_read()
    outcome = client.end_read([Delivery(OutgoingMessage("a", b"", {}, NOW - 1), 2, seq=1)], False, NOW)
    intervals = [one.properties[Property.MESSAGE_EXPIRY_INTERVAL] for one in publishes(outcome.write, V5)]
    assert intervals == sent
    assert outcome.done == (() if sent else (1,))


def test_nothing_goes_out_that_is_too_far_from_the_oldest_in_flight() -> None:
    client = durable()
    client.deliver(delivery(qos=1, seq=10), NOW)
    client.deliver(delivery(qos=1, seq=11), NOW)
    assert ids(client.deliver(delivery(qos=1, seq=10 + 65_534), NOW)) == [10]
    assert client.deliver(delivery(qos=1, seq=10 + 65_535), NOW) == Effects()
    assert client.deliver(delivery(qos=1, seq=90_000), NOW) == Effects()
    assert client.acknowledge(puback(10), NOW) == Effects(done=(10 + 65_534,))
    assert client.acknowledge(puback(12), NOW) == Effects(done=(11,))
    outcome = client.acknowledge(puback(11), NOW)
    assert outcome.done == (10,)
    assert ids(outcome) == [11, 90_000 - 65_535 + 1]


def test_the_oldest_in_flight_may_be_one_that_was_released_before() -> None:
    client = durable()
    client.resume(first=5, last=70, sent_through=70, released=[5, 70])
    client.begin_read()
    assert client.end_read([], False, NOW) == Effects()
    assert client.deliver(delivery(qos=1, seq=5 + 65_535), NOW) == Effects()
    assert client.acknowledge(pubcomp(71), NOW) == Effects(done=(70,))
    outcome = client.acknowledge(pubcomp(6), NOW)
    assert (outcome.done, ids(outcome)) == ((5,), [6])


def test_an_older_message_follows_one_that_was_released_before() -> None:
    client = durable()
    client.resume(first=3, last=70_000, sent_through=70_000, released=[70_000])
    client.begin_read()
    rows = [delivery(qos=1, seq=3), delivery(qos=1, seq=4)]
    assert client.end_read(rows, False, NOW) == Effects()
    outcome = client.acknowledge(pubcomp(70_000 - 65_535 + 1), NOW)
    assert (outcome.done, ids(outcome)) == ((70_000,), [4, 5])
    assert [client.acknowledge(puback(packet_id), NOW).done for packet_id in (5, 4)] == [(4,), (3,)]
    assert client.sent_through == 70_000


def test_a_durable_session_makes_do_without_the_memory_of_a_full_account() -> None:
    """It reads what it can send at once, and does not read in vain."""
    totals = DeliveryTotals(max_waiting_bytes=10)
    totals.waiting_bytes = 10  # other clients'
    client = durable(totals=totals, receive_maximum=2)
    rows = [delivery(b"%d" % seq, qos=1, seq=seq) for seq in range(1, 6)]
    for row in rows:
        client.deliver(row, NOW)
    received = []
    for acknowledged in range(1, 4):
        assert client.begin_read() is None
        client.acknowledge(puback(acknowledged + 1), NOW)
        read = client.begin_read()
        assert read == Read(acknowledged + 2, 1, deliveries.READ_BYTES)
        received += payloads(client.end_read(rows[read.seq - 1 : read.seq], True, NOW))
    assert received == [b"3", b"4", b"5"]
    assert not client.behind


def test_a_read_is_not_repeated_before_something_has_changed() -> None:
    totals = DeliveryTotals(max_waiting_bytes=1_000)
    client = durable(totals=totals, receive_maximum=1)
    rows = [delivery(b"x" * 2_000, qos=1, seq=seq) for seq in (1, 2)]
    for row in rows:
        client.deliver(row, NOW)
    assert client.begin_read()
    assert client.end_read(rows[1:], False, NOW) == Effects()
    assert client.begin_read() is None
    client.congested = True
    client.acknowledge(puback(2), NOW)
    assert client.begin_read() is None
    client.congested = False
    assert client.begin_read()
    assert ids(client.end_read(rows[1:], False, NOW)) == [3]
