"""How long a durable session lasts, and how many an account may have."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.db.models.functions import Now
from mqtt_clients import HOST, V5_PAHO, V311_PAHO, Device, Raw, Start, certificate, connect_packet, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from pytest_django import Settings
from stack import Stack, answers, hasty_stack, wait_until
from support import Account

from ingest.mqtt import upstream
from ingest.mqtt.durable import DurableSessions
from ingest.mqtt.packets import V5, Connect, Disconnect, ReasonCode
from thingscale.devices import durable, presence
from thingscale.devices.durable import Kept
from thingscale.devices.models import DurableSession

pytestmark = pytest.mark.e2e
MAX_SESSIONS, DAYS = 2, 3
LONGEST = DAYS * 86_400
NOBODY = 9  # the port of "discard", where nothing listens
EXPIRY = 0x11  # the property's number in MQTT 5


@pytest.fixture(scope="module")
def few(django_db_setup: None) -> Iterator[Stack]:
    """A gateway that keeps few sessions, not for long, and looks often for those that are over."""
    made = hasty_stack(
        THINGSCALE_DURABLE_SESSIONS=str(MAX_SESSIONS), THINGSCALE_DURABLE_SESSION_DAYS=str(DAYS)
    )
    made.environment |= certificate(made.logs)
    made.ensure("ingest")
    wait_until(lambda: answers(made.wss), what="the last port")
    yield made
    made.stop()


def lasting(
    running: Stack, account: Account, name: str, expiry: int, version: MQTTProtocolVersion = V5_PAHO
) -> Device:
    return Device(running, account, name, version, clean=False, expiry=expiry)


def broker_has_session(account: Account, client_id: str) -> bool:
    """Asking makes one."""
    with Raw(settings.MQTT5_UPSTREAM[1], V5) as raw:
        name = upstream.name(account.user_id, client_id)
        return raw.open(Connect(V5, name, False, 30, None, None, None, {EXPIRY: 60})).session_present


def in_gateway(
    work: Callable[[DurableSessions], Coroutine[Any, Any, None]], in_use: bool = False
) -> list[str]:
    """With what a gateway has that was just started; client ids of the sessions that it ended."""
    ended: list[str] = []

    async def run() -> None:
        sessions = DurableSessions(lambda key: in_use, lambda key: ended.append(key[1]))
        await sessions.load()
        await work(sessions)
        await sessions.stop(10)

    asyncio.run(run())
    return ended


def rows() -> list[str]:
    return sorted(DurableSession.objects.values_list("client_id", flat=True))


def nobody_is_connected() -> None:
    wait_until(lambda: not presence.alive().exists(), what="the clients to have gone")


def leave_two_sessions(running: Stack, account: Account) -> None:
    """And no gateway to end the one that is over."""
    for name, seconds in (("over", 1), ("away", 600)):
        with lasting(running, account, name, seconds) as device:
            assert device.subscribe("d1/subscribe") == [1]
    over = DurableSession.objects.filter(expires_at__lte=Now())
    wait_until(lambda: [row.client_id for row in over.all()] == ["over"], what="one session's end")
    running.kill("ingest")
    nobody_is_connected()


def test_the_gateway_ends_what_is_over(few: Stack, account: Account) -> None:
    with lasting(few, account, "over", 1) as device:
        assert device.subscribe("d1/subscribe") == [1]
        assert rows() == ["over"]
    wait_until(lambda: rows() == [], what="the session's end")
    assert not broker_has_session(account, "over")


def test_what_is_over_ends_with_the_broker_too(stack: Start, account: Account) -> None:
    leave_two_sessions(gateway(stack), account)
    assert in_gateway(DurableSessions.end_those_over) == ["over"]
    assert rows() == ["away"]
    assert not broker_has_session(account, "over")
    assert broker_has_session(account, "away")


def test_a_broker_that_is_away_is_told_later(stack: Start, account: Account, settings: Settings) -> None:
    leave_two_sessions(gateway(stack), account)
    address = settings.MQTT_UPSTREAM
    settings.MQTT_UPSTREAM = (HOST, NOBODY, None, None)
    assert in_gateway(DurableSessions.end_those_over) == []
    assert rows() == ["away", "over"]
    settings.MQTT_UPSTREAM = address
    assert in_gateway(DurableSessions.end_those_over) == ["over"]
    assert not broker_has_session(account, "over")


def test_the_session_of_a_client_that_is_back_goes_on(stack: Start, account: Account) -> None:
    leave_two_sessions(gateway(stack), account)
    assert in_gateway(DurableSessions.end_those_over, in_use=True) == []
    assert rows() == ["away", "over"]
    assert broker_has_session(account, "over")


def test_the_session_of_a_client_that_went_to_another_gateway_goes_on(stack: Start, account: Account) -> None:
    leave_two_sessions(gateway(stack), account)

    def go_elsewhere() -> None:
        durable.save({(account.user.pk, "over"): Kept([])})
        connections.close_all()  # this thread's

    async def work(sessions: DurableSessions) -> None:
        await asyncio.to_thread(go_elsewhere)
        await sessions.end_those_over()
        kept = sessions.find((account.user.pk, "over"))
        assert kept is not None
        assert not kept.over

    assert in_gateway(work) == []
    assert rows() == ["away", "over"]
    assert broker_has_session(account, "over")


def test_whoever_comes_back_while_the_session_ends_waits_for_that(
    stack: Start, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_two_sessions(gateway(stack), account)
    key = account.user.pk, "over"

    async def work(sessions: DurableSessions) -> None:
        async def forget(user_id: str, client_id: str) -> None:
            back = asyncio.create_task(sessions.settled(key))
            await asyncio.wait([back], timeout=0.1)
            assert not back.done()
            waiting.append(back)

        waiting: list[asyncio.Task[None]] = []
        monkeypatch.setattr(upstream, "forget", forget)
        await sessions.end_those_over()
        await waiting[0]
        assert sessions.find(key) is None
        await sessions.settled(key)

    assert in_gateway(work) == ["over"]


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


def seconds_left() -> float:
    """Of the one session, whose client has gone."""
    wait_until(lambda: DurableSession.objects.get().expires_at, what="the connection's end")
    ends_at = DurableSession.objects.get().expires_at
    assert ends_at is not None
    return ends_at.timestamp() - time.time()


def test_who_asks_for_too_long_a_session_is_told(few: Stack, account: Account) -> None:
    for asked, told in ((60, None), (LONGEST, None), (LONGEST + 1, LONGEST), (0xFFFFFFFF, LONGEST)):
        with Raw(few.mqtt, V5) as raw:
            connect = connect_packet(account, "c1", V5, clean=False, properties={EXPIRY: asked})
            assert raw.open(connect).properties.get(EXPIRY) == told
        assert seconds_left() == pytest.approx(min(asked, LONGEST), abs=10)


@pytest.mark.parametrize("asked", [100, 0xFFFFFFFF])
def test_who_leaves_may_ask_for_another_end(few: Stack, account: Account, asked: int) -> None:
    with Raw(few.mqtt, V5) as raw:
        raw.open(connect_packet(account, "c1", V5, clean=False, properties={EXPIRY: 60}))
        raw.send(Disconnect(0, {EXPIRY: asked}))
        assert raw.receive() is None
    assert seconds_left() == pytest.approx(min(asked, LONGEST), abs=10)


def test_a_gateway_that_stops_writes_when_its_sessions_end(few: Stack, account: Account) -> None:
    with lasting(few, account, "c1", 100):
        few.kill("ingest", signal.SIGTERM)
    assert DurableSession.objects.get().expires_at is not None
    assert seconds_left() == pytest.approx(100, abs=15)
    few.ensure("ingest")


def test_a_session_left_behind_by_a_killed_gateway_has_an_end(few: Stack, account: Account) -> None:
    with lasting(few, account, "c1", 0xFFFFFFFF):
        few.kill("ingest")
    assert DurableSession.objects.get().expires_at is None
    few.ensure("ingest")
    assert seconds_left() == pytest.approx(LONGEST, abs=60)
    with lasting(few, account, "c1", 60) as again:
        assert again.session_present
        wait_until(lambda: DurableSession.objects.get().expires_at is None, what="the session in use")


@pytest.fixture
def without(transactional_db: None) -> Iterator[Stack]:
    """A gateway whose broker is away."""
    nowhere = f"mqtt://{HOST}:{NOBODY}"
    made = hasty_stack(MQTT_URL=nowhere, MQTT5_URL=nowhere)
    made.ensure("ingest")
    yield made
    made.stop()


def test_an_older_session_is_remembered_until_the_broker_has_heard_of_its_end(
    without: Stack, account: Account
) -> None:
    with lasting(without, account, "c1", 600):
        pass
    with Device(without, account, "c1", V5_PAHO) as clean:
        assert not clean.session_present
        over = DurableSession.objects.filter(expires_at__lte=Now())
        wait_until(over.exists, what="the older session's end")
    without.stop()
    nobody_is_connected()
    assert in_gateway(DurableSessions.end_those_over) == ["c1"]


def test_nobody_gets_an_end_without_having_asked_for_one(few: Stack, account: Account) -> None:
    with Raw(few.mqtt, V5) as raw:
        raw.open(connect_packet(account, "c1", V5))
        raw.send(Disconnect(0, {EXPIRY: 60}))
        answer = raw.receive()
        assert isinstance(answer, Disconnect)
        assert answer.code == ReasonCode.PROTOCOL_ERROR  # MQTT 5, section 3.14.2.2.2


def test_a_filter_that_is_too_long_is_refused(few: Stack, account: Account) -> None:
    with Device(few, account) as device:
        assert device.subscribe("x" * 1024) == [0x80]
        assert device.subscribe("x" * 500) == [1]
