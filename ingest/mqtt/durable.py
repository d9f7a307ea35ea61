"""Durable sessions, which outlive their connections, with what they subscribed to (decisions 0008, 0023)."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connections
from django.utils import timezone

from ingest.mqtt import upstream
from thingscale.accounts.models import User
from thingscale.background.watched import log_failure
from thingscale.devices import durable
from thingscale.devices.durable import Elsewhere, Kept
from thingscale.devices.presence import ClientKey
from thingscale.lib.collecting import let_go

log = logging.getLogger(__name__)

WRITE_SECONDS = 3.0  # that a client waits for its row
DATABASE_SECONDS = 30.0
RETRY_SECONDS = 1.0
MOST_REFUSED = 3  # by the broker, before it counts as away
AT_ONCE = 1000
MAX_UNWRITTEN = 100_000  # while the database is away


class DurableSessions:
    """In memory, which decides, and as rows, which one thread writes in order: what has changed, together.

    `in_use`: whether the client is connected here; `ended`: of a session that was over."""

    def __init__(self, in_use: Callable[[ClientKey], bool], ended: Callable[[ClientKey], None]) -> None:
        self._in_use = in_use
        self._ended = ended
        self._kept: defaultdict[int, dict[str, Kept]] = defaultdict(dict)
        self._changed: dict[ClientKey, None] = {}  # and not written
        self._batch: dict[ClientKey, None] = {}  # is being written
        self._at_once = AT_ONCE  # fewer after a failure, to find what can't be written
        self._tried = asyncio.Event()  # once it has been
        self._retry_at = 0.0
        self._writing: asyncio.Task[None] | None = None
        self._ending: tuple[ClientKey, asyncio.Event] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="durable")
        self._now = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def __iter__(self) -> Iterator[tuple[ClientKey, Kept]]:
        for user, sessions in self._kept.items():
            for client_id, kept in sessions.items():
                yield (user, client_id), kept

    def find(self, key: ClientKey) -> Kept | None:
        user, client_id = key
        return self._kept[user].get(client_id)

    def has_room(self, key: ClientKey) -> bool:
        user, client_id = key
        sessions = self._kept[user]
        room = len(sessions) < settings.DURABLE_SESSIONS and len(self._changed) < MAX_UNWRITTEN
        return room or client_id in sessions

    # What happens to them

    def keep(self, key: ClientKey, subscriptions: list[list[Any]]) -> None:
        self._set(key, Kept(subscriptions))

    def left(self, key: ClientKey, seconds: int) -> None:
        """The client that had it has gone, and may come back for so long."""
        if (kept := self.find(key)) and kept.ends_at is None:
            self._set(key, kept._replace(ends_at=timezone.now() + timedelta(seconds=seconds)))

    def give_up(self, key: ClientKey) -> None:
        """It is over, but the broker has not heard of that."""
        if kept := self.find(key):
            self._set(key, kept._replace(ends_at=timezone.now()))

    def end(self, key: ClientKey) -> None:
        self._set(key, None)

    def _set(self, key: ClientKey, kept: Kept | None) -> None:
        user, client_id = key
        if kept:
            self._kept[user][client_id] = kept
        else:
            self._kept[user].pop(client_id, None)
        self._changed[key] = None

    # Those that are over

    async def end_those_over(self) -> None:
        """With the broker too, and remembered until that has heard of it. Raises django.db.Error or
        TimeoutError."""
        now, refused = timezone.now(), 0
        over = [key for key, kept in self if kept.ends_at and kept.ends_at <= now]
        random.shuffle(over)  # else the same few that the broker refuses might come first each time
        for key in over:
            if not self._is_over(key):
                continue
            elsewhere = await self._in_thread(durable.elsewhere, key)
            if not self._is_over(key):
                continue  # its client has just come back
            if elsewhere is Elsewhere.GOES_ON:
                self._put_off(key)
            elif elsewhere is Elsewhere.NOT:
                refused += not await self._end(key)
            if refused == MOST_REFUSED:
                break  # the broker is away

    async def settled(self, key: ClientKey) -> None:
        """Until nobody else has a connection to the broker in this client's name."""
        if self._ending and self._ending[0] == key:
            await self._ending[1].wait()

    def _is_over(self, key: ClientKey) -> bool:
        kept = self.find(key)
        return kept is not None and kept.over and not self._in_use(key) and not self._is_unwritten(key)

    def _put_off(self, key: ClientKey) -> None:
        """Another gateway will end it."""
        user, client_id = key
        self._kept[user][client_id] = self._kept[user][client_id]._replace(ends_at=_latest_end())

    async def _end(self, key: ClientKey) -> bool:
        """False if the broker does not want to hear of it."""
        user, client_id = key
        over = asyncio.Event()
        self._ending = key, over
        try:
            await upstream.forget(User(pk=user).user_id, client_id)
            self.end(key)
            self._ended(key)
        except upstream.Refused:
            return False
        finally:
            self._ending = None
            over.set()
        return True

    # The rows

    async def load(self) -> None:
        for (user, client_id), kept in (await self._in_thread(durable.load, _latest_end())).items():
            self._kept[user][client_id] = kept
        await self._in_thread(connections.close_all)  # there may be none for long

    async def written(self, key: ClientKey) -> None:
        """Until what has happened to it is written, or can't be just now."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                while self._is_unwritten(key) and self._now() >= self._retry_at:
                    self.write()
                    await self._tried.wait()
        except TimeoutError:
            log.warning("Durable sessions are not written yet")

    def write(self) -> None:
        """Begins to, if there is something and it is not being done already."""
        if self._changed and self._now() >= self._retry_at and (not self._writing or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="durable sessions")
            self._writing.add_done_callback(log_failure)

    async def stop(self, seconds: float) -> None:
        """Writes what is not written yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._changed or self._batch:
                    self.write()
                    await asyncio.sleep(0.02)
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=False)

    def _is_unwritten(self, key: ClientKey) -> bool:
        return key in self._changed or key in self._batch

    async def _write(self) -> None:
        """Batch after batch. What could not be written comes last, in smaller ones."""
        while self._changed and self._now() >= self._retry_at:
            self._batch = dict.fromkeys(islice(self._changed, self._at_once))
            for key in self._batch:
                del self._changed[key]
            if await self._save():
                self._at_once = min(2 * self._at_once, AT_ONCE)
            else:
                self._at_once = max(self._at_once // 2, 1)
                self._changed |= self._batch
                self._retry_at = self._now() + RETRY_SECONDS
            self._batch = {}
            tried, self._tried = self._tried, asyncio.Event()
            tried.set()

    async def _save(self) -> bool:
        try:
            await self._in_thread(durable.save, {key: self.find(key) for key in self._batch})
        except Exception as error:  # whatever it is, it is tried again
            log.warning("Durable sessions can't be written: %s", type(error).__name__)
            let_go(error)
            return False
        return True

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        def run() -> Any:
            close_old_connections()
            return work(*arguments)

        async with asyncio.timeout(DATABASE_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def longest() -> int:
    """Seconds that a session outlives its connection at most."""
    days: int = settings.DURABLE_SESSION_DAYS
    return days * 86_400


def _latest_end() -> datetime:
    return timezone.now() + timedelta(seconds=longest())
