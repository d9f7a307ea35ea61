"""Two gateways and a web process, whose machines' clocks are two minutes apart, on one database: none of that
is seen."""

import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from client import Client
from django.db import connection
from stack import Stack, wait_until
from support import Account
from test_several_gateways import (  # noqa: F401  with the clocks of `pair` here
    test_a_command_reaches_a_client_where_it_is_now,
    test_a_delayed_will_is_not_published_when_the_client_is_back_elsewhere,
    test_a_session_goes_with_its_client,
    test_of_many_at_the_same_moment_one_each_stays,
    test_who_connects_to_another_gateway_is_cut_off_at_the_first,
)
from two_gateways import EXPIRY, LASTS, Pair, turned

from ingest.mqtt.packets import PUBACK, V5, Ack, Publish, Subscription, Will
from thingscale.accounts.actions import revoke_rotated_tokens, rotate_token
from thingscale.accounts.models import Token

pytestmark = pytest.mark.e2e
MESSAGE_EXPIRY = 0x02
RECEIVE_MAXIMUM = 0x21
WILL_DELAY = 0x18
SENT_ONCE = 7  # a packet id
LASTING = 40  # seconds: less than the clocks are wrong, and more than a test takes


class Machine(Stack):
    """The clock of its processes is wrong."""

    def __init__(self, ahead: float) -> None:
        handle, self._clock = tempfile.mkstemp(prefix="thingscale-clock-")
        os.close(handle)
        self.set_clock(ahead)
        path = os.pathsep.join(
            [str(Path(__file__).parent / "another_clock"), os.environ.get("PYTHONPATH", "")]
        )
        super().__init__(PYTHONPATH=path, ANOTHER_CLOCK=self._clock)

    def set_clock(self, ahead: float) -> None:
        """In seconds. At once, also for what runs."""
        with Path(self._clock).open("r+b") as file:
            file.write(struct.pack("d", ahead))


@pytest.fixture(scope="module")
def machines(django_db_setup: None) -> Iterator[tuple[Machine, Machine]]:
    made = Machine(60), Machine(-60)
    yield made
    for each in made:
        each.stop()


@pytest.fixture
def pair(machines: tuple[Machine, Machine], account: Account, transactional_db: None) -> Iterator[Pair]:
    """Both started once for all of these tests. The first one is ahead."""
    for each in machines:
        each.ensure("ingest")
    with ExitStack() as ended:
        yield Pair(*machines, ended, account)


@pytest.fixture(params=["ahead", "behind"])
def first(pair: Pair, request: pytest.FixtureRequest) -> Pair:
    """The first of the two is ahead, or behind."""
    return pair if request.param == "ahead" else turned(pair)


def test_the_clocks_are_apart(pair: Pair) -> None:
    for at, ahead in ((pair.a, 60), (pair.b, -60)):
        code = (
            "import time; from datetime import UTC, datetime as d; print(d.now(UTC).timestamp(), time.time())"
        )
        told, _ = at.manage("shell", "--no-imports", "-c", code).communicate(timeout=60)
        for moment in map(float, told.split()):
            assert moment - time.time() == pytest.approx(ahead, abs=30)


def times(account: Account) -> list[float]:
    """Of the datapoints as they were stored, from now on."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT extract(epoch FROM d.at - clock_timestamp())::float8 FROM datapoint d
            JOIN streams_channel c ON c.id = d.channel WHERE c.user_id = %s ORDER BY d.id""",
            [account.user.pk],
        )
        return [seconds for (seconds,) in cursor.fetchall()]


def value(number: int) -> bytes:
    return b"%d" % number


def test_the_times_of_datapoints_are_in_order_wherever_they_came(pair: Pair) -> None:
    pair.account.device("d")
    for number, at in enumerate((pair.a, pair.b, pair.a, pair.b)):
        client = pair.client(at, "moves")
        client.connect()
        assert client.publish(pair.topic("json/d"), value(number)) == 0
    assert [text for text, _ in pair.account.stored()] == ["0", "1", "2", "3"]
    found = times(pair.account)
    assert found == sorted(found)
    assert -LASTING < found[0] <= found[-1] <= 0


def confirmed(client: Client, topic: str) -> None:
    """The gateway has answered all that the client has sent."""
    client.connect()
    assert client.publish(topic, b"0") == 0
    client.disconnect()


def send_unanswered(pair: Pair, at: Stack, name: str, payload: bytes) -> None:
    """It is stored, but its sender does not know."""
    client = pair.client(at, name)
    client.connect()
    client.send(Publish(pair.topic("json/d"), payload, 1, False, False, SENT_ONCE, {}))
    wait_until(lambda: payload.decode() in [text for text, _ in pair.account.stored()], 60, "it to be stored")
    client.vanish()


def send_again(pair: Pair, at: Stack, name: str, payload: bytes) -> None:
    client = pair.client(at, name)
    client.connect()
    client.send(Publish(pair.topic("json/d"), payload, 1, False, True, SENT_ONCE, {}))
    assert client.answer(Ack, SENT_ONCE).type == PUBACK


@pytest.mark.parametrize("known", ["nobody", "the first", "the second", "both"])
def test_what_is_sent_again_to_the_other_gateway_is_stored_once(first: Pair, known: str) -> None:
    """Also if a gateway knows since when all was answered that the client had sent before."""
    first.account.device("d")
    if known in {"the first", "both"}:
        confirmed(first.client(first.a, "c"), first.topic("json/d"))
    if known in {"the second", "both"}:
        confirmed(first.client(first.b, "c"), first.topic("json/d"))
    send_unanswered(first, first.a, "c", b"1")
    send_again(first, first.b, "c", b"1")
    assert [text for text, _ in first.account.stored()].count("1") == 1


def test_a_new_message_that_looks_like_one_of_before_is_stored(first: Pair) -> None:
    """It was lost on its way when it was sent first. The gateway knows that all before it was answered."""
    first.account.device("d")
    client = first.client(first.a, "c")
    client.connect()
    client.send(Publish(first.topic("json/d"), b"1", 1, False, False, SENT_ONCE, {}))
    assert client.answer(Ack, SENT_ONCE).type == PUBACK
    client.disconnect()
    confirmed(first.client(first.b, "c"), first.topic("json/d"))
    send_again(first, first.b, "c", b"1")
    assert [text for text, _ in first.account.stored()].count("1") == 2


def test_a_session_lasts_as_long_as_it_was_asked_to(first: Pair) -> None:
    lasting, ending = first.client(first.a, "lasts", V5), first.client(first.a, "ends", V5)
    lasting.connect(clean=False, properties={EXPIRY: LASTING})
    ending.connect(clean=False, properties={EXPIRY: 1})
    for client in (lasting, ending):
        client.disconnect()
    wait_until(lambda: _is_over("ends"), LASTING, "its end")
    for name, present in (("lasts", True), ("ends", False)):
        back = first.client(first.b, name, V5)
        assert back.connect(clean=False, properties={EXPIRY: LASTING}).session_present == present


def _is_over(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT NOT EXISTS (SELECT FROM mqtt_session WHERE client_id = %s
                AND (ends_at IS NULL OR ends_at > clock_timestamp()))""",
            [name],
        )
        return bool(cursor.fetchone()[0])


def test_a_will_waits_for_its_delay(first: Pair) -> None:
    topic = first.topic("d/subscribe")
    listener = first.client(first.b, "listener", V5)
    listener.connect()
    listener.subscribe(topic, 1)
    will = Will(topic, b"gone", 1, False, {WILL_DELAY: 2})
    gone = first.lasting(first.a, "gone", will=will)
    vanished_at = time.monotonic()
    gone.vanish()
    listener.message(b"gone")
    assert 1.9 < time.monotonic() - vanished_at < LASTING


def test_a_queued_message_expires_in_its_time(first: Pair) -> None:
    topic = first.topic("d/subscribe")
    for here in (first, turned(first)):
        ear = first.lasting(here.a, "ear")
        ear.subscribe(topic, 1)
        ear.disconnect()
        sender = first.client(here.b, "sender", V5)
        sender.connect()
        assert sender.publish(topic, b"lasts", properties={MESSAGE_EXPIRY: LASTING}) == 0
        ear.connect(clean=False, properties=LASTS)
        assert 1 <= ear.message(b"lasts").properties[MESSAGE_EXPIRY] <= LASTING
        ear.disconnect()
        assert sender.publish(topic, b"over", properties={MESSAGE_EXPIRY: 1}) == 0
        assert sender.publish(topic, b"last") == 0
        published_at = time.monotonic()
        wait_until(lambda at=published_at: time.monotonic() - at > 1.2, 60, "the first to expire")  # type: ignore[misc]
        ear.connect(clean=False, properties=LASTS)
        ear.message(b"last")
        ear.disconnect()


def test_a_retained_message_expires_in_its_time(first: Pair) -> None:
    """And the last one is retained, whose clock ever is behind."""
    topic = first.topic("d/subscribe")
    for at in (first.b, first.a):
        sender = first.client(at, "sender", V5)
        sender.connect()
        for payload in (b"old", b"new"):
            assert sender.publish(topic, payload, retain=True, properties={MESSAGE_EXPIRY: LASTING}) == 0
        over = first.topic("e/subscribe")
        assert sender.publish(over, b"over", retain=True, properties={MESSAGE_EXPIRY: 1}) == 0
        for reader_at in (first.a, first.b):
            reader = first.client(reader_at, "reader", V5)
            reader.connect()
            reader.subscribe(topic, 1)
            assert 1 <= reader.message(b"new").properties[MESSAGE_EXPIRY] <= LASTING
            wait_until(lambda: _expired("e/subscribe"), LASTING, "the other to expire")
            reader.subscribe(over, 1)
            reader.nothing()


def _expired(topic: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT NOT EXISTS (
                SELECT FROM mqtt_retained WHERE topic = %s AND expires_at > clock_timestamp())""",
            [topic],
        )
        return bool(cursor.fetchone()[0])


def test_a_command_of_a_web_process_comes_once_at_each_gateway(first: Pair) -> None:
    """To those who are connected, and into the queues of others."""
    first.account.device("d")
    topic = first.topic("d/subscribe")
    first.a.ensure("web")
    ears = [first.client(at, f"ear-{number}") for number, at in enumerate((first.a, first.b))]
    away = first.lasting(first.b, "away")
    away.subscribe(topic, 1)
    away.disconnect()
    for ear in ears:
        ear.connect()
        ear.subscribe(topic, 1)
    for payload in ("one", "two"):
        answer = requests.post(
            first.a.url("/v2/publish/d"),
            json={"payload": payload, "qos": 1},
            headers={"X-APITOKEN": first.account.api_token},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
    away.connect(clean=False, properties=LASTS)
    for ear in (*ears, away):
        ear.message(b"one")
        ear.message(b"two")
        ear.nothing()


def test_a_token_ends_at_all_gateways_when_its_owner_says_so(pair: Pair) -> None:
    rotate_token(pair.account.user, Token.Kind.DEVICE)
    for at in (pair.a, pair.b):
        pair.client(at, "c", V5).connect()
    revoke_rotated_tokens(pair.account.user, Token.Kind.DEVICE)
    for at in (pair.a, pair.b):

        def refused(at: Stack = at) -> bool:
            client = pair.client(at, "c", V5)
            client.dial()
            client.send(client.connect_packet())
            return bool(client.receive().code)  # type: ignore[union-attr]

        wait_until(refused, LASTING, "the old token to be refused")


def test_a_clock_that_is_set_while_the_gateway_runs_changes_nothing(
    pair: Pair, machines: tuple[Machine, Machine]
) -> None:
    """A message that waits for its client's answer does not expire by it, datapoints stay in order, and what
    was stored before is known."""
    pair.account.device("d")
    topic = pair.topic("e/subscribe")
    slow = pair.client(pair.a, "slow", V5)
    slow.connect(properties={RECEIVE_MAXIMUM: 1})
    slow.subscribe_all([Subscription(topic, 1, False, False, 0)])
    try:
        for number, ahead in enumerate((-60, 60, 0, 60)):
            sender = pair.client(pair.a, "sender", V5)
            sender.connect()
            for payload in (b"first", b"second"):
                assert sender.publish(topic, payload, properties={MESSAGE_EXPIRY: LASTING}) == 0
            shown = slow.expect(Publish)
            confirmed(pair.client(pair.a, "c"), pair.topic("json/d"))
            send_unanswered(pair, pair.a, "c", value(number + 1))
            machines[0].set_clock(ahead)
            send_again(pair, pair.a, "c", value(number + 1))
            slow.accept(shown)
            assert 1 <= slow.message(b"second").properties[MESSAGE_EXPIRY] <= LASTING
    finally:
        machines[0].set_clock(60)
    assert [text for text, _ in pair.account.stored()] == ["0", "1", "0", "2", "0", "3", "0", "4"]
    found = times(pair.account)
    assert found == sorted(found)
