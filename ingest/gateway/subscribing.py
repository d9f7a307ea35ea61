"""A SUBSCRIBE: from which message on the client gets new ones, and which retained messages it gets."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from ingest.admission import ASKED_SECONDS, DatabaseAway
from ingest.gateway.deliveries import DurableDeliveries
from ingest.gateway.hub import AccountHub, Subscriber
from ingest.gateway.outgoing_message import OutgoingMessage
from ingest.gateway.publishes import new_message
from ingest.gateway.subscriptions import Match
from ingest.mqtt.packets import PUBLISH, ReasonCode, SubAck, Subscription
from ingest.mqtt.properties import read_properties
from ingest.mqtt.wire import Reader
from ingest.session_work import RETAINED_ROWS, RetainedAsked, RetainedPage
from thingscale.devices.mqtt_store.retained import RetainedMessage
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription
from thingscale.lib.clock import now_us

if TYPE_CHECKING:
    from ingest.gateway.client import Client

AWAY_SECONDS = 2.0  # that a client without a durable session waits for a database that is away
RETRY_SECONDS = 2.0  # until what the database could not answer is asked again


class WantedRetained(NamedTuple):
    """The retained messages that one new subscription is to get."""

    match: Match[Subscriber]
    asked: RetainedAsked

    def behind(self, page: RetainedPage) -> "WantedRetained":
        return self._replace(asked=self.asked._replace(after=page.rows[-1].topic)) if page.rows else self


class Subscribing:
    """The client gets the retained messages as they are between two batches, and each message that is stored
    behind the first of them: its subscriptions enter the tree at that moment. Those of a durable session
    enter the tree at once, since messages that are admitted from now on are committed behind them, with
    copies."""

    def __init__(
        self,
        client: "Client",
        account: AccountHub,
        subscriber: Subscriber,
        suback: SubAck,
        subscriptions: list[tuple[Subscription, StoredSubscription]],
    ) -> None:
        self._client = client
        self._account = account
        self._subscriber = subscriber
        self._suback = suback
        self._subscriptions = subscriptions
        self._wanted: list[WantedRetained] = []
        for subscription, subscribed in subscriptions:
            group, filter_, _, identifier = subscribed
            new = not account.tree.has(subscriber, filter_, group)
            if not group and subscription.retain_handling != 2 and (new or subscription.retain_handling == 0):
                identifiers = (identifier,) if identifier else ()
                copy = None
                if subscriber.session and subscription.qos:
                    copy = subscriber.session, subscription.qos | 1 << 3, identifiers
                match = Match(subscriber, subscription.qos, True, False, identifiers)
                self._wanted.append(WantedRetained(match, RetainedAsked(account.user, filter_, "", copy)))
        self._in_tree = self._acknowledged = False
        self._answer: asyncio.Future[Sequence[RetainedPage] | None] = (
            asyncio.get_running_loop().create_future()
        )

    async def run(self) -> None:
        session = self._subscriber.session
        durable_sessions = self._client.gateway.durable_sessions
        if session:
            self._enter_tree()
        rows = [(session, subscribed) for _, subscribed in self._subscriptions] if session else []
        if session and durable_sessions.others:  # first they know, then what there was before is read
            try:
                await durable_sessions.write(self._account, session, [each for _, each in rows])
            except DatabaseAway:
                self._client.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
                return
        self._client.gateway.admission.subscribe(
            rows, [wanted.asked for wanted in self._wanted], self._answered_in_order
        )
        done, _ = await asyncio.wait({self._answer}, timeout=ASKED_SECONDS if session else AWAY_SECONDS)
        if (not done or self._answer.result() is None) and session:
            self._client.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
        elif not done:
            self._acknowledge()

    def _enter_tree(self) -> None:
        if self._in_tree:
            return
        self._in_tree = True
        for subscription, (group, filter_, _, identifier) in self._subscriptions:
            self._account.subscribe(self._subscriber, filter_, subscription, identifier, group)

    def _acknowledge(self) -> None:
        if not self._acknowledged and not self._client.ended:
            self._acknowledged = True
            self._enter_tree()
            self._client.send(self._suback)

    def _answered_in_order(self, pages: Sequence[RetainedPage] | None) -> None:
        """Behind older messages that are still to be delivered."""
        self._account.time_share.run_in_order(partial(self._answered, pages))

    def _answered(self, pages: Sequence[RetainedPage] | None) -> None:
        if pages is not None or not self._subscriber.session:
            self._acknowledge()
        for wanted, page in zip(self._wanted, pages or repeat(RetainedPage(more=True)), strict=False):
            deliver_retained(self._client, wanted, page)
            if page.more:
                self._client.read_retained(wanted.behind(page))
        if not self._answer.done():
            self._answer.set_result(pages)


class Unread:
    """The retained messages of a client's new subscriptions that did not fit into the first pages. A page is
    read once the client has room for it: messages without room would be dropped."""

    def __init__(self, client: "Client", account: AccountHub) -> None:
        self._client = client
        self._account = account
        self._wanted: dict[str, WantedRetained] = {}  # by filter
        self._asked = False

    def add(self, wanted: WantedRetained) -> None:
        self._wanted[wanted.asked.filter] = wanted
        self.read_more()

    def read_more(self) -> None:
        if self._asked or not self._wanted or self._client.ended:
            return
        deliveries = self._client.deliveries
        if deliveries is None or deliveries.congested or deliveries.waiting > RETAINED_ROWS:
            return
        if isinstance(deliveries, DurableDeliveries) and deliveries.behind:
            return
        wanted = next(iter(self._wanted.values()))
        self._asked = True
        self._client.gateway.admission.subscribe((), [wanted.asked], partial(self._answered_in_order, wanted))

    def _answered_in_order(self, wanted: WantedRetained, pages: Sequence[RetainedPage] | None) -> None:
        self._account.time_share.run_in_order(partial(self._answered, wanted, pages))

    def _answered(self, wanted: WantedRetained, pages: Sequence[RetainedPage] | None) -> None:
        self._asked = False
        if pages is None:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self.read_more)
            return
        filter_ = wanted.asked.filter
        subscribed = self._account.tree.has(wanted.match.subscriber, filter_, "")
        latest = self._wanted.get(filter_) is wanted
        if latest:
            del self._wanted[filter_]
        if wanted.asked.copy or (latest and subscribed):  # a copy is in the queue now
            deliver_retained(self._client, wanted, pages[0])
        if pages[0].more and latest and subscribed:
            self._wanted[filter_] = wanted.behind(pages[0])
        self.read_more()


def deliver_retained(client: "Client", wanted: WantedRetained, page: RetainedPage) -> None:
    """Messages at a QoS above 0 for a durable session are in its queue already, unless it is full."""
    rows, number, count, _ = page
    match, asked = wanted
    for row in rows:
        qos = min(row.qos, match.qos)
        if not asked.copy or not row.qos:
            client.deliver(_message(row), qos, True, match, 0)
            continue
        if count:
            client.deliver(_message(row), qos, True, match, number)
        number, count = number + 1, max(count - 1, 0)


def _message(row: RetainedMessage) -> OutgoingMessage:
    properties = read_properties(Reader(row.properties), PUBLISH)
    return new_message(row.topic, row.payload, properties, age=(now_us() - row.at) / 1e6)
