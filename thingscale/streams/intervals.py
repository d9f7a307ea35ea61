"""Aggregates in buckets of the calendar, in the user's time zone.

A bucket begins on a round local time. Up to an hour, each bucket of the clock is one, so the hour that comes
twice in autumn is two. Longer ones follow the calendar: a day may have 23 or 25 hours.
"""

from datetime import datetime
from itertools import groupby
from operator import itemgetter
from zoneinfo import ZoneInfo

from thingscale.lib.clock import resolve_local
from thingscale.streams import queries
from thingscale.streams.queries import Leaf, Selection

_LOCAL = "(at AT TIME ZONE %(zone)s)"
_MONDAY = "TIMESTAMP '2000-01-03'"
_ENDS = {"first": "ASC", "last": "DESC"}
_COUNT = queries.template("count_by_interval.sql")
_END = queries.template("end_of_interval.sql")
FUNCTIONS = (*queries.AGGREGATES, "count", *_ENDS)


def _clock(stride: str) -> str:
    """The moment when the bucket began."""
    return f"at - ({_LOCAL} - date_bin('{stride}', {_LOCAL}, {_MONDAY}))"


def _calendar(stride: str) -> str:
    """The local time, without a zone, at which the bucket began."""
    return f"date_bin('{stride}', {_LOCAL}, {_MONDAY})"


INTERVALS = {
    **{f"{n}m": _clock(f"{n} minutes") for n in (1, 5, 10, 15, 30)},
    "1h": _clock("1 hour"),
    **{f"{n}h": _calendar(f"{n} hours") for n in (2, 3, 4, 6, 8, 12)},
    "1d": _calendar("1 day"),
    "1w": _calendar("7 days"),
    "1mo": f"date_trunc('month', {_LOCAL})",
}

Bucket = tuple[datetime, list[Leaf]]


def aggregate(selection: Selection, function: str, interval: str) -> list[Bucket] | None:
    """For each bucket with datapoints its beginning and its leaves, in the selection's order; `function` of
    FUNCTIONS, `interval` of INTERVALS. None: too many to hold."""
    found = _leaves(selection, function, INTERVALS[interval])
    if found is None:
        return None
    zone = ZoneInfo(selection.zone)
    buckets = [(_moment(begin, zone), list(part)) for begin, part in groupby(found, itemgetter(0)) if begin]
    return buckets[::-1] if selection.newest_first else buckets


def _leaves(selection: Selection, function: str, bucket: str) -> list[Leaf] | None:
    if function == "count":
        return queries.leaves(_COUNT.substitute(bucket=bucket), selection)
    if function in _ENDS:
        return queries.leaves(_END.substitute(bucket=bucket, order=_ENDS[function]), selection)
    return queries.aggregate(selection, function, bucket=bucket)


def _moment(begin: datetime, zone: ZoneInfo) -> datetime:
    return begin if begin.tzinfo else resolve_local(begin, zone, fold=0)
