"""How long a durable session lasts, how many an account may have, and what it has kept for its client."""

import signal
import time
from collections.abc import Iterator

import pytest
from django.db.models.functions import Now
from mqtt_clients import V5_PAHO, V311_PAHO, Device, Raw, certificate, connect_packet
from paho.mqtt.enums import MQTTProtocolVersion
from stack import Stack, answers, hasty_stack, wait_until
from support import Account

from ingest.mqtt.packets import V5, Disconnect, ReasonCode
from thingscale.accounts.models import User
from thingscale.devices.models import ClientSession, Queued, QueuedMessages, Subscription
from thingscale.streams.models import Latest

pytestmark = pytest.mark.e2e
VERSIONS = [pytest.param(V311_PAHO, id="3.1.1"), pytest.param(V5_PAHO, id="5")]
ENDS = [pytest.param(signal.SIGTERM, id="stopped"), pytest.param(signal.SIGKILL, id="killed")]
MAX_SESSIONS, DAYS = 2, 3
LONGEST = DAYS * 86_400
EXPIRY = 0x11  # the property's number in MQTT 5


@pytest.fixture(scope="module")
def _few(django_db_setup: None) -> Iterator[Stack]:
    """A gateway that keeps few sessions, not for long, and looks often for those that are over."""
    made = hasty_stack(THINGSCALE_DURABLE_SESSION_DAYS=str(DAYS))
    made.environment |= certificate(made.logs)
    yield made
    made.stop()


@pytest.fixture
def few(_few: Stack, transactional_db: None) -> Stack:
    """Also where the test before has ended it."""
    _few.ensure("ingest")
    wait_until(lambda: answers(_few.wss), what="the last port")
    return _few


def lasting(
    running: Stack, account: Account, name: str, expiry: int, version: MQTTProtocolVersion = V5_PAHO
) -> Device:
    return Device(running, account, name, version, clean=False, expiry=expiry)


def rows() -> list[str]:
    return sorted(ClientSession.objects.values_list("client_id", flat=True))


def restart(running: Stack, number: int) -> None:
    running.kill("ingest", number)
    running.ensure("ingest")


def end_at_once() -> None:
    """As if the time were over already."""
    assert ClientSession.objects.filter(ends_at__isnull=False).update(ends_at=Now()) == 1


def seconds_left() -> float:
    """Of the one session, whose client has gone."""
    wait_until(lambda: ClientSession.objects.get().ends_at, what="the connection's end")
    ends_at = ClientSession.objects.get().ends_at
    assert ends_at is not None
    return ends_at.timestamp() - time.time()


def test_the_gateway_ends_what_is_over_with_all_that_it_has(few: Stack, account: Account) -> None:
    with lasting(few, account, "over", 2) as device:
        assert device.subscribe("d1/subscribe") == [1]
        assert rows() == ["over"]
    with Device(few, account, "app", V5_PAHO) as app:
        assert app.publish("d1/subscribe", b"waits") == 0
        assert (Queued.objects.count(), QueuedMessages.objects.count()) == (1, 1)
        wait_until(lambda: rows() == [], what="the session's end")
        for left in (Subscription, Queued, QueuedMessages):
            assert not left.objects.exists()
        assert app.publish("d1/subscribe", b"nobody waits") == 0
        assert not QueuedMessages.objects.exists()
    with lasting(few, account, "over", 60) as again:
        assert not again.session_present


@pytest.mark.parametrize("end", ENDS)
def test_what_was_over_while_no_gateway_ran_is_gone(few: Stack, account: Account, end: int) -> None:
    with lasting(few, account, "c1", 600) as device:
        assert device.subscribe("d1/subscribe") == [1]
    seconds_left()
    few.kill("ingest", end)
    end_at_once()
    few.ensure("ingest")
    with lasting(few, account, "c1", 60) as again:
        assert not again.session_present


@pytest.mark.parametrize("version", VERSIONS)
def test_it_goes_on_over_the_gateways_end(few: Stack, account: Account, version: MQTTProtocolVersion) -> None:
    """Stopped, then killed: with what came while the client was away, before each, once and in order."""
    with lasting(few, account, "c1", 600, version) as device:
        assert device.subscribe("d1/subscribe", "d2/#", qos=2) == [2, 2]
        with Device(few, account, "app") as app:
            assert app.publish("d1/subscribe", b"0") == 0
        assert device.payloads(1) == [b"0"]
    seconds_left()
    sent = [b"%d" % number for number in range(1, 41)]
    for part, end in ((sent[:20], signal.SIGTERM), (sent[20:], signal.SIGKILL)):
        with Device(few, account, "app") as app:
            for number, payload in enumerate(part):
                assert app.publish("d1/subscribe", payload, qos=1 + number % 2) == 0
        restart(few, end)
    with lasting(few, account, "c1", 600, version) as again:
        assert again.session_present
        again.payloads(len(sent))
        for qos in (1, 2):  # the client hands over those of QoS 2 a round later
            assert [message.payload for message in again.messages if message.qos == qos] == sent[qos - 1 :: 2]
        with Device(few, account, "app") as app:
            assert app.publish("d2/subscribe", b"live") == 0
        again.payloads(len(sent) + 1)
        assert again.messages[-1].payload == b"live"
    wait_until(lambda: not Queued.objects.exists(), what="all to be acknowledged")
    assert not QueuedMessages.objects.exists()


def test_what_is_not_acknowledged_comes_again_after_a_kill(few: Stack, account: Account) -> None:
    device = Device(few, account, "c1", V311_PAHO, clean=False, manual_ack=True)
    with device, Device(few, account, "app") as app:
        assert device.subscribe("d1/subscribe") == [1]
        for number in range(3):
            assert app.publish("d1/subscribe", b"%d" % number) == 0
        device.payloads(3)
        device.client.ack(*device.mids[0])
        wait_until(lambda: ClientSession.objects.get().done_seq == 1, what="the acknowledgement")
        few.kill("ingest")
        device.wait_end()
    few.ensure("ingest")
    with Device(few, account, "c1", V311_PAHO, clean=False) as again:
        assert again.session_present
        again.payloads(2)
        assert [message.payload for message in again.messages] == [b"1", b"2"]


@pytest.mark.parametrize(("version", "code"), [(V311_PAHO, 0x88), (V5_PAHO, 0x97)])  # paho tells 3 as 0x88
def test_one_session_too_many_is_refused(
    few: Stack, account: Account, outsider: Account, version: MQTTProtocolVersion, code: int
) -> None:
    User.objects.filter(pk=account.user.pk).update(max_durable_sessions=MAX_SESSIONS)
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


def test_the_limit_counts_after_a_restart_too(few: Stack, account: Account) -> None:
    User.objects.filter(pk=account.user.pk).update(max_durable_sessions=MAX_SESSIONS)
    for number in range(MAX_SESSIONS):
        lasting(few, account, f"c{number}", 60).__enter__().close()
    restart(few, signal.SIGKILL)
    refused = lasting(few, account, "one more", 60)
    assert refused.connect() == ReasonCode.QUOTA_EXCEEDED
    refused.close()


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


def test_who_leaves_for_good_ends_its_session(few: Stack, account: Account) -> None:
    with Raw(few.mqtt, V5) as raw:
        raw.open(connect_packet(account, "c1", V5, clean=False, properties={EXPIRY: 60}))
        assert rows() == ["c1"]
        raw.send(Disconnect(0, {EXPIRY: 0}))
        assert raw.receive() is None
    wait_until(lambda: rows() == [], what="the session's end")


def test_a_gateway_that_stops_writes_when_its_sessions_end(few: Stack, account: Account) -> None:
    with lasting(few, account, "c1", 100):
        few.kill("ingest", signal.SIGTERM)
    assert ClientSession.objects.get().ends_at is not None
    assert seconds_left() == pytest.approx(100, abs=15)


def test_a_session_left_behind_by_a_killed_gateway_has_an_end(few: Stack, account: Account) -> None:
    with lasting(few, account, "c1", 0xFFFFFFFF):
        few.kill("ingest")
    assert ClientSession.objects.get().ends_at is None
    few.ensure("ingest")
    assert seconds_left() == pytest.approx(LONGEST, abs=60)
    with lasting(few, account, "c1", 60) as again:
        assert again.session_present
        wait_until(lambda: ClientSession.objects.get().ends_at is None, what="the session in use")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clean_start_ends_what_there_is(few: Stack, account: Account, version: MQTTProtocolVersion) -> None:
    with lasting(few, account, "c1", 600, version) as device:
        assert device.subscribe("d1/subscribe") == [1]
    with Device(few, account, "app") as app:
        assert app.publish("d1/subscribe", b"waits") == 0
    with Device(few, account, "c1", version) as clean:
        assert not clean.session_present
        wait_until(lambda: rows() == [], what="the session's end")
        assert not Queued.objects.exists()
    with lasting(few, account, "c1", 600, version) as again:
        assert not again.session_present
        assert again.messages == []


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


@pytest.mark.parametrize("expiry", [60, 2], ids=["of a session that goes on", "of one that is over with it"])
def test_a_delayed_will_outlives_its_gateway(few: Stack, account: Account, expiry: int) -> None:
    """Killed while it waited, it is published by the next one, once."""
    account.device("d1")
    with lasting(few, account, "gone", expiry).will("json/d1", b'"gone"', qos=1, delay=3) as device:
        device.vanish()
    seconds_left()
    due = ClientSession.objects.get().will_at
    assert due is not None
    restart(few, signal.SIGKILL)
    wait_until(account.stored, what="the will")
    assert Latest.objects.get().at >= due
    wait_until(lambda: not ClientSession.objects.filter(will__isnull=False), what="the end of the will")
    restart(few, signal.SIGKILL)
    with lasting(few, account, "other", 0) as other:
        assert other.publish("json/d1", b"1") == 0
    assert account.stored() == [('"gone"', None), ("1", None)]


def test_a_will_is_published_once_whatever_becomes_of_its_client(few: Stack, account: Account) -> None:
    """Taken over by a connection without a will, which then leaves."""
    account.device("d1")
    older = Device(few, account, "same").will("json/d1", b'"taken over"', qos=1)
    with older, Device(few, account, "same") as newer:
        older.wait_end()
        assert newer.publish("json/d1", b"1") == 0
    wait_until(lambda: not ClientSession.objects.exists(), what="the end of its row")
    restart(few, signal.SIGKILL)
    with Device(few, account, "other") as other:
        assert other.publish("json/d1", b"2") == 0
    assert account.stored() == [('"taken over"', None), ("1", None), ("2", None)]
