"""Marks the hours whose rollups become wrong by a change, in the transaction of the change.

An hour is rolled up some minutes after it is over (rollups.py). Datapoints of the last minutes arrive before
that and need no mark, so that nearly every batch costs no more than a look at its oldest time.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path

import psycopg

from thingscale.lib.clock import from_us, now_us
from thingscale.lib.ids import ChannelPk

HOUR = 3_600_000_000  # microseconds
LATE = 300_000_000  # microseconds: half of rollups.ROLL_UP_AFTER

_SQL = Path(__file__).parent / "sql"
_MARK = (_SQL / "mark_stale.sql").read_text()
_MARK_AGAIN = (_SQL / "mark_stale_again.sql").read_text()
_MARKED = "SELECT hour FROM streams_stalehour WHERE channel = %s AND hour BETWEEN %s AND %s"
_at = itemgetter(1)


def invalidate_late(cursor: psycopg.Cursor, rows: Sequence[tuple[int, int, *tuple[object, ...]]]) -> None:
    """Marks the hours of datapoints that arrive late. A row begins with channel and time in microseconds."""
    late = now_us() - LATE
    if min(map(_at, rows)) >= late:  # nearly always
        return
    hours = {(row[0], row[1] // HOUR * HOUR) for row in rows if row[1] < late}
    channels, begins = zip(*hours, strict=True)
    cursor.execute(_MARK, [list(channels), [from_us(begin) for begin in begins]])


def invalidate_again(cursor: psycopg.Cursor, channel: ChannelPk, until: datetime | None = None) -> None:
    """Marks the hour `until`, and marks once more all hours up to it that are marked; without `until`, all of
    the channel that are marked. The caller holds rollups.LOCK, and deletes the rollups after this."""
    cursor.execute(_MARK_AGAIN, {"channel": channel, "until": until})


def invalidate_between(cursor: psycopg.Cursor, channel: ChannelPk, first: datetime, last: datetime) -> None:
    """Marks both hours, and marks once more those between that are marked: who rolls one up at this moment
    has read what is gone. The caller holds rollups.LOCK, and deletes the rollups after this."""
    marked = {hour for (hour,) in cursor.execute(_MARKED, [channel, first, last])} | {first, last}
    cursor.execute(_MARK, [[channel] * len(marked), list(marked)])
