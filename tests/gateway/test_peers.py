"""Several gateways on one database and one Valkey: what is published at one reaches who is connected to
another, as with one."""

import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pytest
from client import Client, Endpoint
from stack import Stack, free_port, wait_until
from support import Account

from ingest.mqtt.packets import V5, V311, Ack, Publish, SubAck, Subscribe, Subscription, Version, Will
from thingscale.devices.commands import Message, send
from thingscale.devices.models import Command
from thingscale.local.servers import Servers

pytestmark = pytest.mark.e2e
EXPIRY, IDENTIFIER, MESSAGE_EXPIRY = 0x11, 0x0B, 0x02
LASTS = {EXPIRY: 600}


class Gateways:
    """Some, on one database and one Valkey, and their clients."""

    def __init__(self, ended: ExitStack, account: Account, stacks: list[Stack]) -> None:
        self.ended = ended
        self.account = account
        self.stacks = stacks

    def start(self) -> "Gateways":
        for stack in self.stacks:
            stack.environment.setdefault("THINGSCALE_METRICS_PORT", str(free_port()))
            stack.ensure("ingest")
        self.meet()
        return self

    def meet(self) -> None:
        """Until each hears of all others. (One of other tests may live, too.)"""
        places = range(len(self.stacks))

        def all_met() -> bool:
            return all(self.figure(place, "peers") >= len(places) - 1 for place in places)

        wait_until(all_met, 20, "the peers")

    def figure(self, place: int, name: str) -> float:
        """From the metrics page."""
        port = self.stacks[place].environment["THINGSCALE_METRICS_PORT"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                text = page.read().decode()
        except OSError:
            return -1
        found = re.search(rf"^thingscale_{name}(?:_total)? (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else -1

    def told(self, place: int) -> float:
        """How many messages it has told the others: also those on their way, since a SUBSCRIBE elsewhere
        waits for all that is told before the answer to it."""
        mark = self.client(1 - place, "mark")
        mark.subscribe(self.topic("mark"))
        mark.disconnect()
        return self.figure(place, "peer_messages")

    def client(
        self, place: int, name: str, version: Version = V5, account: Account | None = None, **options: object
    ) -> Client:
        owner = account or self.account
        endpoint = Endpoint(self.stacks[place].mqtt, owner.user_id, owner.device_token.encode())
        client = Client(endpoint, name, version)
        self.ended.callback(client.vanish)
        client.connect(**options)  # type: ignore[arg-type]
        return client

    def lasting(self, place: int, name: str) -> Client:
        return self.client(place, name, clean=False, properties=LASTS)

    def topic(self, rest: str) -> str:
        return f"{self.account.device_token}/{rest}"


@pytest.fixture(scope="module")
def module_stacks(django_db_setup: None) -> Iterator[list[Stack]]:
    stacks = [Stack(), Stack()]
    yield stacks
    for stack in stacks:
        stack.stop()


@pytest.fixture
def gateways(module_stacks: list[Stack], account: Account) -> Iterator[Gateways]:
    """Two, which go on with the next test."""
    with ExitStack() as ended:
        yield Gateways(ended, account, module_stacks).start()


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
@pytest.mark.parametrize("filter_", ["d/subscribe", "+/subscribe", "#"])
def test_each_message_comes_once_and_in_order(gateways: Gateways, version: Version, filter_: str) -> None:
    topic = gateways.topic("d/subscribe")
    sender = gateways.client(0, "sender")
    for qos in (0, 1, 2):
        ears = [gateways.client(place, f"ear-{qos}-{place}", version) for place in (0, 1)]
        for ear in ears:
            assert ear.subscribe(gateways.topic(filter_), qos) == qos
        payloads = [b"%d-%d" % (qos, number) for number in range(60)]
        for number, payload in enumerate(payloads):
            sender.publish(topic, payload, number % 3)
        for ear in ears:
            got = [ear.message() for _ in payloads]
            assert [packet.payload for packet in got] == payloads
            assert [packet.qos for packet in got] == [min(qos, number % 3) for number in range(60)]
            ear.nothing()
        for ear in ears:
            ear.disconnect()


def test_who_has_unsubscribed_or_left_gets_nothing_and_nothing_is_told(gateways: Gateways) -> None:
    one, other = gateways.topic("one/subscribe"), gateways.topic("other/subscribe")
    sender = gateways.client(0, "sender")
    ear, guest = gateways.client(1, "ear"), gateways.client(1, "guest")
    began = gateways.told(0)
    for client in (ear, guest):
        client.subscribe(one, 1)
        client.subscribe(other, 1)
    ear.unsubscribe(one)
    sender.publish(one, b"one")
    sender.publish(other, b"other")
    ear.message(b"other")
    ear.nothing()
    assert [guest.message().payload for _ in "12"] == [b"one", b"other"]
    guest.disconnect()
    ear.vanish()
    assert gateways.told(0) - began == 2, "once to the other gateway, however many clients there want it"

    def nothing_is_told() -> bool:
        before = gateways.told(0)
        sender.publish(other, b"nobody")
        return gateways.told(0) == before

    wait_until(nothing_is_told, 10, "the peer to know that they have left")


def test_what_is_published_behind_suback_is_never_missed(gateways: Gateways) -> None:
    sender, ear = gateways.client(0, "sender"), gateways.client(1, "ear")
    for number in range(200):
        topic = gateways.topic(f"d{number}/subscribe")
        wanted = topic if number % 2 else gateways.topic(f"d{number}/#")
        ear.subscribe(wanted, number % 3)
        sender.publish(topic, b"%d" % number, (number + 1) % 3)
        ear.message(b"%d" % number)
        if number % 3:
            ear.unsubscribe(wanted)
    ear.nothing()


def test_a_subscription_is_new_again_after_each_unsubscribe(gateways: Gateways) -> None:
    """The same filter again and again, of clients that come and go."""
    topic = gateways.topic("d/subscribe")
    sender = gateways.client(0, "sender")
    for number in range(30):
        ear = gateways.client(1, "ear")
        ear.subscribe(topic, 1)
        sender.publish(topic, b"%d" % number)
        ear.message(b"%d" % number)
        if number % 2:
            ear.unsubscribe(topic)
            sender.publish(topic, b"nobody")
            ear.nothing()
        else:
            ear.disconnect()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_retained_around_a_subscribe_is_not_missed(gateways: Gateways, qos: int) -> None:
    """Published while SUBSCRIBE is on its way: it is among the retained messages, or comes behind them, and
    the newest comes last."""
    sender, ear = gateways.client(0, "sender"), gateways.client(1, "ear")
    for number in range(60):
        topic = gateways.topic(f"r{number}/subscribe")
        sender.publish(topic, b"old", 1, retain=True)
        packet_id = ear.next_id()
        subscribe = Subscribe(packet_id, [Subscription(topic, qos, False, True, 0)], {})
        if number % 2:
            ear.send(subscribe)
        sender.send(Publish(topic, b"new", 1, True, False, sender.next_id(), {}))
        if not number % 2:
            ear.send(subscribe)
        assert ear.answer(SubAck, packet_id).codes == [qos]
        sender.answer(Ack)
        sender.publish(topic, b"end", 1)
        got = [packet.payload for packet in ear.messages_until(b"end")]
        assert b"new" in got, f"{number}: {got}"
        assert got[-1] == b"new", f"{number}: {got}"


def test_errors_and_wills_reach_the_other_gateway(gateways: Gateways) -> None:
    gateways.account.device("d")
    ear = gateways.client(1, "ear")
    ear.subscribe(gateways.topic("#"), 1)
    sender = gateways.client(0, "sender")
    sender.publish(gateways.topic("json/d"), b"{")
    packet = ear.message()
    assert packet.topic == gateways.topic("d/errors")
    assert b"JSON" in packet.payload
    for name, delay in (("at-once", {}), ("later", {0x18: 1})):
        will = Will(gateways.topic(f"{name}/subscribe"), name.encode(), 1, False, dict(delay))
        gone = gateways.client(0, name, clean=False, properties=LASTS, will=will)
        gone.vanish()
        assert ear.message(name.encode()).topic == gateways.topic(f"{name}/subscribe")
    ear.nothing()


def test_a_message_is_as_it_was_published(gateways: Gateways) -> None:
    topic = gateways.topic("d/subscribe")
    properties = {
        0x01: 1,
        0x03: "text/plain",
        0x08: gateways.topic("answers"),
        0x09: b"\0\xff",
        0x26: [("a", "1"), ("a", "2")],
        MESSAGE_EXPIRY: 100,
    }
    sender = gateways.client(0, "sender")
    plain, published = gateways.client(1, "plain"), gateways.client(1, "published")
    plain.subscribe(topic, 1, identifier=7)
    published.subscribe(topic, 0, as_published=True)
    published.subscribe(gateways.topic("d/+"), 2, identifier=9, no_local=True)
    old = gateways.client(1, "old", V311)
    old.subscribe(topic, 2)
    sender.publish(topic, b"\0payload\xff", 2, retain=True, properties=dict(properties))
    first = plain.message(b"\0payload\xff", 1)
    assert not first.retain
    assert 98 <= first.properties.pop(MESSAGE_EXPIRY) <= 100
    wanted = {key: value for key, value in properties.items() if key != MESSAGE_EXPIRY}
    assert first.properties == wanted | {IDENTIFIER: [7]}
    second = published.message(b"\0payload\xff", 2)
    assert second.retain
    assert second.properties[IDENTIFIER] == [9]
    third = old.message(b"\0payload\xff", 2)
    assert not third.retain
    for ear in (plain, published, old):
        ear.nothing()


def test_no_local_is_about_the_client_wherever_others_are(gateways: Gateways) -> None:
    topic = gateways.topic("d/subscribe")
    both = [gateways.client(place, f"c{place}") for place in (0, 1)]
    for client in both:
        client.subscribe(topic, 1, no_local=True)
    both[0].publish(topic, b"zero")
    both[1].message(b"zero")
    both[1].publish(topic, b"one")
    both[0].message(b"one")
    for client in both:
        client.nothing()


def test_a_message_that_has_expired_is_not_delivered(gateways: Gateways) -> None:
    """It waits at the other gateway, whose client has no room for it, until it is over."""
    topic = gateways.topic("d/subscribe")
    sender = gateways.client(0, "sender")
    ear = gateways.client(1, "ear", properties={0x21: 1})
    ear.subscribe(topic, 1)
    sender.publish(topic, b"first")
    first = ear.expect(Publish)
    sender.publish(topic, b"over", properties={MESSAGE_EXPIRY: 1})
    sender.publish(topic, b"last", properties={MESSAGE_EXPIRY: 60})
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.2, 5, "the message to be over")
    ear.accept(first)
    ear.message(b"last")
    ear.nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_of_a_share_group_one_gets_each_message(gateways: Gateways, qos: int) -> None:
    """Its members are at both gateways; of durable sessions, and that end; one is away."""
    topic, wanted = gateways.topic("d/subscribe"), f"$share/g/{gateways.topic('d/+')}"
    away = gateways.lasting(1, "away")
    away.subscribe(wanted, 1)
    away.disconnect()
    members = [gateways.client(place, f"clean-{place}-{number}") for place in (0, 1) for number in (0, 1)]
    members += [gateways.lasting(place, f"lasting-{place}") for place in (0, 1)]
    for member in members:
        member.subscribe(wanted, 1)
    watcher = gateways.client(1, "watcher")
    watcher.subscribe(topic, 0)
    senders = [gateways.client(place, f"sender-{place}") for place in (0, 1)]
    payloads = [b"%d" % number for number in range(120)]
    for number, payload in enumerate(payloads):
        senders[number % 2].publish(topic, payload, qos)
    got = gather(members, len(payloads))
    assert sorted(payload for each in got for payload in each) == sorted(payloads)
    assert all(len(each) > 5 for each in got), [len(each) for each in got]
    assert sorted(packet.payload for packet in [watcher.message() for _ in payloads]) == sorted(payloads)
    for member in members:
        member.disconnect()
    gateways.told(0)  # behind that the other one knows that they have left
    for number in range(12):
        senders[0].publish(topic, b"%d" % number, 1)
    away.connect(clean=False, properties=LASTS)
    away.message()


def gather(members: list[Client], count: int) -> list[list[bytes]]:
    """What each has got, once it is so many in all; and a little later it is no more."""
    got: list[list[bytes]] = [[] for _ in members]

    def all_there() -> bool:
        for place, member in enumerate(members):
            member.ping()
            for packet in member.arrived():
                assert isinstance(packet, Publish), packet
                member.accept(packet)
                got[place].append(packet.payload)
        return sum(map(len, got)) >= count

    wait_until(all_there, 20, f"{count} messages")
    all_there()
    return got


def test_a_share_group_whose_members_are_all_elsewhere(gateways: Gateways) -> None:
    topic, wanted = gateways.topic("d/subscribe"), f"$share/g/{gateways.topic('#')}"
    sender = gateways.client(0, "sender")
    members = [gateways.client(1, f"m{number}") for number in range(3)]
    for member in members:
        member.subscribe(wanted, 2)
    for number in range(30):
        sender.publish(topic, b"%d" % number, number % 3)
    got = gather(members, 30)
    assert sorted(int(payload) for each in got for payload in each) == list(range(30))
    assert [len(each) for each in got] == [10, 10, 10], "in turn"
    members[0].unsubscribe(wanted)
    members[1].disconnect()
    for number in range(10):
        sender.publish(topic, b"%d" % number, 1)
    assert [members[2].message().payload for _ in range(10)] == [b"%d" % number for number in range(10)]


def test_what_an_app_publishes_comes_once_wherever_the_client_is(gateways: Gateways) -> None:
    device = gateways.account.device("d")
    topic = gateways.topic("d/subscribe")
    ears = [gateways.client(place, f"ear-{place}") for place in (0, 1)]
    members = [gateways.client(place, f"member-{place}") for place in (0, 1)]
    for ear in ears:
        ear.subscribe(topic, 1)
    for member in members:
        member.subscribe(f"$share/g/{topic}", 1)
    payloads = [b"%d" % number for number in range(12)]
    for number, payload in enumerate(payloads):
        send(gateways.account.user, device, Message(payload, number % 3), Command.By.API)
    for ear in ears:
        assert sorted(ear.message().payload for _ in payloads) == sorted(payloads)
        ear.nothing()
    got = gather(members, len(payloads))
    assert sorted(payload for each in got for payload in each) == sorted(payloads)


def test_a_command_that_a_group_elsewhere_acknowledges_is_acknowledged(gateways: Gateways) -> None:
    device = gateways.account.device("d")
    for place in (0, 1):  # one of them is not where the command is taken up
        member = gateways.client(place, "member")
        member.subscribe(f"$share/g/{gateways.topic('d/subscribe')}", 1)
        command = send(gateways.account.user, device, Message(b"go", 1), Command.By.API)
        member.message(b"go")
        mine = Command.objects.filter(pk=command.pk, result=Command.ACKNOWLEDGED)
        wait_until(mine.exists, 10, "the result")
        member.disconnect()


def test_a_session_that_lasts_hears_at_once_of_its_queue(gateways: Gateways) -> None:
    topic = gateways.topic("d/subscribe")
    ear = gateways.lasting(1, "ear")
    ear.subscribe(topic, 2)
    sender = gateways.client(0, "sender")
    delays = []
    for number in range(40):
        began = time.monotonic()
        sender.publish(topic, b"%d" % number, number % 2 + 1)
        ear.message(b"%d" % number)
        delays.append(time.monotonic() - began)
    assert sorted(delays)[20] < 0.2, delays
    sender.publish(topic, b"at QoS 0", 0)
    ear.message(b"at QoS 0", 0)
    ear.nothing()


def test_accounts_see_nothing_of_each_other(gateways: Gateways, outsider: Account) -> None:
    ears = {}
    for place in (0, 1):
        for owner in (gateways.account, outsider):
            ear = ears[place, owner.user_id] = gateways.client(place, f"ear-{place}", account=owner)
            ear.subscribe(f"{owner.device_token}/#", 1)
            ear.subscribe(f"$share/g/{owner.device_token}/#", 1)
    for place in (0, 1):
        for owner in (gateways.account, outsider):
            sender = gateways.client(place, f"sender-{place}", account=owner)
            sender.publish(f"{owner.device_token}/d/subscribe", owner.user_id.encode())
    for owner in (gateways.account, outsider):
        both = [ears[place, owner.user_id] for place in (0, 1)]
        got = gather(both, 2 * 2 + 2)
        assert {payload for each in got for payload in each} == {owner.user_id.encode()}


def test_three_gateways_are_as_one(module_stacks: list[Stack], account: Account) -> None:
    with ExitStack() as ended:
        three = Gateways(ended, account, [*module_stacks, Stack()])
        ended.callback(three.stacks[2].stop)
        three.start()
        topic = three.topic("d/subscribe")
        ears = [three.client(place, f"ear-{place}") for place in range(3)]
        members = [three.client(place, f"member-{place}") for place in range(3)]
        for ear in ears:
            ear.subscribe(topic, 1)
        for member in members:
            member.subscribe(f"$share/g/{topic}", 1)
        senders = [three.client(place, f"sender-{place}") for place in range(3)]
        payloads = [b"%d" % number for number in range(30)]
        for number, payload in enumerate(payloads):
            senders[number % 3].publish(topic, payload)
        for ear in ears:
            assert sorted(ear.message().payload for _ in payloads) == sorted(payloads)
            ear.nothing()
        got = gather(members, 30)
        assert sorted(payload for each in got for payload in each) == sorted(payloads)
        assert all(each for each in got)
        alive = three.figure(0, "peers")
        three.stacks[2].kill("ingest", signal.SIGKILL)
        began = time.monotonic()
        late = three.client(1, "late")
        late.subscribe(three.topic("late/subscribe"), 1)
        assert time.monotonic() - began < 2, "nobody waits long for who is dead"
        three.client(0, "again").publish(three.topic("late/subscribe"), b"late")
        late.message(b"late")
        wait_until(
            lambda: max(three.figure(0, "peers"), three.figure(1, "peers")) < alive, 10, "it to be forgotten"
        )
        for number in range(20):
            senders[number % 2].publish(topic, b"%d" % number)
        got = gather(members[:2], 20)
        assert sorted(int(payload) for each in got for payload in each) == list(range(20))
        three.stacks[2].ensure("ingest")
        three.meet()
        third = three.client(2, "third")
        third.publish(topic, b"from the new one")
        for ear in ears[:2]:
            assert ear.messages_until(b"from the new one") is not None


def wait_until_it_passes(sender: Client, topic: str, ear: Client) -> None:
    """From one gateway to the other, again."""

    def passes() -> bool:
        sender.publish(topic, b"passes")
        ear.ping()
        return any(isinstance(packet, Publish) and packet.payload == b"passes" for packet in ear.arrived())

    wait_until(passes, 20, "messages to pass again")
    sender.publish(topic, b"last")
    assert ear.messages_until(b"last") is not None


class OwnValkey(NamedTuple):
    gateways: Gateways
    servers: Servers


@pytest.fixture
def own_valkey(account: Account) -> Iterator[OwnValkey]:
    """Two gateways that have a Valkey for themselves."""
    with ExitStack() as ended:
        servers = Servers(want={"valkey"})
        ended.enter_context(servers)
        stacks = [Stack(REDIS_URL=servers.valkey.url) for _ in range(2)]
        for stack in stacks:
            ended.callback(stack.stop)
        yield OwnValkey(Gateways(ended, account, stacks).start(), servers)


def test_without_valkey_nothing_that_lasts_is_lost(own_valkey: OwnValkey) -> None:
    """Killed, and back: twice."""
    gateways, servers = own_valkey
    topic = gateways.topic("d/subscribe")
    ear, lasting = gateways.client(1, "ear"), gateways.lasting(1, "lasting")
    near = gateways.client(0, "near")
    for each in (ear, lasting, near):
        each.subscribe(topic, 1)
    sender = gateways.client(0, "sender")
    for round_ in (0, 1):
        payloads = [b"%d-%d" % (round_, number) for number in range(20)]
        dropped = gateways.figure(0, "peer_dropped") + len(payloads)
        servers.valkey.kill()
        for payload in payloads:
            assert sender.publish(topic, payload, 1) in {0, 0x10}
        for each in (lasting, near):
            assert [each.message().payload for _ in payloads] == payloads
        began = time.monotonic()
        late = gateways.client(1, f"late-{round_}")
        assert late.subscribe(gateways.topic(f"late-{round_}/subscribe"), 1) == 1
        assert time.monotonic() - began < 5, "nobody waits for who is away"
        assert gateways.figure(0, "peer_dropped") >= dropped
        ear.nothing()
        servers.valkey.start()
        wait_until_it_passes(sender, gateways.topic(f"late-{round_}/subscribe"), late)
        sender.publish(topic, b"end")
        for each in (ear, lasting, near):
            each.message(b"end")
    for stack in gateways.stacks:
        assert "Traceback" not in stack.log("ingest")


def test_a_valkey_that_hangs_costs_a_second_at_most(own_valkey: OwnValkey) -> None:
    gateways, servers = own_valkey
    topic = gateways.topic("d/subscribe")
    ear, sender = gateways.client(1, "ear"), gateways.client(0, "sender")
    ear.subscribe(topic, 1)
    process = servers.valkey.process
    assert process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        waits = []
        for number in range(8):
            began = time.monotonic()
            assert ear.subscribe(gateways.topic(f"d{number}/subscribe"), 1) == 1
            sender.publish(topic, b"%d" % number)
            waits.append(time.monotonic() - began)
        assert sum(waits) < 6, waits
        assert sorted(waits)[4] < 0.5, waits
    finally:
        os.kill(process.pid, signal.SIGCONT)
    wait_until_it_passes(sender, gateways.topic("d3/subscribe"), ear)
    assert "Traceback" not in gateways.stacks[0].log("ingest") + gateways.stacks[1].log("ingest")


def test_a_gateway_that_hangs_is_waited_for_once_and_hears_all_when_it_is_back(gateways: Gateways) -> None:
    ear, sender = gateways.client(0, "ear"), gateways.client(1, "sender")
    alive = gateways.figure(0, "peers")
    process = gateways.stacks[1].processes["ingest"]
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for name in ("one", "two"):
            began = time.monotonic()
            ear.subscribe(gateways.topic(f"{name}/subscribe"), 1)
            assert time.monotonic() - began < 2
        wait_until(lambda: gateways.figure(0, "peers") < alive, 15, "it to be forgotten")
        ear.subscribe(gateways.topic("three/subscribe"), 1)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    gateways.meet()
    wait_until_it_passes(sender, gateways.topic("three/subscribe"), ear)
    for name in ("one", "two"):
        sender.publish(gateways.topic(f"{name}/subscribe"), name.encode())
        assert ear.messages_until(name.encode()) is not None


def test_a_flood_of_one_account_drops_nothing_of_another(gateways: Gateways, outsider: Account) -> None:
    """QoS 0, at full speed, to a client at the other gateway that does not read."""
    deaf = gateways.client(1, "deaf", account=outsider)
    deaf.subscribe(f"{outsider.device_token}/#", 0)
    ear, sender = gateways.client(1, "ear"), gateways.client(0, "sender")
    ear.subscribe(gateways.topic("#"), 0)
    flooders = [gateways.client(0, f"flooder-{number}", account=outsider) for number in range(3)]
    over = threading.Event()

    def flood(client: Client) -> None:
        packet = Publish(f"{outsider.device_token}/d/subscribe", b"x" * 20_000, 0, False, False, 0, {})
        client.wire.socket.settimeout(10)
        with suppress(OSError):
            while not over.is_set():
                client.send(*[packet] * 10)

    threads = [threading.Thread(target=flood, args=(client,), daemon=True) for client in flooders]
    began = gateways.figure(0, "peer_messages")
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: gateways.figure(0, "peer_messages") > began + 1_000, 20, "the flood")
        for number in range(60):
            sender.publish(gateways.topic("d/subscribe"), b"%d" % number, number % 2)
            ear.message(b"%d" % number)
    finally:
        over.set()
        for thread in threads:
            thread.join(15)
