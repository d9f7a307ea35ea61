"""What an account's intakes make of messages to topics without a token."""

import json

import pytest
from client import Client
from django.db import connection
from stack import Stack, wait_until
from support import Account
from two_gateways import Pair

from ingest.mqtt.packets import PUBACK, PUBREC, V5, V311, Ack, Publish, Version, Will
from thingscale.accounts.actions import choose_own_topics
from thingscale.devices.models import ClientSession, Device, RejectedMessage, Retained
from thingscale.intakes.actions import create_intake, delete_intake, update_intake
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.lib.clock import now_us
from thingscale.provisioning.actions import configure_device

pytestmark = pytest.mark.e2e
WILL_DELAY = 0x18
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
SENSOR = "tasmota/cellar/tele/SENSOR"
TIMED = {
    "rules": [
        {
            "readings": [
                {"each": "body", "device": "{each.id}", "value": "{each.v}", "time": "{each.at}"},
            ]
        }
    ]
}


@pytest.fixture
def own(pair: Pair) -> Pair:
    choose_own_topics(pair.account.user, True)
    return pair


def tasmota(account: Account, **changes: object) -> Intake:
    fields = {"name": "Plugs", "format": "mapped", "preset": "tasmota", "topic": "tasmota/#"}
    return create_intake(account.user, fields | changes)[0]


def connected(pair: Pair, at: Stack, name: str, version: Version = V5) -> Client:
    client = pair.client(at, name, version)
    client.connect()
    return client


@VERSIONS
def test_what_is_acknowledged_is_stored_and_subscribers_get_it_as_it_was(own: Pair, version: Version) -> None:
    own.account.device("cellar")
    tasmota(own.account, topic="tele/#", more_topics=["stat/#", "tasmota/#"])
    sender, ear = connected(own, own.a, "plug", version), connected(own, own.b, "ear", version)
    assert ear.subscribe("tasmota/#") == 2
    for qos, payload in ((1, b'{"T":21.5}'), (2, b'{"T":22.5}')):
        assert sender.publish(SENSOR, payload, qos) == 0
        assert own.account.stored()[-1] == (payload.replace(b":", b": ").decode(), "SENSOR")
        assert ear.message(payload).topic == SENSOR
    assert len(own.account.stored()) == 2
    sender.publish(SENSOR, b'{"T":23.5}', 0)
    wait_until(lambda: len(own.account.stored()) == 3, what="the message at QoS 0")


@VERSIONS
def test_it_is_retained_and_queued_as_it_was(own: Pair, version: Version) -> None:
    own.account.device("cellar")
    tasmota(own.account)
    ear = own.lasting(own.a, "ear", version)
    ear.subscribe(SENSOR, 1)
    ear.disconnect()
    sender = connected(own, own.a, "plug", version)
    assert sender.publish(SENSOR, b'{"T":21.5}', retain=True) == 0
    assert bytes(Retained.objects.get().payload) == b'{"T":21.5}'
    assert own.account.stored() == [('{"T": 21.5}', "SENSOR")]
    ear.connect(clean=False)
    ear.message(b'{"T":21.5}')
    assert sender.publish(SENSOR, b"", retain=True) == 0
    assert not Retained.objects.exists()
    assert len(own.account.stored()) == 1


def test_sent_again_it_is_stored_once_and_an_equal_one_is_another(own: Pair) -> None:
    own.account.device("cellar")
    tasmota(own.account)
    sender = connected(own, own.a, "plug")
    for _ in range(2):
        assert sender.publish(SENSOR, b'{"T":21.5}') == 0
    assert len(own.account.stored()) == 2
    for dup in (False, True):
        sender.send(Publish(SENSOR, b'{"T":21.5}', 1, False, dup, 77, {}))
        assert sender.ack(PUBACK, 77).code in {0, 0x10}
    assert len(own.account.stored()) == 3


def test_one_message_of_several_devices_and_their_times(own: Pair) -> None:
    for number, name in enumerate(("a", "b")):
        own.account.device(name, channel=number)
    create_intake(own.account.user, {"name": "All", "format": "mapped", "mapping": TIMED, "topic": "all"})
    sender = connected(own, own.a, "sender")
    now = now_us() // 1_000_000
    body = [{"id": name, "v": value, "at": now} for name, value in (("a", 1), ("b", 2), ("new", 3))]
    for _ in range(2):
        assert sender.publish("all", json.dumps(body).encode()) == 0
        assert own.account.stored(0) == [("1", None)]
        assert own.account.stored(1) == [("2", None)]
    configure_device(
        Device.objects.get(device_id="new"), {"enabled": True, "mapped_channel": own.account.channel(2)}
    )
    assert own.account.stored(2) == [("3", None)]


def test_what_it_can_not_read_is_listed_and_passed_on(own: Pair) -> None:
    create_intake(own.account.user, {"name": "All", "format": "mapped", "mapping": TIMED, "topic": "all"})
    sender, ear = connected(own, own.a, "sender"), connected(own, own.a, "ear")
    ear.subscribe("all")
    assert sender.publish("all", b"no JSON") == 0
    ear.message(b"no JSON")
    row = RejectedMessage.objects.get()
    assert (row.reason, row.source, bytes(row.payload)) == ("BAD_JSON_FORMAT", "intake 1: all", b"no JSON")
    wait_until(IntakeMessage.objects.exists, what="the note")
    note = IntakeMessage.objects.get()
    assert (note.outcome, note.source, bytes(note.body)) == ("rejected", "all", b"no JSON")


@pytest.mark.parametrize("switched_on", [True, False])
def test_wills_that_another_gateway_publishes(own: Pair, switched_on: bool) -> None:
    """From the database: of a client whose gateway is gone, and of one that has not come back in time."""
    own.account.device("plug")
    tasmota(own.account, topic="tele/#")
    for name, properties in (("killed", {}), ("late", {WILL_DELAY: 1})):
        will = Will("tele/plug/LWT", f'"{name}"'.encode(), 1, False, properties)
        own.lasting(own.b, name, will=will)
    ear = connected(own, own.a, "ear")
    ear.subscribe(own.topic("json/other"))
    if not switched_on:
        choose_own_topics(own.account.user, False)
    own.b.kill("ingest")
    sessions = ClientSession.objects.filter(client_id__in=("killed", "late"), will=None)
    wait_until(lambda: sessions.count() == 2, 60, "both wills to be published")
    assert sorted(own.account.stored()) == ([('"killed"', "LWT"), ('"late"', "LWT")] if switched_on else [])
    if switched_on:
        wait_until(IntakeMessage.objects.exists, what="the note")


def test_beyond_its_rate_it_makes_no_datapoints(own: Pair) -> None:
    """At 1 a second 10 may come at once."""
    own.account.device("cellar")
    tasmota(own.account, rate=1)
    sender, ear = connected(own, own.a, "plug"), connected(own, own.a, "ear")
    ear.subscribe("tasmota/#")
    for number in range(40):
        assert sender.publish(SENSOR, str(number).encode()) == 0
        ear.message(str(number).encode())  # as it always does
    count = len(own.account.stored())
    assert 10 <= count < 40
    assert RejectedMessage.objects.count() == 1  # one a minute of each topic
    row = RejectedMessage.objects.get()
    assert (row.reason, row.source) == ("TOO_MANY_REQUESTS", f"intake 1: {SENSOR}")
    wait_until(IntakeMessage.objects.filter(outcome="rejected").exists, what="the note")
    other = tasmota(own.account, topic="other/#")
    assert other.rate is None
    wait_until(lambda: sender.publish("other/cellar/tele/X", b"1") == 0 and len(own.account.stored()) > count)


def test_a_change_of_the_intakes_counts_for_those_who_are_connected(own: Pair) -> None:
    own.account.device("cellar")
    sender = connected(own, own.a, "plug")
    assert sender.publish(SENSOR, b'{"T":1}') in {0, 0x10}
    made = tasmota(own.account, topic="other/#")

    def stored() -> int:
        assert sender.publish(SENSOR, b'{"T":1}') in {0, 0x10}
        return len(own.account.stored())

    assert stored() == 0
    update_intake(made, {"topic": "tasmota/+/tele/#"})
    wait_until(stored, 10, "the intake to take it")
    delete_intake(made)
    wait_until(lambda: stored() == stored(), 10, "it to be gone")


def test_another_accounts_intake_takes_nothing(own: Pair, outsider: Account) -> None:
    own.account.device("cellar")
    outsider.device("cellar")
    choose_own_topics(outsider.user, True)
    tasmota(outsider)
    assert connected(own, own.a, "plug").publish(SENSOR, b'{"T":1}') in {0, 0x10}
    assert outsider.stored() == own.account.stored() == []


def test_without_the_switch_an_intake_takes_nothing(pair: Pair) -> None:
    pair.account.device("cellar")
    tasmota(pair.account)
    assert connected(pair, pair.a, "plug").publish(SENSOR, b'{"T":1}') == 0x87
    assert pair.account.stored() == []


@pytest.mark.parametrize("qos", [1, 2])
def test_it_is_acknowledged_once_all_of_it_is_stored(own: Pair, qos: int) -> None:
    """Also if the platform fails to store a part of it, for a while."""
    own.account.device("cellar")
    own.account.device("d1", channel=1)
    tasmota(own.account)
    sender = connected(own, own.a, "plug")
    kind = PUBACK if qos == 1 else PUBREC
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE streams_tag ADD CONSTRAINT novel CHECK (name <> 'SENSOR')")
    try:
        sender.send(Publish(SENSOR, b'{"T":1}', qos, False, False, 900, {}))
        for _ in range(3):  # each is answered behind it
            assert sender.publish(own.topic("json/d1"), b"1") == 0
        assert [each for each in sender.arrived() if isinstance(each, Ack)] == []
        assert own.account.stored() == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE streams_tag DROP CONSTRAINT novel")
    assert sender.answer(Ack, 900).type == kind
    assert own.account.stored() == [('{"T": 1}', "SENSOR")]
