"""How long a durable session lasts, and how many an account may have."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from django.conf import settings
from django.db.models.functions import Now
from mosquitto import needs_mosquitto, run_mosquitto
from mqtt_clients import HOST, V5_PAHO, V311_PAHO, Device, Raw, Start, certificate, connect_packet, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from pytest_django import Settings
from stack import Stack, answers, free_port, wait_until
from support import Account

from ingest.mqtt import upstream
from ingest.mqtt.durable import DurableSessions
from ingest.mqtt.packets import V5, V311, Connect, Disconnect, SubAck, Subscribe, Subscription, Version
from thingscale.devices.models import DurableSession

pytestmark = pytest.mark.e2e
MAX_SESSIONS, DAYS = 2, 3
T = TypeVar("T")
EXPIRY = 0x11  # the property's number in MQTT 5


@pytest.fixture(scope="module")
def few(django_db_setup: None) -> Iterator[Stack]:
    """A gateway that keeps few sessions, and not for long."""
    made = Stack(THINGSCALE_DURABLE_SESSIONS=str(MAX_SESSIONS), THINGSCALE_DURABLE_SESSION_DAYS=str(DAYS))
    made.environment |= certificate(made.logs)
    made.ensure("ingest")
    wait_until(lambda: answers(made.wss), what="the last port")
    yield made
    made.stop()


def lasting(
    running: Stack, account: Account, name: str, expiry: int, version: MQTTProtocolVersion = V5_PAHO
) -> Device:
    return Device(running, account, name, version, clean=False, expiry=expiry)


def upstream_port(version: Version) -> int:
    port: int = (settings.MQTT5_UPSTREAM if version == V5 else settings.MQTT_UPSTREAM)[1]
    return port


def broker_has_session(account: Account, client_id: str) -> bool:
    """Asking makes one."""
    with Raw(upstream_port(V5), V5) as raw:
        name = upstream.name(account.user_id, client_id)
        return raw.open(Connect(V5, name, False, 30, None, None, None, {EXPIRY: 60})).session_present


def in_gateway(work: Callable[[DurableSessions], Coroutine[Any, Any, T]]) -> T:
    """With what a gateway has that was just started."""

    async def run() -> T:
        sessions = DurableSessions()
        await sessions.load()
        found = await work(sessions)
        await sessions.stop(1)
        return found

    return asyncio.run(run())


async def ended(sessions: DurableSessions, in_use: bool = False) -> list[str]:
    """Client ids of those that are over."""
    found: list[str] = []
    await sessions.end_those_over(lambda key: found.append(key[1]), lambda key: in_use)
    return found


def leave_two_sessions(running: Stack, account: Account) -> None:
    for name, seconds in (("over", 1), ("away", 600)):
        with lasting(running, account, name, seconds) as device:
            assert device.subscribe("d1/subscribe") == [1]
    over = DurableSession.objects.filter(expires_at__lte=Now())
    wait_until(lambda: [row.client_id for row in over.all()] == ["over"], what="one session's end")


def test_a_session_that_is_over_ends_with_the_broker_too(stack: Start, account: Account) -> None:
    leave_two_sessions(gateway(stack), account)
    assert in_gateway(ended) == ["over"]
    assert [row.client_id for row in DurableSession.objects.all()] == ["away"]
    assert not broker_has_session(account, "over")
    assert broker_has_session(account, "away")


def test_a_broker_that_is_away_is_told_later(stack: Start, account: Account, settings: Settings) -> None:
    leave_two_sessions(gateway(stack), account)
    address = settings.MQTT_UPSTREAM

    async def away_and_back(sessions: DurableSessions) -> list[list[str]]:
        settings.MQTT_UPSTREAM = ("127.0.0.1", 9, None, None)  # "discard", where nothing listens
        while_away = await ended(sessions)
        settings.MQTT_UPSTREAM = address
        return [while_away, await ended(sessions)]

    assert in_gateway(away_and_back) == [["over"], []]
    assert not broker_has_session(account, "over")


def test_who_is_back_keeps_the_brokers_session(stack: Start, account: Account) -> None:
    leave_two_sessions(gateway(stack), account)
    assert in_gateway(lambda sessions: ended(sessions, in_use=True)) == ["over"]
    assert broker_has_session(account, "over")


@pytest.mark.parametrize("version", [V311_PAHO, V5_PAHO])
def test_nobody_goes_on_with_a_session_that_only_the_broker_has(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    name = upstream.name(account.user_id, "c1")
    number = V5 if version == V5_PAHO else V311
    with Raw(upstream_port(number), number) as broker:
        options = {EXPIRY: 60} if number == V5 else {}
        assert not broker.open(Connect(number, name, False, 30, None, None, None, options)).session_present
        broker.send(Subscribe(1, [Subscription(f"{account.user_id}/d1/subscribe", 1, False, False, 0)], {}))
        assert isinstance(broker.receive(), SubAck)
        broker.send(Disconnect(0, {}))
        assert broker.receive() is None
    with Device(running, account, version=version) as other:
        assert other.publish("d1/subscribe", b"of old") == 0
        for present in (False, True):
            with lasting(running, account, "c1", 60, version) as device:
                assert device.session_present is present
                assert device.subscribe("d2/subscribe") == [1]
                assert other.publish("d2/subscribe", b"new") == 0
                assert device.payloads(1) == [b"new"]


@pytest.mark.parametrize("versions", [(V311_PAHO, V5_PAHO), (V5_PAHO, V311_PAHO)])
def test_a_client_may_change_its_version_at_once(
    stack: Start, account: Account, versions: tuple[MQTTProtocolVersion, MQTTProtocolVersion]
) -> None:
    """Many times, since what went wrong in the broker was a race."""
    running = gateway(stack)
    for number in range(40):
        with lasting(running, account, "c1", 60, versions[number % 2]) as device:
            assert device.subscribe("d1/subscribe") == [1]


@pytest.mark.parametrize("client_id", ["site/plc-1", "a+b#c$d", "\u00e9\u4e2d", "a b%2F:", "x" * 256])
def test_any_client_id_can_subscribe(stack: Start, account: Account, client_id: str) -> None:
    running = gateway(stack)
    for present in (False, True):
        with lasting(running, account, client_id, 60, V311_PAHO) as device:
            assert device.session_present is present
            assert device.subscribe("json/d1") == [1]
            assert device.publish("json/d1", b"1") == 0
            assert device.payloads(1) == [b"1"]


@pytest.mark.parametrize(("version", "code"), [(V311_PAHO, 0x88), (V5_PAHO, 0x97)])  # paho tells 3 as 0x88
def test_one_session_too_many_is_refused(
    few: Stack, account: Account, outsider: Account, version: MQTTProtocolVersion, code: int
) -> None:
    for number in range(MAX_SESSIONS):
        lasting(few, account, f"c{number}", 60, version).__enter__().close()
    refused = lasting(few, account, "one more", 60, version)
    assert refused.connect() == code
    refused.close()
    for device in (
        Device(few, account, "not durable", version),
        lasting(few, account, "c0", 60, version),
        lasting(few, outsider, "of another account", 60, version),
    ):
        with device:
            assert device.publish("json/d1", b"1") == 0
    with Device(few, account, "c0", version):
        pass  # a clean start ends the session, and makes room
    with lasting(few, account, "one more", 60, version) as device:
        assert device.publish("json/d1", b"1") == 0


def test_who_asks_for_too_long_a_session_is_told(few: Stack, account: Account) -> None:
    longest = DAYS * 86_400
    for asked, told in ((60, None), (longest, None), (longest + 1, longest), (0xFFFFFFFF, longest)):
        with Raw(few.mqtt, V5) as raw:
            connect = connect_packet(account, "c1", V5, clean=False, properties={EXPIRY: asked})
            assert raw.open(connect).properties.get(EXPIRY) == told
        left = time.time()
        wait_until(lambda: DurableSession.objects.get().expires_at, what="the connection's end")
        ends_at = DurableSession.objects.get().expires_at
        assert ends_at is not None
        assert min(asked, longest) == pytest.approx(ends_at.timestamp() - left, abs=10)


def test_a_session_left_behind_by_a_killed_gateway_has_an_end(few: Stack, account: Account) -> None:
    with lasting(few, account, "c1", 0xFFFFFFFF):
        few.kill("ingest")
    assert DurableSession.objects.get().expires_at is None
    few.ensure("ingest")
    ends_at = DurableSession.objects.get().expires_at
    assert ends_at is not None
    assert ends_at.timestamp() == pytest.approx(time.time() + DAYS * 86_400, abs=60)
    with lasting(few, account, "c1", 60) as again:
        assert again.session_present
        wait_until(lambda: DurableSession.objects.get().expires_at is None, what="the session in use")


@pytest.fixture
def before_mosquitto(django_db_setup: None) -> Iterator[tuple[Stack, int]]:
    """A gateway, and the port where it looks for a broker."""
    port = free_port()
    url = f"mqtt://{HOST}:{port}"
    made = Stack(MQTT_URL=url, MQTT5_URL=url)
    made.ensure("ingest")
    yield made, port
    made.stop()


@needs_mosquitto
@pytest.mark.parametrize("version", [V311_PAHO, V5_PAHO])
def test_a_session_that_began_while_the_broker_was_away_is_kept(
    before_mosquitto: tuple[Stack, int], account: Account, version: MQTTProtocolVersion
) -> None:
    running, port = before_mosquitto
    with run_mosquitto(port), lasting(running, account, "c1", 600, version) as first:
        assert first.subscribe("d2/subscribe") == [1]
    with Device(running, account, "c1", version):
        pass  # a clean start, of which the broker does not hear
    with lasting(running, account, "c1", 600, version) as second:
        assert not second.session_present
        second.client.subscribe(second.topic("d1/subscribe"), 1)
        with run_mosquitto(port):
            wait_until(lambda: second._subacks, what="SUBACK")
            second.close()
            with Device(running, account, version=version) as other:
                assert other.publish("d1/subscribe", b"1") == 0
            with lasting(running, account, "c1", 600, version) as third:
                assert third.session_present
                assert third.publish("d1/subscribe", b"2") == 0
                assert third.payloads(2) == [b"1", b"2"]
