"""The sessions that last, of the clients of all gateways: each gateway has their subscriptions in its trees,
so that what it takes is put into their queues (decision 34)."""

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

from ingest.admission import ASKED_SECONDS, Refused
from ingest.gateway.hub import Account, Subscriber
from ingest.mqtt.packets import Subscription
from ingest.service import connect
from thingscale.accounts.models import User
from thingscale.devices import durable, mqtt_store, presence
from thingscale.devices.mqtt_store import StoredSession, Subscribed
from thingscale.processes.change_notifications import HEARD, LEFT, SESSIONS, announce
from thingscale.streams.exactly_once import commit_log

if TYPE_CHECKING:
    from ingest.gateway.server import Gateway

log = logging.getLogger(__name__)

MOST = 190  # sessions in one notification, which has at most 8000 bytes
AGAIN_SECONDS = 0.5  # until who has not answered is told once more
DEAD_SECONDS = 2.0  # for an answer of a gateway that does not seem to live any more
SILENT_SECONDS = ASKED_SECONDS  # of one that does
RETRY_SECONDS = 1.0
CURRENT_SECONDS = DEAD_SECONDS - 0.5

AWAY = (Error, psycopg.Error, TimeoutError)  # of Django's connections and of ours

SessionKey = tuple[int, int]  # account, session


class Announcement(NamedTuple):
    """The subscriptions of these sessions have changed, or they have ended. `number`: which answer its
    gateway waits for; 0: there is more to come."""

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
        self.others: set[int] = set()  # gateways that want to hear of changes
        self._gateway = gateway
        self._key = key
        self._listened_at = -math.inf
        # What we tell the others
        self._due: set[SessionKey] = set()
        self._told: asyncio.Future[bool] = gateway.loop.create_future()  # of those that are due
        self._wanted = False  # somebody waits for that
        self._telling: asyncio.Task[None] | None = None
        self._number = 0
        self._silent: set[int] = set()  # who has not answered to that number
        self._all_answered = asyncio.Event()
        # What others tell us
        self._to_read: set[SessionKey] = set()
        self._all_to_read = False
        self._to_answer: dict[int, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._came_here: set[int] = set()  # sessions whose clients connected here while they were being read

    @property
    def current(self) -> bool:
        """Whether no other gateway can have fenced us for a subscription that we have not heard of."""
        return not self.others or time.monotonic() - self._listened_at < CURRENT_SECONDS

    def listened(self, at: float) -> None:
        """Our connection for what others tell stood then."""
        self._listened_at = at

    # From the start

    async def load(self) -> None:
        """Those of clients that are away, also because their gateway was killed."""
        while True:
            try:
                self._apply(await self._gateway.in_thread(_load))
                break
            except AWAY as error:
                log.warning("The sessions of clients can't be read: %s", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    async def meet_others(self) -> None:
        """Once they can see that we live: what changes from now on we are told; what has changed is read."""
        while True:
            try:
                self.others = await self._gateway.in_thread(_alive) - {self._key}
                if self.others:
                    await self.tell(())
                    self._apply(await self._gateway.in_thread(_read_sessions))
                break
            except (Refused, *AWAY) as error:
                log.warning("Other gateways can't be told that this one is new: %s", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    def missed(self) -> None:
        """What was told while we could not hear it."""
        if self.others:
            self._all_to_read = True
            self._read_soon()

    # What changes here

    async def write(
        self,
        account: Account,
        session: int,
        subscribe: Iterable[Subscribed] = (),
        unsubscribe: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Until it is committed, and all gateways route by it; all the same if nobody waits for it any more.
        Raises Refused."""
        work = self._write(
            [(account.user, session)],
            [(session, each) for each in subscribe],
            [(session, group, filter_) for group, filter_ in unsubscribe],
        )
        if not await asyncio.shield(self._gateway.spawn(work)):
            raise Refused

    def ended(self, sessions: Collection[SessionKey]) -> None:
        """Their end is on its way to the database."""

        async def tell() -> None:
            while not await self._write(sessions):  # noqa: ASYNC110  (while the database is away)
                await asyncio.sleep(RETRY_SECONDS)

        if self.others and sessions:
            self._gateway.spawn(tell())

    def expired(self, sessions: Collection[SessionKey]) -> None:
        self._apply([], sessions)
        self.ended(sessions)

    async def _write(
        self,
        sessions: Collection[SessionKey],
        subscribe: Iterable[tuple[int, Subscribed]] = (),
        unsubscribe: Iterable[tuple[int, str, str]] = (),
    ) -> bool:
        try:
            await self._gateway.admission.write_subscriptions(subscribe, unsubscribe)
            await self.tell(sessions)
        except Refused:
            return False
        return True

    async def tell(self, sessions: Collection[SessionKey]) -> None:
        """That these have changed, until all other gateways know; those that do not answer are fenced.
        Raises Refused."""
        if not self.others:
            return
        self._due.update(sessions)
        self._wanted = True
        told = self._told
        if self._telling is None or self._telling.done():
            self._telling = self._gateway.spawn(self._tell_all())
        if not await asyncio.shield(told):
            raise Refused

    async def _tell_all(self) -> None:
        """One round after the other: what comes up meanwhile goes with the next one."""
        while self._wanted:
            self._wanted = False
            sessions, self._due = self._due, set()
            told, self._told = self._told, self._gateway.loop.create_future()
            try:
                await self._tell_round(sorted(sessions))
                told.set_result(True)
            except AWAY:
                self._due |= sessions
                self._wanted = True
                told.set_result(False)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                if not told.done():
                    told.set_result(False)

    async def _tell_round(self, sessions: list[SessionKey]) -> None:
        self._number += 1
        self._silent = set(self.others)
        began = self._gateway.now()
        while self._silent:
            self._all_answered.clear()
            alive: set[int] = await self._gateway.in_thread(_tell, self._key, self._number, sessions)
            try:
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._all_answered.wait()
            except TimeoutError:
                waited = self._gateway.now() - began
                over = self._silent - alive if waited >= DEAD_SECONDS else set()
                over |= self._silent if waited >= SILENT_SECONDS else set()
                if over:
                    log.warning("Gateways that do not answer are taken for dead")
                    await self._gateway.in_thread(_fence, over)
                    self.forget(over)

    def forget(self, gateways: Collection[int]) -> None:
        """They have stopped, or are fenced: one of them that still lives begins anew."""
        self.others.difference_update(gateways)
        self._answered(gateways)

    def answered(self, gateway: int, number: int) -> None:
        if number == self._number:
            self._answered({gateway})

    def _answered(self, gateways: Collection[int]) -> None:
        self._silent.difference_update(gateways)
        if not self._silent:
            self._all_answered.set()

    async def leave(self) -> None:
        """All is stored, so nobody has to wait for us."""
        if self.others:
            with contextlib.suppress(*AWAY):
                await self._gateway.in_thread(announce, LEFT, self._key)

    # What changes at other gateways

    def came_here(self, session: int) -> None:
        """Its client has connected to us: nobody knows better now."""
        if self._reading and not self._reading.done():
            self._came_here.add(session)

    def heard(self, announcement: Announcement) -> None:
        gateway, number, sessions = announcement
        if gateway == self._key:
            return
        self._to_read.update(sessions)
        if number:
            self._to_answer[gateway] = number
        self._read_soon()

    def _read_soon(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = self._gateway.spawn(self._read())

    async def _read(self) -> None:
        while self._to_read or self._to_answer or self._all_to_read:
            sessions, self._to_read = self._to_read, set()
            answers, self._to_answer = self._to_answer, {}
            all_of_them, self._all_to_read = self._all_to_read, False
            self._came_here.clear()
            try:
                if new := answers.keys() - self.others:
                    self.others |= new
                    # From now on they are told; and what was written before, they will find.
                    await self._gateway.admission.write_subscriptions()
                if all_of_them:
                    self._apply(await self._gateway.in_thread(_read_sessions))
                elif sessions:
                    keys = [session for _, session in sessions]
                    self._apply(await self._gateway.in_thread(_read_sessions, keys), sessions)
                for gateway, number in answers.items():
                    await self._gateway.in_thread(announce, HEARD, gateway, f"{number} {self._key}")
            except (Refused, *AWAY):
                self._to_read |= sessions
                self._to_answer = answers | self._to_answer
                self._all_to_read |= all_of_them
                await asyncio.sleep(AGAIN_SECONDS)
        self._came_here.clear()

    def _apply(self, stored: list[StoredSession], asked: Collection[SessionKey] | None = None) -> None:
        """`asked`: those of them that are not in `stored` have ended; None: so have all that are not."""
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
                if session and over and not subscriber.client and session not in self._came_here:
                    account.remove(subscriber)
        for key, user, client_id, subscriptions, will_waits in stored:
            account = hub.account(user, User(pk=user).user_id)
            known = account.subscribers.get(client_id)
            if (known and known.client) or key in self._came_here:
                continue
            if known and known.session != key:
                account.remove(known)
                known = None
            if known is None:
                known = account.subscribers[client_id] = Subscriber(client_id, key)
            known.will_waits = will_waits
            set_subscriptions(account, known, subscriptions)


def set_subscriptions(
    account: Account, subscriber: Subscriber, subscriptions: Collection[Subscribed]
) -> None:
    """These, and no others."""
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
        durable.adopt_all(cursor, settings.DURABLE_SESSION_DAYS)
        if not presence.gateways(cursor):  # else those that live do it, and we, a little later
            mqtt_store.leave_for_the_dead(cursor, ())
        return mqtt_store.load_sessions(cursor)


def _read_sessions(sessions: list[int] | None = None) -> list[StoredSession]:
    with connect() as own, own.cursor() as cursor:
        return mqtt_store.load_sessions(cursor, sessions)


def _tell(key: int, number: int, sessions: list[SessionKey]) -> set[int]:
    """Returns the gateways that live."""
    parts = [sessions[start : start + MOST] for start in range(0, len(sessions), MOST)] or [[]]
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
