"""`manage.py import_broker`: what the broker has that the gateway of an earlier release stood in front of."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import pytest
from broker_worker import Broker, mosquitto, rumqttd
from django.core.management import CommandError, call_command
from django.utils import timezone
from mosquitto import needs_mosquitto
from pytest_django import Settings
from stack import free_port
from support import Account

from ingest import import_broker, old_broker
from ingest.mqtt import packets
from ingest.mqtt.packets import PUBACK, V5, V311, Ack, Properties, Publish, SubAck, Subscribe, Version
from ingest.mqtt.properties import Property
from ingest.old_broker import Link
from ingest.service import connect
from ingest.stored_packet import read_packets
from thingscale.devices.models import (
    ClientSession,
    DurableSession,
    Queued,
    QueuedMessages,
    Retained,
    Subscription,
)
from thingscale.devices.mqtt_store import retained as store
from thingscale.devices.mqtt_store.retained import Retain

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
KINDS = [pytest.param(mosquitto, marks=needs_mosquitto, id="mosquitto"), pytest.param(rumqttd, id="rumqttd")]
EXPIRY = Property.SESSION_EXPIRY_INTERVAL
CLIENT = "a/b c"


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with request.param() as running:
        yield running


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """With all of MQTT 5."""
    with mosquitto() as running:
        yield running


def link(broker: Broker, client_id: str, version: Version = V311, clean: bool = True) -> Link:
    port = broker.port5 if version == V5 else broker.port
    return Link(("127.0.0.1", port, None, None), version, client_id, clean)


def publish(broker: Broker, *messages: Publish, version: Version = V311) -> None:
    with link(broker, "app", version) as app:
        for message in messages:
            packet_id = app.next_id() if message.qos else 0
            app.send(message._replace(packet_id=packet_id))
        for _ in filter(lambda message: message.qos, messages):
            packet = app.receive()
            assert isinstance(packet, Ack)
            assert packet.type == PUBACK


def message(
    topic: str, payload: bytes, qos: int = 1, retain: bool = False, properties: Properties | None = None
) -> Publish:
    return Publish(topic, payload, qos, retain, False, 0, properties or {})


def old_session(broker: Broker, account: Account, client_id: str = CLIENT, version: Version = V311) -> None:
    """As the gateway of that release left it: at the broker, and as a row."""
    name = f"{account.user_id}:{client_id.replace('/', '%2F').replace(' ', '%20')}"
    filter_ = f"{account.user_id}/#"
    with link(broker, name, version, clean=False) as client:
        client.send(Subscribe(1, [packets.Subscription(filter_, 2, False, False, 0)], {}))
        assert isinstance(client.receive(), SubAck)
    DurableSession.objects.create(
        user=account.user,
        client_id=client_id,
        subscriptions=[[filter_, 2, False, False, 0]],
        expires_at=timezone.now() + timedelta(hours=1),
    )


def run(broker: Broker, **options: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MQTT_URL", f"mqtt://127.0.0.1:{broker.port}")
        patch.setenv("MQTT5_URL", f"mqtt://127.0.0.1:{broker.port5}")
        call_command("import_broker", stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def waiting(client_id: str = CLIENT) -> list[Publish]:
    """What that session is to get, in order."""
    session = ClientSession.objects.get(client_id=client_id)
    found: list[Publish] = []
    for row in Queued.objects.filter(session=session.pk).order_by("seq"):
        packets = bytes(QueuedMessages.objects.get(pk=row.messages).packets)
        found += read_packets(packets, row.last_seq - row.seq + 1)
    return found


def texts(client_id: str = CLIENT) -> list[tuple[str, bytes, int]]:
    return [(each.topic, each.payload, each.qos) for each in waiting(client_id)]


def retained() -> list[tuple[str, bytes]]:
    return [(row.topic, bytes(row.payload)) for row in Retained.objects.order_by("topic")]


def session_at(broker: Broker, account: Account, client_id: str = CLIENT) -> bool:
    """Asking makes one."""
    name = f"{account.user_id}:{client_id.replace('/', '%2F').replace(' ', '%20')}"
    with link(broker, name, clean=False) as client:
        return client.present


def test_what_waits_and_what_is_retained_comes_over_once(
    broker: Broker, account: Account, outsider: Account
) -> None:
    old_session(broker, account)
    ours, theirs = account.user_id, outsider.user_id
    publish(
        broker,
        message(f"{ours}/d1/subscribe", b"on"),
        message(f"{ours}/d1/subscribe", b"off"),
        message(f"{ours}/a", b"kept", retain=True),
        message(f"{theirs}/b", b"theirs", retain=True),
        message("elsewhere", b"nobody's", retain=True),
    )
    out, err = run(broker)
    assert f"{ours}: 1 retained messages, 3 messages of 1 sessions." in out
    assert f"{theirs}: 1 retained messages, 0 messages of 0 sessions." in out
    assert err == ""
    assert [(topic, payload) for topic, payload, _ in texts()] == [
        ("d1/subscribe", b"on"),
        ("d1/subscribe", b"off"),
        ("a", b"kept"),
    ]
    assert all(qos for _, _, qos in texts())
    assert retained() == [("a", b"kept"), ("b", b"theirs")]
    assert Retained.objects.get(topic="a").account_id == account.user.pk
    assert [row.filter for row in Subscription.objects.filter(session=ClientSession.objects.get().pk)] == [
        "#"
    ]
    out, err = run(broker)
    assert f"{ours}: 0 retained messages, 0 messages of 1 sessions." in out
    assert len(texts()) == 3
    assert not session_at(broker, account)


def test_more_than_a_window_and_a_batch(broker: Broker, account: Account) -> None:
    old_session(broker, account)
    count = 350  # the embedded broker keeps a megabyte of small ones, mosquitto here all
    topic = f"{account.user_id}/d1/subscribe"
    for start in range(0, count, 50):
        publish(broker, *(message(topic, b"%d" % number) for number in range(start, start + 50)))
    run(broker)
    assert [payload for _, payload, _ in texts()] == [b"%d" % number for number in range(count)]


@needs_mosquitto
def test_many_retained_messages(real: Broker, account: Account) -> None:
    count = 1_500
    for start in range(0, count, 100):
        publish(
            real,
            *(
                message(f"{account.user_id}/d{n}", b"%d" % n, 1, retain=True)
                for n in range(start, start + 100)
            ),
        )
    run(real)
    assert sorted(retained()) == sorted((f"d{number}", b"%d" % number) for number in range(count))
    assert set(Retained.objects.values_list("qos", flat=True)) == {1}


@needs_mosquitto
def test_properties_of_mqtt_5_come_over(real: Broker, account: Account) -> None:
    old_session(real, account, version=V5)
    properties: Properties = {
        Property.CONTENT_TYPE: "text/plain",
        Property.MESSAGE_EXPIRY_INTERVAL: 600,
        Property.CORRELATION_DATA: b"\1",
    }
    topic = f"{account.user_id}/d1/subscribe"
    publish(real, message(topic, b"on", 1, True, properties), version=V5)
    run(real)
    (one,) = waiting()
    assert one.properties[Property.CONTENT_TYPE] == "text/plain"
    assert one.properties[Property.CORRELATION_DATA] == b"\1"
    assert 0 < one.properties[Property.MESSAGE_EXPIRY_INTERVAL] <= 600
    (kept,) = Retained.objects.all()
    assert kept.expires_at
    assert timedelta(seconds=500) < kept.expires_at - timezone.now() <= timedelta(seconds=600)
    assert b"text/plain" in bytes(kept.properties)


@needs_mosquitto
def test_what_was_taken_over_at_the_start_of_the_gateway_is_found(real: Broker, account: Account) -> None:
    """It empties the table of the release before."""
    old_session(real, account)
    publish(real, message(f"{account.user_id}/d1/subscribe", b"on"))
    DurableSession.objects.all().delete()
    ends_at = timezone.now() + timedelta(hours=1)
    ClientSession.objects.create(account=account.user, client_id=CLIENT, expiry=3600, ends_at=ends_at)
    ClientSession.objects.create(account=account.user, client_id="new", expiry=3600, ends_at=ends_at)
    out, _ = run(real, user=account.user_id)
    assert "1 messages of 2 sessions" in out
    assert texts() == [("d1/subscribe", b"on", 1)]


@needs_mosquitto
def test_what_is_newer_here_stays(real: Broker, account: Account) -> None:
    publish(real, *(message(f"{account.user_id}/{topic}", b"old", retain=True) for topic in "ab"))
    with connect() as connection, connection.cursor() as cursor:
        store.retain(cursor, [Retain(account.user.pk, "a", b"new", 1, b"\0", timezone.now(), None)])
    run(real)
    assert retained() == [("a", b"new"), ("b", b"old")]


@needs_mosquitto
def test_a_client_that_is_connected_gets_nothing_by_another_way(real: Broker, account: Account) -> None:
    old_session(real, account)
    publish(real, message(f"{account.user_id}/d1/subscribe", b"on"))
    DurableSession.objects.all().delete()
    row = ClientSession.objects.create(account=account.user, client_id=CLIENT, expiry=3600)
    _, err = run(real)
    assert "'a/b c' is connected, or its queue is full" in err
    assert texts() == []
    row.ends_at = timezone.now() + timedelta(hours=1)
    row.save()
    run(real)
    assert texts() == [("d1/subscribe", b"on", 1)]


@needs_mosquitto
def test_what_has_no_room_stays_there(
    real: Broker, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_session(real, account)
    publish(real, *(message(f"{account.user_id}/d1/subscribe", b"%d" % number) for number in range(5)))
    monkeypatch.setattr(ClientSession, "MAX_QUEUED", 3)
    _, err = run(real)
    assert "its queue is full" in err
    assert texts() == []
    assert ClientSession.objects.get().dropped == 0
    monkeypatch.undo()
    run(real)
    assert [payload for _, payload, _ in texts()] == [b"%d" % number for number in range(5)]


@needs_mosquitto
@pytest.mark.parametrize("qos", [1, 2])
def test_it_breaks_off_and_goes_on(
    real: Broker, account: Account, monkeypatch: pytest.MonkeyPatch, qos: int
) -> None:
    """Between two transactions: what the first has taken is acknowledged, the rest stays."""
    old_session(real, account)
    with link(real, "app") as app:
        for number in range(30):
            topic = f"{account.user_id}/d1/subscribe"
            app.send(Publish(topic, b"%d" % number, qos, False, False, app.next_id(), {}))
            app.receive()
            if qos == 2:
                app.send(Ack(6, number + 1, 0, {}))
                app.receive()
    monkeypatch.setattr(old_broker, "AT_ONCE", 4)
    enqueue, calls = import_broker._enqueue, []

    def third_fails(*arguments: object) -> bool:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("it broke")
        return enqueue(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(import_broker, "_enqueue", third_fails)
        with pytest.raises(CommandError, match=r"broke off: it broke\. Run it again"):
            run(real)
    assert 0 < len(texts()) < 30
    run(real)
    wanted = [b"%d" % number for number in range(30)]
    found = [payload for _, payload, _ in texts()]
    # What was taken at QoS 2, and not yet released when it broke, may come twice; nothing is missing.
    assert (found if qos == 1 else sorted(set(found), key=int)) == wanted


def test_a_session_that_is_over_ends_there_too(broker: Broker, account: Account) -> None:
    old_session(broker, account)
    DurableSession.objects.update(expires_at=timezone.now())
    run(broker)
    assert not DurableSession.objects.exists()
    assert not ClientSession.objects.exists()
    assert not session_at(broker, account)


def test_in_one_sentence(account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MQTT_URL", raising=False)
    with pytest.raises(CommandError, match="Name the broker: --url"):
        call_command("import_broker")
    with pytest.raises(CommandError, match="must look like mqtt://"):
        call_command("import_broker", url="http://127.0.0.1")
    with pytest.raises(CommandError, match="no account U999999"):
        call_command("import_broker", url="mqtt://127.0.0.1:1", user="U999999")
    with pytest.raises(CommandError, match=r"The broker can't be used: .*refused") as away:
        call_command("import_broker", url=f"mqtt://me:hunter2@127.0.0.1:{free_port()}")
    assert "hunter2" not in str(away.value)
    settings.INGEST_MODE = "broker"
    with pytest.raises(CommandError, match="In broker mode"):
        call_command("import_broker", url="mqtt://127.0.0.1:1")
