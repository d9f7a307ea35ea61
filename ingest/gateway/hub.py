"""What the clients of an account share: their subscriptions, and how a message gets to its subscribers."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings

from ingest.gateway.deliveries import DeliveryTotals
from ingest.gateway.fair_scheduler import FairScheduler, TimeShare, now
from ingest.gateway.local_subscriptions import ALL, LocalSubscriptions
from ingest.gateway.outgoing_message import OutgoingMessage
from ingest.gateway.subscriptions import Match, SubscriptionTree
from ingest.message import Copy
from ingest.mqtt.packets import Subscription, topic_matches
from thingscale.devices.presence import Use
from thingscale.lib import own_topics

if TYPE_CHECKING:
    from ingest.gateway.client import Client
    from ingest.gateway.peer import Peer


NODE_BYTES = 250  # of a level that filters with wildcards have in common
MAX_SUBSCRIPTION_BYTES = 64 * 2**20  # of an account, in memory
MAX_PEER_MEMBERS = 100  # that are counted of one share group at one other gateway
STEP = 64  # deliveries, after which the clock is read


class Subscriber:
    """A client, or a durable session, whose client may be away."""

    __slots__ = ("client", "client_id", "newest", "no_local", "session", "subscriptions", "will_waits")

    def __init__(self, client_id: str, session: int = 0) -> None:
        self.client_id = client_id
        self.session = session  # its key in the database; 0: it ends with the connection
        self.client: Client | None = None  # while it is connected to this gateway
        self.subscriptions = 0
        self.newest = 0  # number of the last message that this gateway put into its queue
        self.no_local = False  # one of its subscriptions may have that option
        self.will_waits = False  # its client is away, and its will may still be published


class PeerMember(Subscriber):
    """A member of a share group that is connected to another gateway, and whose session is not durable."""

    __slots__ = ("peer",)

    def __init__(self, peer: "Peer") -> None:
        super().__init__("")
        self.peer = peer


class PeerGroup(NamedTuple):
    """A share group for which another gateway delivers the message to one of its members."""

    peer: "Peer"
    group: str
    filter: str


class Route(NamedTuple):
    """Who gets a message, as decided when it is admitted: durable sessions get a copy in their queues, in the
    same transaction; of each share group one member gets it."""

    copies: tuple[Copy, ...]  # first those of `sessions`, then those of the chosen members
    sessions: tuple[int, ...]
    chosen: tuple[Match[Subscriber], ...]  # one member of each share group
    queued: int  # so many of the chosen members, the first ones, get copies
    groups: tuple[PeerGroup, ...] = ()


NOWHERE = Route((), (), (), 0)


class Sending(NamedTuple):
    """How a message is to be delivered."""

    qos: int
    retain: bool
    route: Route
    numbers: Sequence[int]  # of the route's copies, in their sessions' queues
    publisher: Subscriber | None


class AccountHub:
    """An account at this gateway: its clients, sessions and subscriptions."""

    def __init__(
        self, user: int, user_id: str, note_command: Callable[[int, bool], None], time_share: TimeShare
    ) -> None:
        self.user = user
        self.user_id = user_id
        self.time_share = time_share
        self.tree: SubscriptionTree[Subscriber] = SubscriptionTree()
        self.subscribers: dict[str, Subscriber] = {}  # by client id: connected clients and durable sessions
        self.subscriptions = 0
        self.durable_subscriptions = 0  # so many of them are of durable sessions
        self.listeners = 0  # subscriptions, here and at other gateways
        # What connected clients of other gateways subscribe to.
        self.peer_subscriptions: SubscriptionTree[Peer] | None = None
        self.peer_sessions: dict[int, Peer] = {}  # durable ones whose clients are connected to other gateways
        self._peer_members: dict[tuple[Peer, str, str], list[PeerMember]] = {}
        # None: there are no other gateways.
        self.local_subscriptions: LocalSubscriptions | None = None
        self.subscription_bytes = 0  # of the filters
        self.connections = 0
        self.totals = DeliveryTotals(settings.UNREAD_BYTES, note_command)
        self._last_matches: Sequence[Match[Subscriber]] = ()
        self._last_route = NOWHERE  # of these matches: the next message mostly has the same topic

    # Subscriptions

    def subscribe(
        self, subscriber: Subscriber, filter_: str, subscription: Subscription, identifier: int, group: str
    ) -> bool:
        """Whether it is a new one."""
        local = self.local_subscriptions if subscriber.client else None
        if local and self.tree.has(subscriber, filter_, group):
            local.remove(group, filter_, subscriber.session, self.tree.qos(subscriber, filter_, group))
        new = self.tree.subscribe(subscriber, filter_, subscription, identifier, group)
        if local:
            local.add(group, filter_, subscriber.session, subscription.qos)
        subscriber.no_local |= subscription.no_local
        if new:
            self._count(subscriber, 1, len(filter_) + len(group))
        return new

    def has_room_for_subscriptions(self, new: int) -> bool:
        """Whether there is room for one subscription beside `new` other new ones."""
        size = self.subscription_bytes + self.tree.nodes * NODE_BYTES
        return self.subscriptions + new < settings.SUBSCRIPTIONS and size < MAX_SUBSCRIPTION_BYTES

    def unsubscribe(self, subscriber: Subscriber, filter_: str, group: str) -> bool:
        if self.local_subscriptions and subscriber.client and self.tree.has(subscriber, filter_, group):
            qos = self.tree.qos(subscriber, filter_, group)
            self.local_subscriptions.remove(group, filter_, subscriber.session, qos)
        was_there = self.tree.unsubscribe(subscriber, filter_, group)
        if was_there:
            self._count(subscriber, -1, -len(filter_) - len(group))
        return was_there

    def remove(self, subscriber: Subscriber) -> None:
        """The subscriber's session has ended."""
        self.disconnected(subscriber)
        size = sum(len(each.filter) + len(each.group) for each in self.tree.filters(subscriber))
        self.tree.remove(subscriber)
        self._count(subscriber, -subscriber.subscriptions, -size)
        if self.subscribers.get(subscriber.client_id) is subscriber:
            del self.subscribers[subscriber.client_id]

    def connected(self, subscriber: Subscriber, client: "Client") -> None:
        """The subscriber is connected to this gateway."""
        self.disconnected(subscriber)
        subscriber.client = client
        if self.local_subscriptions:
            self.local_subscriptions.connected(subscriber.session, client, self.tree.filters(subscriber))

    def disconnected(self, subscriber: Subscriber) -> None:
        """It is not connected to this gateway any more."""
        if subscriber.client and self.local_subscriptions:
            self.local_subscriptions.disconnected(subscriber.session, self.tree.filters(subscriber))
        subscriber.client = None

    def _count(self, subscriber: Subscriber, change: int, size: int) -> None:
        self._last_matches, self._last_route = (), NOWHERE
        self.subscription_bytes += size
        subscriber.subscriptions += change
        self.subscriptions += change
        self.listeners += change
        if subscriber.session:
            self.durable_subscriptions += change

    # What is known of other gateways

    def set_peer_subscription(self, peer: "Peer", group: str, filter_: str, wanted: int) -> None:
        """`wanted` is a value of LocalSubscriptions: 0 if the peer's clients do not want it any more."""
        if group:
            members = self._peer_members.setdefault((peer, group, filter_), [])
            count = min(wanted, MAX_PEER_MEMBERS)
            self.listeners += count - len(members)
            while len(members) < count:
                members.append(PeerMember(peer))
                self.tree.subscribe(members[-1], filter_, Subscription(filter_, 2, False, False, 0), 0, group)
            while len(members) > count:
                self.tree.remove(members.pop())
            if not members:
                del self._peer_members[peer, group, filter_]
            return
        if self.peer_subscriptions is None:
            self.peer_subscriptions = SubscriptionTree()
        self.listeners -= len(self.peer_subscriptions)
        if wanted:
            subscription = Subscription(filter_, 2 if wanted == ALL else 0, False, False, 0)
            self.peer_subscriptions.subscribe(peer, filter_, subscription)
        else:
            self.peer_subscriptions.unsubscribe(peer, filter_)
        self.listeners += len(self.peer_subscriptions)
        if not len(self.peer_subscriptions):
            self.peer_subscriptions = None

    def set_peer_session(self, peer: "Peer", session: int, connected: int) -> None:
        if connected:
            self.peer_sessions[session] = peer
        elif self.peer_sessions.get(session) is peer:
            del self.peer_sessions[session]

    @property
    def use(self) -> Use:
        """What the account sees of it; may be asked from any thread. The unread bytes change with each
        message, so they are rounded to whole percents of their limit."""
        unread = max(self.totals.waiting_bytes, self.totals.untaken_bytes)
        return Use(self.subscriptions, unread - unread % (settings.UNREAD_BYTES // 100))

    # Messages

    def route(self, topic: str, qos: int, publisher: Subscriber | None) -> Route:
        """For a message that is being admitted."""
        route = NOWHERE
        if qos and self.durable_subscriptions:
            matches = self._matches(topic, publisher)
            if matches is not self._last_matches:
                copies = tuple([_copy(match) for match in matches if match.subscriber.session and match.qos])
                sessions = tuple([session for session, _, _ in copies])
                self._last_matches = matches
                self._last_route = Route(copies, sessions, (), 0) if copies else NOWHERE
            route = self._last_route
        if not self.tree.has_shared:
            return route
        # One member of each share group. A member that is away is chosen only if nobody of its group is
        # connected, to any gateway.
        queued, live, at_peers = [], [], []
        for group in self.tree.shared(topic):
            match = group.choose(self._is_connected) or group.choose(lambda each: each.session > 0)
            if match is None:
                continue
            subscriber = match.subscriber
            if subscriber.session and min(match.qos, qos):
                queued.append(match)
                continue
            peer = None
            if isinstance(subscriber, PeerMember):
                peer = subscriber.peer
            elif subscriber.session and not subscriber.client:
                peer = self.peer_sessions.get(subscriber.session)
            if peer:
                at_peers.append(PeerGroup(peer, group.name, group.filter))
            else:
                live.append(match)
        if not queued and not live and not at_peers:
            return route
        copies = (*route.copies, *map(_copy, queued))
        return Route(copies, route.sessions, (*queued, *live), len(queued), tuple(at_peers))

    def _is_connected(self, subscriber: Subscriber) -> bool:
        """To this gateway or another one."""
        if isinstance(subscriber, PeerMember):
            return subscriber.peer.reachable
        return subscriber.client is not None or subscriber.session in self.peer_sessions

    def deliver_to_group(self, message: OutgoingMessage, sending: Sending, group: str, filter_: str) -> None:
        """To one of the group's members here: the gateway that took the message from its publisher has chosen
        this gateway."""

        def can_take(subscriber: Subscriber) -> bool:
            at_qos_0 = not min(self.tree.qos(subscriber, filter_, group), sending.qos)
            return subscriber.client is not None and (at_qos_0 or not subscriber.session)

        found = self.tree.group(group, filter_)
        match = found.choose(can_take) if found else None
        if match:
            self.time_share.run_in_order(partial(self.deliver_one, message, sending, match, 0))

    def deliver(self, message: OutgoingMessage, sending: Sending) -> None:
        """To the clients that are connected here, behind the work of this account that waits for its turn."""
        share, started = self.time_share, now()
        if share.used_up(started):
            share.put_off(Fanout(self, message, sending))
            return
        used = share.used
        targets = self.targets(message, sending)
        if len(targets) > STEP:
            share.put_off(Fanout(self, message, sending, targets))
        else:
            for match, number in targets:
                self.deliver_one(message, sending, match, number)
        share.used = max(share.used, used + now() - started)

    def targets(self, message: OutgoingMessage, sending: Sending) -> "list[Target]":
        """Who gets it, each with the message's number in the queue of a durable session, or 0."""
        qos, _, route, numbers, publisher = sending
        targets: list[Target] = []
        number_of = dict(zip(route.sessions, numbers, strict=False))
        for match in self._matches(message.topic, publisher):
            session, number = match.subscriber.session, 0
            if session and match.qos and qos:
                number = number_of.get(session, 0)
                if not number:
                    continue  # its queue was full, or the message was published before the subscription
            targets.append((match, number))
        if route.chosen:
            queued = zip(route.chosen, numbers[len(route.sessions) :], strict=False)
            targets += [(match, number) for match, number in queued if number]
            targets += [(match, 0) for match in route.chosen[route.queued :]]
        return targets

    def deliver_one(
        self, message: OutgoingMessage, sending: Sending, match: Match[Subscriber], number: int
    ) -> None:
        """`number`: in the queue of a durable session, which has to know it also while its client is away."""
        subscriber = match.subscriber
        if number:
            subscriber.newest = number
        if client := subscriber.client:
            qos, retain = min(sending.qos, match.qos), sending.retain and match.retain_as_published
            client.deliver(message, qos, retain, match, number)
        elif number and (peer := self.peer_sessions.get(subscriber.session)):
            peer.send_wake(self.user, subscriber.session, number)

    def _matches(self, topic: str, publisher: Subscriber | None) -> Sequence[Match[Subscriber]]:
        matches = self.tree.match(topic)
        if publisher is None or not publisher.no_local:
            return matches
        # The publisher gets its own message only by its subscriptions without No Local. The level in front is
        # there because a `$` at the beginning of our topics has no special meaning.
        without_token = topic.startswith(own_topics.PREFIX)
        others = [match for match in matches if match.subscriber is not publisher]
        own = [
            (subscription, identifier)
            for group, filter_, subscription, identifier in self.tree.filters(publisher)
            if not group
            and not subscription.no_local
            and filter_.startswith(own_topics.PREFIX) == without_token
            and topic_matches(f"_/{filter_}", f"_/{topic}")
        ]
        if not own:
            return others
        match = Match(
            publisher,
            max(subscription.qos for subscription, _ in own),
            any(subscription.retain_as_published for subscription, _ in own),
            False,
            tuple(identifier for _, identifier in own if identifier),
        )
        return [*others, match]


def _copy(match: Match[Subscriber]) -> Copy:
    return match.subscriber.session, match.qos | match.retain_as_published << 3, match.identifiers


Target = tuple[Match[Subscriber], int]


class Fanout:
    """Work that delivers a message to many subscribers, a few at a time."""

    __slots__ = ("_account", "_message", "_place", "_sending", "_targets")

    def __init__(
        self,
        account: AccountHub,
        message: OutgoingMessage,
        sending: Sending,
        targets: list[Target] | None = None,
    ) -> None:
        self._account = account
        self._message = message
        self._sending = sending
        self._targets = targets
        self._place = 0

    def __call__(self, deadline: float) -> bool:
        if self._targets is None:
            self._targets = self._account.targets(self._message, self._sending)
        while self._place < len(self._targets):
            step = self._targets[self._place : self._place + STEP]
            self._place += STEP
            for match, number in step:
                self._account.deliver_one(self._message, self._sending, match, number)
            if now() >= deadline:
                break
        return self._place >= len(self._targets)


class Hub:
    def __init__(self, note_command: Callable[[int, bool], None], loop: asyncio.AbstractEventLoop) -> None:
        self.accounts: dict[int, AccountHub] = {}
        self.scheduler = FairScheduler(loop)
        self.anonymous = self.scheduler.new_share()
        self._connected = 0  # accounts that have connections
        self._note_command = note_command
        self.new_account: Callable[[AccountHub], object] = lambda account: None

    def connected(self, account: AccountHub) -> None:
        """One of the account's clients has connected."""
        account.connections += 1
        self._connected += account.connections == 1
        self.scheduler.contested = settings.ALLOW_ANONYMOUS or self._connected > 1

    def disconnected(self, account: AccountHub) -> None:
        account.connections -= 1
        self._connected -= account.connections == 0
        self.scheduler.contested = settings.ALLOW_ANONYMOUS or self._connected > 1

    def account(self, user: int, user_id: str) -> AccountHub:
        found = self.accounts.get(user)
        if found is None:
            found = self.accounts[user] = AccountHub(
                user, user_id, self._note_command, self.scheduler.new_share()
            )
            self.new_account(found)
        return found
