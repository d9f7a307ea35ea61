"""Rollups: the extremes of each series in each hour, so that a chart of a month need not read the month.

A task marks the hours that are over as stale, and makes the rollups of stale hours. Whoever stores or
deletes datapoints of an hour that is over marks it again, in the same transaction: an hour before RolledUntil
without a mark has true rollups. A chart reads the datapoints themselves for all other hours.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import psycopg
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from thingscale.lib.clock import MICROSECOND, to_us
from thingscale.streams import journal, queries, stale
from thingscale.streams.models import RolledUntil, Rollup, StaleHour

HOUR = timedelta(hours=1)
SETTLED = timedelta(minutes=10)  # after its end, datapoints of an hour are late (stale.LATE)
MAX_PATHS = 200  # a tag and hour
BATCH = 50  # hours a transaction; whoever deletes waits for it
LOCK = 7_465_002  # advisory lock: rollups are made by one process at a time, and not while datapoints go

_FROM_LATEST = queries.template("stale_from_latest.sql").substitute()
_FROM_DATAPOINTS = queries.template("stale_from_datapoints.sql").substitute()
_ROLL_UP = queries.template("roll_up.sql").substitute(
    source=queries.template("extremes.sql").substitute(bucket="floor(ms / 3600000)")
)

_UNMARK = queries.template("unmark_stale.sql").substitute()

Range = tuple[datetime, datetime]


def roll_up(seconds: float) -> int:
    """Makes the rollups that are due, for so long; returns of how many hours."""
    advance()
    deadline = time.monotonic() + seconds
    total = 0
    while time.monotonic() < deadline and (rolled := _roll_up_some()):
        total += rolled
    return total


def advance() -> None:
    """Marks the hours that are over by now. Batches that are being written now are waited for: what comes
    later marks its hour itself."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    until = hour_of(timezone.now() - SETTLED)
    journal.wait_for_others(raw)
    with transaction.atomic(), connection.cursor() as cursor:
        _lock_out()
        known = RolledUntil.objects.first()
        if known is None:
            cursor.execute(_FROM_DATAPOINTS, {"until": until})
        elif known.hour < until:
            cursor.execute(_FROM_LATEST, {"since": known.hour, "until": until})
        RolledUntil.objects.update_or_create(pk=1, defaults={"hour": until})


def _roll_up_some() -> int:
    """An hour that is marked once more meanwhile stays marked. Unmarking comes last, since a writer of late
    datapoints may have to wait for it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s), set_config('jit', 'off', true)", [LOCK])
        if not cursor.fetchone()[0]:
            return 0
        due = StaleHour.objects.filter(hour__lt=RolledUntil.objects.values("hour")[:1])
        hours = list(due.order_by("channel", "hour").values_list("channel", "hour", "version")[:BATCH])
        if not hours:
            return 0
        for channel, found in groupby(hours, itemgetter(0)):
            for begin, end in _joined((hour, hour + HOUR) for _, hour, _ in found):
                _roll_up_range(cursor, channel, begin, end)
        cursor.execute(_UNMARK, [list(column) for column in zip(*hours, strict=True)])
    return len(hours)


def _roll_up_range(cursor: CursorWrapper, channel: int, begin: datetime, end: datetime) -> None:
    Rollup.objects.filter(channel=channel, hour__gte=begin, hour__lt=end).delete()
    parameters = {"channel": channel, "tag": None, "start": begin, "end": end - MICROSECOND}
    cursor.execute(_ROLL_UP, parameters | {"paths": MAX_PATHS})


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Where one, in order, begins at the end of another."""
    joined: list[Range] = []
    for begin, end in ranges:
        if joined and joined[-1][1] >= begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def forget_until(channel: int, moment: datetime) -> None:
    """In the transaction that has deleted the channel's datapoints up to the moment."""
    _lock_out()
    hour = hour_of(moment)
    Rollup.objects.filter(channel=channel, hour__lte=hour).delete()
    with connection.cursor() as cursor:
        stale.mark(cursor.cursor, [(channel, to_us(hour))])


def forget_tag(channel: int, tag: int) -> None:
    """In the transaction that has put its datapoints out of sight."""
    _lock_out()
    Rollup.objects.filter(channel=channel, tag=tag).delete()


def _lock_out() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def find(channel: int, start: datetime, end: datetime) -> "Hours | None":
    """The whole hours within that have rollups."""
    known = RolledUntil.objects.first()
    first = hour_of(start + HOUR - MICROSECOND)
    until = min(hour_of(end + MICROSECOND), known.hour) if known else first
    if first >= until:
        return None
    marked = StaleHour.objects.filter(channel=channel, hour__gte=first, hour__lt=until)
    return Hours(first, until, list(marked.order_by("hour").values_list("hour", flat=True)))


class Hours(NamedTuple):
    first: datetime
    until: datetime
    stale: list[datetime]  # among them, without rollups

    def others(self, start: datetime, end: datetime) -> list[Range]:
        """What remains between start and end, all inclusive."""
        stale = ((hour, hour + HOUR) for hour in self.stale)
        others = _joined([(start, self.first), *stale, (self.until, end + MICROSECOND)])
        return [(begin, finish - MICROSECOND) for begin, finish in others if begin < finish]


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
