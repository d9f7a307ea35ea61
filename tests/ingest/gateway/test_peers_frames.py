"""What gateways tell each other, without Valkey between them: frames are handed over, or lost."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from ingest.gateway import peer as peer_module
from ingest.gateway import peers as module
from ingest.gateway.hub import AccountHub, Hub, Subscriber
from ingest.gateway.peers import Peers
from ingest.gateway.publishes import Forwarded
from ingest.metrics import Metrics
from ingest.mqtt.packets import Subscription
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription

USERS = (1, 2)
FILTERS = ("a", "b/c", "b/+", "#")


class Client:
    """What a subscriber has while it is connected."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, int]] = []
        self.told = 0

    def deliver(self, message: Any, qos: int, _retain: bool, _match: Any, _number: int) -> None:
        self.got.append((message.payload, qos))

    def catch_up(self, newest: int) -> None:
        self.told = newest


class Gateway:
    def __init__(self, key: int) -> None:
        self.key = key
        self.hub = Hub(lambda command, acknowledged: None, asyncio.get_running_loop())
        self.metrics = Metrics()
        self.peers = Peers(key, self.hub, self.metrics)
        self.peers._on_connect()

    def account(self, user: int = 1) -> AccountHub:
        return self.hub.account(user, f"U{user:06}")

    def connect(self, client_id: str, session: int = 0, user: int = 1) -> tuple[Subscriber, Client]:
        account = self.account(user)
        subscriber = account.subscribers.get(client_id) or Subscriber(client_id, session)
        account.subscribers[client_id] = subscriber
        client: Any = Client()
        account.connected(subscriber, client)
        return subscriber, client

    def subscribe(
        self, subscriber: Subscriber, filter_: str, qos: int, group: str = "", user: int = 1
    ) -> None:
        self.account(user).subscribe(
            subscriber, filter_, Subscription(filter_, qos, False, False, 0), 0, group
        )

    def publish(self, topic: str, payload: bytes, qos: int = 0, user: int = 1) -> None:
        account = self.account(user)
        route = account.route(topic, qos, None)
        self.peers.forward(account, Forwarded(topic, payload, qos, False, {}, 0), route.groups)


class Network:
    def __init__(self, count: int = 2) -> None:
        self.gateways = [Gateway(key) for key in range(1, count + 1)]
        for one in self.gateways:
            for other in self.gateways:
                if one is not other:
                    one.peers._note_alive(other.key, other.peers._connection)

    def pass_on(self, lost: Callable[[], bool] = lambda: False) -> int:
        """One round; how many frames there were."""
        frames = [(gateway, frame) for gateway in self.gateways for frame in gateway.peers._next_frames()]
        for sender, frame in frames:
            sender.peers._release_bytes(frame.outgoing)
            if not lost():
                self.gateways[frame.peer.key - 1].peers._read_frame(frame.data)
        return len(frames)

    def settle(self) -> None:
        for _ in range(100):
            if not self.pass_on():
                return
        raise AssertionError("they never have enough of it")


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def wanted(gateway: Gateway) -> dict[tuple[Any, ...], int]:
    """Counted anew."""
    found: dict[tuple[Any, ...], int] = {}
    for account in gateway.hub.accounts.values():
        for subscriber in account.subscribers.values():
            if not subscriber.client:
                continue
            if subscriber.session:
                found[account.user, subscriber.session] = 1
            for group, filter_, subscription, _ in account.tree.filters(subscriber):
                key = account.user, group, filter_
                if group and not subscriber.session:
                    found[key] = found.get(key, 0) + 1
                elif not group:
                    value = 1 if subscriber.session and subscription.qos else 2
                    found[key] = max(found.get(key, 0), value)
    return found


@in_loop
async def test_each_knows_what_the_others_want_whatever_was_lost_before() -> None:
    rng = random.Random(5)
    network = Network(3)
    for step in range(1_500):
        gateway = rng.choice(network.gateways)
        user = rng.choice(USERS)
        account = gateway.account(user)
        number = rng.randrange(4)
        session = gateway.key * 100 + user * 10 + number if number > 1 else 0
        subscriber = account.subscribers.get(f"c{number}")
        filter_, group = rng.choice(FILTERS), rng.choice(("", "", "g"))
        action = rng.randrange(6)
        if subscriber is None or (action == 0 and not subscriber.client):
            gateway.connect(f"c{number}", session, user)
        elif action == 1:
            account.disconnected(subscriber)
            if not session:
                account.remove(subscriber)
        elif action == 2:
            account.unsubscribe(subscriber, filter_, group)
        elif action == 3 and rng.random() < 0.05:
            one, other = rng.sample(network.gateways, 2)
            if peer := one.peers.known.get(other.key):  # which it takes for dead
                one.peers._forget(peer)
                one.peers._note_alive(other.key, other.peers._connection)
        elif subscriber.client or subscriber.session:
            gateway.subscribe(subscriber, filter_, rng.randrange(3), group, user)
        if rng.random() < 0.3:
            network.pass_on(lambda: rng.random() < 0.1)
        if step % 100 == 99:
            for each in network.gateways:  # what comes next shows that something is missing
                each.connect("mark", user=1)
                each.subscribe(each.account().subscribers["mark"], f"mark/{step}", 0)
            network.settle()
            for each in network.gateways:
                for other in network.gateways:
                    if each is not other:
                        check_knowledge(each, other)


def check_knowledge(gateway: Gateway, other: Gateway) -> None:
    peer = gateway.peers.known[other.key]
    expected = wanted(other)
    assert peer.wants == expected
    assert peer.complete.is_set()
    for account in gateway.hub.accounts.values():
        mine = {key[1:]: value for key, value in expected.items() if key[0] == account.user}
        filters = {key[1] for key in mine if len(key) == 2 and not key[0]}
        tree = account.peer_subscriptions
        assert {each.filter for each in tree.filters(peer)} == filters if tree else not filters
        sessions = {session for session, at in account.peer_sessions.items() if at is peer}
        assert sessions == {key[0] for key in mine if len(key) == 1}
        for group, filter_ in [key for key in mine if len(key) == 2 and key[0]]:
            found = account.tree.group(group, filter_)
            members = [each for each in found or () if getattr(each.subscriber, "peer", None) is peer]
            assert len(members) == mine[group, filter_]


@in_loop
async def test_when_the_last_peer_has_gone_nothing_of_it_is_left() -> None:
    network = Network()
    here, there = network.gateways
    ear, _ = there.connect("ear")
    for group in ("", "g"):
        there.subscribe(ear, "#", 1, group)
    there.connect("lasting", 7)
    network.settle()
    assert here.account().listeners == 2
    here.peers._forget(here.peers.known[2])
    account = here.account()
    assert (account.listeners, account.peer_subscriptions, account.peer_sessions) == (0, None, {})
    assert account.local_subscriptions is None
    assert not list(account.tree.shared("a"))
    here.publish("a", b"1", 1)
    assert not here.metrics.peer_dropped


@in_loop
async def test_what_only_queues_need_is_not_forwarded() -> None:
    network = Network()
    here, there = network.gateways
    lasting, client = there.connect("lasting", 7)
    there.subscribe(lasting, "a", 1)
    network.settle()
    here.publish("a", b"queued", 1)
    here.publish("a", b"at QoS 0", 0)
    network.settle()
    assert client.got == [(b"at QoS 0", 0)]
    here.account().peer_sessions[7].send_wake(1, 7, 42)
    network.settle()
    assert client.told == 42
    there.subscribe(lasting, "a", 0)  # with another QoS
    network.settle()
    here.publish("a", b"at QoS 1", 1)
    network.settle()
    assert client.got[1:] == [(b"at QoS 1", 0)]


@in_loop
async def test_an_account_has_its_share_of_what_may_wait() -> None:
    network = Network(3)
    here, *others = network.gateways
    for other in others:
        for user in USERS:
            ear, _ = other.connect("ear", user=user)
            other.subscribe(ear, "#", 0, user=user)
    network.settle()
    payload = bytes(100_000)
    for _ in range(200):
        here.publish("a", payload, user=1)
    dropped = here.metrics.peer_dropped
    room = module.MAX_WAITING // module.SHARE // (len(payload) + 1 + module.OVERHEAD)
    assert dropped == 400 - room
    for _ in range(10):
        here.publish("a", payload, user=2)
    assert here.metrics.peer_dropped == dropped
    network.settle()
    assert not here.peers._waiting_bytes
    assert not here.peers._waiting_bytes_of
    for other in others:
        assert len(other.account(2).subscribers["ear"].client.got) == 10  # type: ignore[union-attr]
    here.peers._on_disconnect()
    here.publish("a", b"", user=2)
    assert here.metrics.peer_dropped == dropped + 2


@in_loop
async def test_a_peer_that_does_not_keep_up_has_so_much_on_its_way_and_no_more() -> None:
    """Also when both are in that place; and what they have to know goes on."""
    network = Network()
    here, there = network.gateways
    for gateway in network.gateways:
        for user in USERS:
            ear, _ = gateway.connect("ear", user=user)
            gateway.subscribe(ear, "#", 0, user=user)
    network.settle()
    frames = []
    for gateway in network.gateways:
        for number in range(140):
            gateway.publish("a", bytes(50_000), user=USERS[number % 2])
        while new := gateway.peers._next_frames():
            frames += new
    for gateway in network.gateways:
        sent = sum(len(frame.data) for frame in frames if frame.peer.key != gateway.key)
        assert (
            peer_module.MAX_IN_FLIGHT_BYTES
            < sent
            < peer_module.MAX_IN_FLIGHT_BYTES + 3 * peer_module.FRAME_BYTES
        )
    late, _ = there.connect("late")
    there.subscribe(late, "late", 0)
    frames += there.peers._next_frames()
    for frame in frames:
        network.gateways[frame.peer.key - 1].peers._read_frame(frame.data)
    assert (1, "", "late") in here.peers.known[2].wants
    network.settle()
    await asyncio.sleep(0.05)  # turns
    for gateway in network.gateways:
        assert not gateway.metrics.peer_dropped
        for user in USERS:
            client: Any = gateway.account(user).subscribers["ear"].client
            assert len(client.got) == 70
        assert not gateway.peers.known[3 - gateway.key].in_flight


@in_loop
async def test_many_small_messages_are_bounded_in_count() -> None:
    network = Network()
    here, there = network.gateways
    ear, _ = there.connect("ear")
    there.subscribe(ear, "#", 0)
    network.settle()
    for _ in range(50_000):
        here.publish("a", b"")
    (peer,) = here.peers.known.values()
    assert len(peer.outgoing) <= module.MAX_WAITING // module.SHARE // module.OVERHEAD
    assert len(peer.outgoing) + here.metrics.peer_dropped == 50_000


@in_loop
async def test_messages_behind_a_subscribe_wait_for_it_and_no_others() -> None:
    network = Network()
    here, there = network.gateways
    (old, client), (new, late) = there.connect("old"), there.connect("new")
    there.subscribe(old, "#", 1)
    network.settle()
    account = there.account()
    wanted_ = [(Subscription("a", 1, False, False, 0), StoredSubscription("", "a", 1, 0))]
    known, go_on, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def subscribe() -> None:
        async with there.peers.subscribing(account, new, wanted_):
            known.set()
            await go_on.wait()
            there.subscribe(new, "a", 1)
        over.set()

    task = asyncio.create_task(subscribe())
    await asyncio.sleep(0)
    here.publish("a", b"before")
    network.pass_on()
    assert client.got == [(b"before", 0)]
    network.settle()
    await known.wait()
    here.publish("a", b"behind")
    network.settle()
    assert client.got == [(b"before", 0)]
    go_on.set()
    await over.wait()
    assert client.got == [(b"before", 0), (b"behind", 0)]
    assert late.got == [(b"behind", 0)]
    assert not there.peers._held
    assert not there.peers._held_bytes
    await task


@in_loop
async def test_too_many_messages_do_not_wait_for_a_subscribe() -> None:
    network = Network()
    here, there = network.gateways
    (old, client), (new, _) = there.connect("old"), there.connect("new")
    there.subscribe(old, "#", 1)
    network.settle()
    known, go_on = asyncio.Event(), asyncio.Event()

    async def subscribe() -> None:
        async with there.peers.subscribing(there.account(), new, []):
            known.set()
            await go_on.wait()

    task = asyncio.create_task(subscribe())
    await asyncio.sleep(0)
    network.settle()
    await known.wait()
    payloads = [b"%d" % number for number in range(module.MAX_HELD + 50)]
    for payload in payloads:
        here.publish("a", payload)
    network.settle()
    await asyncio.sleep(0.05)  # turns
    assert [payload for payload, _ in client.got] == payloads
    go_on.set()
    await task
    assert not there.peers._held
    assert not there.peers._held_bytes


@in_loop
async def test_a_subscribe_waits_a_second_at_most_and_holds_messages_for_two() -> None:
    network = Network()
    here, there = network.gateways
    new, _ = there.connect("new")
    network.settle()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with there.peers.subscribing(there.account(), new, []):  # nothing is passed on
        waited = loop.time() - began
        assert 0.9 * module.SUBSCRIBE_SECONDS < waited < 5 * module.SUBSCRIBE_SECONDS
    there.peers._on_disconnect()
    began = loop.time()
    async with there.peers.subscribing(there.account(), new, []):
        assert loop.time() - began < module.SUBSCRIBE_SECONDS / 2
    assert not there.peers._held
    assert here.peers.known


@in_loop
async def test_what_nobody_can_read_harms_nothing() -> None:
    """A later release may tell something else."""
    network = Network()
    here, there = network.gateways
    for data in (b"", b"\xc1", b"\x93\x01", b"\x91\x02", bytes(50), b"\xdd\xff\xff\xff\xff"):
        message = {"type": "message", "channel": here.peers._channel.encode(), "data": data}
        other = message | {"channel": b"another"}
        get_message = AsyncMock(side_effect=[message, other, TimeoutError])
        with pytest.raises(TimeoutError):
            await here.peers._read(SimpleNamespace(get_message=get_message))  # type: ignore[arg-type]
    ear, client = there.connect("ear")
    there.subscribe(ear, "a", 0)
    network.settle()
    here.publish("a", b"1")
    network.settle()
    assert client.got == [(b"1", 0)]


@in_loop
async def test_what_changes_while_valkey_is_away_is_not_kept() -> None:
    """All is told anew when it is back: filters that came and went would fill the memory."""
    network = Network()
    here, there = network.gateways
    subscriber, _ = here.connect("c")
    network.settle()
    here.peers._on_disconnect()
    for number in range(1_000):
        here.subscribe(subscriber, f"reply/{number}", 0)
        here.account().unsubscribe(subscriber, f"reply/{number}", "")
    here.subscribe(subscriber, "stays", 0)
    (peer,) = here.peers.known.values()
    assert not peer.changes
    here.peers._on_connect()
    network.settle()
    tree = there.account().peer_subscriptions
    assert tree
    assert len(tree) == 1
    assert tree.match("stays")


@in_loop
async def test_what_is_told_at_once_is_bounded_in_bytes() -> None:
    """Valkey cuts off who has too much to read: the longest filters of an account are told some at a time."""
    network = Network()
    here, there = network.gateways
    subscriber, _ = here.connect("c")
    filters = [f"{number}/{'ä' * 1_000}" for number in range(300)]
    for filter_ in filters:
        here.subscribe(subscriber, filter_, 0)
    sizes = []
    for _ in range(100):
        frames = here.peers._next_frames()
        sizes.append(sum(len(frame.data) for frame in frames))
        for frame in frames:
            there.peers._read_frame(frame.data)
        network.pass_on()
    assert max(sizes) < 2 * peer_module.FRAME_BYTES
    tree = there.account().peer_subscriptions
    assert tree
    assert all(tree.match(filter_) for filter_ in filters)


@in_loop
async def test_what_the_clients_here_are_too_slow_for_is_dropped_and_counted() -> None:
    network = Network()
    here, there = network.gateways
    subscriber, client = there.connect("c")
    there.subscribe(subscriber, "a", 0)
    network.settle()
    share = there.account().time_share
    share.waiting_work.extend([lambda _deadline: True] * module.MAX_HELD)  # that wait for their turn
    here.publish("a", b"too much")
    network.settle()
    assert there.metrics.peer_dropped == 1
    share.waiting_work.clear()
    here.publish("a", b"again")
    network.settle()
    assert [payload for payload, _ in client.got] == [b"again"]
