"""Durable sessions, and retained messages."""

import contextlib
import time

import pytest
from mqtt_clients import (
    V5_PAHO,
    V31,
    V311_PAHO,
    Device,
    Raw,
    Start,
    connect_packet,
    gateway,
    json_publish,
)
from paho.mqtt.enums import MQTTProtocolVersion
from stack import Stack, wait_until
from support import Account

from ingest.mqtt.packets import (
    PUBACK,
    V5,
    V311,
    Ack,
    ConnAck,
    Disconnect,
    Publish,
    Subscribe,
    Subscription,
    Version,
)

pytestmark = pytest.mark.e2e
VERSIONS = [
    pytest.param(V31, id="3.1"),
    pytest.param(V311_PAHO, id="3.1.1"),
    pytest.param(V5_PAHO, id="5"),
]


def durable(
    running: Stack, account: Account, version: MQTTProtocolVersion = V311_PAHO, expiry: int = 60
) -> Device:
    return Device(running, account, "lasting", version, clean=False, expiry=expiry)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_durable_session_gets_what_was_published_meanwhile(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    account.device("d1")
    with durable(running, account, version) as first:
        assert not first.session_present
        assert first.subscribe("d1/subscribe", qos=1) == [1]
        assert first.subscribe("json/#", qos=2) == [2]
    with Device(running, account, version=version) as other:
        for qos in (1, 2):
            assert other.publish("d1/subscribe", b"command %d" % qos, qos) == 0
            assert other.publish("json/d1/t", b"%d" % qos, qos) == 0
    with durable(running, account, version) as second:
        assert second.session_present is (version != V31)  # 3.1 has no such flag
        assert second.payloads(4) == [b"1", b"2", b"command 1", b"command 2"]
        assert {message.topic for message in second.messages} == {
            second.topic("d1/subscribe"),
            second.topic("json/d1/t"),
        }
    with durable(running, account, version) as third:
        assert third.publish("d1/subscribe", b"only this", 1) == 0
        assert third.payloads(1) == [b"only this"]


def test_started_afresh_with_an_expiry_a_session_is_kept_too(stack: Start, account: Account) -> None:
    """MQTT 5: Clean Start and Session Expiry Interval have nothing to do with each other."""
    running = gateway(stack)
    for number in (1, 2):  # the second time there is a session to be dropped
        with Device(running, account, "lasting", V5_PAHO, clean=True, expiry=60) as first:
            assert not first.session_present
            assert first.subscribe("d1/subscribe") == [1]
        with Device(running, account) as other:
            assert other.publish("d1/subscribe", b"%d" % number) == 0
    with durable(running, account, V5_PAHO) as second:
        assert second.session_present
        assert second.payloads(1) == [b"2"]


@pytest.mark.parametrize("client_id", ["site/plc-1", "a+b#c$d", "\u00e9\u4e2d", "a b%2F:", "x" * 256])
def test_any_client_id_can_subscribe(stack: Start, account: Account, client_id: str) -> None:
    running = gateway(stack)
    for present in (False, True):
        with Device(running, account, client_id, clean=False) as device:
            assert device.session_present is present
            assert device.subscribe("json/d1") == [1]
            assert device.publish("json/d1", b"1") == 0
            assert device.payloads(1) == [b"1"]


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_clean_start_drops_the_session(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    with durable(running, account, version) as first:
        assert first.subscribe("d1/subscribe") == [1]
    with Device(running, account) as other:
        assert other.publish("d1/subscribe", b"lost") == 0
    with Device(running, account, "lasting", version) as clean:
        assert not clean.session_present
    with durable(running, account, version) as again:
        assert not again.session_present
        assert again.subscribe("d1/subscribe") == [1]
        assert again.publish("d1/subscribe", b"marker") == 0
        assert again.payloads(1) == [b"marker"]


def test_an_expired_session_is_gone(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with durable(running, account, V5_PAHO, expiry=1) as first:
        assert first.subscribe("d1/subscribe") == [1]
    left_at = time.monotonic()
    with Device(running, account) as other:
        assert other.publish("d1/subscribe", b"late") == 0
    wait_until(lambda: time.monotonic() > left_at + 1.5, what="the session's end")
    with durable(running, account, V5_PAHO) as again:
        assert not again.session_present
        assert again.subscribe("json/d1") == [1]
        assert again.publish("json/d1", b"1") == 0
        assert again.payloads(1) == [b"1"]


def test_a_session_survives_the_gateway(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with durable(running, account) as first:
        assert first.subscribe("json/#", qos=1) == [1]
    running.kill("ingest")
    gateway(stack)
    with Device(running, account) as other:
        assert other.publish("json/d1", b"5") == 0
    with durable(running, account) as second:
        assert second.session_present
        assert second.payloads(1) == [b"5"]


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_connack_comes_before_what_waited(stack: Start, account: Account, version: Version) -> None:
    running = gateway(stack)
    options = {17: 60} if version == V5 else {}
    with Raw(running.mqtt, version) as first:
        first.open(connect_packet(account, "lasting", first.version, clean=False, properties=options))
        wanted = Subscription(f"{account.device_token}/json/d1", 1, False, False, 0)
        first.send(Subscribe(1, [wanted], {}))
        first.receive()
        first.send(Disconnect(0, {}))
        assert first.receive() is None
    with Device(running, account) as other:
        for number in range(20):
            assert other.publish("json/d1", b"%d" % number) == 0
    with Raw(running.mqtt, first.version) as second:
        second.send(connect_packet(account, "lasting", first.version, clean=False, properties=options))
        answer = second.receive()
        assert isinstance(answer, ConnAck)
        assert answer.session_present
        received = [second.receive() for _ in range(20)]
        assert [packet.payload for packet in received if isinstance(packet, Publish)] == [
            b"%d" % number for number in range(20)
        ]


def test_a_delivery_without_acknowledgement_comes_again(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Raw(running.mqtt) as first:
        first.open(connect_packet(account, "lasting", clean=False))
        first.send(Subscribe(1, [Subscription(f"{account.device_token}/json/d1", 1, False, False, 0)], {}))
        first.receive()
        first.send(json_publish(account, "d1", b"7", qos=1, packet_id=9))
        answers = [first.receive(), first.receive()]
        assert Ack(PUBACK, 9, 0, {}) in answers
    with Raw(running.mqtt) as second:
        second.open(connect_packet(account, "lasting", clean=False))
        again = second.receive()
        assert isinstance(again, Publish)
        assert again.payload == b"7"


@pytest.mark.parametrize("topic", ["d1/subscribe", "json/d1"])
@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_retained_message_arrives_on_subscribe_until_it_is_cleared(
    stack: Start, account: Account, version: MQTTProtocolVersion, topic: str
) -> None:
    running = gateway(stack)
    account.device("d1")
    with (
        Device(running, account, version=version) as other,
        Device(running, account) as watcher,
    ):
        assert watcher.subscribe(topic) == [1]
        assert other.publish(topic, b"21.5", retain=True) == 0
        assert watcher.payloads(1) == [b"21.5"]  # the broker has it
        with Device(running, account, version=version) as late:
            assert late.subscribe(topic) == [1]
            assert late.payloads(1) == [b"21.5"]
            assert late.messages[0].retain
        assert other.publish(topic, b"", retain=True) == 0
        assert watcher.payloads(2) == [b"", b"21.5"]
        with Device(running, account, version=version) as later:
            assert later.subscribe(topic) == [1]
            assert later.publish(topic, b"3") == 0
            assert later.payloads(1) == [b"3"]
    assert [value for value, _ in account.stored()] == (["21.5", "3"] if topic == "json/d1" else [])


def test_a_client_may_change_its_version_each_time(stack: Start, account: Account) -> None:
    """And take its session over each time."""
    running = gateway(stack)
    with Device(running, account) as other, contextlib.ExitStack() as taken_over:
        for number in range(20):
            client = taken_over.enter_context(durable(running, account, (V311_PAHO, V5_PAHO)[number % 2]))
            assert client.session_present is (number > 0)
            assert client.subscribe("d1/subscribe") == [1]
            assert other.publish("d1/subscribe", b"%d" % number) == 0
            # Perhaps behind the one before it: a client that is taken over may not have acknowledged it yet.
            wait_until(lambda: b"%d" % number in client.payloads(1), what="the message")  # noqa: B023
