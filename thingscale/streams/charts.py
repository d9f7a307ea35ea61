"""A channel's numbers over a time range, reduced to what a chart of so many pixels can show.

Each path to a number and each tag is a series: the number in {"a": {"b": 1}} is "a:b", a plain one "value".
A range with many datapoints is cut into buckets as wide as a pixel, of which the lowest and the highest
number are kept, each at its own time: one spike in a month is seen. Where a series pauses it has a null, so
that the line breaks; what is a pause depends on its rhythm. An open page decides none of this: it asks again
whenever version() may have changed (docs/decisions/0029-open-charts.md).
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import pairwise
from math import ceil
from statistics import median
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.utils import timezone

from thingscale.lib.clock import to_us
from thingscale.streams import min_max, queries
from thingscale.streams.min_max import MAX_SERIES, MinMax, Name
from thingscale.streams.models import Channel, Tag
from thingscale.streams.queries import Selection

MAX_PIXELS = 4000
RAW_ROWS = 50_000  # datapoints; more are read from rollups, and the chart has an hour's resolution at best
HOUR_MS = 3_600_000
PAUSE = 5  # times the usual distance between two numbers of a series
BURST = 20  # times shorter than the distance to the next burst
MIN_BURSTS = 4  # fewer make no rhythm

_BOUNDS = queries.template("bounds.sql").substitute()
_VERSION = queries.template("version.sql").substitute()


class Series(NamedTuple):
    key: str
    tag: str | None
    label: str
    unit: str
    t: list[int]  # milliseconds since 1970 UTC, ascending
    v: list[float | None]


class Chart(NamedTuple):
    start: int  # milliseconds since 1970 UTC
    end: int
    reduced: bool  # whether the series have only the extremes of each bucket
    points: int  # numbers that the series stand for
    left_out: int  # series past MAX_SERIES
    series: list[Series]

    def json(self) -> str:
        series = [each._asdict() for each in self.series]
        return orjson.dumps(self._asdict() | {"series": series}).decode()


def chart(selection: Selection, pixels: int) -> Chart:
    """An open start is the first datapoint, an open end now or the newest one, if that is later.
    Raises ContractError: RANGE_TOO_LARGE."""
    channel = Channel.objects.get(pk=selection.channel)
    labels = {each["key"]: each for each in channel.streams}
    named = [*labels, *(literal(key) for key in labels if ":" in key)]
    start, end = _bounds(selection)
    width = _width(start, end, pixels)
    selection = selection._replace(start=start, end=end)
    reduced = queries.has_more_than(selection, 2 * _within_limits(pixels))
    if not reduced:
        found = min_max.read_each(selection, (start, end), named)
    elif queries.has_more_than(selection, RAW_ROWS):
        width = ceil(width / HOUR_MS) * HOUR_MS
        found = min_max.read_rolled(selection, (_begin(start, width), end), width, named)
    else:
        found = min_max.read(selection, (_begin(start, width), end), width, named)
    shown, left_out = _series(found, named)
    tags = dict(Tag.objects.filter(channel=channel).values_list("pk", "name"))
    paths = {path for path, _ in shown}
    return Chart(
        start=_ms(start),
        end=_ms(end),
        reduced=reduced,
        points=sum(each.numbers for part in shown.values() for each in part),
        left_out=left_out,
        series=[
            _line(path, tags.get(tag), _naming(path, labels, paths), part, 2 * width)
            for (path, tag), part in shown.items()
        ],
    )


def version(selection: Selection, pixels: int) -> str:
    """Changes with what the chart shows: the channel's datapoints, tags and labels, and the range, once it
    has moved on by a pixel. Costs a look at the channel's totals, not at its datapoints."""
    start, end = selection.start, selection.end
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        raise ValueError("only a range with two ends has a version")
    width = _width(start, end, pixels)
    with connection.cursor() as cursor:
        cursor.execute(_VERSION, {"channel": selection.channel})
        totals = cursor.fetchone()
    state = (selection.channel, selection.tag, round(width), _ms(start) // width, pixels, totals)
    return blake2b(repr(state).encode(), digest_size=12).hexdigest()


def _width(start: datetime, end: datetime, pixels: int) -> float:
    """Of a pixel, in milliseconds."""
    return (_ms(end) - _ms(start) + 1) / _within_limits(pixels)


def _within_limits(pixels: int) -> int:
    return min(max(pixels, 1), MAX_PIXELS)


def _begin(start: datetime, width: float) -> datetime:
    """Of the bucket that the start is in: the first one is shown whole, however the range moves on."""
    begin = _ms(start) // width * width
    try:
        return start - timedelta(milliseconds=_ms(start) - begin)
    except OverflowError:  # there is no such time
        return start


def _bounds(selection: Selection) -> tuple[datetime, datetime]:
    start, end = selection.start, selection.end
    if isinstance(start, datetime) and isinstance(end, datetime):
        return start, end
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDS, selection.parameters)
        first, last = cursor.fetchone()
    now = timezone.now()
    return (
        start if isinstance(start, datetime) else first or now,
        end if isinstance(end, datetime) else max(now, last or now),
    )


def literal(key: str) -> str:
    """A key as numbers.sql writes it: a colon in it is not the one between two keys."""
    return key.replace("\\", "\\\\").replace(":", "\\:")


def _naming(path: str, labels: dict[str, Any], paths: set[str]) -> dict[str, str]:
    """Label and unit. `a:b` in the channel's settings means {"a": {"b": 1}}, and {"a:b": 1} where there is no
    such series beside it."""
    key = re.sub(r"\\(.)", r"\1", path)
    return labels.get(path) or ({} if key in paths - {path} else {"label": key} | labels.get(key, {}))


def _series(found: list[MinMax], named: Sequence[str]) -> tuple[dict[Name, list[MinMax]], int]:
    """The series that are shown, in the order of chart.sql, and how many are not."""
    names = sorted({each.name for each in found}, key=lambda name: (name[0] not in named, name))
    shown: dict[Name, list[MinMax]] = {name: [] for name in names[:MAX_SERIES]}
    for each in found:
        if each.name in shown:
            shown[each.name].append(each)
    return shown, len(names) - len(shown)


def _line(
    key: str, tag: str | None, naming: dict[str, str], found: list[MinMax], shortest_pause: float
) -> Series:
    points = with_pauses(_in_order(found), shortest_pause)
    return Series(
        key,
        tag,
        naming.get("label") or key,
        naming.get("unit") or "",
        [at for at, _ in points],
        [value for _, value in points],
    )


def _in_order(found: Iterable[MinMax]) -> list[tuple[int, float]]:
    """In order of time and of arrival. Those of one millisecond are moved apart: a chart has one for each
    time."""
    points: list[tuple[int, float]] = []
    for ms, _, number in sorted(point for each in found for point in each.points):
        points.append((max(round(ms), points[-1][0] + 1) if points else round(ms), number))
    return points


def with_pauses(points: list[tuple[int, float]], shortest: float) -> list[tuple[int, float | None]]:
    """A null inside each pause, longer than `shortest` milliseconds and than the rhythm of the points."""
    if len(points) < 2:
        return list(points)
    pause = max(shortest, PAUSE * rhythm([at for at, _ in points]))
    marked: list[tuple[int, float | None]] = [points[0]]
    for before, after in pairwise(points):
        if after[0] - before[0] > pause:
            marked.append(((before[0] + after[0]) // 2, None))
        marked.append(after)
    return marked


def rhythm(times: Sequence[int]) -> float:
    """The usual distance between two of at least two times: the median. But if distances of more than PAUSE
    times that come again and again, with little between them, these are bursts, and their distance is the
    rhythm: three numbers within 200 ms, each minute, are a number a minute. A device that is on for hours and
    off for hours makes no bursts, but pauses."""
    usual = median(after - before for before, after in pairwise(times))
    while True:
        ends = [
            place for place, (before, after) in enumerate(pairwise(times)) if after - before > PAUSE * usual
        ]
        if len(ends) < MIN_BURSTS - 1:
            return usual
        between = median(times[place + 1] - times[place] for place in ends)
        starts = [0, *(place + 1 for place in ends)]
        lengths = [
            times[end] - times[start] for start, end in zip(starts, [*ends, len(times) - 1], strict=True)
        ]
        if median(lengths) * BURST > between:
            return usual
        usual = between


def _ms(moment: datetime) -> int:
    return to_us(moment) // 1000
