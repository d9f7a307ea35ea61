"""Messages sent again to another process, while the first one still has them (decision 0016).

The process that gets a repetition announces its key before it looks whether the message is stored. Another
one reads that before it writes, and then looks as well. Whoever looks holds the device's lock until COMMIT,
so that one of the two finds the other's datapoint.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import islice
from uuid import UUID

import psycopg
from django.conf import settings
from django.utils import timezone

from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import Repeated

MOST = 100_000  # keys that a process remembers, at least the newest half of them: 10 MB

# What was announced before the process began can't concern it. Only durations are taken from the clock.
_BEFORE = """SELECT coalesce(max(id), 0) FROM streams_repeated
WHERE at < clock_timestamp() - make_interval(secs => %s)"""

_NEWS = """SELECT keys, extract(epoch FROM clock_timestamp() - at)::float8, id
FROM (
    SELECT id, at, keys, sum(cardinality(keys)) OVER (ORDER BY id DESC) AS total
    FROM streams_repeated WHERE id > %s AND writer <> %s
) AS r
WHERE total <= %s ORDER BY id"""


def announce(connection: psycopg.Connection, writer: UUID, keys: Sequence[int]) -> None:
    """To all other processes, waiting for the batches that they are writing now. In a transaction of its own:
    whoever kept these locks while writing would meet the others' batches in a deadlock."""
    with connection.transaction(), connection.cursor() as cursor:
        commit_log.lock_all(cursor)  # from here on, announcements are made one after the other: ids in order
        cursor.execute(
            """WITH r AS (INSERT INTO streams_repeated (writer, keys) VALUES (%s, %s) RETURNING id)
            UPDATE streams_journal j SET repeats = r.id FROM r WHERE j.writer <> %s""",
            [writer, list(keys), writer],
        )


def forget_old() -> None:
    old = timezone.now() - timedelta(seconds=settings.DEDUPE_SECONDS)
    Repeated.objects.filter(at__lt=old).delete()


class Redeliveries:
    """What a process knows of the repetitions that others got: `times` has their keys, and when they were
    announced, as its own monotonic clock would have shown it. What came here on a connection that began
    before that may be the same message."""

    def __init__(self, writer: UUID) -> None:
        self.seen = 0  # the last announcement
        self._writer = writer
        self._began = time.monotonic()
        self._times: dict[int | None, float] = {}
        self._newest = 0.0

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
        """Reads until that announcement, if it is a new one."""
        if told > self.seen:
            self._read(cursor)
            self.seen = max(self.seen, told)

    def _read(self, cursor: psycopg.Cursor) -> None:
        cursor.execute(_NEWS, [self.seen, self._writer, MOST])
        now = time.monotonic()
        for keys, age, number in cursor.fetchall():
            self._newest = now - age
            for key in keys:
                self._times.pop(key, None)  # to be among the newest again
                self._times[key] = self._newest
            self.seen = number
        if len(self._times) > MOST:
            self._times = dict(islice(self._times.items(), len(self._times) - MOST // 2, None))

    @property
    def times(self) -> dict[int | None, float]:
        """Empty in ordinary times."""
        if self._times and self._newest < time.monotonic() - settings.DEDUPE_SECONDS:
            self._times = {}
        return self._times

    def settled(self, keys: Iterable[int | None]) -> None:
        """Their messages were here, and are committed: the next of such a key is another one."""
        for key in keys:
            self._times.pop(key, None)
