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
from django.db import close_old_connections, connections
from django.utils import timezone

from ingest.mqtt import upstream
from thingscale.accounts.models import User
from thingscale.devices import durable
from thingscale.devices.durable import Kept, Key

log = logging.getLogger(__name__)

WRITE_SECONDS = 10.0
RETRY_SECONDS = 1.0
STOP_SECONDS = 0.02
MOST_REFUSED = 3  # by the broker, before it counts as away
AT_ONCE = 1000


class DurableSessions:
    """In memory, which decides, and as rows, which one thread writes in order: what has changed, together."""

    def __init__(self) -> None:
        self._kept: defaultdict[int, dict[str, Kept]] = defaultdict(dict)
        self._doubtful: dict[Key, None] = {}  # what the broker may have is not the session that we keep
        self._changed: dict[Key, None] = {}  # and not written, the oldest first
        self._batch: dict[Key, None] = {}  # is being written
        self._tried = asyncio.Event()  # once it has been
        self._retry_at = 0.0
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="durable")
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
        self.doubt(key)

    def _set(self, key: Key, kept: Kept | None) -> None:
        user, client_id = key
        if kept:
            self._kept[user][client_id] = kept
        else:
            self._kept[user].pop(client_id, None)
        self._changed[key] = None

    # The broker's part

    def doubt(self, key: Key) -> None:
        """The broker may have an older session of this client."""
        self._doubtful[key] = None

    def trust(self, key: Key) -> None:
        """The broker has none, or the one that is kept here."""
        self._doubtful.pop(key, None)

    def is_doubtful(self, key: Key) -> bool:
        return key in self._doubtful

    async def forget(self, key: Key) -> None:
        """Ends what the broker may have of an older session. Raises upstream.Refused."""
        if key in self._doubtful:
            await upstream.forget(User(pk=key[0]).user_id, key[1])
            self.trust(key)

    async def end_those_over(self, ended: Callable[[Key], None], in_use: Callable[[Key], bool]) -> None:
        """Calls `ended` for each. One whose client is connected is left to that. Raises django.db.Error."""
        over = [key for key, kept in self if kept.over and not self._is_unwritten(key)]
        for start in range(0, len(over), AT_ONCE):
            await self._end(over[start : start + AT_ONCE], ended)
        refused = 0
        for key in list(self._doubtful):
            if in_use(key):
                continue
            try:
                await self.forget(key)
            except upstream.Refused:
                self.trust(key)
                self.doubt(key)  # the others first, the next time
                refused += 1
            if refused == MOST_REFUSED:
                break  # the broker is away

    async def _end(self, keys: list[Key], ended: Callable[[Key], None]) -> None:
        elsewhere = await self._in_thread(durable.end, keys, timezone.now())
        for key in keys:
            kept = self.find(key)
            if kept is None or not kept.over or self._is_unwritten(key):
                continue  # its client has just come back
            del self._kept[key[0]][key[1]]
            ended(key)
            if key not in elsewhere:
                self.doubt(key)

    # The rows

    async def load(self) -> None:
        longest_end = timezone.now() + timedelta(seconds=longest())
        for (user, client_id), kept in (await self._in_thread(durable.load, longest_end)).items():
            self._kept[user][client_id] = kept

    async def written(self, key: Key) -> None:
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
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def stop(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._changed or self._batch:
                    self.write()
                    await asyncio.sleep(STOP_SECONDS)
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=False)

    def _is_unwritten(self, key: Key) -> bool:
        return key in self._changed or key in self._batch

    async def _write(self) -> None:
        """Batch after batch. What could not be written is the oldest again."""
        while self._changed and self._now() >= self._retry_at:
            self._batch = dict.fromkeys(islice(self._changed, AT_ONCE))
            self._changed = {key: None for key in self._changed if key not in self._batch}
            if not await self._save():
                self._changed = self._batch | self._changed
                self._retry_at = self._now() + RETRY_SECONDS
            self._batch = {}
            tried, self._tried = self._tried, asyncio.Event()
            tried.set()

    async def _save(self) -> bool:
        try:
            await self._in_thread(durable.save, {key: self.find(key) for key in self._batch})
        except Exception as error:  # whatever it is, it is tried again
            log.warning("Durable sessions can't be written: %s", type(error).__name__)
            return False
        return True

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        def run() -> Any:
            close_old_connections()
            return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def longest() -> int:
    """Seconds that a session outlives its connection at most."""
    days: int = settings.DURABLE_SESSION_DAYS
    return days * 86_400
