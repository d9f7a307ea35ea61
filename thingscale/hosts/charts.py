"""The charts of a host: a panel for each metric, the same whoever measures it.

A range with few datapoints is read as it is: in the order of time, so that totals become rates and parts
become shares, and of each pixel the lowest and the highest number are kept. A longer one is read from the
rollups of its hours, which know no more than that.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from thingscale.hosts import metrics
from thingscale.hosts.metrics import Known, Memory, Metric, Name, Values
from thingscale.lib.clock import to_us
from thingscale.lib.ids import ChannelPk
from thingscale.streams import queries, rollups
from thingscale.streams.charts import with_pauses
from thingscale.streams.models import Latest

MAX_ROWS = 12_000  # that are read as they are: a day of a sample in ten seconds
MAX_BYTES = 64 * 2**20  # of their values, as they are stored
MAX_SERIES = 12  # of a panel: those with the highest numbers
MAX_NAMES = 300  # of all, and paths that are read from rollups
FETCH = 500  # rows
HOUR_MS = 3_600_000
_SQL = Path(__file__).parent / "sql"
_SIZE = (_SQL / "size_of_range.sql").read_text()
_ROWS = (_SQL / "rows_of_range.sql").read_text()
_ROLLUPS = (_SQL / "rollups_of_range.sql").read_text()

Text = str | Promise
Point = tuple[float, float]  # milliseconds since 1970, and a number


class Panel(NamedTuple):
    metric: Metric
    title: Text
    unit: str
    words: Mapping[str, Text] = {}  # for what a number is of


# In this order; other names follow it.
_ORDER = ("user", "system", "iowait", "nice", "irq", "softirq", "steal", "1", "5", "15")
PANELS = (
    Panel(Metric.CPU, _("CPU by state"), "%"),
    Panel(Metric.MEMORY, _("Memory used"), "%", {"": _("memory")}),
    Panel(Metric.LOAD, _("Load"), "", {"1": _("1 min"), "5": _("5 min"), "15": _("15 min")}),
    Panel(Metric.DISK, _("Disks used"), "%"),
    Panel(Metric.INODES, _("Inodes used"), "%"),
    Panel(Metric.IO, _("Disk reads and writes"), "B/s"),
    Panel(Metric.NETWORK, _("Network"), "B/s"),
    Panel(Metric.SWAP, _("Swap used"), "%", {"": _("swap")}),
    Panel(Metric.TEMPERATURE, _("Temperatures"), "°C"),
    Panel(Metric.PROCESSES, _("Processes"), "", {"": _("processes")}),
)
_NOT_DRAWN = {(Metric.CPU, "idle")}  # it would leave no height for the others
_SIZES = ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"))


class Series(NamedTuple):
    panel: Metric
    title: str  # of the panel
    key: str
    label: str
    unit: str
    t: list[int]  # milliseconds since 1970 UTC, ascending
    v: list[float | None]
    tag: None = None


def chart(channel: ChannelPk, start: datetime, end: datetime, pixels: int) -> list[Series]:
    """Raises ContractError: RANGE_TOO_LARGE."""
    width = max(1.0, (to_us(end) - to_us(start)) / 1000 / min(max(pixels, 100), 4000))
    buckets = _Buckets(width)
    with queries.reading() as cursor:
        parameters: dict[str, Any] = {
            "channel": channel,
            "start": start,
            "end": end,
            "tags": metrics.TAGS,
            "rows": MAX_ROWS + 1,
        }
        cursor.execute(_SIZE, parameters)
        rows, size = cursor.fetchone()
        if rows <= MAX_ROWS and size <= MAX_BYTES:
            for moment, shown in _shown(_samples(parameters)):
                buckets.add(moment * 1000, shown)
        else:
            buckets.width = max(width, HOUR_MS)
            _add_rollups(buckets, channel, (start, end), parameters)
    return _series(buckets)


def _samples(parameters: dict[str, Any]) -> Iterator[tuple[str, float, Any]]:
    """Tag, time in seconds and value of each datapoint, in the order of time."""
    with connection.connection.cursor(name="hosts_chart") as cursor:
        cursor.itersize = FETCH
        cursor.execute(_ROWS, parameters)
        for tag, at, text in cursor:
            yield tag, at, orjson.loads(text)


def _shown(samples: Iterable[tuple[str, float, Any]]) -> Iterator[tuple[float, Values]]:
    """What is shown, at each time at which a host has said all that it says. It begins anew once a tag comes
    again."""
    memory: Memory = {}
    sample: dict[str, tuple[str, float, Any]] = {}
    for each in samples:
        if each[0] in sample:
            moment, shown, memory = _read(sample, memory)
            yield moment, shown
            sample = {}
        sample[each[0]] = each
    if sample:
        moment, shown, _memory = _read(sample, memory)
        yield moment, shown


def _read(sample: Mapping[str, tuple[str, float, Any]], memory: Memory) -> tuple[float, Values, Memory]:
    _sender, values, grown = metrics.read(sample.values(), memory)
    return max(at for _, at, _ in sample.values()), metrics.combine(values), memory | grown


class _Buckets:
    """The lowest and the highest number of each series and pixel, each at its own time."""

    def __init__(self, width: float) -> None:
        self.width = width  # milliseconds
        self._found: dict[Name, dict[int, tuple[Point, Point]]] = {}

    def add(self, ms: float, values: Values) -> None:
        place = int(ms // self.width)
        for name, number in values.items():
            self.add_one(name, place, (ms, number))

    def add_one(self, name: Name, place: int, point: Point) -> None:
        of_name = self._found.get(name)
        if of_name is None:
            if len(self._found) >= MAX_NAMES:
                return
            of_name = self._found[name] = {}
        before = of_name.get(place)
        if before is None:
            of_name[place] = point, point
            return
        low, high = before
        if point[1] < low[1]:
            of_name[place] = point, high
        elif point[1] > high[1]:
            of_name[place] = low, point

    def series(self) -> dict[Name, list[Point]]:
        return {
            name: sorted({point for pair in of_name.values() for point in pair})
            for name, of_name in self._found.items()
        }


def _add_rollups(
    buckets: _Buckets, channel: ChannelPk, range_: tuple[datetime, datetime], parameters: dict[str, Any]
) -> None:
    """Lows and highs of hours are two samples an hour: of what only grows, the first and the last number.
    Hours that have no rollups yet are read as they are, while these are few."""
    found = rollups.find(channel, *range_)
    if found is None:
        return
    newest = Latest.objects.shown().filter(channel=channel).values_list("value", flat=True)[:MAX_NAMES]
    paths = islice(dict.fromkeys(path for value in newest for path, _ in metrics.leaves(value)), MAX_NAMES)
    hours = {"start": found.first, "end": found.until, "stale": found.stale, "paths": list(paths)}
    with connection.cursor() as cursor:
        cursor.execute(_ROLLUPS, parameters | hours)
        rows = cursor.fetchall()
        room = MAX_ROWS
        for start, end in reversed(found.ranges_without_rollups(*range_)):
            rest = parameters | {"start": start, "end": end}
            cursor.execute(_SIZE, rest)
            count, size = cursor.fetchone()
            room -= count
            if room < 0 or size > MAX_BYTES:
                break
            for moment, shown in _shown(_samples(rest)):
                buckets.add(moment * 1000, shown)
    memory: Memory = {}
    by_hour: dict[Any, list[tuple[Known, Point, Point]]] = {}
    for hour, tag, path, low, low_ms, high, high_ms in rows:
        what = metrics.known(tag, path.replace("\\", ""))
        if what is not None:
            by_hour.setdefault(hour, []).append((what, (low_ms, low), (high_ms, high)))
    for of_hour in by_hour.values():
        for side in (1, 2):
            values: Values = {}
            times = []
            for each in of_hour:
                what, (ms, number) = each[0], each[side]  # type: ignore[misc]
                times.append(ms)
                key = f"{what.metric} {what.of}"
                if what.grows:
                    memory[key] = metrics.grown(memory.get(key), ms / 1000, number)
                    number = memory[key][2]
                    if number < 0:
                        continue
                values[what.metric, what.of] = number * what.factor
            buckets.add(max(times), metrics.combine(values))


def _series(buckets: _Buckets) -> list[Series]:
    found = buckets.series()
    made: list[Series] = []
    for panel in PANELS:
        own = {
            name: points
            for name, points in found.items()
            if name[0] == panel.metric and name not in _NOT_DRAWN
        }
        highest = {name: max(map(itemgetter(1), points)) for name, points in own.items()}
        if panel.metric == Metric.CPU and any(highest.values()):
            own = {name: points for name, points in own.items() if highest[name]}  # a state that never was
        names = sorted(sorted(own, key=lambda name: -highest[name])[:MAX_SERIES], key=_place)
        unit, factor = panel.unit, 1.0
        if unit == "B/s":
            most = max(highest.values(), default=0)
            factor, unit = next(((size, word) for size, word in _SIZES if most >= size), (1.0, unit))
        for name in names:
            points = with_pauses(_apart(own[name]), 2 * buckets.width)
            label = panel.words.get(name[1], name[1])
            made.append(
                Series(
                    panel.metric,
                    f"{panel.title} ({unit})" if unit else str(panel.title),
                    f"{panel.metric} {name[1]}".strip(),
                    str(label),
                    unit,
                    [ms for ms, _ in points],
                    [None if number is None else round(number / factor, 2) for _, number in points],
                )
            )
    return made


def _place(name: Name) -> tuple[int, str]:
    return _ORDER.index(name[1]) if name[1] in _ORDER else len(_ORDER), name[1]


def _apart(points: Iterable[Point]) -> list[tuple[int, float]]:
    """A chart has one point for each time."""
    moved: list[tuple[int, float]] = []
    for ms, number in points:
        moved.append((max(round(ms), moved[-1][0] + 1) if moved else round(ms), number))
    return moved


# What the sources of events begin with, where they are not a number that is drawn itself.
_GROUPS = {
    "cpu": Metric.CPU,
    "load": Metric.LOAD,
    "memory": Metric.MEMORY,
    "swap": Metric.SWAP,
    "disk": Metric.DISK,
    "io": Metric.IO,
    "net": Metric.NETWORK,
    "processes": Metric.PROCESSES,
    "temperature": Metric.TEMPERATURE,
}


def panel_of_source(source: str, tags: Iterable[str]) -> tuple[str, bool]:
    """The metric of the panel that an event's source is about, "" for none; and whether its thresholds are
    heights of that panel."""
    for tag in ("", *tags):
        what = metrics.known(tag, source)
        if what is not None:
            scaled = what.metric in {Metric.NETWORK, Metric.IO} or what.factor != 1 or what.grows
            return what.metric, (what.metric, what.of) not in _NOT_DRAWN and not scaled
    group = _GROUPS.get(source.partition(":")[0])
    return group or "", source in {"disk:fullest", "temperature:highest"}
