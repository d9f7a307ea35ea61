"""The geometry of an SVG with a bar of messages for each minute. static/console/home.js goes on from it with
live messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from thingscale.devices.overview import Minute

HEIGHT = 120  # of the tallest bar, in the units of the viewBox
STEP = 10  # from one bar to the next
KINDS = ("stored", "held", "rejected")  # from the ground up


class BarPart(NamedTuple):
    kind: str
    messages: int
    y: float
    height: float


class Bar(NamedTuple):
    minute: datetime
    total: int
    x: int
    parts: list[BarPart]


class Bars(NamedTuple):
    bars: list[Bar]
    sums: list[tuple[str, int]]  # by kind
    most: int  # in one minute

    @property
    def width(self) -> int:
        return STEP * len(self.bars)


def draw(minutes: Sequence[Minute]) -> Bars:
    totals = [sum(minute[1:]) for minute in minutes]
    most = max(totals)
    unit = HEIGHT / max(1, most)
    bars = []
    for position, (minute, total) in enumerate(zip(minutes, totals, strict=True)):
        parts, top = [], float(HEIGHT)
        for kind in KINDS:
            count = getattr(minute, kind)
            top -= count * unit
            parts.append(BarPart(kind, count, round(top, 2), round(count * unit, 2)))
        bars.append(Bar(minute.minute, total, position * STEP, parts))
    sums = [(kind, sum(getattr(minute, kind) for minute in minutes)) for kind in KINDS]
    return Bars(bars, sums, most)
