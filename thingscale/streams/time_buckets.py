"""Aggregates in buckets of time, in the user's time zone.

A bucket begins at a round local time. Buckets of up to an hour follow the clock: the hour that comes twice in
autumn is two buckets. Longer ones follow the calendar: a day may have 23 or 25 hours.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from zoneinfo import ZoneInfo

from thingscale.lib.clock import SECOND, resolve_local
from thingscale.streams import queries
from thingscale.streams.queries import Leaf, Selection

_LOCAL = "(at AT TIME ZONE %(zone)s)"
_MONDAY = "TIMESTAMP '2000-01-03'"
_ENDS = {"first": "ASC", "last": "DESC"}
_COUNT = queries.template("count_by_interval.sql")
FUNCTIONS = (*queries.AGGREGATES, "count", *_ENDS)


def _clock(stride: str) -> str:
    """SQL for the moment at which the bucket began."""
    return f"at - ({_LOCAL} - date_bin('{stride}', {_LOCAL}, {_MONDAY}))"


def _calendar(stride: str) -> str:
    """SQL for the local time, without a zone, at which the bucket began."""
    return f"date_bin('{stride}', {_LOCAL}, {_MONDAY})"


CLOCK_MINUTES = {"1m": 1, "5m": 5, "10m": 10, "15m": 15, "30m": 30, "1h": 60}
INTERVALS = {
    **{name: _clock(f"{minutes} minutes") for name, minutes in CLOCK_MINUTES.items()},
    **{f"{n}h": _calendar(f"{n} hours") for n in (2, 3, 4, 6, 8, 12)},
    "1d": _calendar("1 day"),
    "1w": _calendar("7 days"),
    "1mo": f"date_trunc('month', {_LOCAL})",
}

Bucket = tuple[datetime, list[Leaf]]


def aggregate(selection: Selection, function: str, interval: str) -> Iterator[list[Bucket]] | None:
    """The beginning and the leaves of each bucket that has datapoints, in the selection's order, in pages of
    bounded size. `function` is one of FUNCTIONS, `interval` one of INTERVALS. None if there are too many
    leaves."""
    bucket = INTERVALS[interval]
    if function in _ENDS:
        ends = queries.ends_of_buckets(selection, bucket, _ENDS[function])
        if ends is None:
            return None
        pages = queries.values_of_ends(selection, ends[::-1] if selection.newest_first else ends)
        return (_buckets(page, selection.zone, interval) for page in pages)
    if function == "count":
        found = queries.leaves(_COUNT.substitute(bucket=bucket), selection)
    else:
        found = queries.aggregate(selection, function, bucket=bucket)
    if found is None:
        return None
    buckets = _buckets(found, selection.zone, interval)
    return iter([buckets[::-1] if selection.newest_first else buckets])


def _buckets(leaves: list[Leaf], zone_name: str, interval: str) -> list[Bucket]:
    zone = ZoneInfo(zone_name)
    stride = timedelta(minutes=CLOCK_MINUTES.get(interval, 0))
    return [
        (_begin(begin, zone, stride), list(part)) for begin, part in groupby(leaves, itemgetter(0)) if begin
    ]


def _begin(begin: datetime, zone: ZoneInfo, stride: timedelta) -> datetime:
    """The beginning of the bucket. If the clock was set within the bucket by less than its stride, as on Lord
    Howe Island, the bucket begins when the clock was set: the time before is in another bucket."""
    if not begin.tzinfo:
        return resolve_local(begin, zone, fold=0)
    before, after = begin, begin + stride
    offset = before.astimezone(zone).utcoffset()
    local = before.astimezone(zone).replace(tzinfo=None)
    is_round = not (local - local.replace(hour=0, minute=0, second=0, microsecond=0)) % stride
    if after.astimezone(zone).utcoffset() == offset or is_round:
        return begin
    while after - before > SECOND:
        middle = before + (after - before) / 2
        before, after = (middle, after) if middle.astimezone(zone).utcoffset() == offset else (before, middle)
    return after.replace(microsecond=0)
