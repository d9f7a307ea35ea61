"""Two gateways on one database: a client is connected to one of them, and its session goes with it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from client import Client
from stack import Stack, wait_until
from support import Account
from test_kill_ingest import store_of
from two_gateways import LASTS, Pair, turned

from ingest.mqtt.packets import PUBCOMP, PUBREC, PUBREL, V5, V31, V311, Ack, Publish, Version, Will
from ingest.service import connect
from thingscale.devices import presence
from thingscale.devices.commands import Message, send
from thingscale.devices.models import ClientSession, Command, MqttSession

pytestmark = pytest.mark.e2e
TAKEN_OVER = 0x8E
WILL_DELAY = 0x18


@pytest.fixture(scope="module")
def _second(django_db_setup: None) -> Iterator[Stack]:
    made = Stack()
    yield made
    made.stop()


@pytest.fixture
def pair(stack: Callable[..., Stack], _second: Stack, account: Account) -> Iterator[Pair]:
    """Both started once for all of these tests."""
    first = stack("ingest")
    _second.ensure("ingest")
    with ExitStack() as ended:
        yield Pair(first, _second, ended, account)


@pytest.mark.parametrize("version", [V31, V311, V5], ids=["3.1", "3.1.1", "5"])
def test_who_connects_to_another_gateway_is_cut_off_at_the_first(pair: Pair, version: Version) -> None:
    for here in (pair, turned(pair)):
        first = here.client(here.a, "c", version)
        first.connect()
        second = here.client(here.b, "c", version)
        second.connect()
        first.closed(*([TAKEN_OVER] if version == V5 else []))
        second.ping()
        second.disconnect()


def test_of_many_at_the_same_moment_one_each_stays(pair: Pair) -> None:
    names = [f"c-{number}" for number in range(20)]
    pairs = [(pair.client(pair.a, name), pair.client(pair.b, name)) for name in names]
    for both in pairs:
        for client in both:
            client.dial()
    for both in pairs:
        for client in both:
            client.send(client.connect_packet())
    ends: set[Client] = set()

    def one_each_is_over() -> bool:
        for both in pairs:
            for client in both:
                with suppress(TimeoutError):
                    while client not in ends:
                        if client.receive(0.01) is None:
                            ends.add(client)
        return all(ends & set(both) for both in pairs)

    wait_until(one_each_is_over, 60, "one of each to be closed")
    wait_until(lambda: MqttSession.objects.count() == len(names), 60, "the others to be listed")
    left = [client for both in pairs for client in both if client not in ends]
    for client in left:
        client.ping()
    assert sorted(client.client_id for client in left) == sorted(names)


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_a_session_goes_with_its_client(pair: Pair, version: Version) -> None:
    """Subscriptions, queue, and QoS 2 in both directions; the first connection is closed before CONNACK."""
    topic, other = pair.topic("d/subscribe"), pair.topic("e/subscribe")
    ear = pair.lasting(pair.a, "ear")
    ear.subscribe(other, 2)
    first = pair.lasting(pair.a, "moves", version)
    first.subscribe(topic, 2)
    sender = pair.client(pair.a, "sender")
    sender.connect()
    assert sender.publish(topic, b"one", 2) == 0
    delivery = first.expect(Publish)
    first.send(Ack(PUBREC, delivery.packet_id, 0, {}))
    assert first.answer(Ack, delivery.packet_id).type == PUBREL  # and its PUBCOMP does not come
    first.send(Publish(other, b"two", 2, False, False, 7, {}))
    assert first.answer(Ack, 7).type == PUBREC  # and its PUBREL does not come
    second = pair.client(pair.b, "moves", version)
    answer = second.connect(clean=False, properties=LASTS if version == V5 else None)
    assert answer.session_present
    first.closed(*([TAKEN_OVER] if version == V5 else []))
    assert second.answer(Ack, delivery.packet_id).type == PUBREL
    second.send(Ack(PUBCOMP, delivery.packet_id, 0, {}))
    second.send(Publish(other, b"two", 2, False, True, 7, {}))  # sent again
    assert second.answer(Ack, 7).type == PUBREC
    second.send(Ack(PUBREL, 7, 0, {}))
    assert second.answer(Ack, 7).type == PUBCOMP
    assert sender.publish(topic, b"three", 1) == 0  # at the gateway that it has left
    second.message(b"three")
    assert sender.publish(other, b"last", 1) == 0
    assert [packet.payload for packet in ear.messages_until(b"last")] == [b"two"]


def test_a_session_that_has_moved_has_the_subscriptions_of_today(pair: Pair) -> None:
    """Neither loses it those of the other gateway, nor keeps it what was unsubscribed there."""
    client = pair.lasting(pair.a, "moves")
    client.subscribe(pair.topic("old/subscribe"), 1)
    client = pair.lasting(pair.b, "moves")
    client.unsubscribe(pair.topic("old/subscribe"))
    client.subscribe(pair.topic("new/subscribe"), 1)
    client = pair.lasting(pair.a, "moves")
    for name in ("old", "new"):
        assert client.publish(pair.topic(f"{name}/subscribe"), name.encode()) in {0, 0x10}
    client.message(b"new")
    client.nothing()


def test_the_wills_of_a_gateway_that_is_killed_are_published_by_another(pair: Pair) -> None:
    topic = pair.topic("d/subscribe")
    listener = pair.client(pair.a, "listener")
    listener.connect()
    listener.subscribe(topic, 1)
    for name, properties in (("at once", {}), ("waits", {WILL_DELAY: 3600}), ("back", {WILL_DELAY: 2})):
        pair.lasting(pair.b, name, will=Will(topic, name.encode(), 1, False, properties))
    pair.b.kill("ingest", signal.SIGKILL)
    before = len(pair.a.log("ingest"))
    pair.lasting(pair.a, "back")
    assert "has not let go" not in pair.a.log("ingest")[before:], "nobody is waited for who is dead"
    listener.message(b"at once")
    listener.ping()
    assert ClientSession.objects.get(client_id="back").will_at is None


@pytest.mark.parametrize(("clean", "delay"), [(True, 0), (True, 3600), (False, 0)])
def test_who_comes_back_at_once_from_a_killed_gateway_leaves_a_will(
    pair: Pair, clean: bool, delay: int
) -> None:
    """Its connection broke. A will that waits is due with the end of its session, by a clean start."""
    topic = pair.topic("d/subscribe")
    listener = pair.client(pair.a, "listener")
    listener.connect()
    listener.subscribe(topic, 1)
    pair.lasting(pair.b, "back", will=Will(topic, b"broken", 1, False, {WILL_DELAY: delay} if delay else {}))
    pair.b.kill("ingest", signal.SIGKILL)
    back = pair.client(pair.a, "back")
    back.connect(clean=clean, properties=LASTS)
    listener.message(b"broken")
    back.ping()
    listener.nothing()


def test_a_delayed_will_is_not_published_when_the_client_is_back_elsewhere(pair: Pair) -> None:
    topic = pair.topic("d/subscribe")
    listener = pair.client(pair.a, "listener")
    listener.connect()
    listener.subscribe(topic, 1)
    gone = pair.lasting(pair.a, "gone", will=Will(topic, b"gone", 1, False, {WILL_DELAY: 1}))
    late = pair.lasting(pair.a, "late", will=Will(topic, b"late", 1, False, {WILL_DELAY: 1}))
    gone.vanish()
    late.vanish()
    wait_until(lambda: ClientSession.objects.filter(will_at=None).count() == 0, 60, "both wills to wait")
    back = pair.lasting(pair.b, "gone")
    listener.message(b"late")  # is due behind it
    listener.ping()
    back.ping()


def test_a_command_reaches_a_client_where_it_is_now(pair: Pair) -> None:
    for version in (V311, V5):
        device = pair.account.device(
            f"d-{version}"
        )  # a gateway that is late may still tell of another's command
        topic = pair.topic(f"d-{version}/subscribe")
        moved = pair.client(pair.a, "moves", version)
        moved.connect()
        moved.subscribe(topic, 1)
        now = pair.client(pair.b, "moves", version)
        now.connect()
        now.subscribe(topic, 1)
        moved.closed(*([TAKEN_OVER] if version == V5 else []))
        send(pair.account.user, device, Message(b"go", 1), Command.By.API)
        now.message(b"go")
        now.disconnect()


def test_a_session_that_is_to_end_with_its_connection_is_not_taken_for_another_gateways(pair: Pair) -> None:
    """The gateways look once a second what is theirs, and what others have put into queues."""
    topic = pair.topic("d/subscribe")
    client = pair.lasting(pair.a, "ends")
    client.subscribe(topic, 1)
    client.disconnect()
    assert client.connect(clean=False).session_present
    ear = pair.lasting(pair.a, "ear")
    ear.subscribe(topic, 1)
    sender = pair.lasting(pair.b, "sender")
    pair.lasting(pair.b, "ear").disconnect()  # so that both gateways know what it subscribes to
    ear = pair.lasting(pair.a, "ear")
    for number in range(4):  # each is seen at the next look
        assert sender.publish(topic, b"%d" % number) == 0
        ear.message(b"%d" % number)
    client.ping()


def test_what_a_gateway_without_its_lock_still_has_to_store_is_not_stored_twice(pair: Pair) -> None:
    """It has lost its connection, not its life, and the other one takes it for dead. What its client has sent
    still waits for storage there, and is sent again to the other one: at QoS 2 it comes once."""
    topic = pair.topic("d/subscribe")
    message = Publish(topic, b"once", 2, False, False, 7, {})
    ear = pair.lasting(pair.b, "ear")
    ear.subscribe(topic, 2)
    sender = pair.lasting(pair.a, "sender")
    wait_until(lambda: MqttSession.objects.filter(client_id="sender").exists(), 60, "the sender to be listed")
    gateway = MqttSession.objects.get(client_id="sender").gateway
    process = pair.a.processes["ingest"]
    store = store_of(process.pid)
    os.kill(store, signal.SIGSTOP)
    try:
        sender.send(message)
        sender.ping()
        end_presence(gateway)
        sender = pair.lasting(pair.b, "sender")
        sender.send(message._replace(dup=True))
        assert sender.answer(Ack, 7).type == PUBREC
        sender.send(Ack(PUBREL, 7, 0, {}))
        assert sender.answer(Ack, 7).type == PUBCOMP
    finally:
        os.kill(store, signal.SIGCONT)
    process.wait(60)  # it begins anew
    assert sender.publish(topic, b"last") == 0
    assert [packet.payload for packet in ear.messages_until(b"last")] == [b"once"]


def end_presence(gateway: int) -> None:
    """The connection that holds the lock by which others see that it lives."""
    with connect() as other:
        ended = other.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = %s AND objid = %s""",
            [presence.LOCK, gateway],
        )
        assert len(ended.fetchall()) == 1
