"""Rollups: the lowest and the highest number of each series in each hour, so that a chart of a month need not
read the month's datapoints.

A task marks each hour that is over as stale (StaleHour), and makes the rollups of stale hours. Whoever stores
or deletes datapoints of an hour that is over marks it again, in the same transaction. So an hour before
RolledUntil without a mark has true rollups; for all other hours, a chart reads the datapoints themselves.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

import psycopg
from django.db import connection, transaction

from thingscale.background import maintenance
from thingscale.lib import clock
from thingscale.lib.clock import MICROSECOND
from thingscale.lib.ids import ChannelPk, TagPk
from thingscale.streams import queries, rollup_invalidation
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import RolledUntil, Rollup, StaleHour
from thingscale.streams.queries import Selection

HOUR = timedelta(hours=1)
ROLL_UP_AFTER = timedelta(minutes=10)  # the end of an hour: twice rollup_invalidation.LATE
MAX_PATHS = 200  # of a tag in an hour
BATCH_HOURS = 200  # are saved together,
BATCH_ROLLUPS = 10_000  # or fewer, with about so many rollups,
BATCH_SECONDS = 5.0  # or those that could be read in this time
FORMAT = 2  # of the rollups: since 2 also of true and false, and with colons inside keys escaped
PIECE_ROWS = 20_000  # datapoints a statement, so that it ends soon under load too, and keeps no old snapshot
LOCK = 7_465_002  # advisory lock for marking and choosing hours, saving rollups, and deleting datapoints
ROLLING = 7_465_003  # advisory lock of a session: rollups are made by one process at a time

_STALE_FROM_LATEST = queries.template("stale_from_latest.sql").substitute()
_STALE_FROM_DATAPOINTS = queries.template("stale_from_datapoints.sql").substitute()
_END_OF_PIECE = queries.template("end_of_piece.sql").substitute()
_ROLL_UP = queries.template("roll_up.sql").substitute(
    source=queries.template("min_max.sql").substitute(bucket="floor(ms / 3600000)")
)
_UNMARK = queries.template("unmark_stale.sql").substitute()

Range = tuple[datetime, datetime]
Mark = tuple[ChannelPk, datetime, int]  # channel, hour, version


class HourOfSeries(NamedTuple):
    """What the rollup of a series in an hour consists of, from all of the hour's datapoints or some."""

    hour: datetime
    tag: int
    path: str
    numbers: int
    low: list[float]  # the number, and its time in milliseconds since 1970
    high: list[float]


def roll_up(seconds: float) -> int:
    """Makes the rollups that are due, beginning no batch after so many seconds. Returns the number of hours;
    0 if another process is making rollups. Raises maintenance.Interrupted."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ROLLING])
        if not cursor.fetchone()[0]:
            return 0
        try:
            cursor.execute("SET jit = off")
            mark_hours_that_are_over()
            deadline = time.monotonic() + seconds
            total = 0
            while time.monotonic() < deadline and (rolled := _roll_up_batch()):
                total += rolled
            return total
        finally:
            cursor.execute("RESET jit")
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ROLLING])


def mark_hours_that_are_over() -> None:
    """Marks them as stale and moves RolledUntil. Waits for the batches that are being written now; a batch
    that begins later sees the new RolledUntil and marks its hours itself."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    until = hour_of(clock.now() - ROLL_UP_AFTER)
    commit_log.wait_for_others(raw)
    with transaction.atomic(), connection.cursor() as cursor:
        _take_lock()
        known = RolledUntil.objects.first()
        if known is None or known.format != FORMAT:
            cursor.execute(_STALE_FROM_DATAPOINTS, {"until": until})
        elif known.hour < until:
            cursor.execute(_STALE_FROM_LATEST, {"since": known.hour, "until": until})
        RolledUntil.objects.update_or_create(pk=1, defaults={"hour": until, "format": FORMAT})


def _roll_up_batch() -> int:
    """Reads the datapoints without a lock. Whatever is stored or deleted meanwhile marks its hours once more,
    and hours with a newer mark stay stale."""
    began = time.monotonic()
    with transaction.atomic():
        # With the lock, a deletion either is seen by what is read below, or marks these hours once more.
        _take_lock()
        stale = StaleHour.objects.filter(hour__lt=RolledUntil.objects.values("hour")[:1])
        # Hours that are marked again and again come last: otherwise the others would never have their turn.
        ordered = stale.order_by("version", "channel", "hour").values_list("channel", "hour", "version")
        marks = [(ChannelPk(channel), hour, version) for channel, hour, version in ordered[:BATCH_HOURS]]
    read, rollups = 0, []
    for channel, begin, end, end_of_piece in _spans(marks):
        for found in _read(channel, begin, end, end_of_piece):
            (low, low_ms), (high, high_ms) = found.low, found.high
            key = {"channel": channel, "hour": found.hour, "tag": found.tag, "path": found.path}
            values = {"low": low, "low_ms": low_ms, "high": high, "high_ms": high_ms}
            rollups.append(Rollup(**key, numbers=found.numbers, **values))
        read += (end - begin) // HOUR
        if len(rollups) > BATCH_ROLLUPS or time.monotonic() - began > BATCH_SECONDS:
            break
    return _save(marks[:read], rollups) if read else 0


def _spans(marks: Iterable[Mark]) -> Iterator[tuple[ChannelPk, datetime, datetime, datetime]]:
    """Cuts the marked hours into spans that are read with one query, or single hours that may need several.
    Yields channel, begin, end, and the end of the first piece to read."""
    for (_, channel), same in groupby(marks, itemgetter(2, 0)):
        for begin, end in _merged((hour, hour + HOUR) for _, hour, _ in same):
            start = begin
            while start < end:
                end_of_piece = _end_of_piece(channel, start, end)
                end_of_span = max(hour_of(end_of_piece), start + HOUR)
                yield channel, start, end_of_span, min(end_of_span, end_of_piece)
                start = end_of_span


def _end_of_piece(channel: ChannelPk, begin: datetime, end: datetime) -> datetime:
    """The time up to which there are PIECE_ROWS datapoints: after `begin`, and `end` at the latest."""
    with connection.cursor() as cursor:
        cursor.execute(_END_OF_PIECE, {"channel": channel, "start": begin, "end": end, "rows": PIECE_ROWS})
        at = cursor.fetchone()
    return max(at[0], begin + MICROSECOND) if at else end


def _read(
    channel: ChannelPk, begin: datetime, end: datetime, end_of_piece: datetime
) -> Iterator[HourOfSeries]:
    """Reads the span piece by piece, and gives MAX_PATHS series of each tag and hour."""
    merged: dict[tuple[datetime, int, str], HourOfSeries] = {}
    while begin < end:
        maintenance.check_stop()
        piece = Selection(channel, "UTC", begin, end_of_piece - MICROSECOND)
        with connection.cursor() as cursor:
            cursor.execute(_ROLL_UP, piece.parameters | {"paths": MAX_PATHS})
            rows = cursor.fetchall()
        for found in map(HourOfSeries._make, rows):
            key = found[:3]
            if before := merged.get(key):
                low, high = min(found.low, before.low), max(found.high, before.high)
                merged[key] = HourOfSeries(*key, found.numbers + before.numbers, low, high)
            else:
                merged[key] = found
        begin = end_of_piece
        end_of_piece = end if begin == end else _end_of_piece(channel, begin, end)
    for _, series in groupby(sorted(merged.values()), itemgetter(0, 1)):
        yield from islice(series, MAX_PATHS)


@transaction.atomic
def _save(marks: Sequence[Mark], rollups: Iterable[Rollup]) -> int:
    """Saves the rollups of the hours that have not been marked once more, and returns the number of these
    hours."""
    _take_lock()
    with connection.cursor() as cursor:
        cursor.execute(_UNMARK, [list(column) for column in zip(*marks, strict=True)])
        unmarked = set(cursor.fetchall())
    Rollup.objects.bulk_create(each for each in rollups if (each.channel, each.hour) in unmarked)
    return len(unmarked)


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Merges ordered ranges where one begins at the end of another."""
    merged: list[Range] = []
    for begin, end in ranges:
        if merged and merged[-1][1] >= begin:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return merged


def delete_until(channel: ChannelPk, moment: datetime) -> None:
    """To be called in the transaction that has deleted the channel's datapoints up to this moment."""
    hour = hour_of(moment)
    _take_lock()
    with connection.cursor() as cursor:
        rollup_invalidation.invalidate_again(cursor.cursor, channel, hour)
    Rollup.objects.filter(channel=channel, hour__lte=hour).delete()


def delete_between(channel: ChannelPk, first: datetime, last: datetime) -> None:
    """To be called in the transaction that has deleted the channel's datapoints from the one moment to the
    other. In the first and the last hour there may be some left."""
    begin, end = hour_of(first), hour_of(last)
    _take_lock()
    with connection.cursor() as cursor:
        rollup_invalidation.invalidate_between(cursor.cursor, channel, begin, end)
    Rollup.objects.filter(channel=channel, hour__gte=begin, hour__lte=end).delete()


def delete_of_tag(channel: ChannelPk, tag: TagPk) -> None:
    """To be called in the transaction that has put the tag's datapoints out of sight."""
    _take_lock()
    with connection.cursor() as cursor:
        rollup_invalidation.invalidate_again(cursor.cursor, channel)
    Rollup.objects.filter(channel=channel, tag=tag).delete()


def _take_lock() -> None:
    """Until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


class RolledHours(NamedTuple):
    first: datetime
    until: datetime
    stale: list[datetime]  # hours among these that have no rollups

    def ranges_without_rollups(self, start: datetime, end: datetime) -> list[Range]:
        """The rest of the time from `start` to `end`; the ends of all ranges are inclusive."""
        stale = ((hour, hour + HOUR) for hour in self.stale)
        others = _merged([(start, self.first), *stale, (self.until, end + MICROSECOND)])
        return [(begin, finish - MICROSECOND) for begin, finish in others if begin < finish]


def find(channel: ChannelPk, start: datetime, end: datetime) -> RolledHours | None:
    """The whole hours between these times that have rollups."""
    known = RolledUntil.objects.filter(format=FORMAT).first()
    first = hour_of(start + HOUR - MICROSECOND)
    until = min(hour_of(end + MICROSECOND), known.hour) if known else first
    if first >= until:
        return None
    marked = StaleHour.objects.filter(channel=channel, hour__gte=first, hour__lt=until)
    return RolledHours(first, until, list(marked.order_by("hour").values_list("hour", flat=True)))


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
