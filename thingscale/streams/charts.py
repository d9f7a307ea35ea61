"""A channel's numbers over a time range, reduced to what a chart of so many pixels can show.

Each path to a number and each tag is a series: the number in {"a": {"b": 1}} is "a:b", a plain one "value".
A range with many datapoints is cut into buckets as wide as a pixel, of which the lowest and the highest
number are kept, each at its own time: one spike in a month is seen. Where a series pauses it has a null, so
that the line breaks; what is a pause depends on its rhythm. An open page asks for the whole chart again
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

from thingscale.lib import clock
from thingscale.lib.clock import to_us
from thingscale.streams import min_max, queries
from thingscale.streams.min_max import MAX_SERIES, MinMax, SeriesKey
from thingscale.streams.models import Channel, Tag
from thingscale.streams.queries import Selection

MAX_PIXELS = 4000
ROWS_WITHOUT_ROLLUPS = 50_000  # a chart of more is read from rollups, and resolves an hour at best
HOUR_MS = 3_600_000
PAUSE = 5  # times the rhythm of a series
BURST = 20  # the distance to the next burst is at least so many times longer
MIN_BURSTS = 4

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
    reduced: bool  # whether the series have only the lowest and the highest number of each bucket
    points: int  # numbers that the series stand for
    left_out: int  # series past MAX_SERIES
    series: list[Series]

    def json(self, **beside: Any) -> str:
        series = [each._asdict() for each in self.series]
        return orjson.dumps(self._asdict() | {"series": series} | beside).decode()


def chart(selection: Selection, pixels: int) -> Chart:
    """An open start is the first datapoint, an open end now or the newest one, if that is later.
    Raises ContractError: RANGE_TOO_LARGE."""
    channel = Channel.objects.get(pk=selection.channel)
    labels = {each["key"]: each for each in channel.streams}
    # numbers.sql escapes a colon inside a key, to tell it from the one between two keys.
    escaped = [key.replace("\\", "\\\\").replace(":", "\\:") for key in labels if ":" in key]
    named = [*labels, *escaped]
    start, end = selection.start, selection.end
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        with connection.cursor() as cursor:
            cursor.execute(_BOUNDS, selection.parameters)
            first, last = cursor.fetchone()
        now = clock.now()
        start = start if isinstance(start, datetime) else first or now
        end = end if isinstance(end, datetime) else max(now, last or now)
    width = _width_of_pixel(start, end, pixels)
    selection = selection._replace(start=start, end=end)
    reduced = queries.has_more_than(selection, 2 * _within_limits(pixels))
    if not reduced:
        found = min_max.read_each_number(selection, (start, end), named)
    elif selection.devices is None and queries.has_more_than(selection, ROWS_WITHOUT_ROLLUPS):
        # Rollups know no devices.
        width = ceil(width / HOUR_MS) * HOUR_MS
        found = min_max.read_rollups(selection, (_begin_of_bucket(start, width), end), width, named)
    else:
        found = min_max.read_datapoints(selection, (_begin_of_bucket(start, width), end), width, named)
    # In the order of chart.sql, which read all of the first MAX_SERIES.
    keys = sorted({each.series for each in found}, key=lambda key: (key[0] not in named, key))
    shown: dict[SeriesKey, list[MinMax]] = {key: [] for key in keys[:MAX_SERIES]}
    for each in found:
        if each.series in shown:
            shown[each.series].append(each)
    tags = dict(Tag.objects.filter(channel=channel).values_list("pk", "name"))
    paths = {path for path, _ in shown}
    return Chart(
        start=_ms(start),
        end=_ms(end),
        reduced=reduced,
        points=sum(each.numbers for part in shown.values() for each in part),
        left_out=len(keys) - len(shown),
        series=[
            _series(path, tags.get(tag), _label(path, labels, paths), part, 2 * width)
            for (path, tag), part in shown.items()
        ],
    )


def version(selection: Selection, pixels: int, beside: object = None) -> str:
    """Changes with what the chart shows: the channel's datapoints, tags and labels, the range, once it has
    moved on by a pixel, and what else is shown `beside`. Costs a look at the channel's totals, not at its
    datapoints."""
    start, end = selection.start, selection.end
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        raise ValueError("only a range with two ends has a version")
    width = _width_of_pixel(start, end, pixels)
    with connection.cursor() as cursor:
        cursor.execute(_VERSION, {"channel": selection.channel})
        totals = cursor.fetchone()
    chosen = selection.channel, selection.tag, selection.devices
    state = (*chosen, round(width), _ms(start) // width, pixels, totals, beside)
    return blake2b(repr(state).encode(), digest_size=12).hexdigest()


def _width_of_pixel(start: datetime, end: datetime, pixels: int) -> float:
    """In milliseconds."""
    return (_ms(end) - _ms(start) + 1) / _within_limits(pixels)


def _within_limits(pixels: int) -> int:
    return min(max(pixels, 1), MAX_PIXELS)


def _begin_of_bucket(start: datetime, width: float) -> datetime:
    """Of the bucket that `start` is in: the first bucket is shown whole, wherever in it the range starts."""
    begin = _ms(start) // width * width
    try:
        return start - timedelta(milliseconds=_ms(start) - begin)
    except OverflowError:  # there is no such time
        return start


def _label(path: str, labels: dict[str, Any], paths: set[str]) -> dict[str, str]:
    """Label and unit. `a:b` in the channel's settings means {"a": {"b": 1}}; it also means {"a:b": 1}, if the
    chart has no series of the former."""
    key = re.sub(r"\\(.)", r"\1", path)
    return labels.get(path) or ({} if key in paths - {path} else {"label": key} | labels.get(key, {}))


def _series(
    path: str, tag: str | None, label: dict[str, str], found: Iterable[MinMax], shortest_pause: float
) -> Series:
    # In the order of time and arrival. A chart has one point for each time, so those of the same millisecond
    # are moved apart.
    points: list[tuple[int, float]] = []
    for ms, _, number in sorted(point for each in found for point in each.points):
        points.append((max(round(ms), points[-1][0] + 1) if points else round(ms), number))
    with_nulls = with_pauses(points, shortest_pause)
    return Series(
        path,
        tag,
        label.get("label") or path,
        label.get("unit") or "",
        [at for at, _ in with_nulls],
        [value for _, value in with_nulls],
    )


def with_pauses(points: list[tuple[int, float]], shortest: float) -> list[tuple[int, float | None]]:
    """Puts a null inside each pause: between points that are more than `shortest` milliseconds apart, and
    more than PAUSE times the rhythm of the points."""
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
    """The usual distance between two of at least two times, which is the median.

    Where times come in bursts, the distance of the bursts is the rhythm: three numbers within 200 ms, each
    minute, are a number a minute. There are bursts if distances longer than a pause come again and again,
    with little time between them. A device that is on for hours and off for hours makes pauses, not
    bursts."""
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
