"""What the clients of an account share: subscriptions, and the way of each message to who subscribes to it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ingest.gateway.deliveries import Message
from ingest.gateway.subscriptions import Match, SubscriptionTree
from ingest.message import Copy
from ingest.mqtt.packets import Subscription

if TYPE_CHECKING:
    from ingest.gateway.client import Client


class Subscriber:
    """A client, or a session that lasts, whose client may be away."""

    __slots__ = ("client", "client_id", "session", "subscriptions")

    def __init__(self, client_id: str, session: int = 0) -> None:
        self.client_id = client_id
        self.session = session  # in the database; 0: it ends with the connection
        self.client: Client | None = None
        self.subscriptions = 0


class Route(NamedTuple):
    """Where a message goes beside its datapoint, decided when it is admitted: sessions that last get a copy
    with it; of each share group one member gets it."""

    copies: tuple[Copy, ...]
    chosen: tuple[Match[Subscriber], ...]  # members of share groups without a session that lasts


NOWHERE = Route((), ())


class Account:
    def __init__(self, user: int, user_id: str) -> None:
        self.user = user
        self.user_id = user_id
        self.tree: SubscriptionTree[Subscriber] = SubscriptionTree()
        self.subscribers: dict[str, Subscriber] = {}  # by client id: those connected, and sessions that last
        self.subscriptions = 0
        self.lasting = 0  # of those, of sessions that last

    # Subscriptions

    def subscribe(
        self, subscriber: Subscriber, filter_: str, subscription: Subscription, identifier: int, group: str
    ) -> bool:
        """Whether it is a new one."""
        new = self.tree.subscribe(subscriber, filter_, subscription, identifier, group)
        subscriber.subscriptions += new
        self.subscriptions += new
        self.lasting += new and subscriber.session > 0
        return new

    def unsubscribe(self, subscriber: Subscriber, filter_: str, group: str) -> bool:
        was_there = self.tree.unsubscribe(subscriber, filter_, group)
        subscriber.subscriptions -= was_there
        self.subscriptions -= was_there
        self.lasting -= was_there and subscriber.session > 0
        return was_there

    def remove(self, subscriber: Subscriber) -> None:
        """It has ended."""
        self.tree.remove(subscriber)
        self.subscriptions -= subscriber.subscriptions
        if subscriber.session:
            self.lasting -= subscriber.subscriptions
        subscriber.subscriptions = 0
        if self.subscribers.get(subscriber.client_id) is subscriber:
            del self.subscribers[subscriber.client_id]

    # Messages

    def route(self, topic: str, qos: int, publisher: Subscriber | None) -> Route:
        """For a message that is being admitted."""
        copies = []
        for match in self.tree.match(topic) if qos and self.lasting else ():
            if (
                match.subscriber.session
                and match.qos
                and not (match.no_local and match.subscriber is publisher)
            ):
                copies.append(_copy(match))
        chosen = []
        for match in self._choose(topic):
            if match.subscriber.session and min(match.qos, qos):
                copies.append(_copy(match))
            else:
                chosen.append(match)
        return Route(tuple(copies), tuple(chosen)) if copies or chosen else NOWHERE

    def _choose(self, topic: str) -> Iterator[Match[Subscriber]]:
        """One member of each share group; one that is connected goes before one that is away."""
        for members in self.tree.shared(topic):
            away = None
            for match in members:
                if match.subscriber.client:
                    yield match
                    break
                if match.subscriber.session and away is None:
                    away = match
            else:
                if away:
                    yield away

    def deliver(
        self, message: Message, route: Route, numbers: Sequence[int], publisher: Subscriber | None
    ) -> None:
        """To who is connected. `numbers`: of the copies."""
        given = dict(zip((copy[0] for copy in route.copies), numbers, strict=True)) if numbers else {}
        for match in self.tree.match(message.topic):
            subscriber = match.subscriber
            client = subscriber.client
            if client is None or (match.no_local and subscriber is publisher):
                continue
            if subscriber.session and min(match.qos, message.qos):
                if number := given.pop(subscriber.session, 0):
                    client.deliver(message, match, number)
            else:
                client.deliver(message, match, 0)
        for match in route.chosen:
            if client := match.subscriber.client:
                client.deliver(message, match, 0)
        if given:
            for match in self._choosable(message.topic, given):
                if client := match.subscriber.client:
                    client.deliver(message, match, given[match.subscriber.session])

    def _choosable(self, topic: str, sessions: dict[int, int]) -> Iterator[Match[Subscriber]]:
        """The members of share groups that have got a copy."""
        for members in self.tree.shared(topic):
            for match in members:
                if match.subscriber.session in sessions:
                    yield match
                    break


def _copy(match: Match[Subscriber]) -> Copy:
    options = match.qos | match.retain_as_published << 3
    return match.subscriber.session, options, match.identifiers


class Hub:
    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}

    def account(self, user: int, user_id: str) -> Account:
        found = self.accounts.get(user)
        if found is None:
            found = self.accounts[user] = Account(user, user_id)
        return found
