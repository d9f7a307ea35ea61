"""The durable sessions of the clients of all gateways. Each gateway has the subscriptions of all of them in
its trees, so that it can put the messages that it takes into their queues (decision 34)."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from django.conf import settings
from django.db import Error, connection, transaction

from ingest.admission import ASKED_SECONDS, DatabaseAway
from ingest.gateway.hub import AccountHub, Subscriber
from ingest.mqtt.packets import Subscription
from ingest.service import connect
from thingscale.accounts.models import User
from thingscale.devices import presence
from thingscale.devices.mqtt_store import previous_release
from thingscale.devices.mqtt_store.sessions import StoredSession, disconnect_dead_gateways, load_sessions
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription
from thingscale.processes.change_notifications import HEARD, LEFT, SESSIONS, announce
from thingscale.streams.exactly_once import commit_log

if TYPE_CHECKING:
    from ingest.gateway.server import Gateway

log = logging.getLogger(__name__)

MAX_ANNOUNCED = 190  # sessions in one notification, which has at most 8000 bytes
REPEAT_SECONDS = 0.5  # until gateways that have not confirmed get the announcement again
DEAD_SECONDS = 2.0  # that a gateway which does not seem to live any more has to confirm
UNCONFIRMED_SECONDS = ASKED_SECONDS  # the same, of a gateway that lives
RETRY_SECONDS = 1.0
CURRENT_SECONDS = DEAD_SECONDS - 0.5

AWAY = (Error, psycopg.Error, TimeoutError)  # of Django's connections and of ours

SessionKey = tuple[int, int]  # account, session


class Announcement(NamedTuple):
    """The subscriptions of these sessions have changed, or the sessions have ended. The gateway waits until
    all others have confirmed this number; with 0 it waits for none, since more announcements follow."""

    gateway: int
    number: int
    sessions: list[SessionKey]

    @classmethod
    def of(cls, gateway: int, text: str) -> "Announcement":
        number, *keys = text.split()
        pairs = (key.split("-") for key in keys)
        return cls(gateway, int(number), [(int(account), int(session)) for account, session in pairs])


class DurableSessions:
    def __init__(self, gateway: "Gateway", key: int) -> None:
        self.others: set[int] = set()  # gateways to which changes are announced
        self._gateway = gateway
        self._key = key
        self._listening_at = -math.inf
        # What we announce:
        self._due: set[SessionKey] = set()
        self._announced: asyncio.Future[bool] = gateway.loop.create_future()  # of the sessions that are due
        self._round_wanted = False  # somebody waits for that
        self._announcing: asyncio.Task[None] | None = None
        self._number = 0
        self._unconfirmed: set[int] = set()  # gateways that have not confirmed that number
        self._all_confirmed = asyncio.Event()
        # What others announce:
        self._to_read: set[SessionKey] = set()
        self._all_to_read = False
        self._to_confirm: dict[int, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._connected_here: set[int] = set()  # sessions whose clients connected here during that

    @property
    def current(self) -> bool:
        """Whether this gateway knows all subscriptions. If not, the others may have fenced it already, since
        it did not confirm one: to have heard that there is one is not enough."""
        if not self.others:
            return True
        reads = self._reading is not None and not self._reading.done()
        return not reads and time.monotonic() - self._listening_at < CURRENT_SECONDS

    def note_listening(self, at: float) -> None:
        """The connection on which announcements come worked at this time."""
        self._listening_at = at

    # At the start

    async def load(self) -> None:
        """Those of all clients that are away, also because their gateway was killed."""
        while True:
            try:
                self._apply(await self._gateway.in_thread(_load))
                break
            except AWAY as error:
                log.warning("The sessions of clients can't be read: %s", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    async def join_others(self) -> None:
        """Once the others can see that this gateway lives: from now on they announce changes to it; then it
        reads what has changed before."""
        while True:
            try:
                self.others = await self._gateway.in_thread(_alive) - {self._key}
                if self.others:
                    await self.announce(())
                    self._apply(await self._gateway.in_thread(_read_sessions))
                break
            except (DatabaseAway, *AWAY) as error:
                log.warning("Other gateways can't be told that this one is new: %s", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    # What changes here

    async def write(
        self,
        account: AccountHub,
        session: int,
        subscribe: Iterable[StoredSubscription] = (),
        unsubscribe: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Returns once it is committed and all gateways route by it. This goes on if the caller stops
        waiting. Raises DatabaseAway."""
        work = self._write_and_announce(
            [(account.user, session)],
            [(session, each) for each in subscribe],
            [(session, group, filter_) for group, filter_ in unsubscribe],
        )
        if not await asyncio.shield(self._gateway.spawn(work)):
            raise DatabaseAway

    def announce_ended(self, sessions: Collection[SessionKey]) -> None:
        """Their end is on its way to the database."""

        async def announce() -> None:
            while not await self._write_and_announce(sessions):  # noqa: ASYNC110  (the database is away)
                await asyncio.sleep(RETRY_SECONDS)

        if self.others and sessions:
            self._gateway.spawn(announce())

    def remove(self, sessions: Collection[SessionKey]) -> None:
        """They have expired, or ended with the gateway of their client."""
        self._apply([], sessions)
        self.announce_ended(sessions)

    async def _write_and_announce(
        self,
        sessions: Collection[SessionKey],
        subscribe: Iterable[tuple[int, StoredSubscription]] = (),
        unsubscribe: Iterable[tuple[int, str, str]] = (),
    ) -> bool:
        try:
            await self._gateway.admission.write_subscriptions(subscribe, unsubscribe)
            await self.announce(sessions)
        except DatabaseAway:
            return False
        return True

    async def announce(self, sessions: Collection[SessionKey]) -> None:
        """Returns once all other gateways have confirmed; those that do not are fenced. Raises
        DatabaseAway."""
        if not self.others:
            return
        self._due.update(sessions)
        self._round_wanted = True
        announced = self._announced
        if self._announcing is None or self._announcing.done():
            self._announcing = self._gateway.spawn(self._announce_in_rounds())
        if not await asyncio.shield(announced):
            raise DatabaseAway

    async def _announce_in_rounds(self) -> None:
        """Sessions that become due during a round go with the next one."""
        while self._round_wanted:
            self._round_wanted = False
            sessions, self._due = self._due, set()
            announced, self._announced = self._announced, self._gateway.loop.create_future()
            try:
                await self._announce_round(sorted(sessions))
                announced.set_result(True)
            except AWAY:
                self._due |= sessions
                self._round_wanted = True
                announced.set_result(False)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                if not announced.done():
                    announced.set_result(False)

    async def _announce_round(self, sessions: list[SessionKey]) -> None:
        self._number += 1
        self._unconfirmed = set(self.others)
        began = self._gateway.now()
        while self._unconfirmed:
            self._all_confirmed.clear()
            alive: set[int] = await self._gateway.in_thread(_notify, self._key, self._number, sessions)
            try:
                async with asyncio.timeout(REPEAT_SECONDS):
                    await self._all_confirmed.wait()
            except TimeoutError:
                waited = self._gateway.now() - began
                dead = self._unconfirmed - alive if waited >= DEAD_SECONDS else set()
                dead |= self._unconfirmed if waited >= UNCONFIRMED_SECONDS else set()
                if dead:
                    log.warning("Gateways that do not answer are taken for dead")
                    await self._gateway.in_thread(_fence, dead)
                    self._confirm(dead)
                    self.forget_fenced(dead)

    def forget_fenced(self, gateways: Collection[int]) -> None:
        """They were fenced just now. One that lives all the same may have heard of all that we announced, and
        answers to clients without storing anything until it hears of the fence: so it is waited for until it
        has, or does not take itself for current any more."""
        if gateways:
            self._gateway.loop.call_later(DEAD_SECONDS, self.forget, set(gateways))

    def forget(self, gateways: Collection[int]) -> None:
        """They have stopped."""
        self.others.difference_update(gateways)
        self._confirm(gateways)

    def on_confirmation(self, gateway: int, number: int) -> None:
        if number == self._number:
            self._confirm({gateway})

    def _confirm(self, gateways: Collection[int]) -> None:
        self._unconfirmed.difference_update(gateways)
        if not self._unconfirmed:
            self._all_confirmed.set()

    async def announce_stop(self) -> None:
        """All is stored, so that the others need not wait for this gateway any more."""
        if self.others:
            with contextlib.suppress(*AWAY):
                await self._gateway.in_thread(announce, LEFT, self._key)

    # What changes at other gateways

    def connected_here(self, session: int) -> None:
        """Its client has connected to this gateway, which knows more about it than the others."""
        if self._reading and not self._reading.done():
            self._connected_here.add(session)

    def on_announcement(self, announcement: Announcement) -> None:
        gateway, number, sessions = announcement
        if gateway == self._key:
            return
        self._to_read.update(sessions)
        if number:
            self._to_confirm[gateway] = number
        self._read_soon()

    def on_missed_announcements(self) -> None:
        """While we could not listen."""
        if self.others:
            self._all_to_read = True
            self._read_soon()

    def _read_soon(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = self._gateway.spawn(self._read())

    async def _read(self) -> None:
        while self._to_read or self._to_confirm or self._all_to_read:
            sessions, self._to_read = self._to_read, set()
            to_confirm, self._to_confirm = self._to_confirm, {}
            read_all, self._all_to_read = self._all_to_read, False
            self._connected_here.clear()
            try:
                if new := to_confirm.keys() - self.others:
                    self.others |= new
                    # From now on we announce to them. What we wrote before, they have to find in the
                    # database.
                    await self._gateway.admission.write_subscriptions()
                if read_all:
                    self._apply(await self._gateway.in_thread(_read_sessions))
                elif sessions:
                    keys = [session for _, session in sessions]
                    self._apply(await self._gateway.in_thread(_read_sessions, keys), sessions)
                for gateway, number in to_confirm.items():
                    await self._gateway.in_thread(announce, HEARD, gateway, f"{number} {self._key}")
            except (DatabaseAway, *AWAY):
                self._to_read |= sessions
                self._to_confirm = to_confirm | self._to_confirm
                self._all_to_read |= read_all
                await asyncio.sleep(REPEAT_SECONDS)
        self._connected_here.clear()

    def _apply(self, stored: list[StoredSession], asked: Collection[SessionKey] | None = None) -> None:
        """Sessions that were `asked` for and are not `stored` have ended; None: all were asked for."""
        hub = self._gateway.hub
        found = {each.key for each in stored}
        ended: dict[int, set[int]] = {}
        for user, session in asked or ():
            if session not in found:
                ended.setdefault(user, set()).add(session)
        for account in list(hub.accounts.values()):
            if asked is not None and account.user not in ended:
                continue
            for subscriber in list(account.subscribers.values()):
                session = subscriber.session
                over = session not in found if asked is None else session in ended[account.user]
                if session and over and not subscriber.client and session not in self._connected_here:
                    account.remove(subscriber)
        for key, user, client_id, subscriptions, will_waits in stored:
            account = hub.account(user, User(pk=user).user_id)
            known = account.subscribers.get(client_id)
            if (known and known.client) or key in self._connected_here:
                continue
            if known and known.session != key:
                account.remove(known)
                known = None
            if known is None:
                known = account.subscribers[client_id] = Subscriber(client_id, key)
            known.will_waits = will_waits
            set_subscriptions(account, known, subscriptions)


def set_subscriptions(
    account: AccountHub, subscriber: Subscriber, subscriptions: Collection[StoredSubscription]
) -> None:
    """Replaces all that it has."""
    current = {(each.group, each.filter) for each in subscriptions}
    for group, filter_, _, _ in list(account.tree.filters(subscriber)):
        if (group, filter_) not in current:
            account.unsubscribe(subscriber, filter_, group)
    for group, filter_, options, identifier in subscriptions:
        subscription = Subscription(filter_, options & 3, bool(options & 4), bool(options & 8), options >> 4)
        account.subscribe(subscriber, filter_, subscription, identifier, group)


# In a thread


def _load() -> list[StoredSession]:
    with connect() as own, own.transaction(), own.cursor() as cursor:
        previous_release.adopt(cursor, settings.DURABLE_SESSION_DAYS)
        if not presence.gateways(cursor):  # else those that live do it, and we do it a little later
            disconnect_dead_gateways(cursor, ())
        return load_sessions(cursor)


def _read_sessions(keys: list[int] | None = None) -> list[StoredSession]:
    with connect() as own, own.cursor() as cursor:
        return load_sessions(cursor, keys)


def _notify(key: int, number: int, sessions: list[SessionKey]) -> set[int]:
    """Returns the gateways that live."""
    parts = [sessions[start : start + MAX_ANNOUNCED] for start in range(0, len(sessions), MAX_ANNOUNCED)] or [
        []
    ]
    with transaction.atomic():
        for place, part in enumerate(parts, 1):
            text = " ".join(f"{account}-{session}" for account, session in part)
            announce(SESSIONS, key, f"{number if place == len(parts) else 0} {text}")
    return _alive()


def _alive() -> set[int]:
    with connection.cursor() as cursor:
        return set(presence.gateways(cursor))


def _fence(gateways: set[int]) -> None:
    with connect() as own, own.cursor() as cursor:
        commit_log.fence(cursor, gateways)
