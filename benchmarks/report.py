"""The page of a run, from what its parts have recorded."""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import Bar, Result, number, quantity

HEAD = """\
# Benchmarks

Written by `make bench` and never by hand. {summary}

- *Measured* is the median of the runs, and in brackets their range.
- *Ratio* compares it with a figure of the same runs: × COPY is the share of what one connection stores that
  does nothing but COPY the same rows, prebuilt, into a table with the same columns and index.
- *p50* and *p99* are latencies in ms, from when a message or request was due until it was answered.
- *CPU* is processor time for one message, in microseconds, by process.
"""
COLUMNS = ("what", "bar", "measured", "ratio", "p50", "p99", "CPU", "")
SHORT = "**A short run, to try the programs: its figures mean nothing.** "


class Records(NamedTuple):
    results: list[Result]
    notes: list[tuple[str, str]]  # part, text

    @property
    def missed(self) -> list[Result]:
        return [result for result in self.results if result.missed]


def read(path: Path) -> Records:
    found = Records([], [])
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        if fields.pop("kind") == "note":
            found.notes.append((fields["part"], fields["text"]))
        else:
            found.results.append(restored(fields))
    return found


def restored(fields: Mapping[str, Any]) -> Result:
    bars = [Bar(**bar) for bar in fields["bars"]]
    return Result(**{**fields, "bars": bars})


def page(records: Records, parts: Sequence[str], failed: Sequence[str], short: bool) -> str:
    head = HEAD.format(summary=(SHORT if short else "") + summary(records, failed))
    return "\n".join([head, *(section(records, part) for part in parts)])


def summary(records: Records, failed: Sequence[str]) -> str:
    bars = sum(len(result.bars) for result in records.results)
    missed = sum(len(result.missed) for result in records.results)
    text = f"{bars - missed} of {bars} bars are kept."
    if missed:
        text += " Missed: " + "; ".join(result.what for result in records.missed) + "."
    if failed:
        text += f" Did not finish: {', '.join(failed)}."
    return text


def section(records: Records, part: str) -> str:
    notes = [f"- {text}" for where, text in records.notes if where == part]
    rows = [cells(result) for result in records.results if result.part == part]
    paragraphs = [f"## {part}", title(part), "\n".join(notes), table(rows)]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Without the columns that are empty."""
    used = [place for place in range(len(COLUMNS)) if any(row[place] for row in rows)]
    lines = [[row[place] for place in used] for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def title(part: str) -> str:
    """The first sentence of the script's description."""
    tree = ast.parse((Path(__file__).parent / f"{part}.py").read_text())
    return (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")


def cells(result: Result) -> list[str]:
    return [
        result.what,
        ", ".join(bar.text(result) for bar in result.bars),
        measured(result),
        "" if result.ratio is None else f"{number(result.ratio)} × {result.of}",
        "" if result.p50 is None else number(result.p50),
        "" if result.p99 is None else number(result.p99),
        ", ".join(f"{process} {number(time)}" for process, time in result.cpu_us.items()),
        verdict(result),
    ]


def measured(result: Result) -> str:
    text = quantity(result.measured, result.unit)
    if len(result.values) > 1:
        text += f" ({number(min(result.values))} to {number(max(result.values))})"
    return text


def verdict(result: Result) -> str:
    if not result.bars:
        return ""
    return "**missed**" if result.missed else "kept"
