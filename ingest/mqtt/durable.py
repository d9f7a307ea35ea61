"""Durable sessions: those that outlive their connections, with what they subscribed to (decision 0008)."""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import Error
from django.utils import timezone

from ingest.mqtt import upstream
from thingscale.devices import actions

log = logging.getLogger(__name__)

Key = tuple[int, str]  # user's primary key (0: anonymous), client id


class Kept(NamedTuple):
    """`ends_at`: while its client is away."""

    subscriptions: list[list[Any]]
    ends_at: datetime | None = None

    @property
    def over(self) -> bool:
        return self.ends_at is not None and self.ends_at <= timezone.now()


class DurableSessions:
    """Of the clients of one gateway, in memory and as rows."""

    def __init__(self, run: Callable[..., Awaitable[Any]]) -> None:
        """`run(function, *arguments)` in a thread with a database connection; raises TimeoutError."""
        self._run = run
        self._kept: defaultdict[int, dict[str, Kept]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def __iter__(self) -> Iterator[tuple[Key, Kept]]:
        for user, kept in self._kept.items():
            for client_id, session in kept.items():
                yield (user, client_id), session

    def find(self, key: Key) -> Kept | None:
        user, client_id = key
        return self._kept[user].get(client_id)

    def has_room(self, key: Key) -> bool:
        user, client_id = key
        kept = self._kept[user]
        return client_id in kept or len(kept) < settings.DURABLE_SESSIONS

    async def load(self) -> None:
        """Where no end is known, the gateway before has been killed."""
        for row in await self._run(actions.left_sessions, _end(longest())):
            self._kept[row.user_id][row.client_id] = Kept(row.subscriptions, row.expires_at)

    async def keep(self, key: Key, subscriptions: list[list[Any]]) -> None:
        user, client_id = key
        self._kept[user][client_id] = Kept(subscriptions)
        await self._write(actions.keep_session, *key, subscriptions)

    async def left(self, key: Key, seconds: int) -> None:
        """Its client has gone, and may come back for so long."""
        user, client_id = key
        ends_at = _end(seconds)
        if kept := self._kept[user].get(client_id):
            self._kept[user][client_id] = kept._replace(ends_at=ends_at)
        await self._write(actions.session_left, *key, ends_at)

    async def end(self, key: Key, user_id: str) -> None:
        """Its client starts afresh."""
        with contextlib.suppress(upstream.Refused):
            await upstream.forget(user_id, key[1])
        self._drop(key)
        await self._write(actions.end_session, *key)

    async def end_those_over(self) -> list[Key]:
        """First with the broker, which keeps what it has queued for ever. If that is away, next time."""
        ended = []
        with contextlib.suppress(upstream.Refused, Error, TimeoutError):
            for row in await self._run(actions.sessions_over):
                key = (row.user_id, row.client_id)
                if (kept := self.find(key)) and not kept.over:
                    continue  # it has just come back
                await upstream.forget(row.user.user_id, row.client_id)
                if await self._run(actions.end_session_over, row):
                    self._drop(key)
                    ended.append(key)
        return ended

    def _drop(self, key: Key) -> None:
        user, client_id = key
        self._kept[user].pop(client_id, None)

    async def _write(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            await self._run(action, *arguments)
        except (Error, TimeoutError) as error:
            log.warning("A durable session was not written: %s", type(error).__name__)


def longest() -> int:
    """Seconds that a session outlives its connection at most."""
    days: int = settings.DURABLE_SESSION_DAYS
    return days * 86_400


def _end(seconds: int) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)
