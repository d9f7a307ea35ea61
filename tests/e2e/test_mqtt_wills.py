"""Wills, and the take-over of a session by a second connection."""

import signal
import time
from typing import Any

import pytest
from django.utils import timezone
from mqtt_clients import V5_PAHO, V31, V311_PAHO, Device, Raw, Start, connect_packet, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from stack import wait_until
from support import Account

from ingest.mqtt.packets import V5, Publish, SubAck, Subscribe, Subscription, Will
from ingest.mqtt.properties import Property
from thingscale.devices.models import ClientSession, Queued

pytestmark = pytest.mark.e2e
VERSIONS = [
    pytest.param(V31, id="3.1"),
    pytest.param(V311_PAHO, id="3.1.1"),
    pytest.param(V5_PAHO, id="5"),
]
TAKEN_OVER = 0x8E


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_stored_and_delivered(stack: Start, account: Account, version: MQTTProtocolVersion) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, version=version) as watcher:
        assert watcher.subscribe("json/d1/lost", "d1/subscribe", qos=2) == [2, 2]
        with Device(running, account, "a", version).will("json/d1/lost", b'"gone"', qos=2) as first:
            first.vanish()
        with Device(running, account, "b", version).will("d1/subscribe", b"off", qos=1) as second:
            second.vanish()
        assert watcher.payloads(2) == [b'"gone"', b"off"]
    assert account.stored() == [('"gone"', "lost")]


def test_a_will_waits_for_a_durable_session(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "lasting", clean=False) as away:
        assert away.subscribe("json/d1") == [1]
    with Device(running, account).will("json/d1", b"13", qos=1) as device:
        device.vanish()
    wait_until(lambda: account.stored() == [("13", None)], what="the will's datapoint")
    with Device(running, account, "lasting", clean=False) as back:
        assert back.payloads(1) == [b"13"]


def test_a_retained_will_with_an_empty_payload_clears_what_was_retained(
    stack: Start, account: Account
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account) as watcher:
        assert watcher.subscribe("json/d1") == [1]
        with Device(running, account).will("json/d1", b"", qos=1, retain=True) as device:
            assert device.publish("json/d1", b"4", retain=True) == 0
            device.vanish()
        assert watcher.payloads(2) == [b"", b"4"]
    assert account.stored() == [("4", None)]
    assert account.user.rejected.count() == 0


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_no_will_after_disconnect(stack: Start, account: Account, version: MQTTProtocolVersion) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, version=version) as watcher:
        assert watcher.subscribe("json/d1") == [1]
        with Device(running, account, "a", version).will("json/d1", b'"will"', qos=1):
            pass
        assert watcher.publish("json/d1", b'"marker"') == 0
        assert watcher.payloads(1) == [b'"marker"']
    assert account.stored() == [('"marker"', None)]


@pytest.mark.parametrize("version", VERSIONS)
def test_take_over_closes_the_older_connection_and_leaves_its_will(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    account.device("d1")
    older = Device(running, account, "same", version).will("json/d1", b'"will"', qos=1)
    with older, Device(running, account, "same", version) as newer:
        reason = older.wait_end()
        assert reason == TAKEN_OVER if version == V5_PAHO else reason
        wait_until(lambda: account.stored() == [('"will"', None)], what="the will")
        assert newer.publish("json/d1", b"1") == 0
    assert len(account.stored()) == 2


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_take_over_of_a_durable_session_goes_on_with_it(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)

    def connection() -> Device:
        return Device(running, account, "same", version, clean=False, expiry=60)

    with connection() as older:
        assert older.subscribe("d1/subscribe") == [1]
        with connection() as newer:
            older.wait_end()
            assert newer.session_present
            assert newer.publish("d1/subscribe", b"1") == 0
            assert newer.payloads(1) == [b"1"]


def test_two_users_may_use_the_same_client_id(stack: Start, account: Account, outsider: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "same") as mine, Device(running, outsider, "same") as other:
        assert other.publish("json/d1", b"2") == 0
        assert mine.publish("json/d1", b"1") == 0
        assert mine.ended is None
    assert account.stored() == [("1", None)]


def test_a_delayed_will_waits_and_is_cancelled_by_the_clients_return(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")

    def device(client_id: str, payload: bytes) -> Device:
        made = Device(running, account, client_id, V5_PAHO, clean=False, expiry=60)
        return made.will("json/d1", payload, qos=1, delay=1)

    with device("returns", b'"returned"') as away:
        away.vanish()
    with device("taken over", b'"taken over"') as older, device("returns", b"0"), device("taken over", b"0"):
        older.wait_end()
        gone = device("gone", b'"gone"')
        with gone:
            vanished = time.monotonic()
            gone.vanish()
        wait_until(lambda: account.stored() == [('"gone"', None)], what="the delayed will")
        assert time.monotonic() - vanished > 0.9
        assert account.stored() == [('"gone"', None)]


def test_a_gateway_that_is_stopped_leaves_the_wills_of_its_clients(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1").will("json/d1", b'"stopped"') as device:
        assert device.publish("json/d1", b"1") == 0
        running.kill("ingest", signal.SIGTERM)
        device.wait_end()
    assert account.stored() == [("1", None), ('"stopped"', None)]


def test_a_delayed_will_keeps_its_delay_over_a_kill(stack: Start, account: Account) -> None:
    """Whether its client was connected then or away; and it is not sent to who comes back in time."""
    running = gateway(stack)
    account.device("d1")

    def device(client_id: str, delay: int) -> Device:
        made = Device(running, account, client_id, V5_PAHO, clean=False, expiry=600)
        return made.will("json/d1", f'"{client_id}"'.encode(), qos=1, delay=delay)

    away, connected, back, late = (
        device("away", 3),
        device("connected", 3),
        device("back", 600),
        device("late", 600),
    )
    with away, connected, back, late:
        started = time.monotonic()
        away.vanish()
        running.kill("ingest")
        for each in (connected, back, late):
            each.wait_end()
    running.ensure("ingest")
    with device("back", 600) as again:
        assert again.session_present
        wait_until(lambda: len(account.stored()) == 2, what="the wills that are due")
        assert time.monotonic() - started > 3
    assert sorted(account.stored()) == [('"away"', None), ('"connected"', None)]
    with Device(running, account, "late", V5_PAHO):  # a clean start ends the session
        wait_until(lambda: len(account.stored()) == 3, what="the will of the session that ended")
    assert account.stored()[2] == ('"late"', None)


def test_a_delayed_will_keeps_its_delay_when_the_gateway_is_stopped(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    device = Device(running, account, "d1", V5_PAHO, clean=False, expiry=600)
    with device.will("json/d1", b'"will"', qos=1, delay=600):
        running.kill("ingest", signal.SIGTERM)
        device.wait_end()
    running.ensure("ingest")
    with Device(running, account, "d1", V5_PAHO, clean=False, expiry=600) as back:
        assert back.session_present
        assert back.publish("json/d1", b"1") == 0
    assert account.stored() == [("1", None)]


@pytest.mark.parametrize("second", ["clean", "lasting"])
def test_the_will_of_a_connection_that_was_taken_over_is_not_sent_again_after_a_kill(
    stack: Start, account: Account, second: str
) -> None:
    running = gateway(stack)
    account.device("d1")
    older = Device(running, account, "same").will("json/d1", b'"will"', qos=1)
    with older, Device(running, account, "same", clean=second == "clean") as newer:
        older.wait_end()
        wait_until(lambda: account.stored() == [('"will"', None)], what="the will")
        running.kill("ingest")
        newer.wait_end()
    running.ensure("ingest")
    with Device(running, account, "other") as device:
        assert device.publish("json/d1", b"1") == 0
    assert account.stored() == [('"will"', None), ("1", None)]


def test_a_will_that_waits_is_its_clients(stack: Start, account: Account) -> None:
    """No Local holds for it; and a response topic of the account is kept without the token."""
    running = gateway(stack)
    topic, response = (f"{account.device_token}/{name}/subscribe" for name in ("d1", "d2"))
    lasting: dict[int, Any] = {Property.SESSION_EXPIRY_INTERVAL: 600}
    properties: dict[int, Any] = {Property.RESPONSE_TOPIC: response, Property.WILL_DELAY_INTERVAL: 600}
    will = Will(topic, b"gone", 1, False, properties)
    for name, no_local in [("watcher", False), ("willing", True)]:
        with Raw(running.mqtt, V5) as device:
            connect = connect_packet(account, name, V5, clean=False, properties=lasting)
            device.open(connect._replace(will=will if name == "willing" else None))
            device.send(Subscribe(1, [Subscription(topic, 1, no_local, False, 0)], {}))
            assert isinstance(device.receive(), SubAck)
    waiting = ClientSession.objects.exclude(will_at=None)
    wait_until(waiting.exists, what="the client to have left")
    assert account.device_token.encode() not in bytes(waiting.get().will or b"")
    waiting.update(will_at=timezone.now())
    running.kill("ingest")
    running.ensure("ingest")
    wait_until(lambda: not waiting.exists(), what="the will to be published")
    for name, count in [("watcher", 1), ("willing", 0)]:
        assert Queued.objects.filter(session=ClientSession.objects.get(client_id=name).pk).count() == count
    with Raw(running.mqtt, V5) as device:
        device.open(connect_packet(account, "watcher", V5, clean=False, properties=lasting))
        received = device.receive()
        assert isinstance(received, Publish)
        assert received.properties == {Property.RESPONSE_TOPIC: response}
