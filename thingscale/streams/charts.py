"""A channel's numbers over a time range, reduced to what a chart of so many pixels can show.

Each path to a number and each tag is a series: the number in {"a": {"b": 1}} is "a:b", a plain one "value".
A range with many datapoints is cut into buckets as wide as a pixel, of which the lowest and the highest
number are kept, each at its own time: one spike in a month is seen. Where a series pauses it has a null, so
that the line breaks; what is a pause depends on how often the series has a number.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from math import ceil
from statistics import median
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.utils import timezone

from thingscale.lib.clock import to_us
from thingscale.streams import extremes, queries
from thingscale.streams.extremes import MAX_SERIES, Buckets, Extremes, Name, Point
from thingscale.streams.models import Channel, Tag
from thingscale.streams.queries import Selection

MAX_PIXELS = 4000
RAW_ROWS = 50_000  # datapoints; more are read from rollups, and the chart has an hour's resolution at best
HOUR_MS = 3_600_000
PAUSE = 5  # times the usual time between two numbers of a series

_BOUNDS = queries.template("bounds.sql").substitute()


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
    Raises Refused: RANGE_TOO_LARGE."""
    channel = Channel.objects.get(pk=selection.channel)
    named = {each["key"]: each for each in channel.streams}
    start, end = _bounds(selection)
    pixels = min(max(pixels, 1), MAX_PIXELS)
    width = (_ms(end) - _ms(start) + 1) / pixels
    selection = selection._replace(start=start, end=end)
    reduced = queries.has_more_than(selection, 2 * pixels)
    if reduced and queries.has_more_than(selection, RAW_ROWS):
        width = ceil(width / HOUR_MS) * HOUR_MS
        buckets = Buckets(_ms(start) // HOUR_MS * HOUR_MS, width)
        found = extremes.read_rolled(selection, (start, end), buckets, list(named))
    else:
        buckets = Buckets(_ms(start), width if reduced else None)
        found = extremes.read(selection, (start, end), buckets, list(named))
    shown, left_out = _series(found, named)
    tags = dict(Tag.objects.filter(channel=channel).values_list("pk", "name"))
    return Chart(
        start=_ms(start),
        end=_ms(end),
        reduced=reduced,
        points=sum(each.numbers for part in shown.values() for each in part),
        left_out=left_out,
        series=[
            _line(key, tags.get(tag), named.get(key, {}), part, 2 * width)
            for (key, tag), part in shown.items()
        ],
    )


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


def _series(found: list[Extremes], named: dict[str, Any]) -> tuple[dict[Name, list[Extremes]], int]:
    """The series that are shown, in the order of chart.sql, and how many are not."""
    names = sorted({each.name for each in found}, key=lambda name: (name[0] not in named, name))
    shown: dict[Name, list[Extremes]] = {name: [] for name in names[:MAX_SERIES]}
    for each in found:
        if each.name in shown:
            shown[each.name].append(each)
    return shown, len(names) - len(shown)


def _line(
    key: str, tag: str | None, naming: dict[str, str], found: list[Extremes], shortest_pause: float
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


def _in_order(found: Iterable[Extremes]) -> list[Point]:
    """Two numbers of one millisecond are moved apart: a chart has one for each time."""
    points: list[Point] = []
    for at, value in sorted(point for each in found for point in each.points):
        points.append((max(at, points[-1][0] + 1) if points else at, value))
    return points


def with_pauses(points: list[Point], shortest: float) -> list[tuple[int, float | None]]:
    """A null inside each pause, longer than `shortest` milliseconds and than usual."""
    if len(points) < 2:
        return list(points)
    pause = max(shortest, PAUSE * median(after[0] - before[0] for before, after in pairwise(points)))
    marked: list[tuple[int, float | None]] = [points[0]]
    for before, after in pairwise(points):
        if after[0] - before[0] > pause:
            marked.append(((before[0] + after[0]) // 2, None))
        marked.append(after)
    return marked


def _ms(moment: datetime) -> int:
    return to_us(moment) // 1000
