"""Marks the hours whose rollups a change makes wrong, in the transaction that brings it.

An hour is rolled up when it has been over for a while (rollups.py). Datapoints of the last minutes come
before that, so that nearly all batches cost no more than a look at their oldest time.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path

import psycopg

from thingscale.lib.clock import from_us, now_us

HOUR = 3_600_000_000  # microseconds
LATE = 300_000_000  # microseconds: half of what rollups wait

_SQL = Path(__file__).parent / "sql"
_MARK = (_SQL / "mark_stale.sql").read_text()
_MARK_AGAIN = (_SQL / "mark_stale_again.sql").read_text()
_at = itemgetter(1)


def invalidate_late(cursor: psycopg.Cursor, rows: Sequence[tuple[int, int, *tuple[object, ...]]]) -> None:
    """Of (channel, time in microseconds since 1970, ...)."""
    late = now_us() - LATE
    if min(map(_at, rows)) < late:  # seldom
        invalidate(cursor, {(row[0], row[1] // HOUR * HOUR) for row in rows if row[1] < late})


def invalidate(cursor: psycopg.Cursor, hours: Iterable[tuple[int, int]]) -> None:
    """Channels and beginnings of hours, in microseconds since 1970."""
    ordered = list(hours)
    cursor.execute(_MARK, [[channel for channel, _ in ordered], [from_us(hour) for _, hour in ordered]])


def invalidate_again(cursor: psycopg.Cursor, channel: int, until: datetime | None = None) -> None:
    """The hour `until`, if given, and once more what is marked up to it, or at all. Whoever calls holds
    rollups.LOCK, and deletes rollups after it."""
    cursor.execute(_MARK_AGAIN, {"channel": channel, "until": until})
