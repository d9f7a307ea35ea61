"""The lowest and the highest number of each series in each bucket of a time range, inclusive at both ends.

Buckets are `width` milliseconds wide, counted from 1970, not from the start of the range: a chart that moves
on with the time keeps them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from thingscale.streams import queries, rollups
from thingscale.streams.queries import Selection
from thingscale.streams.rollups import Range

MAX_SERIES = 50

_CHART = queries.template("chart.sql")
_RAW = queries.template("extremes.sql")
_EACH = queries.template("each_number.sql").substitute()
# Twice as slow would be: to compile these queries, and to sort what is to be grouped.
_SETTINGS = "SELECT set_config('jit', 'off', true), set_config('enable_sort', 'off', true)"
_ROLLED = queries.template("extremes_rolled.sql").substitute()

Name = tuple[str, int]  # path, and the tag's primary key or 0


class Point(NamedTuple):
    """Sorted, as they came: `order` is the datapoint's id where that is known."""

    ms: float  # since 1970 UTC
    order: float
    number: float


class MinMax(NamedTuple):
    path: str
    tag: int
    bucket: float  # its place, or the id of the only datapoint in it
    numbers: int
    low: float
    low_at: float  # milliseconds since 1970 UTC
    high: float
    high_at: float

    @property
    def name(self) -> Name:
        return self.path, self.tag

    @property
    def points(self) -> set[Point]:
        return {
            Point(self.low_at, self.bucket, self.low),
            Point(self.high_at, self.bucket, self.high),
        }


def read_each(selection: Selection, range_: Range, named: Sequence[str]) -> list[MinMax]:
    """Each number by itself, of as many series as read() has. Raises ContractError: RANGE_TOO_LARGE."""
    return _read(_EACH, selection, range_, named)


def read(selection: Selection, range_: Range, width: float, named: Sequence[str]) -> list[MinMax]:
    """All buckets of MAX_SERIES series, those of the paths in `named` first; of any others a bucket or more.
    Raises ContractError: RANGE_TOO_LARGE."""
    source = _RAW.substitute(bucket="floor(ms / %(width)s)")
    return _read(source, selection, range_, named, width=width)


def read_rolled(selection: Selection, range_: Range, width: float, named: Sequence[str]) -> list[MinMax]:
    """The same from rollups as far as there are any. Buckets hold whole hours."""
    hours = rollups.find(selection.channel, *range_)
    if hours is None:
        return read(selection, range_, width, named)
    whole_hours = (hours.first, hours.until)
    found = _read(_ROLLED, selection, whole_hours, named, width=width, stale=hours.stale)
    for rest in hours.others(*range_):
        found += read(selection, rest, width, named)
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
