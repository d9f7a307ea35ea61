"""One SUBSCRIBE: from when on the client gets messages, and the retained ones."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingest.admission import ASKED_SECONDS, RetainedPage
from ingest.gateway.deliveries import Message
from ingest.gateway.hub import Account, Subscriber
from ingest.gateway.publishes import new_message
from ingest.gateway.subscriptions import Match
from ingest.mqtt.packets import PUBLISH, ReasonCode, SubAck, Subscription
from ingest.mqtt.properties import read_properties
from ingest.mqtt.wire import Reader
from ingest.session_work import RETAINED_ROWS, RetainedAsked
from thingscale.devices.mqtt_store import RetainedMessage, Subscribed

if TYPE_CHECKING:
    from ingest.gateway.client import Client

AWAY_SECONDS = 2.0  # that a client without a session that lasts waits for a database that is away

ROOM_SECONDS = 0.01  # how often a client is looked at that still has to take what was read


class Subscribing:
    """What was published before is in the retained messages, and what comes after it is routed to the client:
    so the one is read, and the client enters the tree, between the same two batches. A session that lasts is
    in the tree at once, since what is admitted from now on is committed behind that, with its copies."""

    def __init__(
        self,
        client: "Client",
        account: Account,
        subscriber: Subscriber,
        suback: SubAck,
        subscriptions: list[tuple[Subscription, Subscribed]],
    ) -> None:
        self._client = client
        self._account = account
        self._subscriber = subscriber
        self._suback = suback
        self._subscriptions = subscriptions
        self._wanted: list[tuple[Subscription, RetainedAsked]] = []
        for subscription, subscribed in subscriptions:
            group, filter_, _, identifier = subscribed
            new = not account.tree.has(subscriber, filter_, group)
            if not group and subscription.retain_handling != 2 and (new or subscription.retain_handling == 0):
                copy = None
                if subscriber.session and subscription.qos:
                    identifiers = (identifier,) if identifier else ()
                    copy = subscriber.session, subscription.qos | 1 << 3, identifiers
                self._wanted.append((subscription, RetainedAsked(account.user, filter_, "", copy)))
        self._in_tree = self._acknowledged = False
        self._answer: asyncio.Future[Sequence[RetainedPage] | None] = (
            asyncio.get_running_loop().create_future()
        )

    async def run(self) -> None:
        session = self._subscriber.session
        if session:
            self._enter_tree()
        rows = [(session, subscribed) for _, subscribed in self._subscriptions] if session else []
        self._client.gateway.admission.subscribe(rows, [asked for _, asked in self._wanted], self._answered)
        done, _ = await asyncio.wait({self._answer}, timeout=ASKED_SECONDS if session else AWAY_SECONDS)
        if (not done or self._answer.result() is None) and session:
            self._client.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
        elif not done:
            self._acknowledge()
        else:
            await self._read_on()

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

    def _answered(self, pages: Sequence[RetainedPage] | None) -> None:
        if pages is not None or not self._subscriber.session:
            self._acknowledge()
        for (subscription, asked), page in zip(self._wanted, pages or (), strict=pages is not None):
            self._deliver(subscription, asked, page)
        if not self._answer.done():
            self._answer.set_result(pages)

    def _deliver(self, subscription: Subscription, asked: RetainedAsked, page: RetainedPage) -> None:
        """What a session that lasts gets at a QoS above 0 is in its queue, as far as there was room."""
        rows, number, count = page
        identifier = next(each.identifier for _, each in self._subscriptions if each.filter == asked.filter)
        match = Match(self._subscriber, subscription.qos, True, False, (identifier,) if identifier else ())
        for row in rows:
            qos = min(row.qos, subscription.qos)
            if not asked.copy or not row.qos:
                self._client.deliver(retained_message(row), qos, True, match, 0)
                continue
            if count:
                self._client.deliver(retained_message(row), qos, True, match, number)
            number, count = number + 1, max(count - 1, 0)

    async def _read_on(self) -> None:
        """The pages behind the first ones, each as of when it is read."""
        pages = self._answer.result() or ()
        for (subscription, asked), page in zip(self._wanted, pages, strict=True):
            rows = page[0]
            while len(rows) == RETAINED_ROWS and not self._client.ended:
                deliveries = self._client.deliveries
                if deliveries and (deliveries.congested or deliveries.waiting > RETAINED_ROWS):
                    await asyncio.sleep(ROOM_SECONDS)  # else what there is no room for would be dropped
                    continue
                following = asked._replace(after=rows[-1].topic)
                rows = await self._read(subscription, following)

    async def _read(self, subscription: Subscription, asked: RetainedAsked) -> Sequence[RetainedMessage]:
        read: asyncio.Future[Sequence[RetainedMessage]] = asyncio.get_running_loop().create_future()

        def answered(pages: Sequence[RetainedPage] | None) -> None:
            if pages:
                self._deliver(subscription, asked, pages[0])
            if not read.done():
                read.set_result(pages[0][0] if pages else ())

        self._client.gateway.admission.subscribe((), [asked], answered)
        done, _ = await asyncio.wait({read}, timeout=ASKED_SECONDS)
        return read.result() if done else ()


def retained_message(row: RetainedMessage) -> Message:
    properties = read_properties(Reader(row.properties), PUBLISH)
    return new_message(row.topic, row.payload, properties, age=time.time() - row.at / 1e6)
