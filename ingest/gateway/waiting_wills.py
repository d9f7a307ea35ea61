"""Wills that wait in the database: for their delay, for the end of their session, or since their gateway was
killed. Any gateway publishes those that are due."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import Error

from ingest.admission import DatabaseAway
from ingest.gateway.system import SystemClient
from ingest.intake_cache import KnownIntake, with_topics
from thingscale.accounts.models import User
from thingscale.devices.mqtt_store.sessions import WaitingWill
from thingscale.lib import own_topics

if TYPE_CHECKING:
    from ingest.gateway.server import Gateway

log = logging.getLogger(__name__)

OWN_TOPIC = own_topics.PREFIX.encode()  # in front of a topic that never had a token
RETRY_SECONDS = 1.0  # while the database is away


class WaitingWills:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._timer: asyncio.TimerHandle | None = None  # for the next will that may be due
        self._claiming = asyncio.Lock()
        self._ending: set[int] = set()  # sessions that end, so that their wills are due
        self._publishing: dict[int, SystemClient] = {}  # by session: on their way to storage

    def publish_in(self, seconds: float) -> None:
        """Publishes the wills that are due in so many seconds, or earlier if it is to do so anyway."""
        loop = self._gateway.loop
        at = loop.time() + seconds
        if self._timer and self._timer.when() > at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._gateway.draining:  # else the next gateway finds them
            self._gateway.spawn(self.publish_when_possible())

    async def publish_when_possible(self) -> None:
        """Waits while the database is away."""
        while True:
            try:
                await self.publish()
                break
            except DatabaseAway:
                log.warning("Wills that are due wait: the database is away")
                await asyncio.sleep(RETRY_SECONDS)

    async def _intakes_of(self, wills: Sequence[WaitingWill]) -> dict[int, tuple[KnownIntake, ...] | None]:
        """Those that may take the wills, by account. Nobody of the account may be connected here, so the
        database is asked; None: it can't tell."""
        found: dict[int, tuple[KnownIntake, ...] | None] = {}
        for account in {will.account for will in wills if OWN_TOPIC in will.packet}:
            try:
                found[account] = await self._gateway.in_thread(with_topics, account)
            except (Error, TimeoutError):
                log.warning("A will waits: the intakes of its account can't be read")
                found[account] = None
        return found

    async def publish(self, ending: int = 0) -> None:
        """Publishes the wills that are due, and that of the session that is `ending`, together with others
        for which this is called meanwhile. Wills that are claimed are on their way to storage before the next
        ones are claimed. Raises DatabaseAway."""
        gateway = self._gateway
        self._publishing = {key: each for key, each in self._publishing.items() if each.waits}
        if ending:
            self._ending.add(ending)
        try:
            async with self._claiming:
                if ending and ending not in self._ending:
                    return  # it went with another one
                next_one: float | None = 0.0
                while next_one is not None and next_one <= 0:
                    sessions = list(self._ending)
                    wills, next_one = await gateway.admission.claim_wills(sessions)
                    self._ending.difference_update(sessions)
                    known = await self._intakes_of(wills)
                    for will in wills:
                        intakes = known.get(will.account, ())
                        if intakes is None:
                            continue  # it stays in the database, and is claimed again
                        account = gateway.hub.account(will.account, User(pk=will.account).user_id)
                        subscriber = account.subscribers.get(will.client_id)
                        if subscriber:
                            subscriber.will_waits = False
                        before = self._publishing.get(will.session)
                        if before and before.waits:
                            continue  # claimed again: the queue is full for longer than a claim is valid
                        publisher = self._publishing[will.session] = SystemClient(gateway, subscriber)
                        try:
                            publisher.publish_will(account, will, intakes)
                        except Exception:
                            log.exception("A will failed")  # and only that one
                            gateway.admission.will_published(will.session)
                    gateway.admission.flush()
                if next_one is not None:
                    self.publish_in(next_one)
        finally:
            self._ending.discard(ending)  # if the client is refused, its session does not end
