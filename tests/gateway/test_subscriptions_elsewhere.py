"""Durable subscriptions count at all gateways, as soon as they are acknowledged by one."""

import os
import signal
from contextlib import suppress
from functools import partial

import pytest
from client import Client
from django.db import connection
from stack import Stack, wait_until
from two_gateways import LASTS, Pair, turned

from ingest.mqtt.packets import V5, V311, Ack, Publish, SubAck, Subscribe, Subscription, Version, Will
from thingscale.devices.models import ClientSession
from thingscale.devices.presence import gateways, key_of
from thingscale.processes import database_clock
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import Journal

pytestmark = pytest.mark.e2e
NO_MATCHING_SUBSCRIBERS = 0x10


def sender(pair: Pair, at: Stack) -> Client:
    client = pair.client(at, f"sender at {at.mqtt}")
    client.connect()
    return client


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_what_is_published_elsewhere_right_after_suback_is_queued(pair: Pair, version: Version) -> None:
    for here in (pair, turned(pair)):
        ear, mouth = here.lasting(here.a, "ear", version), sender(here, here.b)
        for number in range(25):
            exact, wild = here.topic(f"exact-{number}/subscribe"), here.topic(f"wild-{number}/+")
            ear.subscribe(exact, 1)
            assert mouth.publish(exact, b"1") == 0
            ear.subscribe(wild, 2)
            assert mouth.publish(here.topic(f"wild-{number}/subscribe"), b"2", 2) == 0
        ear.disconnect()
        assert mouth.publish(exact, b"last") == 0
        assert ear.connect(clean=False, properties=LASTS if version == V5 else None).session_present
        assert len(ear.messages_until(b"last")) == 50
        ear.connect(clean=True)
        ear.disconnect()


def test_what_is_unsubscribed_at_one_gateway_is_queued_at_none(pair: Pair) -> None:
    ear, mouth = pair.lasting(pair.a, "ear"), sender(pair, pair.b)
    for number in range(10):
        topic, other = pair.topic(f"d-{number}/subscribe"), pair.topic("other/subscribe")
        ear.subscribe(topic, 1)
        ear.subscribe(other, 1)
        assert ear.unsubscribe(topic) == [0]
        assert mouth.publish(topic, b"not this") in {0, NO_MATCHING_SUBSCRIBERS}
        assert mouth.publish(other, b"this") == 0
        ear.message(b"this")


def test_options_and_identifiers_are_those_of_the_last_subscribe(pair: Pair) -> None:
    ear, mouth, topic = pair.lasting(pair.a, "ear"), sender(pair, pair.b), pair.topic("d/subscribe")
    for identifier, qos in ((7, 2), (8, 1)):
        ear.subscribe(topic, qos, identifier=identifier)
        assert mouth.publish(topic, b"x", 2) == 0
        packet = ear.message(b"x")
        assert (packet.qos, packet.properties[0x0B]) == (qos, [identifier])


@pytest.mark.parametrize(
    "how", ["a clean start", "expiry 0", "its expiry", "a connection that it does not outlive", "and a will"]
)
def test_a_session_that_has_ended_is_known_nowhere(pair: Pair, how: str) -> None:
    """Else the other gateways would choose it as a member of its share group, and keep it for ever."""
    topic = pair.topic("d/subscribe")
    group = f"$share/g/{topic}"
    lives = pair.lasting(pair.a, "lives")
    lives.subscribe(group, 1)
    ends = pair.client(pair.a, "ends")
    ends.connect(clean=False, properties={0x11: 1 if how == "its expiry" else 600})
    ends.subscribe(group, 1)
    ends.disconnect(0, {0x11: 0} if how == "expiry 0" else None)
    if how == "a clean start":
        ends.connect(clean=True)
        ends.disconnect()
    elif how in {"a connection that it does not outlive", "and a will"}:
        will = Will(pair.topic("will/subscribe"), b"w", 1, False, {}) if how == "and a will" else None
        assert ends.connect(clean=False, will=will).session_present
        ends.vanish()
    wait_until(lambda: ClientSession.objects.count() == 1, 60, "the session to end")
    lives.disconnect()
    mouth = sender(pair, pair.b)
    wait_until(lambda: all_are_queued_for("lives", mouth, topic), 5, "the other gateway to know")


def all_are_queued_for(name: str, mouth: Client, topic: str) -> bool:
    before = ClientSession.objects.get(client_id=name).next_seq
    for _ in range(6):
        assert mouth.publish(topic, b"x") == 0
    return ClientSession.objects.get(client_id=name).next_seq == before + 6


@pytest.mark.parametrize("with_will", [False, True], ids=["without a will", "with a will"])
def test_a_session_that_has_ended_with_its_gateway_is_known_nowhere(pair: Pair, with_will: bool) -> None:
    """Its client came back with expiry 0, so that it does not outlive its connection, and the gateway was
    killed. The one that notices that tells those that had started by then."""
    topic = pair.topic("d/subscribe")
    group = f"$share/g/{topic}"
    lives, ends = pair.lasting(pair.b, "lives"), pair.lasting(pair.a, "ends")
    lives.subscribe(group, 1)
    lives.disconnect()
    ends.subscribe(group, 1)
    ends.disconnect()
    will = Will(pair.topic("will/subscribe"), b"w", 1, False, {}) if with_will else None
    assert ends.connect(clean=False, will=will).session_present
    pair.a.kill("ingest", signal.SIGKILL)
    pair.a.ensure("ingest")
    wait_until(lambda: ClientSession.objects.count() == 1, 60, "the session to end")
    for at in (pair.a, pair.b):
        mouth = sender(pair, at)
        wait_until(partial(all_are_queued_for, "lives", mouth, topic), 5, f"port {at.mqtt} to know")


def test_a_gateway_that_starts_knows_them_and_is_told(pair: Pair) -> None:
    ear, topic = pair.lasting(pair.a, "ear"), pair.topic("d/subscribe")
    ear.subscribe(pair.topic("before/subscribe"), 1)
    third = Stack()
    pair.ended.callback(third.stop)
    third.ensure("ingest")
    mouth = sender(pair, third)
    assert mouth.publish(pair.topic("before/subscribe"), b"before") == 0
    ear.message(b"before")
    ear.subscribe(topic, 1)
    assert mouth.publish(topic, b"after") == 0
    ear.message(b"after")


def test_a_gateway_whose_listening_connection_breaks_is_told_again(pair: Pair) -> None:
    ear, mouth = pair.lasting(pair.a, "ear"), sender(pair, pair.b)
    for number in range(5):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'thingscale-ingest' AND query IN ('LISTEN thingscale', %s)"
                " AND datname = current_database()",
                [database_clock.QUESTION],
            )
        topic = pair.topic(f"d-{number}/subscribe")
        ear.subscribe(topic, 1)
        assert mouth.publish(topic, b"x") == 0
        ear.message(b"x")


def test_a_gateway_that_is_killed_holds_nobody_up_for_long(pair: Pair) -> None:
    """Two seconds, though it could not say goodbye; and from then on not at all."""
    ear, keys = pair.lasting(pair.a, "ear"), living()
    pair.b.kill("ingest", signal.SIGKILL)
    ear.subscribe(pair.topic("d/subscribe"), 1)
    assert len(fenced_of(keys)) == 1
    for number in range(20):
        ear.subscribe(pair.topic(f"d-{number}/subscribe"), 1)


def test_a_gateway_that_stops_holds_nobody_up(pair: Pair) -> None:
    ear, keys = pair.lasting(pair.a, "ear"), living()
    ear.subscribe(pair.topic("1/subscribe"), 1)
    pair.b.kill("ingest", signal.SIGTERM)
    for number in range(10):
        ear.subscribe(pair.topic(f"{number}/subscribe"), 1)
    assert not fenced_of(keys), "nobody was waited for in vain"


def test_a_gateway_that_hangs_is_fenced_and_acknowledges_nothing_more(pair: Pair) -> None:
    """It lives, for all that the database can see, but does not hear of a subscription in time. What it takes
    from then on would be missing in the queue: so it ends."""
    ear, mouth, topic = pair.lasting(pair.a, "ear"), sender(pair, pair.b), pair.topic("d/subscribe")
    process = pair.b.processes["ingest"].pid
    os.kill(process, signal.SIGSTOP)
    try:
        ear.send(Subscribe(1, [Subscription(topic, 1, False, False, 0)], {}))
        assert isinstance(ear.receive(20), SubAck)
        mouth.send(Publish(topic, b"lost", 1, False, False, 1, {}))
    finally:
        os.kill(process, signal.SIGCONT)
    while (packet := receive(mouth)) is not None:
        assert not isinstance(packet, Ack), "nothing is acknowledged"
    assert pair.b.processes["ingest"].wait(30) == 1
    pair.b.ensure("ingest")
    again = sender(pair, pair.b)
    assert again.publish(topic, b"again") == 0
    ear.message(b"again")


def living() -> set[int]:
    """The keys of both gateways. Those of earlier tests are still fenced now and then."""
    with connection.cursor() as cursor:
        keys = set(gateways(cursor))
    assert len(keys) == 2
    return keys


def fenced_of(keys: set[int]) -> set[int]:
    return keys & {key_of(each.writer) for each in Journal.objects.filter(fenced=True)}


def receive(client: Client) -> object:
    with suppress(ConnectionResetError):
        return client.receive(20)
    return None


def test_a_fence_is_for_one_gateway(pair: Pair) -> None:
    keys = living()
    for at in (pair.a, pair.b):  # each has stored something
        mouth = sender(pair, at)
        assert mouth.publish(pair.topic("d/subscribe"), b"1", retain=True) in {0, NO_MATCHING_SUBSCRIBERS}
    writers = {key_of(each.writer): each.writer for each in Journal.objects.all()}
    assert keys <= set(writers)
    mouth = sender(pair, pair.a)
    assert mouth.publish(pair.topic("d/subscribe"), b"1", retain=True) in {0, NO_MATCHING_SUBSCRIBERS}
    fenced = max(keys, key=lambda key: Journal.objects.get(writer=writers[key]).batch)  # that is A
    with connection.cursor() as cursor:
        commit_log.fence(cursor.cursor, [fenced])
    assert fenced_of(keys) == {fenced}
    assert pair.a.processes["ingest"].wait(30) == 1, "it hears of it, and ends"
    assert sender(pair, pair.b).publish(pair.topic("json/d"), b"1") == 0
