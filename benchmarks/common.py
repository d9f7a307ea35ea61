"""What all benchmarks share: Django, set up by importing this, and results.

A result is printed, and appended as a line of JSON to the file that THINGSCALE_BENCH_RECORDS names:
`make bench` makes its page of them.
"""

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")

import django  # noqa: E402

django.setup()

RECORDS = "THINGSCALE_BENCH_RECORDS"


@dataclass(frozen=True)
class Bar:
    """`figure`: which of a result's: measured, ratio or p99."""

    figure: str
    limit: float
    most: bool  # else at least

    def kept(self, result: "Result") -> bool:
        value: float = getattr(result, self.figure)
        return value <= self.limit if self.most else value >= self.limit

    def text(self, result: "Result") -> str:
        sign = "≤" if self.most else "≥"
        match self.figure:
            case "ratio":
                return f"{sign} {self.limit:g} × {result.of}"
            case "p99":
                return f"p99 {sign} {self.limit:g} ms"
            case _:
                return f"{sign} {quantity(self.limit, result.unit)}"


def at_least(limit: float, figure: str = "measured") -> Bar:
    return Bar(figure, limit, most=False)


def at_most(limit: float, figure: str = "measured") -> Bar:
    return Bar(figure, limit, most=True)


class Seen(Protocol):
    """By a load generator."""

    @property
    def rate(self) -> float: ...
    @property
    def p50(self) -> float: ...
    @property
    def p99(self) -> float: ...


class Run(Protocol):
    @property
    def load(self) -> Seen: ...
    @property
    def cpu_us(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Result:
    part: str  # the script
    what: str
    values: Sequence[float]  # one of each run
    unit: str
    bars: Sequence[Bar]
    ratio: float | None  # to the median of the same runs' ...
    of: str
    p50: float | None  # milliseconds
    p99: float | None
    cpu_us: Mapping[str, float]  # processor time a message, by process

    @property
    def measured(self) -> float:
        return statistics.median(self.values)

    @property
    def missed(self) -> list[str]:
        return [bar.text(self) for bar in self.bars if not bar.kept(self)]

    def line(self) -> str:
        parts = [f"{self.what}: {quantity(self.measured, self.unit)}"]
        if len(self.values) > 1:
            parts.append(f"{number(min(self.values))} to {number(max(self.values))}")
        if self.ratio is not None:
            parts.append(f"{number(self.ratio)} × {self.of}")
        for name, value in (("p50", self.p50), ("p99", self.p99)):
            if value is not None:
                parts.append(f"{name} {number(value)} ms")
        parts += [f"{process} {number(time)} us" for process, time in self.cpu_us.items()]
        return ", ".join(parts) + "".join(f"; missed: {bar}" for bar in self.missed)


def quantity(value: float, unit: str) -> str:
    return f"{number(value)}{'' if unit.startswith('/') else ' '}{unit}"


def number(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def record(
    what: str,
    values: Sequence[float],
    unit: str = "/s",
    *bars: Bar,
    ceiling: Sequence[float] = (),
    of: str = "COPY",
    p50: Sequence[float] = (),
    p99: Sequence[float] = (),
    cpu_us: Sequence[Mapping[str, float]] = (),
) -> None:
    """Each sequence has one figure of each run, and its median counts. `ceiling` is what `of` reached in the
    same runs; p50 and p99 are milliseconds; `cpu_us` is processor time a message, by process."""
    result = Result(
        part(),
        what,
        list(values),
        unit,
        bars,
        statistics.median(values) / statistics.median(ceiling) if ceiling else None,
        of,
        statistics.median(p50) if p50 else None,
        statistics.median(p99) if p99 else None,
        {
            process: statistics.median(times[process] for times in cpu_us)
            for times in cpu_us[:1]
            for process in times
        },
    )
    print(result.line(), flush=True)
    _append("result", asdict(result))


def record_loads(
    what: str, found: Sequence[Run], *bars: Bar, ceiling: Sequence[float] = (), of: str = "COPY"
) -> None:
    """What a load generator saw in each run."""
    record(
        what,
        [each.load.rate for each in found],
        "/s",
        *bars,
        ceiling=ceiling,
        of=of,
        p50=[each.load.p50 for each in found],
        p99=[each.load.p99 for each in found],
        cpu_us=[each.cpu_us for each in found],
    )


def note(text: str) -> None:
    """A sentence for the reader: what was skipped and why, how a figure came about."""
    print(text, flush=True)
    _append("note", {"part": part(), "text": text})


def part() -> str:
    return Path(sys.argv[0]).stem


def _append(kind: str, fields: Mapping[str, object]) -> None:
    if path := os.environ.get(RECORDS):
        with Path(path).open("a") as file:
            file.write(json.dumps({"kind": kind} | dict(fields)) + "\n")
