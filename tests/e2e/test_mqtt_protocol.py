"""Exactly once, order, time limits and windows, packet by packet."""

import socket
import ssl
import time

import pytest
from mqtt_clients import HOST, Device, Raw, Start, connect_packet, gateway, json_publish
from stack import wait_until
from support import Account

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Ack,
    ConnAck,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Version,
)

pytestmark = pytest.mark.e2e
VERSIONS = [pytest.param(V311, id="3.1.1"), pytest.param(V5, id="5")]


def subscription(account: Account, rest: str, qos: int = 1) -> Subscribe:
    return Subscribe(1, [Subscription(f"{account.device_token}/{rest}", qos, False, False, 0)], {})


@pytest.mark.parametrize("version", VERSIONS)
def test_qos_2_is_stored_once_until_it_is_released(stack: Start, account: Account, version: Version) -> None:
    running = gateway(stack)
    account.device("d1")
    with Raw(running.mqtt, version) as client:
        client.open(connect_packet(account, "raw", version))
        first, again = (json_publish(account, "d1", b"1", 2, 7, dup) for dup in (False, True))
        client.send(first, again)  # in one segment: the second finds the first on its way
        assert client.receive() == Ack(PUBREC, 7, 0, {})
        client.send(again)
        assert client.receive() == Ack(PUBREC, 7, 0, {})
        for code in (0, 0x92 if version == V5 else 0):
            client.send(Ack(PUBREL, 7, 0, {}))
            assert client.receive() == Ack(PUBCOMP, 7, code, {})
        client.send(first)  # the identifier is free for another message, even an equal one
        assert client.receive() == Ack(PUBREC, 7, 0, {})
    assert account.stored() == [("1", None), ("1", None)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_sent_again_after_a_reconnect_it_is_stored_once(
    stack: Start, account: Account, version: Version, qos: int
) -> None:
    """Whether the client saw the acknowledgement (the first time) or not (the second)."""
    running = gateway(stack)
    account.device("d1")
    type_ = PUBACK if qos == 1 else PUBREC
    for number in (1, 2):
        with Raw(running.mqtt, version) as first:
            first.open(connect_packet(account, "raw", version))
            first.send(json_publish(account, "d1", b"%d" % number, qos, number))
            assert number == 2 or first.receive() == Ack(type_, number, 0, {})
        with Raw(running.mqtt, version) as second:
            second.open(connect_packet(account, "raw", version))
            second.send(json_publish(account, "d1", b"%d" % number, qos, number, dup=True))
            assert second.receive() == Ack(type_, number, 0, {})
    assert account.stored() == [("1", None), ("2", None)]


def test_a_silent_client_is_closed_after_its_keep_alive(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Raw(running.mqtt) as old, Raw(running.mqtt, V5) as silent, Raw(running.mqtt, V5) as pinging:
        for client, client_id in ((old, "old"), (silent, "silent"), (pinging, "pinging")):
            client.open(connect_packet(account, client_id, client.version, keep_alive=1))
        opened = time.monotonic()
        for _ in range(10):
            assert pinging.silent(0.3)
            pinging.send(PingReq())
            assert pinging.receive() == PingResp()
        assert silent.receive() == Disconnect(0x8D, {})
        assert silent.receive(0.1) is None
        assert old.receive(0.1) is None
        assert 1.5 < time.monotonic() - opened < 20


def test_topic_aliases_of_a_client(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Raw(running.mqtt, V5) as client:
        answer = client.open(connect_packet(account, "raw", V5))
        assert answer.properties[34] > 1  # Topic Alias Maximum
        whole = json_publish(account, "d1", b"1", 1, 1)
        client.send(whole._replace(properties={35: 2}))
        client.send(whole._replace(topic="", payload=b"2", packet_id=2, properties={35: 2}))
        client.send(whole._replace(topic=whole.topic + "/t", payload=b"3", packet_id=3, properties={35: 2}))
        client.send(whole._replace(topic="", payload=b"4", packet_id=4, properties={35: 2}))
        assert [client.receive() for _ in range(4)] == [Ack(PUBACK, i, 0, {}) for i in (1, 2, 3, 4)]
        client.send(whole._replace(properties={35: answer.properties[34] + 1}))
        assert client.receive() == Disconnect(0x94, {})
    assert account.stored() == [("1", None), ("2", None), ("3", "t"), ("4", "t")]


@pytest.mark.parametrize("qos", [1, 2])
def test_the_receive_maximum_of_a_slow_client_is_honoured(stack: Start, account: Account, qos: int) -> None:
    running = gateway(stack)
    account.device("d1")
    with Raw(running.mqtt, V5) as slow, Device(running, account) as sender:
        slow.open(connect_packet(account, "slow", V5, properties={33: 2}))
        slow.send(subscription(account, "json/d1", qos))
        assert slow.receive() == SubAck(1, [qos], {})
        for number in range(5):
            assert sender.publish("json/d1", b"%d" % number, qos) == 0
        waiting = [slow.receive(), slow.receive()]
        for number in range(5):
            assert slow.silent(0.1)
            delivery = waiting.pop(0)
            assert isinstance(delivery, Publish)
            assert delivery.payload == b"%d" % number
            complete(slow, delivery)
            if number < 3:
                waiting.append(slow.receive())


def complete(client: Raw, delivery: Publish) -> None:
    if delivery.qos == 1:
        client.send(Ack(PUBACK, delivery.packet_id, 0, {}))
        return
    client.send(Ack(PUBREC, delivery.packet_id, 0, {}))
    assert client.receive() == Ack(PUBREL, delivery.packet_id, 0, {})
    client.send(Ack(PUBCOMP, delivery.packet_id, 0, {}))


def test_a_message_larger_than_the_client_takes_is_left_out(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Raw(running.mqtt, V5) as small, Device(running, account) as sender:
        small.open(connect_packet(account, "small", V5, properties={39: 200}))
        small.send(subscription(account, "d1/subscribe"))
        small.receive()
        for payload in (b"x" * 300, b"fits"):
            assert sender.publish("d1/subscribe", payload) == 0
        delivery = small.receive()
        assert isinstance(delivery, Publish)
        assert delivery.payload == b"fits"


@pytest.mark.parametrize("version", VERSIONS)
def test_packets_behind_connect_in_one_segment_are_served_in_order(
    stack: Start, account: Account, version: Version
) -> None:
    running = gateway(stack)
    account.device("d1")
    publishes = [json_publish(account, "d1", b"%d" % n, 1, n) for n in range(1, 6)]
    with Raw(running.mqtt, version) as client:
        client.send(
            connect_packet(account, "raw", version),
            *publishes[:3],
            subscription(account, "d1/subscribe"),
            *publishes[3:],
            PingReq(),
        )
        answers = [client.receive() for _ in range(8)]
    assert isinstance(answers[0], ConnAck)
    assert [a for a in answers if isinstance(a, Ack)] == [Ack(PUBACK, n, 0, {}) for n in range(1, 6)]
    assert SubAck(1, [1], {}) in answers
    assert PingResp() in answers
    assert account.stored() == [(str(n), None) for n in range(1, 6)]


def test_a_whole_visit_in_one_segment(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Raw(running.mqtt) as client:
        connect = connect_packet(account, "hasty")
        client.send(connect, json_publish(account, "d1", b"1"), Disconnect(0, {}))
        client.socket.shutdown(socket.SHUT_WR)
        while client.receive():
            pass
    wait_until(account.stored, what="the datapoint")


def test_what_a_tls_client_sends_last_is_stored(stack: Start, account: Account) -> None:
    """QoS 0, DISCONNECT and the end of the connection, all at once after CONNACK."""
    running = gateway(stack)
    account.device("d1")
    context = ssl.create_default_context(cafile=running.environment["THINGSCALE_TLS_CERT"])
    for number in range(20):
        with (
            socket.create_connection((HOST, running.tls), 60) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as client,
        ):
            client.sendall(encode(connect_packet(account, "hasty"), V311))
            assert client.recv(4) == b"\x20\x02\x00\x00"
            publish = json_publish(account, "d1", b"%d" % number)
            client.sendall(encode(publish, V311) + encode(Disconnect(0, {}), V311))
    wait_until(lambda: len(account.stored()) == 20, what="20 datapoints")


def test_what_comes_just_before_the_end_reaches_subscribers_too(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "watcher") as watcher:
        assert watcher.subscribe("json/d1") == [1]
        for number in range(5):
            with Raw(running.mqtt) as raw:
                raw.open(connect_packet(account, f"brief-{number}"))
                raw.send(json_publish(account, "d1", b"%d" % number, qos=1, packet_id=1), Disconnect(0, {}))
                assert raw.receive() is None
        assert watcher.payloads(5) == [b"0", b"1", b"2", b"3", b"4"]


def test_an_endless_client_id_is_refused(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Raw(running.mqtt) as raw:
        assert raw.open(connect_packet(account, "x" * 257)).code == 2
