"""Messages that are sent again to another process, while the first process still has them (decision 0016).

The process that gets a redelivery announces the message's key before it looks whether the message is stored.
Every other process reads the announcements before it writes, and looks for the announced messages as well.
Each holds the device's lock from its look until COMMIT, so that one of the two finds the other's datapoint.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
from django.conf import settings

from thingscale.lib import clock
from thingscale.lib.fair_cache import FairCache
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.exactly_once.idempotent_requests import Key
from thingscale.streams.models import Repeated

MAX_KEYS = 100_000  # that a process remembers, in fair shares for the accounts: 10 MB
UNNAMED = 0  # no account's primary key: stands for the announcements of the release before, which name none
_NO_KEYS: dict[int, float] = {}

# Announcements from before the process began can't concern it. Clocks may differ, so only a duration is
# compared.
_LAST_BEFORE = """SELECT coalesce(max(id), 0) FROM streams_repeated
WHERE at < clock_timestamp() - make_interval(secs => %s)"""

# Each account's newest keys come first, so that the account that announces most is cut off.
_NEW = """SELECT account, keys, extract(epoch FROM clock_timestamp() - at)::float8, id
FROM (
    SELECT *, sum(cardinality(keys)) OVER (ORDER BY of_account, id DESC) AS total
    FROM (
        SELECT id, at, keys, coalesce(account, %s) AS account,
            sum(cardinality(keys)) OVER (PARTITION BY account ORDER BY id DESC) AS of_account
        FROM streams_repeated WHERE id > %s AND writer <> %s
    ) AS r
) AS r
WHERE total <= %s ORDER BY id"""

_ANNOUNCE = """WITH r AS (
    INSERT INTO streams_repeated (writer, account, keys)
    SELECT %s, account, array_agg(key) FROM unnest(%s::bigint[], %s::bigint[]) AS u (account, key)
    GROUP BY account RETURNING id
)
UPDATE streams_journal j SET repeats = (SELECT max(id) FROM r) WHERE j.writer <> %s"""


def announce(connection: psycopg.Connection, writer: UUID, keys: Sequence[Key]) -> None:
    """Tells all other processes, once the batches that they are writing now are visible. Uses a transaction
    of its own: keeping these locks while writing could end in a deadlock with the others' batches."""
    with connection.transaction(), connection.cursor() as cursor:
        commit_log.lock_all(cursor)  # from here on, announcements are made one after the other: ids in order
        accounts, of_accounts = zip(*keys, strict=True)
        cursor.execute(_ANNOUNCE, [writer, list(accounts), list(of_accounts), writer])


def delete_old() -> None:
    old = clock.now() - timedelta(seconds=settings.DEDUPE_SECONDS)
    Repeated.objects.filter(at__lt=old).delete()


class Redeliveries:
    """The keys of the messages that were sent again to other processes, each with the time of its
    announcement on this process's monotonic clock."""

    def __init__(self, writer: UUID) -> None:
        self.seen = 0  # the last announcement
        self._writer = writer
        self._began = time.monotonic()
        self._times: FairCache[int, float] = FairCache(MAX_KEYS)
        self._newest = 0.0
        self.known = self._times.accounts  # account -> key -> time; nearly always empty

    def register(self, connection: psycopg.Connection) -> None:
        """To be called on each new connection. From now on, others announce to this process; what they have
        announced before is read."""
        commit_log.register(connection, self._writer)
        with connection.transaction(), connection.cursor() as cursor:
            # Waits for announcements that did not see this process's row.
            cursor.execute("LOCK TABLE streams_repeated IN SHARE MODE")
            cursor.execute(_LAST_BEFORE, [time.monotonic() - self._began])
            row = cursor.fetchone()
            assert row
            self.seen = row[0]
            self._times.clear()
            self._read(cursor)

    def catch_up(self, cursor: psycopg.Cursor, last: int) -> None:
        """Reads the announcements up to `last` that are new, and forgets those that are too old to matter."""
        if self.known and self._newest < time.monotonic() - settings.DEDUPE_SECONDS:
            self._times.clear()
        if last > self.seen:
            self._read(cursor)
            self.seen = max(self.seen, last)

    def _read(self, cursor: psycopg.Cursor) -> None:
        cursor.execute(_NEW, [UNNAMED, self.seen, self._writer, MAX_KEYS])
        now = time.monotonic()
        for account, keys, age, number in cursor.fetchall():
            self._newest = now - age
            for key in keys:
                self._times.forget(account, key)  # to be among the newest again
            self._times.update(account, dict.fromkeys(keys, self._newest))
            self.seen = number

    def announced_at(self, account: int, key: int) -> float:
        """The time of the announcement, -1 if there is none. A message that came on a connection from before
        that time may be the announced one."""
        at = self.known.get(account, _NO_KEYS).get(key, -1.0)
        return max(at, self.known[UNNAMED].get(key, -1.0)) if UNNAMED in self.known else at

    def confirmed(self, keys: Iterable[Key]) -> None:
        """To be called once the messages of these keys are committed here: the next message with such a key
        is a new one."""
        for account, key in keys:
            self._times.forget(account, key)
            self._times.forget(UNNAMED, key)
