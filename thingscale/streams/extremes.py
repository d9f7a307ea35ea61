"""The lowest and the highest number of each series in each bucket of a time range, inclusive at both ends."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from thingscale.streams import queries, rollups
from thingscale.streams.queries import Selection
from thingscale.streams.rollups import Range

MAX_SERIES = 50

_CHART = queries.template("chart.sql")
_RAW = queries.template("extremes.sql")
# Twice as slow would be: to compile these queries, and to sort what is to be grouped.
_SETTINGS = "SELECT set_config('jit', 'off', true), set_config('enable_sort', 'off', true)"
_MILLISECOND = "round(ms)"
_ROLLED = queries.template("extremes_rolled.sql").substitute()
_WIDTH = "floor((ms - %(origin)s) / %(width)s)"

Name = tuple[str, int]  # path, and the tag's primary key or 0
Point = tuple[int, float]  # milliseconds since 1970 UTC, number


class Buckets(NamedTuple):
    """Of equal width, or, without one, a millisecond each."""

    origin: float  # milliseconds since 1970 UTC
    width: float | None


class Extremes(NamedTuple):
    path: str
    tag: int
    numbers: int
    low: float
    low_at: int
    high: float
    high_at: int

    @property
    def name(self) -> Name:
        return self.path, self.tag

    @property
    def points(self) -> set[Point]:
        return {(self.low_at, self.low), (self.high_at, self.high)}


def read(selection: Selection, range_: Range, buckets: Buckets, named: Sequence[str]) -> list[Extremes]:
    """All buckets of MAX_SERIES series, those of the paths in `named` first; of any others a bucket or more.
    Raises Refused: RANGE_TOO_LARGE."""
    source = _RAW.substitute(bucket=_WIDTH if buckets.width else _MILLISECOND)
    return _read(source, selection, range_, buckets, named)


def read_rolled(
    selection: Selection, range_: Range, buckets: Buckets, named: Sequence[str]
) -> list[Extremes]:
    """The same from rollups as far as there are any. Buckets hold whole hours."""
    hours = rollups.find(selection.channel, *range_)
    if hours is None:
        return read(selection, range_, buckets, named)
    found = _read(_ROLLED, selection, (hours.first, hours.until), buckets, named, stale=hours.stale)
    for rest in hours.others(*range_):
        found += read(selection, rest, buckets, named)
    return found


def _read(
    source: str, selection: Selection, range_: Range, buckets: Buckets, named: Sequence[str], **more: Any
) -> list[Extremes]:
    parameters = {
        **selection.parameters,
        "start": range_[0],
        "end": range_[1],
        "named": list(named),
        "series": MAX_SERIES,
        **buckets._asdict(),
        **more,
    }
    with queries.reading() as cursor:
        cursor.execute(_SETTINGS)
        cursor.execute(_CHART.substitute(source=source), parameters)
        return [Extremes(*row) for row in cursor.fetchall()]
