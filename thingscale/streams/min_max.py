"""The lowest and the highest number of each series in each bucket of a time range, inclusive at both ends.

Buckets are `width` milliseconds wide and counted from 1970, not from the start of the range, so that a chart
whose range moves on with the time keeps its buckets.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from thingscale.streams import queries, rollups
from thingscale.streams.queries import Selection
from thingscale.streams.rollups import Range

MAX_SERIES = 50

_CHART = queries.template("chart.sql")
_EACH_NUMBER = queries.template("each_number.sql").substitute()
_OF_DATAPOINTS = queries.template("min_max.sql").substitute(bucket="floor(ms / %(width)s)")
_OF_ROLLUPS = queries.template("min_max_of_rollups.sql").substitute()
# Compiling these queries, or sorting the rows in order to group them, would take twice as long.
_SETTINGS = "SELECT set_config('jit', 'off', true), set_config('enable_sort', 'off', true)"

SeriesKey = tuple[str, int]  # path, and the tag's primary key or 0


class Point(NamedTuple):
    """Points sort by time, and those of the same time by arrival: `order` is the datapoint's id, if that is
    known."""

    ms: float  # since 1970 UTC
    order: float
    number: float


class MinMax(NamedTuple):
    path: str
    tag: int
    bucket: float  # its number; if each number is read by itself, the datapoint's id
    numbers: int
    low: float
    low_at: float  # milliseconds since 1970 UTC
    high: float
    high_at: float

    @property
    def series(self) -> SeriesKey:
        return self.path, self.tag

    @property
    def points(self) -> set[Point]:
        return {
            Point(self.low_at, self.bucket, self.low),
            Point(self.high_at, self.bucket, self.high),
        }


def read_each_number(selection: Selection, range_: Range, named: Sequence[str]) -> list[MinMax]:
    """Each number as a bucket of its own, of the same series as read_datapoints().
    Raises ContractError: RANGE_TOO_LARGE."""
    return _read(_EACH_NUMBER, selection, range_, named)


def read_datapoints(selection: Selection, range_: Range, width: float, named: Sequence[str]) -> list[MinMax]:
    """All buckets of MAX_SERIES series, those of the paths in `named` first; at least one bucket of each
    other series, so that these can be counted. Raises ContractError: RANGE_TOO_LARGE."""
    return _read(_OF_DATAPOINTS, selection, range_, named, width=width)


def read_rollups(selection: Selection, range_: Range, width: float, named: Sequence[str]) -> list[MinMax]:
    """As read_datapoints(), but from the rollups of the hours that have some. Buckets hold whole hours."""
    hours = rollups.find(selection.channel, *range_)
    if hours is None:
        return read_datapoints(selection, range_, width, named)
    whole_hours = (hours.first, hours.until)
    found = _read(_OF_ROLLUPS, selection, whole_hours, named, width=width, stale=hours.stale)
    for rest in hours.ranges_without_rollups(*range_):
        found += read_datapoints(selection, rest, width, named)
    return found


def _read(
    source: str, selection: Selection, range_: Range, named: Sequence[str], **more: Any
) -> list[MinMax]:
    parameters = {
        **selection.parameters,
        "start": range_[0],
        "end": range_[1],
        "named": list(named),
        "series": MAX_SERIES,
        **more,
    }
    with queries.reading() as cursor:
        cursor.execute(_SETTINGS)
        cursor.execute(_CHART.substitute(source=source), parameters)
        return [MinMax(*row) for row in cursor.fetchall()]
