"""How long a durable session lasts, and how many an account may have."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from mqtt_clients import V5_PAHO, V311_PAHO, Device, Raw, Start, certificate, connect_packet, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from pytest_django import Settings
from stack import Stack, answers, wait_until
from support import Account

from ingest.mqtt import upstream
from ingest.mqtt.durable import DurableSessions
from ingest.mqtt.packets import V5, V311, Connect
from thingscale.devices.actions import sessions_over
from thingscale.devices.models import DurableSession

pytestmark = pytest.mark.e2e
MAX_SESSIONS, DAYS = 2, 3
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


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    def run() -> Any:
        try:
            return work(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(run)


def broker_has_session(account: Account, client_id: str) -> bool:
    with Raw(settings.MQTT_UPSTREAM[1]) as raw:
        name = upstream.name(account.user_id, client_id)
        return raw.open(Connect(V311, name, False, 30, None, None, None, {})).session_present


def test_a_session_that_is_over_ends_with_the_broker_too(stack: Start, account: Account) -> None:
    running = gateway(stack)
    for name, expiry in (("over", 1), ("away", 600)):
        with lasting(running, account, name, expiry) as device:
            assert device.subscribe("d1/subscribe") == [1]
    wait_until(lambda: [row.client_id for row in sessions_over()] == ["over"], what="one session's end")
    ended = asyncio.run(DurableSessions(in_thread).end_those_over())
    assert ended == [(account.user.pk, "over")]
    assert [row.client_id for row in DurableSession.objects.all()] == ["away"]
    assert not broker_has_session(account, "over")
    assert broker_has_session(account, "away")


def test_while_the_broker_is_away_a_session_that_is_over_stays(
    stack: Start, account: Account, settings: Settings
) -> None:
    running = gateway(stack)
    with lasting(running, account, "over", 1) as device:
        assert device.subscribe("d1/subscribe") == [1]
    wait_until(sessions_over, what="the session's end")
    sessions = DurableSessions(in_thread)
    address = settings.MQTT_UPSTREAM
    settings.MQTT_UPSTREAM = ("127.0.0.1", 9, None, None)  # "discard", where nothing listens
    assert asyncio.run(sessions.end_those_over()) == []
    assert DurableSession.objects.count() == 1
    settings.MQTT_UPSTREAM = address
    assert asyncio.run(sessions.end_those_over()) == [(account.user.pk, "over")]
    assert not DurableSession.objects.exists()


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
