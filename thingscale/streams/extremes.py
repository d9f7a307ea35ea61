"""The lowest and the highest number of each series in each bucket of a time range."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import psycopg
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from thingscale.lib.errors import Refused
from thingscale.streams import queries

MAX_SERIES = 50
TIMEOUT = "15s"

_CHART = queries.template("chart.sql")
_RAW = queries.template("extremes.sql")
_SETTINGS = """SELECT set_config('jit', 'off', true), set_config('enable_sort', 'off', true),
    set_config('statement_timeout', %s, true)"""
_MILLISECOND = "round(ms)"
_WIDTH = "floor((ms - %(origin)s) / %(width)s)"

Name = tuple[str, int]  # path, and the tag's primary key or 0
Point = tuple[int, float]  # milliseconds since 1970 UTC, number
Range = tuple[datetime, datetime]  # both inclusive


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


def read(
    channel: int, tag: int | None, range_: Range, buckets: Buckets, named: Sequence[str]
) -> list[Extremes]:
    """All buckets of MAX_SERIES series, those of the paths in `named` first; of any others a bucket or more.
    Raises Refused: RANGE_TOO_LARGE."""
    source = _RAW.substitute(bucket=_WIDTH if buckets.width else _MILLISECOND)
    parameters = {
        "channel": channel,
        "tag": tag,
        "start": range_[0],
        "end": range_[1],
        "named": list(named),
        "series": MAX_SERIES,
        **buckets._asdict(),
    }
    with _reading() as cursor:
        cursor.execute(_CHART.substitute(source=source), parameters)
        return [Extremes(*row) for row in cursor.fetchall()]


@contextmanager
def _reading() -> Iterator[CursorWrapper]:
    """Without what makes these queries twice as slow: compiling them, and sorting what is to be grouped."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_SETTINGS, [TIMEOUT])
            yield cursor
            transaction.set_rollback(True)
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise Refused("RANGE_TOO_LARGE", "It takes too long to draw: ask for a shorter range.") from None
        raise
