"""Rollups: the extremes of each series in each hour, so that a chart of a month need not read the month.

A task marks the hours that are over as stale, and makes the rollups of stale hours. Whoever stores or
deletes datapoints of an hour that is over marks it again, in the same transaction: an hour before RolledUntil
without a mark has true rollups. A chart reads the datapoints themselves for all other hours.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

import psycopg
from django.db import connection, transaction
from django.utils import timezone

from thingscale.background import maintenance
from thingscale.lib.clock import MICROSECOND
from thingscale.streams import queries, rollup_invalidation
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import RolledUntil, Rollup, StaleHour

HOUR = timedelta(hours=1)
SETTLED = timedelta(minutes=10)  # after its end, datapoints of an hour are late (stale.LATE)
MAX_PATHS = 200  # a tag and hour
BATCH = 200  # hours that are put together, unless they have
BATCH_ROLLUPS = 10_000  # or took so long to read:
BATCH_SECONDS = 5.0
FORMAT = 2  # of what is rolled up: since 2 with true and false, and with colons inside keys marked
PIECE = 20_000  # datapoints a statement: it is done soon, under load too, and keeps no old snapshot
LOCK = 7_465_002  # advisory lock: while hours are marked, chosen or put, and while datapoints go
ROLLING = 7_465_003  # advisory lock of a session: rollups are made by one process at a time

_FROM_LATEST = queries.template("stale_from_latest.sql").substitute()
_FROM_DATAPOINTS = queries.template("stale_from_datapoints.sql").substitute()
_END_OF_PIECE = queries.template("end_of_piece.sql").substitute()
_ROLL_UP = queries.template("roll_up.sql").substitute(
    source=queries.template("extremes.sql").substitute(bucket="floor(ms / 3600000)")
)
_SETTLE = queries.template("settle_stale.sql").substitute()

Range = tuple[datetime, datetime]
Mark = tuple[int, datetime, int]  # channel, hour, version


class Found(NamedTuple):
    """What a rollup holds, of the whole hour or of a piece."""

    hour: datetime
    tag: int
    path: str
    numbers: int
    low: list[float]  # the number, and when
    high: list[float]

    @property
    def key(self) -> tuple[datetime, int, str]:
        return self.hour, self.tag, self.path

    def with_(self, other: "Found") -> "Found":
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Found(*self.key, self.numbers + other.numbers, low, high)


def roll_up(seconds: float) -> int:
    """Makes the rollups that are due, and begins none after so long; returns of how many hours.
    Raises maintenance.Interrupted."""
    with _alone() as alone:
        if not alone:
            return 0
        advance()
        deadline = time.monotonic() + seconds
        total = 0
        while time.monotonic() < deadline and (rolled := _roll_up_some()):
            total += rolled
        return total


@contextmanager
def _alone() -> Iterator[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ROLLING])
        (alone,) = cursor.fetchone()
        try:
            cursor.execute("SET jit = off")
            yield alone
        finally:
            cursor.execute("RESET jit")
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ROLLING])


def advance() -> None:
    """Marks the hours that are over by now. Batches that are being written now are waited for: what comes
    later marks its hour itself."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    until = hour_of(timezone.now() - SETTLED)
    commit_log.wait_for_others(raw)
    with transaction.atomic(), connection.cursor() as cursor:
        _lock_out()
        known = RolledUntil.objects.first()
        if known is None or known.format != FORMAT:
            cursor.execute(_FROM_DATAPOINTS, {"until": until})
        elif known.hour < until:
            cursor.execute(_FROM_LATEST, {"since": known.hour, "until": until})
        RolledUntil.objects.update_or_create(pk=1, defaults={"hour": until, "format": FORMAT})


def _roll_up_some() -> int:
    """Reads without a lock. Whatever is stored or deleted meanwhile marks its hours once more, and these stay
    marked."""
    began = time.monotonic()
    due = _due()
    read, ready = 0, []
    for channel, begin, end, until in _ranges(due):
        ready += [_rollup(channel, found) for found in _read(channel, begin, end, until)]
        read += (end - begin) // HOUR
        if len(ready) > BATCH_ROLLUPS or time.monotonic() - began > BATCH_SECONDS:
            break
    return _put(due[:read], ready)


@transaction.atomic
def _due() -> list[Mark]:
    """Locked out, so that a deletion is either seen by what is read from now on, or marks these once more.
    Hours that are marked again and again come last, or else no other would ever be put."""
    _lock_out()
    due = StaleHour.objects.filter(hour__lt=RolledUntil.objects.values("hour")[:1])
    return list(due.order_by("version", "channel", "hour").values_list("channel", "hour", "version")[:BATCH])


def _ranges(due: Iterable[Mark]) -> Iterator[tuple[int, datetime, datetime, datetime]]:
    """Channel, begin and end of the hours, in order, and the end of their first piece: either all of them are
    in it, or it is a single hour."""
    for (_, channel), marks in groupby(due, itemgetter(2, 0)):
        for begin, end in _joined((hour, hour + HOUR) for _, hour, _ in marks):
            yield from _cut(channel, begin, end)


def _cut(channel: int, begin: datetime, end: datetime) -> Iterator[tuple[int, datetime, datetime, datetime]]:
    while begin < end:
        until = _end_of_piece(channel, begin, end)
        over = max(hour_of(until), begin + HOUR)
        yield channel, begin, over, min(over, until)
        begin = over


def _end_of_piece(channel: int, begin: datetime, end: datetime) -> datetime:
    """`end` at the latest, and not `begin`."""
    with connection.cursor() as cursor:
        cursor.execute(_END_OF_PIECE, {"channel": channel, "start": begin, "end": end, "rows": PIECE})
        at = cursor.fetchone()
    return max(at[0], begin + MICROSECOND) if at else end


def _read(channel: int, begin: datetime, end: datetime, until: datetime) -> Iterator[Found]:
    merged: dict[tuple[datetime, int, str], Found] = {}
    while begin < end:
        maintenance.check_stop()
        for found in _read_piece(channel, begin, until):
            merged[found.key] = found.with_(merged[found.key]) if found.key in merged else found
        begin, until = until, end if until == end else _end_of_piece(channel, until, end)
    for _, paths in groupby(sorted(merged.values()), itemgetter(0, 1)):
        yield from islice(paths, MAX_PATHS)


def _read_piece(channel: int, begin: datetime, until: datetime) -> list[Found]:
    piece = {
        "channel": channel,
        "tag": None,
        "device": None,
        "start": begin,
        "end": until - MICROSECOND,
        "paths": MAX_PATHS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ROLL_UP, piece)
        return [Found(*row) for row in cursor.fetchall()]


def _rollup(channel: int, found: Found) -> Rollup:
    (low, low_ms), (high, high_ms) = found.low, found.high
    key = {"channel": channel, "hour": found.hour, "tag": found.tag, "path": found.path}
    return Rollup(**key, numbers=found.numbers, low=low, low_ms=low_ms, high=high, high_ms=high_ms)


@transaction.atomic
def _put(read: Sequence[Mark], ready: Iterable[Rollup]) -> int:
    """Of the hours that are not marked once more; returns how many these are."""
    if not read:
        return 0
    _lock_out()
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, [list(column) for column in zip(*read, strict=True)])
        settled = set(cursor.fetchall())
    Rollup.objects.bulk_create(each for each in ready if (each.channel, each.hour) in settled)
    return len(settled)


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
    hour = hour_of(moment)
    _lock_out()
    with connection.cursor() as cursor:
        rollup_invalidation.invalidate_again(cursor.cursor, channel, hour)
    Rollup.objects.filter(channel=channel, hour__lte=hour).delete()


def forget_tag(channel: int, tag: int) -> None:
    """In the transaction that has put its datapoints out of sight."""
    _lock_out()
    with connection.cursor() as cursor:
        rollup_invalidation.invalidate_again(cursor.cursor, channel)
    Rollup.objects.filter(channel=channel, tag=tag).delete()


def _lock_out() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def find(channel: int, start: datetime, end: datetime) -> "Hours | None":
    """The whole hours within that have rollups."""
    known = RolledUntil.objects.filter(format=FORMAT).first()
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
