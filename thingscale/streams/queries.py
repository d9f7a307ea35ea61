"""Reads of datapoints. The rows become JSON text in PostgreSQL (see sql/), in the user's time zone.

A long answer is read page by page, each in a transaction of its own, from the key of the last row on:
memory stays flat, and neither a slow client nor one that leaves keeps a query or a snapshot open. So a
datapoint that arrives meanwhile may or may not be in the answer; one that was there before is, once.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

PAGE = 1000  # rows: at the largest value, 64 MB
Key = tuple[str, int]  # a row's time, as PostgreSQL's text, and id
FIRST: Key = ("-infinity", 0)
LAST: Key = ("infinity", sys.maxsize)


def _template(name: str) -> Template:
    return Template((Path(__file__).parent / "sql" / name).read_text())


_PAGE = _template("read_page.sql")
_FORWARD = _PAGE.substitute(order="ASC", beyond=">")
_BACKWARD = _PAGE.substitute(order="DESC", beyond="<")
_OLDEST_OF_NEWEST = _template("oldest_of_newest.sql").substitute()
_COUNT = _template("count_bounded.sql").substitute()
_AGGREGATE = _template("aggregate.sql")
AGGREGATES = {
    "avg": "trim_scale(avg(value::numeric))",
    "sum": "sum(value::numeric)",
    "min": "min(value::numeric)",
    "max": "max(value::numeric)",
}


class Selection(NamedTuple):
    channel: int  # primary key
    zone: str  # IANA name, of the times in the answer
    start: datetime | str = "-infinity"  # inclusive, as is the end
    end: datetime | str = "infinity"
    tag: int | None = None  # primary key
    newest_first: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        return {"channel": self.channel, "start": self.start, "end": self.end, "tag": self.tag}


def pages(selection: Selection, limit: int = sys.maxsize, after: Key | None = None) -> Iterator[str]:
    """The rows as texts of JSON objects joined by commas; nothing for a selection without rows."""
    sql = _BACKWARD if selection.newest_first else _FORWARD
    key = after or (LAST if selection.newest_first else FIRST)
    while limit > 0:
        rows = min(limit, PAGE)
        place = {"rows": rows, "after_at": key[0], "after_id": key[1]}
        with _reading(selection.zone) as cursor:
            cursor.execute(sql, selection.parameters | place)
            count, text, *last = cursor.fetchone()
        if count:
            yield text
        if count < rows:
            return
        key = (last[0], last[1])
        limit -= count


def newest(selection: Selection, limit: int) -> Iterator[str]:
    """As `pages`, but only the newest rows, in the order of the selection."""
    if selection.newest_first:
        return pages(selection, limit)
    with _reading(selection.zone) as cursor:
        cursor.execute(_OLDEST_OF_NEWEST, selection.parameters | {"rows": limit})
        oldest = cursor.fetchone()
    return pages(selection, limit, (oldest[0], oldest[1] - 1) if oldest else None)


def has_more_than(selection: Selection, rows: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, selection.parameters | {"rows": rows + 1})
        return bool(cursor.fetchone()[0] > rows)


def aggregate(selection: Selection, function: str) -> list[tuple[list[str], str]]:
    """For each path to a number inside the values, the aggregate as JSON text; `function` of AGGREGATES."""
    with connection.cursor() as cursor:
        cursor.execute(_AGGREGATE.substitute(aggregate=AGGREGATES[function]), selection.parameters)
        return [(path, text) for path, text in cursor.fetchall()]


def knows_zone(name: str) -> bool:
    """Whether PostgreSQL has the time zone too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = %s)", [name])
        return bool(cursor.fetchone()[0])


@contextmanager
def _reading(zone: str) -> Iterator[CursorWrapper]:
    """A transaction in the time zone. Rolling back gives the session its own again, also where this one
    is nested in another."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        yield cursor
        transaction.set_rollback(True)
