"""Durable sessions, which outlive their connections, with what they subscribed to (decisions 0008, 0020)."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import Error, close_old_connections, connections
from django.utils import timezone

from ingest.mqtt import upstream
from thingscale.accounts.models import User
from thingscale.devices import durable
from thingscale.devices.durable import Kept, Key

log = logging.getLogger(__name__)

WRITE_SECONDS = 10.0
RETRY_SECONDS = 1.0
AT_ONCE = 1000


class DurableSessions:
    """In memory, which decides, and as rows, which one thread writes in order: what has changed, together."""

    def __init__(self) -> None:
        self._kept: defaultdict[int, dict[str, Kept]] = defaultdict(dict)
        self._changed: set[Key] = set()
        self._stale: set[Key] = set()  # over for us, and perhaps not for the broker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="durable")
        self._writing = asyncio.Lock()
        self._retry_at = 0.0
        self._now = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def __iter__(self) -> Iterator[tuple[Key, Kept]]:
        for user, sessions in self._kept.items():
            for client_id, kept in sessions.items():
                yield (user, client_id), kept

    def find(self, key: Key) -> Kept | None:
        user, client_id = key
        return self._kept[user].get(client_id)

    def has_room(self, key: Key) -> bool:
        user, client_id = key
        sessions = self._kept[user]
        return client_id in sessions or len(sessions) < settings.DURABLE_SESSIONS

    # What happens to them

    def keep(self, key: Key, subscriptions: list[list[Any]]) -> None:
        self._set(key, Kept(subscriptions))

    def left(self, key: Key, seconds: int) -> None:
        """Its client has gone, and may come back for so long."""
        if kept := self.find(key):
            self._set(key, kept._replace(ends_at=timezone.now() + timedelta(seconds=seconds)))

    def end(self, key: Key) -> None:
        """Its client starts afresh."""
        self._set(key, None)
        self._stale.add(key)

    def _set(self, key: Key, kept: Kept | None) -> None:
        user, client_id = key
        if kept:
            self._kept[user][client_id] = kept
        else:
            self._kept[user].pop(client_id, None)
        self._changed.add(key)

    # The broker's part

    async def forget(self, key: Key) -> None:
        """Ends what the broker may have of a session that is over. Raises upstream.Refused."""
        if key in self._stale:
            await upstream.forget(User(pk=key[0]).user_id, key[1])
            self._stale.discard(key)

    async def end_those_over(self, ended: Callable[[Key], None], in_use: Callable[[Key], bool]) -> None:
        """Calls `ended` for each. The broker is not asked to forget one whose client is back, for that has a
        session of its own there."""
        over = [key for key, kept in self if kept.over and key not in self._changed]
        with suppress(Error, upstream.Refused):  # one of the two is away: the next time
            for start in range(0, len(over), AT_ONCE):
                await self._end(over[start : start + AT_ONCE], ended)
            for key in list(self._stale):
                if in_use(key):
                    self._stale.discard(key)
                await self.forget(key)

    async def _end(self, keys: list[Key], ended: Callable[[Key], None]) -> None:
        elsewhere = await self._in_thread(durable.end, keys)
        for key in keys:
            kept = self.find(key)
            if kept is None or not kept.over or key in self._changed:
                continue  # its client has just come back
            del self._kept[key[0]][key[1]]
            ended(key)
            if key not in elsewhere:
                self._stale.add(key)

    # The rows

    async def load(self) -> None:
        longest_end = timezone.now() + timedelta(seconds=longest())
        for (user, client_id), kept in (await self._in_thread(durable.load, longest_end)).items():
            self._kept[user][client_id] = kept

    async def written(self) -> None:
        """Until what has happened so far is written, or can't be just now. Whoever comes first writes for all
        who wait."""
        try:
            async with asyncio.timeout(WRITE_SECONDS), self._writing:
                while self._changed and self._now() >= self._retry_at:
                    await self._write()
        except TimeoutError:
            log.warning("Durable sessions are not written yet")

    async def stop(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.written()
                while self._changed:
                    await asyncio.sleep(RETRY_SECONDS)
                    await self.written()
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=False)

    async def _write(self) -> None:
        keys = set(islice(self._changed, AT_ONCE))
        self._changed -= keys
        written = False
        try:
            await self._in_thread(durable.save, {key: self.find(key) for key in keys})
            written = True
        except Error as error:
            log.warning("Durable sessions can't be written: %s", type(error).__name__)
            self._retry_at = self._now() + RETRY_SECONDS
        finally:
            if not written:  # or nobody waits for it any more
                self._changed |= keys

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        def run() -> Any:
            close_old_connections()
            return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def longest() -> int:
    """Seconds that a session outlives its connection at most."""
    days: int = settings.DURABLE_SESSION_DAYS
    return days * 86_400
