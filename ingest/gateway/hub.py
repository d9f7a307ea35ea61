"""What the clients of an account share: subscriptions, and each message's way to who subscribes to it."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings

from ingest.gateway.deliveries import DeliveryTotals, Message
from ingest.gateway.interest import ALL, Interest
from ingest.gateway.subscriptions import Match, SubscriptionTree
from ingest.gateway.turns import Share, Turns, now
from ingest.message import Copy
from ingest.mqtt.packets import Subscription, topic_matches
from thingscale.devices.presence import Use

if TYPE_CHECKING:
    from ingest.gateway.client import Client
    from ingest.gateway.peers import Peer


NODE_BYTES = 250  # of a level that filters with wildcards have in common
MAX_SUBSCRIPTION_BYTES = 64 * 2**20  # of an account, in memory
MAX_MEMBERS = 100  # of one share group at one other gateway: if it has more, they take turns for so many
STEP = 64  # deliveries between two looks at the clock


class Subscriber:
    """A client, or a session that lasts, whose client may be away."""

    __slots__ = ("client", "client_id", "newest", "no_local", "session", "subscriptions", "will_waits")

    def __init__(self, client_id: str, session: int = 0) -> None:
        self.client_id = client_id
        self.session = session  # in the database; 0: it ends with the connection
        self.client: Client | None = None
        self.subscriptions = 0
        self.newest = 0  # number of its queue's last message that was routed here
        self.no_local = False  # one of them may have it
        self.will_waits = False  # its client is away, and its will may still be published


class MemberElsewhere(Subscriber):
    """Of a share group: a client of another gateway, which is connected, and whose session does not last."""

    __slots__ = ("peer",)

    def __init__(self, peer: "Peer") -> None:
        super().__init__("")
        self.peer = peer


class GroupElsewhere(NamedTuple):
    """A share group, one of whose members at another gateway gets the message."""

    peer: "Peer"
    group: str
    filter: str


class Route(NamedTuple):
    """Where a message goes beside its datapoint, decided when it is admitted: sessions that last get a copy
    with it; of each share group one member gets it."""

    copies: tuple[Copy, ...]
    sessions: tuple[int, ...]  # of the copies, but for those of share groups, which are the last ones
    chosen: tuple[Match[Subscriber], ...]  # members of share groups
    queued: int  # of those, the first ones, which get copies
    groups: tuple[GroupElsewhere, ...] = ()


NOWHERE = Route((), (), (), 0)


class Sending(NamedTuple):
    """How a message is to be delivered."""

    qos: int
    retain: bool
    route: Route
    numbers: Sequence[int]  # of the copies, in their sessions' queues
    publisher: Subscriber | None


class Account:
    def __init__(
        self, user: int, user_id: str, note_command: Callable[[int, bool], None], share: Share
    ) -> None:
        self.user = user
        self.user_id = user_id
        self.share = share
        self.tree: SubscriptionTree[Subscriber] = SubscriptionTree()
        self.subscribers: dict[str, Subscriber] = {}  # by client id: those connected, and sessions that last
        self.subscriptions = 0
        self.lasting = 0  # of those, of sessions that last
        self.listeners = 0  # subscriptions, and what is known of other gateways
        self.elsewhere: SubscriptionTree[Peer] | None = None  # what connected clients of others subscribe to
        self.sessions_elsewhere: dict[int, Peer] = {}  # that last, whose clients are connected to others
        self._members_elsewhere: dict[tuple[Peer, str, str], list[MemberElsewhere]] = {}
        self.interest: Interest | None = None  # in what others have; None: there are none
        self.subscription_bytes = 0  # of the filters
        self.connections = 0
        self.totals = DeliveryTotals(settings.UNREAD_BYTES, note_command)
        self._last_matches: Sequence[Match[Subscriber]] = ()
        self._last_route = NOWHERE  # for these: mostly the next message has the same topic

    # Subscriptions

    def subscribe(
        self, subscriber: Subscriber, filter_: str, subscription: Subscription, identifier: int, group: str
    ) -> bool:
        """Whether it is a new one."""
        shown = self.interest if subscriber.client else None
        if shown and self.tree.has(subscriber, filter_, group):
            shown.remove(group, filter_, subscriber.session, self.tree.qos(subscriber, filter_, group))
        new = self.tree.subscribe(subscriber, filter_, subscription, identifier, group)
        if shown:
            shown.add(group, filter_, subscriber.session, subscription.qos)
        subscriber.no_local |= subscription.no_local
        if new:
            self._count(subscriber, 1, len(filter_) + len(group))
        return new

    def has_room_for_subscriptions(self, new: int) -> bool:
        """For one more than so many new ones."""
        size = self.subscription_bytes + self.tree.nodes * NODE_BYTES
        return self.subscriptions + new < settings.SUBSCRIPTIONS and size < MAX_SUBSCRIPTION_BYTES

    def unsubscribe(self, subscriber: Subscriber, filter_: str, group: str) -> bool:
        if self.interest and subscriber.client and self.tree.has(subscriber, filter_, group):
            qos = self.tree.qos(subscriber, filter_, group)
            self.interest.remove(group, filter_, subscriber.session, qos)
        was_there = self.tree.unsubscribe(subscriber, filter_, group)
        if was_there:
            self._count(subscriber, -1, -len(filter_) - len(group))
        return was_there

    def remove(self, subscriber: Subscriber) -> None:
        """It has ended."""
        self.left(subscriber)
        size = sum(len(each.filter) + len(each.group) for each in self.tree.filters(subscriber))
        self.tree.remove(subscriber)
        self._count(subscriber, -subscriber.subscriptions, -size)
        if self.subscribers.get(subscriber.client_id) is subscriber:
            del self.subscribers[subscriber.client_id]

    def came(self, subscriber: Subscriber, client: "Client") -> None:
        """It is connected to this gateway."""
        self.left(subscriber)
        subscriber.client = client
        if self.interest:
            self.interest.came(subscriber.session, client, self.tree.filters(subscriber))

    def left(self, subscriber: Subscriber) -> None:
        """It is not any more."""
        if subscriber.client and self.interest:
            self.interest.left(subscriber.session, self.tree.filters(subscriber))
        subscriber.client = None

    def _count(self, subscriber: Subscriber, more: int, size: int) -> None:
        self._last_matches, self._last_route = (), NOWHERE
        self.subscription_bytes += size
        subscriber.subscriptions += more
        self.subscriptions += more
        self.listeners += more
        if subscriber.session:
            self.lasting += more

    # What is known of other gateways

    def set_elsewhere(self, peer: "Peer", group: str, filter_: str, wanted: int) -> None:
        """What its clients want, see Interest."""
        if group:
            self._set_members_elsewhere(peer, group, filter_, min(wanted, MAX_MEMBERS))
            return
        if self.elsewhere is None:
            self.elsewhere = SubscriptionTree()
        self.listeners -= len(self.elsewhere)
        if wanted:
            subscription = Subscription(filter_, 2 if wanted == ALL else 0, False, False, 0)
            self.elsewhere.subscribe(peer, filter_, subscription)
        else:
            self.elsewhere.unsubscribe(peer, filter_)
        self.listeners += len(self.elsewhere)
        if not len(self.elsewhere):
            self.elsewhere = None

    def _set_members_elsewhere(self, peer: "Peer", group: str, filter_: str, count: int) -> None:
        members = self._members_elsewhere.setdefault((peer, group, filter_), [])
        self.listeners += count - len(members)
        while len(members) < count:
            members.append(MemberElsewhere(peer))
            self.tree.subscribe(members[-1], filter_, Subscription(filter_, 2, False, False, 0), 0, group)
        while len(members) > count:
            self.tree.remove(members.pop())
        if not members:
            del self._members_elsewhere[peer, group, filter_]

    def set_session_elsewhere(self, peer: "Peer", session: int, connected: int) -> None:
        if connected:
            self.sessions_elsewhere[session] = peer
        elif self.sessions_elsewhere.get(session) is peer:
            del self.sessions_elsewhere[session]

    @property
    def use(self) -> Use:
        """For the account to see, from any thread. What is unread changes with each message: whole percents
        of its limit."""
        unread = max(self.totals.waiting_bytes, self.totals.untaken_bytes)
        return Use(self.subscriptions, unread - unread % (settings.UNREAD_BYTES // 100))

    # Messages

    def route(self, topic: str, qos: int, publisher: Subscriber | None) -> Route:
        """For a message that is being admitted."""
        if not self.tree.has_shared and not (qos and self.lasting):
            return NOWHERE
        route = self._route_to_sessions(topic, publisher) if qos and self.lasting else NOWHERE
        return self._choose(route, topic, qos) if self.tree.has_shared else route

    def _route_to_sessions(self, topic: str, publisher: Subscriber | None) -> Route:
        matches = self._matches(topic, publisher)
        if matches is not self._last_matches:
            copies = tuple([_copy(match) for match in matches if match.subscriber.session and match.qos])
            sessions = tuple([session for session, _, _ in copies])
            self._last_matches = matches
            self._last_route = Route(copies, sessions, (), 0) if copies else NOWHERE
        return self._last_route

    def _choose(self, route: Route, topic: str, qos: int) -> Route:
        """With a member of each share group: one who is away only if nobody is connected, anywhere."""
        queued, live, elsewhere = [], [], []
        for group in self.tree.shared(topic):
            match = group.choose(self._connected) or group.choose(_lasting)
            if match is None:
                continue
            subscriber = match.subscriber
            if subscriber.session and min(match.qos, qos):
                queued.append(match)
            elif peer := self._peer_of(subscriber):
                elsewhere.append(GroupElsewhere(peer, group.name, group.filter))
            else:
                live.append(match)
        if not queued and not live and not elsewhere:
            return route
        copies = (*route.copies, *map(_copy, queued))
        return Route(copies, route.sessions, (*queued, *live), len(queued), tuple(elsewhere))

    def _connected(self, subscriber: Subscriber) -> bool:
        """To this gateway or another one."""
        if isinstance(subscriber, MemberElsewhere):
            return subscriber.peer.reachable
        return subscriber.client is not None or subscriber.session in self.sessions_elsewhere

    def _peer_of(self, subscriber: Subscriber) -> "Peer | None":
        """The other gateway that it is connected to."""
        if subscriber.client:
            return None
        if isinstance(subscriber, MemberElsewhere):
            return subscriber.peer
        return self.sessions_elsewhere.get(subscriber.session) if subscriber.session else None

    def deliver_to_group(self, message: Message, sending: Sending, group: str, filter_: str) -> None:
        """To one of its members here, chosen as the gateway of another member that took the message asks."""

        def able(subscriber: Subscriber) -> bool:
            at_qos_0 = not min(self.tree.qos(subscriber, filter_, group), sending.qos)
            return subscriber.client is not None and (at_qos_0 or not subscriber.session)

        found = self.tree.group(group, filter_)
        match = found.choose(able) if found else None
        if match:
            self.share.in_order(partial(self.deliver_one, message, sending, match, 0))

    def deliver(self, message: Message, sending: Sending) -> None:
        """To who is connected here; behind what waits for a turn of this account."""
        share, started = self.share, now()
        if share.over(started):
            share.wait(Fanout(self, message, sending))
            return
        used = share.used
        targets = self.targets(message, sending)
        if len(targets) > STEP:
            share.wait(Fanout(self, message, sending, targets))
        else:
            for match, number in targets:
                self.deliver_one(message, sending, match, number)
        share.used = max(share.used, used + now() - started)

    def targets(self, message: Message, sending: Sending) -> "list[Target]":
        """Who gets it, each with its number in the queue of a session that lasts."""
        qos, _, route, numbers, publisher = sending
        targets: list[Target] = []
        given = dict(zip(route.sessions, numbers, strict=False))
        for match in self._matches(message.topic, publisher):
            session, number = match.subscriber.session, 0
            if session and match.qos and qos:
                number = given.get(session, 0)
                if not number:
                    continue  # there was no room for it, or it was published before the subscription
            targets.append((match, number))
        if route.chosen:
            queued = zip(route.chosen, numbers[len(route.sessions) :], strict=False)
            targets += [(match, number) for match, number in queued if number]
            targets += [(match, 0) for match in route.chosen[route.queued :]]
        return targets

    def deliver_one(self, message: Message, sending: Sending, match: Match[Subscriber], number: int) -> None:
        """`number`: in the queue of a session that lasts, to be known also while its client is away."""
        subscriber = match.subscriber
        if number:
            subscriber.newest = number
        if client := subscriber.client:
            qos, retain = min(sending.qos, match.qos), sending.retain and match.retain_as_published
            client.deliver(message, qos, retain, match, number)
        elif number and (peer := self.sessions_elsewhere.get(subscriber.session)):
            peer.wake(self.user, subscriber.session, number)

    def _matches(self, topic: str, publisher: Subscriber | None) -> Sequence[Match[Subscriber]]:
        matches = self.tree.match(topic)
        if publisher is None or not publisher.no_local:
            return matches
        own = _match_of_own(self.tree, publisher, topic)
        others = [match for match in matches if match.subscriber is not publisher]
        return [*others, own] if own else others


def _match_of_own(
    tree: SubscriptionTree[Subscriber], publisher: Subscriber, topic: str
) -> Match[Subscriber] | None:
    """What a client gets of its own message: by its subscriptions without No Local. (The level in front is
    there because none of ours has a special meaning.)"""
    found = [
        (subscription, identifier)
        for group, filter_, subscription, identifier in tree.filters(publisher)
        if not group and not subscription.no_local and topic_matches(f"_/{filter_}", f"_/{topic}")
    ]
    if not found:
        return None
    return Match(
        publisher,
        max(subscription.qos for subscription, _ in found),
        any(subscription.retain_as_published for subscription, _ in found),
        False,
        tuple(identifier for _, identifier in found if identifier),
    )


def _lasting(subscriber: Subscriber) -> bool:
    return subscriber.session > 0


def _copy(match: Match[Subscriber]) -> Copy:
    return match.subscriber.session, match.qos | match.retain_as_published << 3, match.identifiers


Target = tuple[Match[Subscriber], int]


class Fanout:
    """A message on its way to its subscribers, as far as it has come."""

    __slots__ = ("_account", "_message", "_place", "_sending", "_targets")

    def __init__(
        self, account: Account, message: Message, sending: Sending, targets: list[Target] | None = None
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
        self.accounts: dict[int, Account] = {}
        self.turns = Turns(loop)
        self.anonymous = self.turns.share()
        self._connected = 0  # accounts that have connections
        self._note_command = note_command
        self.new_account: Callable[[Account], object] = lambda account: None

    def connected(self, account: Account) -> None:
        """One of its clients."""
        account.connections += 1
        self._connected += account.connections == 1
        self.turns.contested = settings.ALLOW_ANONYMOUS or self._connected > 1

    def disconnected(self, account: Account) -> None:
        account.connections -= 1
        self._connected -= account.connections == 0
        self.turns.contested = settings.ALLOW_ANONYMOUS or self._connected > 1

    def account(self, user: int, user_id: str) -> Account:
        found = self.accounts.get(user)
        if found is None:
            found = self.accounts[user] = Account(user, user_id, self._note_command, self.turns.share())
            self.new_account(found)
        return found
