"""The geometry of an SVG that shows what an event would have seen, and when it would have fired."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from thingscale.events.preview import Preview
from thingscale.events.replay import Height
from thingscale.lib.clock import to_us
from thingscale.streams import charts

WIDTH = 600  # in the units of the viewBox
HEIGHT = 120
BUCKETS = 200  # of a line, each with its lowest and its highest number
MAX_PATHS = 8  # one for each device and tag
EDGE = 0.08  # of the height that stays free above and below
LEAST_WIDTH = 1.5  # of a time in which it fires


class Rect(NamedTuple):
    x: float
    width: float


class Drawing(NamedTuple):
    paths: list[str]
    lines: list[float]  # y of the threshold
    clear: list[float]
    firing: list[Rect]


def draw(preview: Preview) -> Drawing:
    start, end = to_us(preview.start), to_us(preview.end)
    width = max(end - start, 1)

    def x(at: int) -> float:
        return round(WIDTH * min(max(at - start, 0), width) / width, 1)

    firing = _united(
        [
            (x(to_us(each.start)), WIDTH if each.end is None else x(to_us(each.end)))
            for each in preview.replay.firings
        ]
    )
    numbers = [height.number for height in preview.replay.heights] + [*preview.lines, *preview.clear]
    low, high = min(numbers, default=0), max(numbers, default=0)
    unit = HEIGHT * (1 - 2 * EDGE) / (high - low) if high > low else 0

    def y(number: float) -> float:
        return round(HEIGHT * (1 - EDGE) - (number - low) * unit, 1) if unit else HEIGHT / 2

    by_key = sorted(preview.replay.heights, key=lambda height: height.key)
    series = [list(heights) for _, heights in groupby(by_key, lambda height: height.key)]
    return Drawing(
        [
            "".join(
                f"{'L' if joined else 'M'}{x(at * 1000)} {y(number)}"
                for at, number, joined in _points(each, width // BUCKETS)
            )
            for each in series[:MAX_PATHS]
        ],
        [y(number) for number in preview.lines],
        [y(number) for number in preview.clear],
        firing,
    )


def _points(heights: Sequence[Height], bucket: int) -> list[tuple[int, float, bool]]:
    """Milliseconds, number, and whether there is a line from the one before."""
    shown: list[tuple[int, float]] = []
    for _, group in groupby(heights, lambda height: height.at // max(bucket, 1)):
        members = list(group)
        extremes = {min(members, key=lambda each: each.number), max(members, key=lambda each: each.number)}
        shown += [(each.at // 1000, each.number) for each in sorted(extremes)]
    drawn, joined = [], False
    for at, number in charts.with_pauses(shown, 2 * bucket / 1000):
        if number is not None:
            drawn.append((at, number, joined))
        joined = number is not None
    return drawn


def _united(spans: list[tuple[float, float]]) -> list[Rect]:
    """What overlaps is one, and what is short is wide enough to be seen."""
    joined: list[list[float]] = []
    for left, right in sorted((left, max(right, left + LEAST_WIDTH)) for left, right in spans):
        if joined and left <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], right)
        else:
            joined.append([left, right])
    return [Rect(left, round(right - left, 1)) for left, right in joined]
