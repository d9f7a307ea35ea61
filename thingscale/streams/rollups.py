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

from thingscale.lib.clock import MICROSECOND, to_us
from thingscale.streams import journal, queries, stale
from thingscale.streams.models import RolledUntil, Rollup, StaleHour

HOUR = timedelta(hours=1)
SETTLED = timedelta(minutes=10)  # after its end, datapoints of an hour are late (stale.LATE)
MAX_PATHS = 200  # a tag and hour
BATCH = 200  # hours that are put together
BATCH_SECONDS = 5.0  # of reading; then what is ready is put
PIECE = 100_000  # datapoints a statement: under load it takes a second or two, and keeps no old snapshot
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
    """Makes the rollups that are due, and begins none after so long; returns of how many hours."""
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
        cursor.execute("SELECT pg_try_advisory_lock(%s), set_config('jit', 'off', false)", [ROLLING])
        alone, _ = cursor.fetchone()
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ROLLING])


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
    """Reads without a lock. Whatever is stored or deleted meanwhile marks its hours once more, and these stay
    marked."""
    began = time.monotonic()
    read: list[Mark] = []
    ready: list[Rollup] = []
    for channel, of_channel in groupby(_due(), itemgetter(0)):
        marks = list(of_channel)
        for begin, end in _joined((hour, hour + HOUR) for _, hour, _ in marks):
            ready += (_rollup(channel, found) for found in _read(channel, begin, end))
        read += marks
        if time.monotonic() - began > BATCH_SECONDS:
            break
    _put(read, ready)
    return len(read)


@transaction.atomic
def _due() -> list[Mark]:
    """Locked out, so that a deletion is either seen by what is read from now on, or marks these once more."""
    _lock_out()
    due = StaleHour.objects.filter(hour__lt=RolledUntil.objects.values("hour")[:1])
    return list(due.order_by("channel", "hour").values_list("channel", "hour", "version")[:BATCH])


def _read(channel: int, begin: datetime, end: datetime) -> Iterable[Found]:
    merged: dict[tuple[datetime, int, str], Found] = {}
    while begin < end:
        until, piece = _read_piece(channel, begin, end)
        for found in piece:
            merged[found.key] = found.with_(merged[found.key]) if found.key in merged else found
        begin = until
    for _, paths in groupby(sorted(merged.values()), itemgetter(0, 1)):
        yield from islice(paths, MAX_PATHS)


def _read_piece(channel: int, begin: datetime, end: datetime) -> tuple[datetime, list[Found]]:
    """And the time to go on from, `end` at the latest."""
    piece = {"channel": channel, "tag": None, "start": begin, "end": end, "rows": PIECE, "paths": MAX_PATHS}
    with connection.cursor() as cursor:
        cursor.execute(_END_OF_PIECE, piece)
        at = cursor.fetchone()
        until = max(at[0], begin + MICROSECOND) if at else end  # the end of a range is inclusive below
        cursor.execute(_ROLL_UP, piece | {"end": until - MICROSECOND})
        return until, [Found(*row) for row in cursor.fetchall()]


def _rollup(channel: int, found: Found) -> Rollup:
    (low, low_ms), (high, high_ms) = found.low, found.high
    key = {"channel": channel, "hour": found.hour, "tag": found.tag, "path": found.path}
    return Rollup(**key, numbers=found.numbers, low=low, low_ms=low_ms, high=high, high_ms=high_ms)


@transaction.atomic
def _put(read: Sequence[Mark], ready: Iterable[Rollup]) -> None:
    """Of the hours that are not marked once more."""
    if not read:
        return
    _lock_out()
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, [list(column) for column in zip(*read, strict=True)])
        settled = set(cursor.fetchall())
    Rollup.objects.bulk_create(each for each in ready if (each.channel, each.hour) in settled)


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
        stale.mark_again(cursor.cursor, channel)
        Rollup.objects.filter(channel=channel, hour__lte=hour).delete()
        stale.mark(cursor.cursor, [(channel, to_us(hour))])


def forget_tag(channel: int, tag: int) -> None:
    """In the transaction that has put its datapoints out of sight."""
    _lock_out()
    with connection.cursor() as cursor:
        stale.mark_again(cursor.cursor, channel)
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
