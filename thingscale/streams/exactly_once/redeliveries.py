"""Messages sent again to another process, while the first one still has them (decision 0016).

The process that gets a repetition announces its key before it looks whether the message is stored. Another
one reads that before it writes, and then looks as well. Whoever looks holds the device's lock until COMMIT,
so that one of the two finds the other's datapoint.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
from django.conf import settings
from django.utils import timezone

from thingscale.lib.fair_cache import FairCache
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.exactly_once.submissions import Key
from thingscale.streams.models import Repeated

MOST = 100_000  # keys that a process remembers, in fair shares for the accounts: 10 MB
UNNAMED = 0  # no account's primary key: for what processes of the release before announce
_NONE: dict[int, float] = {}

# What was announced before the process began can't concern it. Only durations are taken from the clock.
_BEFORE = """SELECT coalesce(max(id), 0) FROM streams_repeated
WHERE at < clock_timestamp() - make_interval(secs => %s)"""

# Each account's newest keys come first, so that whoever announces most is the one that is cut off.
_NEWS = """SELECT account, keys, extract(epoch FROM clock_timestamp() - at)::float8, id
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
    """To all other processes, waiting for the batches that they are writing now. In a transaction of its own:
    whoever kept these locks while writing would meet the others' batches in a deadlock."""
    with connection.transaction(), connection.cursor() as cursor:
        commit_log.lock_all(cursor)  # from here on, announcements are made one after the other: ids in order
        accounts, of_accounts = zip(*keys, strict=True)
        cursor.execute(_ANNOUNCE, [writer, list(accounts), list(of_accounts), writer])


def forget_old() -> None:
    old = timezone.now() - timedelta(seconds=settings.DEDUPE_SECONDS)
    Repeated.objects.filter(at__lt=old).delete()


class Redeliveries:
    """What a process knows of the repetitions that others got: their keys, and when these were announced, as
    its own monotonic clock would have shown it."""

    def __init__(self, writer: UUID) -> None:
        self.seen = 0  # the last announcement
        self._writer = writer
        self._began = time.monotonic()
        self._times: FairCache[int, float] = FairCache(MOST)
        self._newest = 0.0
        # When which key was announced, by account; in ordinary times nothing.
        self.known = self._times.accounts

    def enter(self, connection: psycopg.Connection) -> None:
        """On each new connection: from now on others announce to us; what they have announced is read."""
        commit_log.enter(connection, self._writer)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE streams_repeated IN SHARE MODE")  # waits for who did not see our row
            cursor.execute(_BEFORE, [time.monotonic() - self._began])
            row = cursor.fetchone()
            assert row
            self.seen = row[0]
            self._times.clear()
            self._read(cursor)

    def catch_up(self, cursor: psycopg.Cursor, told: int) -> None:
        """Reads until that announcement, if it is a new one. What is too old to matter is forgotten."""
        if self.known and self._newest < time.monotonic() - settings.DEDUPE_SECONDS:
            self._times.clear()
        if told > self.seen:
            self._read(cursor)
            self.seen = max(self.seen, told)

    def _read(self, cursor: psycopg.Cursor) -> None:
        cursor.execute(_NEWS, [UNNAMED, self.seen, self._writer, MOST])
        now = time.monotonic()
        for account, keys, age, number in cursor.fetchall():
            self._newest = now - age
            for key in keys:
                self._times.forget(account, key)  # to be among the newest again
            self._times.update(account, dict.fromkeys(keys, self._newest))
            self.seen = number

    def announced(self, account: int, key: int) -> float:
        """When; -1 if it was not. What came here on a connection that began before that may be the same
        message."""
        at = self.known.get(account, _NONE).get(key, -1.0)
        return max(at, self.known[UNNAMED].get(key, -1.0)) if UNNAMED in self.known else at

    def confirmed(self, keys: Iterable[Key]) -> None:
        """Their messages were here, and are committed: the next of such a key is another one."""
        for account, key in keys:
            self._times.forget(account, key)
            self._times.forget(UNNAMED, key)
