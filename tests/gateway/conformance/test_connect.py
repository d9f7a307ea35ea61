"""CONNECT and CONNACK: what is refused, and how; client identifiers; keep alive (3.1, 3.2, 3.12)."""

import contextlib
import time
from typing import Any

import pytest
from brokers import LASTING, Broker, begin, resume
from client import frame, text
from test_packets import connect_frame, empty
from versions import ALL_VERSIONS, NEW_VERSIONS, VERSION_3, VERSION_5

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import (
    V5,
    V31,
    V311,
    Ack,
    ConnAck,
    Disconnect,
    Packet,
    PingReq,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Version,
    Will,
)

WRONG_PASSWORD = b"F" * 32


@pytest.mark.parametrize("name", ["publish", "subscribe", "pingreq", "disconnect", "nothing_of_mqtt"])
@ALL_VERSIONS
def test_a_first_packet_that_is_no_connect_ends_the_connection(
    broker: Broker, version: Version, name: str
) -> None:
    packets: dict[str, Packet | bytes] = {
        "publish": Publish(broker.topic(), b"1", 0, False, False, 0, {}),
        "subscribe": Subscribe(1, [Subscription(broker.topic(), 0, False, False, 0)], {}),
        "pingreq": PingReq(),
        "disconnect": Disconnect(0, {}),
        "nothing_of_mqtt": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    }
    client = broker.client("a", version)
    client.dial()
    client.send(packets[name])
    assert client.receive() is None  # no DISCONNECT before a CONNACK


@ALL_VERSIONS
def test_a_second_connect_ends_the_connection(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(client.connect_packet())
    while (packet := client.receive()) is not None:
        assert isinstance(packet, Disconnect)
        assert packet.code == 0x82


@ALL_VERSIONS
def test_another_protocol_name_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    for name in ("MQTTX", "mqtt", "", "HTTP"):
        client.dial()
        client.send(connect_frame(client, name=name or "\0"))
        answer = client.wire.frame()  # in no matter which version
        assert answer is None or (answer[0] == 0x20 and answer[1][1] in (0x01, 0x81, 0x84))
        assert answer is None or client.wire.frame() is None


@pytest.mark.parametrize("level", [0, 1, 2, 6, 127])
def test_another_protocol_level_is_refused_with_its_code(broker: Broker, level: int) -> None:
    """In the form of 3.1.1, which has return code 1 for it; a later version has reason code 0x84."""
    client = broker.client("a")
    client.dial()
    client.send(connect_frame(client, level=level))
    first, body = client.wire.frame() or (0, b"")
    assert first == 0x20
    assert body[1] in (0x01, 0x84)
    assert client.wire.frame() is None


@pytest.mark.parametrize("version", [V31, V311], ids=["3.1", "3.1.1"])
def test_a_bridge_may_connect(broker: Broker, version: Version) -> None:
    """mosquitto as a bridge sets the highest bit of the level; what it publishes comes back to it not."""
    client, other = broker.client("a", version), broker.connect("b")
    client.dial()
    client.send(connect_frame(client, level=version | 0x80))
    assert client.expect(ConnAck).code == 0
    assert client.subscribe(broker.topic(), 1) == 1
    assert client.publish(broker.topic(), b"own") == 0
    other.publish(broker.topic(), b"of another")
    client.message(b"of another")


@NEW_VERSIONS
def test_the_reserved_flag_of_a_connect_is_0(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(connect_frame(client, 0xC3))
    client.closed(0x81, 0x82)


FLAGS_WITHOUT_WILL = {"qos_1": 0x08, "qos_2": 0x10, "qos_3": 0x18, "retain": 0x20}


@pytest.mark.parametrize("name", FLAGS_WITHOUT_WILL)
@NEW_VERSIONS
def test_will_flags_without_a_will_are_refused(broker: Broker, version: Version, name: str) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(connect_frame(client, 0xC2 | FLAGS_WITHOUT_WILL[name]))
    client.closed(0x81, 0x82)


@ALL_VERSIONS
def test_a_will_of_qos_3_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(connect_frame(client, 0xDE, will=empty(version) + text(broker.topic()) + text("gone")))
    client.closed(0x81, 0x82, 0x9B)


@NEW_VERSIONS
def test_a_will_that_is_announced_and_missing_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(connect_frame(client, 0x06, rest=empty(version) + text(client.client_id)))
    client.closed(0x81, 0x82)


@NEW_VERSIONS
def test_a_will_topic_with_wildcards_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    for topic in ("a/+", "#", ""):
        client.dial()
        will = empty(version) + text(f"{broker.topic()}/{topic}" if topic else "") + text("gone")
        client.send(connect_frame(client, 0xC6, will=will))
        client.closed(0x81, 0x82, 0x90)


MISSING = {
    "username": (0x82, ["id"]),
    "password": (0xC2, ["id", "user"]),
    "username_not_announced": (0x02, ["id", "user"]),
    "password_not_announced": (0x82, ["id", "user", "password"]),
    "all": (0x02, []),
}


@pytest.mark.parametrize("name", MISSING)
@NEW_VERSIONS
def test_the_payload_of_a_connect_is_what_its_flags_say(broker: Broker, version: Version, name: str) -> None:
    """3.1 gives the length precedence over the flags; so not there."""
    client = broker.client("a", version)
    fields = {
        "id": text(client.client_id),
        "user": text(client.endpoint.username),
        "password": text(client.endpoint.password),
    }
    flags, there = MISSING[name]
    client.dial()
    client.send(connect_frame(client, flags, rest=empty(version) + b"".join(fields[part] for part in there)))
    client.closed(0x81, 0x82, 0x86, 0x87)


@VERSION_3
def test_a_password_needs_a_user_name_before_mqtt_5(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(connect_frame(client, 0x42, rest=text(client.client_id) + text(client.endpoint.password)))
    client.closed()


@ALL_VERSIONS
def test_a_connect_with_every_field_is_accepted(broker: Broker, version: Version) -> None:
    """In their order: client identifier, will, user name, password."""
    will = empty(version) + text(broker.topic()) + text("gone")
    client = broker.client("a", version)
    for flags in (0xC6, 0xCE, 0xF6):
        client.dial()
        client.send(connect_frame(client, flags, will=will))
        assert client.expect(ConnAck).code == 0
        client.disconnect()


@NEW_VERSIONS
def test_a_connect_of_wrong_length_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    whole = encode(client.connect_packet(), version)[2:]
    for wrong in (frame(0x10, whole, b"x"), frame(0x10, whole[:-1]), frame(0x10, whole[:9]), frame(0x10)):
        client.dial()
        client.send(wrong)
        if version == V5:
            client.closed(0x81, 0x82)
        else:
            assert client.receive() is None, "3.1.1 wants no CONNACK for it"


CONNECT_PROPERTIES = {
    "unknown": b"\x7f\0",
    "of_another_packet": b"\x23\0\1",
    "twice": b"\x21\0\1\x21\0\1",
    "receive_maximum_0": b"\x21\0\0",
    "maximum_packet_size_0": b"\x27\0\0\0\0",
    "flag_of_2": b"\x17\2",
    "authentication_data_alone": b"\x16\0\1a",
}


@pytest.mark.parametrize("name", CONNECT_PROPERTIES)
@VERSION_5
def test_a_connect_with_a_wrong_property_is_refused(broker: Broker, version: Version, name: str) -> None:
    client = broker.client("a", version)
    block = CONNECT_PROPERTIES[name]
    client.dial()
    client.send(connect_frame(client, properties=bytes((len(block),)) + block))
    client.closed(0x81, 0x82)


@ALL_VERSIONS
def test_a_wrong_password_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.endpoint = client.endpoint._replace(password=WRONG_PASSWORD)
    client.dial()
    client.send(client.connect_packet())
    answer = client.expect(ConnAck)
    assert not answer.session_present
    assert answer.code in ((0x86, 0x87) if version == V5 else (4, 5))
    assert client.receive() is None


@ALL_VERSIONS
def test_a_refused_connect_reports_no_session(broker: Broker, version: Version) -> None:
    client = broker.durable("a", version)
    client.disconnect()
    right = client.endpoint
    client.endpoint = right._replace(password=WRONG_PASSWORD)
    client.dial()
    client.send(client.connect_packet(clean=False))
    assert client.expect(ConnAck).session_present is False
    client.endpoint = right
    resume(client)


@ALL_VERSIONS
def test_what_follows_a_refused_connect_is_not_done(broker: Broker, version: Version) -> None:
    watcher, client = broker.connect("w"), broker.client("a", version)
    watcher.subscribe(broker.topic())
    right = client.endpoint
    client.endpoint = right._replace(password=WRONG_PASSWORD)
    client.dial()
    client.send(client.connect_packet(), Publish(broker.topic(), b"smuggled", 1, True, False, 1, {}))
    client.closed(0x86, 0x87)
    client.endpoint = right
    client.connect()
    client.publish(broker.topic(), b"honest")
    watcher.message(b"honest")


@ALL_VERSIONS
def test_a_client_need_not_wait_for_connack(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    subscribe = Subscribe(1, [Subscription(broker.topic(), 0, False, False, 0)], {})
    client.send(client.connect_packet(), subscribe, Publish(broker.topic(), b"1", 0, False, False, 0, {}))
    assert client.expect(ConnAck).code == 0
    client.answer(SubAck)
    client.message(b"1")


@ALL_VERSIONS
def test_connack_is_the_first_packet_and_the_only_one(broker: Broker, version: Version) -> None:
    client, publisher = broker.durable("a", version), broker.connect("b")
    client.subscribe(broker.topic())
    client.disconnect()
    publisher.publish(broker.topic(), b"1")
    publisher.publish(broker.topic(), b"2", 2)
    client.dial()
    client.send(client.connect_packet(clean=False, properties={0x11: LASTING} if version == V5 else {}))
    client.expect(ConnAck)
    assert {client.message().payload for _ in range(2)} == {b"1", b"2"}
    client.nothing()


@ALL_VERSIONS
def test_connack_of_a_new_session_is_all_zero(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(client.connect_packet())
    first, body = client.wire.frame() or (0, b"")
    assert (first, body[:2]) == (0x20, b"\0\0")


@VERSION_5
def test_the_server_supports_all_that_a_server_may_leave_out(broker: Broker, version: Version) -> None:
    """Maximum QoS, retained messages, wildcards, subscription identifiers, shared subscriptions."""
    properties = broker.client("a", version).connect().properties
    assert 0x24 not in properties
    assert {key: 1 for key in (0x25, 0x28, 0x29, 0x2A) if properties.get(key, 1) != 1} == {}


@VERSION_5
def test_response_information_is_not_sent_unasked(broker: Broker, version: Version) -> None:
    for properties in ({}, {0x19: 0}):
        assert 0x1A not in broker.client("a", version).connect(properties=properties).properties


@pytest.mark.parametrize(
    "client_id", ["Z", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW", "nopqrstuvwxyzXYZ"]
)
@ALL_VERSIONS
def test_client_ids_of_1_to_23_letters_and_digits(broker: Broker, version: Version, client_id: str) -> None:
    client = broker.client("a", version)
    client.client_id = client_id
    client.connect()
    client.nothing()


@VERSION_3
def test_an_empty_client_id_is_given_one(broker: Broker, version: Version) -> None:
    one, two = broker.connect(version=version), broker.connect(version=version)
    one.nothing()
    two.nothing()


@VERSION_3
def test_an_empty_client_id_has_no_durable_session(broker: Broker, version: Version) -> None:
    client = broker.client(version=version)
    client.dial()
    client.send(connect_frame(client, 0xC0))
    answer = client.expect(ConnAck)
    assert (answer.session_present, answer.code) == (False, 2)
    assert client.receive() is None


@VERSION_5
def test_an_assigned_client_id_is_told_and_works(broker: Broker, version: Version) -> None:
    client, other = broker.client(version=version), broker.client(version=version)
    lasting = {0x11: LASTING}
    client_id = client.connect(properties=lasting).properties[0x12]
    assert client_id
    assert client_id != other.connect(properties=lasting).properties[0x12]
    client.disconnect()
    client.client_id = client_id
    answer = client.connect(clean=False, properties=lasting)
    assert answer.session_present
    assert 0x12 not in answer.properties
    client.connect()
    other.connect()


@ALL_VERSIONS
def test_a_second_connection_takes_the_session_over(broker: Broker, version: Version) -> None:
    first = broker.durable("a", version)
    first.subscribe(broker.topic())
    second = broker.client("a", version)
    resume(second)
    assert first.closed() in ((0x8E,) if version == V5 else (None,))
    second.publish(broker.topic(), b"1", 1)
    second.message(b"1")


@ALL_VERSIONS
def test_a_second_connection_with_a_clean_session_takes_over_too(broker: Broker, version: Version) -> None:
    first = broker.durable("a", version)
    first.subscribe(broker.topic())
    second = broker.client("a", version)
    assert not second.connect().session_present
    first.closed(0x8E)
    second.publish(broker.topic(), b"1", 1)
    second.nothing()


@ALL_VERSIONS
def test_pingreq_is_answered(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    for _ in range(3):
        client.nothing()


@VERSION_5
def test_a_reason_given_for_an_end_is_one_of_disconnect(broker: Broker, version: Version) -> None:
    """And what the server sends with it: no Session Expiry Interval, nothing after it."""
    client = broker.connect("a", version)
    client.send(client.connect_packet())
    packet = client.receive()
    if packet is not None:
        assert isinstance(packet, Disconnect)
        assert 0x11 not in packet.properties
        assert client.receive() is None


@ALL_VERSIONS
def test_after_disconnect_nothing_more_is_done(broker: Broker, version: Version) -> None:
    watcher, client = broker.connect("w"), broker.connect("a", version)
    watcher.subscribe(broker.topic())
    client.send(Disconnect(0, {}), Publish(broker.topic(), b"late", 0, False, False, 0, {}))
    assert client.receive() is None
    broker.connect("b").publish(broker.topic(), b"next")
    watcher.message(b"next")


@VERSION_5
def test_a_disconnect_may_not_make_a_clean_session_durable(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version)
    client.send(Disconnect(0, {0x11: LASTING}))
    client.closed(0x82)
    begin(client)


@VERSION_5
def test_an_unknown_authentication_method_is_refused(broker: Broker, version: Version) -> None:
    client = broker.client("a", version)
    client.dial()
    client.send(client.connect_packet(properties={0x15: "SCRAM-SHA-1", 0x16: b"data"}))
    client.closed(0x8C, 0x87)


@VERSION_5
def test_auth_plays_no_part_without_a_method(broker: Broker, version: Version) -> None:
    """The server sends none, nor a method in CONNACK, and takes none."""
    client = broker.client("a", version)
    answer = client.connect()
    assert not {0x15, 0x16} & set(answer.properties)
    client.send(frame(0xF0, b"\x19", b"\x08", b"\x15" + text("PLAIN")))
    client.closed(0x81, 0x82, 0x8C)


def test_a_silent_client_is_disconnected_after_its_keep_alive(broker: Broker) -> None:
    """After one and a half times its keep alive, or the server's own; its will is published. One that says
    something is not. All versions at once, since it takes a while."""
    lively, watching = broker.client("lively"), broker.connect("w")
    watching.subscribe(broker.topic(), 1)
    lively.connect(keep_alive=1)
    silent = {version: broker.client(f"v{version}", version) for version in (V31, V311, V5)}
    for client in silent.values():
        will = Will(broker.topic(), b"gone", 1, False, {})
        own = client.connect(keep_alive=1, will=will).properties.get(0x13, 1)
        assert own <= 1, "a server that sets a longer one needs a longer test"
    started = time.monotonic()
    while silent:
        assert time.monotonic() - started < 20, "more than ten times the time in which they had to end"
        lively.ping()
        for version, client in list(silent.items()):
            with contextlib.suppress(TimeoutError):
                packet = client.receive(0.05)
                assert packet is None or (isinstance(packet, Disconnect) and packet.code == 0x8D)
                silent.pop(version)
    assert time.monotonic() - started > 0.9
    lively.ping()
    for _ in range(3):
        watching.message(b"gone", 1)


@VERSION_5
def test_a_server_keep_alive_is_told(broker: Broker, version: Version) -> None:
    """Where the server sends none, the client's own counts: 0 is no limit, and 65,535 may be too long."""
    for keep_alive in (0, 65_535):
        told = broker.client("a", version).connect(keep_alive=keep_alive).properties.get(0x13, keep_alive)
        assert 0 <= told <= 65_535
        assert told <= keep_alive or keep_alive == 0


@VERSION_5
def test_answers_keep_to_the_maximum_packet_size(broker: Broker, version: Version) -> None:
    """No Reason String and no User Property that would not fit any more."""
    size = 40
    small: dict[int, Any] = {0x27: size}
    client = broker.client("a", version)
    client.endpoint = client.endpoint._replace(password=WRONG_PASSWORD)
    client.dial()
    client.send(client.connect_packet(properties=small))
    client.closed(0x86, 0x87)
    assert client.wire.largest + 2 <= size
    client = broker.connect("b", version, properties=small)
    client.subscribe(broker.server.forbidden)
    client.unsubscribe(broker.server.forbidden, broker.topic())
    client.publish(broker.data(), b"{", 1)
    client.send(Publish(broker.data(), b"{", 2, False, False, 99, {}))
    client.answer(Ack, 99)
    client.send(Ack(6, 98, 0, {}), Ack(5, 97, 0, {}))  # PUBREL and PUBREC of what there is not
    client.ping()
    client.send(client.connect_packet())
    while client.receive() is not None:
        pass
    assert client.wire.largest + 2 <= size


@VERSION_5
def test_without_problem_information_answers_explain_nothing(broker: Broker, version: Version) -> None:
    client = broker.connect("a", version, properties={0x17: 0})
    wanted = [Subscription(broker.server.forbidden, 0, False, False, 0)]
    answers = [client.subscribe_all(wanted).properties]
    for qos in (1, 2):
        client.send(Publish(broker.data(), b"{", qos, False, False, 90 + qos, {}))
        answers.append(client.answer(Ack, 90 + qos).properties)
    client.send(Ack(6, 98, 0, {}))
    client.ping()
    assert not any({0x1F, 0x26} & set(properties) for properties in answers)
