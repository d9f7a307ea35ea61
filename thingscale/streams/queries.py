"""Queries of datapoints. PostgreSQL makes the rows' JSON text (see sql/), in the user's time zone.

A long answer is read page by page. Each page is a transaction of its own and begins after the key of the last
row. So memory stays small, and a client that is slow or has left keeps no query or snapshot open. A datapoint
that arrives meanwhile may or may not be in the answer; one that was there before is in it, once.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from psycopg.errors import QueryCanceled

from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk, DevicePk, TagPk
from thingscale.lib.plurals import counted

PAGE = 1000  # rows
LARGE_VALUES = 20  # of more than 2 kB, in the first page; each has up to 256 KiB, older ones 3.5 MB
MAX_LARGE_VALUES = 100  # in a page, if those before were small
PAGE_BYTES = 4 * 1024 * 1024  # of text that a page with large values should have
MAX_PAGE_BYTES = 2 * PAGE_BYTES  # of text in a page, unless a single value has more
Key = tuple[str, int]  # a row's time, as PostgreSQL's text, and id
FIRST: Key = ("-infinity", 0)
LAST: Key = ("infinity", sys.maxsize)


def template(name: str) -> Template:
    folder = Path(__file__).parent / "sql"
    text = (folder / name).read_text()
    for part in ("numbers", "selected", "is_large"):  # in this order: one is inside the other
        text = text.replace(f"${part}", (folder / f"{part}.sql").read_text())
    return Template(text)


_PAGE = template("read_page.sql")
_PAGE_THAT_FITS = template("page_that_fits.sql")
_PAGE_ROWS = template("page_rows.sql")
_PAGE_ROWS_UNTIL_LARGE = template("page_rows_until_large.sql")
_OLDEST_OF_NEWEST = template("oldest_of_newest.sql").substitute()
_COUNT = template("count_bounded.sql").substitute()
_NEWEST_OF_DEVICE = template("newest_of_device.sql").substitute()
_AGGREGATE = template("aggregate.sql")
_LEAVES_THAT_FIT = template("leaves_that_fit.sql")
_END_OF_INTERVAL = template("end_of_interval.sql")
_VALUES_OF_KEYS = template("values_of_keys.sql").substitute()
# If there are bare numbers and objects, a bare number is in one series with the number at `value` in an
# object.
_BARE_NAMED = "CASE jsonb_typeof(value) WHEN 'number' THEN jsonb_build_object('value', value) ELSE value END"
AGGREGATES = {
    "avg": "trim_scale(avg(value::numeric))",
    "sum": "sum(value::numeric)",
    "min": "min(value::numeric)",
    "max": "max(value::numeric)",
}
_SET_LIMITS = "SELECT set_config('TimeZone', %s, true), set_config('statement_timeout', %s, true)"
NO_BUCKET = "NULL::timestamptz"
MAX_LEAVES = 100_000  # of an aggregate, in all buckets, since they are held in memory
MAX_LEAF_BYTES = 32 * 1024 * 1024  # of their paths and texts: a key may have 64 kB
# The aggregate of what is at one path inside the values, in one bucket: bucket, path, JSON text.
Leaf = tuple[datetime | None, list[str], str]


class RowFormat(NamedTuple):
    """How a datapoint is shown. `row` and `value` are SQL (see sql/read_page.sql) with `parameters`."""

    row: str
    value: str = "value"
    separator: str = ","  # between rows
    device: str = "NULL::bigint"  # or the column, if rows show the device
    parameters: Mapping[str, Any] = {}


V2 = RowFormat(template("row_v2.sql").substitute())
V2_WITH_DEVICE = RowFormat(template("row_v2_device.sql").substitute(), device="device")
V2_LINES = V2_WITH_DEVICE._replace(separator="\n")
V1 = RowFormat(template("row_v1.sql").substitute(), template("value_v1.sql").substitute())


class DatapointPreview(NamedTuple):
    """A datapoint whose JSON text may be cut; `length` is that of the whole text."""

    at: datetime
    tag: str | None
    value: str
    length: int


class BucketEnd(NamedTuple):
    """The first or the last datapoint of a bucket. If `large`, its value may have more than 2 kB."""

    bucket: datetime
    at: str
    id: int
    large: bool


class Selection(NamedTuple):
    channel: ChannelPk
    zone: str  # IANA name, of the times in the answer
    start: datetime | str = "-infinity"  # inclusive, as is the end
    end: datetime | str = "infinity"
    tag: TagPk | None = None
    devices: tuple[DevicePk, ...] | None = None
    newest_first: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "channel": self.channel,
            "start": self.start,
            "end": self.end,
            "tag": self.tag,
            "devices": None if self.devices is None else list(self.devices),
        }


def pages(
    selection: Selection, form: RowFormat = V2, limit: int = sys.maxsize, after: Key | None = None
) -> Iterator[str]:
    """Pages of rows as text. First assumes that all values are small, and reads a page again if one is
    large."""
    order, beyond = ("DESC", "<") if selection.newest_first else ("ASC", ">")
    page_rows = _PAGE_ROWS.substitute(order=order, beyond=beyond, device=form.device)
    until_large = _PAGE_ROWS_UNTIL_LARGE.substitute(order=order, page_rows=page_rows)
    shown = {"order": order, "row": form.row, "value": form.value}
    page = _PAGE.substitute(shown, page_rows=page_rows, is_written="large = 0")
    all_are_small = _PAGE_THAT_FITS.substitute(page=page)
    page = _PAGE.substitute(shown, page_rows=until_large, is_written="TRUE")
    some_are_large = _PAGE_THAT_FITS.substitute(page=page)
    parameters = {
        **selection.parameters,
        **form.parameters,
        "separator": form.separator,
        "bytes": MAX_PAGE_BYTES,
    }
    key = after or (LAST if selection.newest_first else FIRST)
    sql, most, large = all_are_small, PAGE, LARGE_VALUES
    while limit > 0:
        rows = min(limit, most)
        place = {"rows": rows, "large": large, "after_at": key[0], "after_id": key[1]}
        with reading(selection.zone) as cursor:
            cursor.execute(sql, parameters | place)
            count, text, *last, large_found, length = cursor.fetchone()
            if sql is all_are_small and large_found:
                sql, large = some_are_large, LARGE_VALUES
                cursor.execute(sql, parameters | place | {"large": large})
                count, text, *last, large_found, length = cursor.fetchone()
            while text is None:
                rows = max(1, min(count // 2, count * MAX_PAGE_BYTES // length))
                cursor.execute(sql, parameters | place | {"large": large, "rows": rows})
                count, text, *last, large_found, length = cursor.fetchone()
        fitting = max(1, count * MAX_PAGE_BYTES // max(length, 1))
        if count:
            yield text
        if count < rows and large_found < large:
            return
        if not large_found:
            sql, most = all_are_small, min(fitting, PAGE)
        elif count < rows:  # the page was cut, so the next one should find only what fits
            large = min(max(LARGE_VALUES, count * PAGE_BYTES // max(length, 1)), 2 * large, MAX_LARGE_VALUES)
            most = min(max(2 * count, large), PAGE)
        else:
            most = min(2 * most, fitting, PAGE)
        key = (last[0], last[1])
        limit -= count


def newest(selection: Selection, limit: int, form: RowFormat = V2) -> Iterator[str]:
    """As pages(), but only the newest rows, in the order of the selection."""
    if selection.newest_first:
        return pages(selection, form, limit)
    with reading(selection.zone) as cursor:
        cursor.execute(_OLDEST_OF_NEWEST, selection.parameters | {"rows": limit})
        oldest = cursor.fetchone()
    return pages(selection, form, limit, (oldest[0], oldest[1] - 1) if oldest else None)


def has_more_than(selection: Selection, rows: int) -> bool:
    with reading() as cursor:
        cursor.execute(_COUNT, selection.parameters | {"rows": rows + 1})
        return bool(cursor.fetchone()[0] > rows)


def aggregate(
    selection: Selection, function: str, form: RowFormat = V2, bucket: str = NO_BUCKET
) -> list[Leaf] | None:
    """Aggregates the numbers at each path inside the values, bucket by bucket. `function` is one of
    AGGREGATES. None if there are too many leaves."""
    with reading(one_snapshot=True) as cursor:

        def of(value: str) -> list[Leaf] | None:
            parts = {"aggregate": AGGREGATES[function], "value": value, "bucket": bucket}
            return _leaves(cursor, _AGGREGATE.substitute(parts), selection)

        found = of(form.value)
        bare = [not path for _, path, _ in found or ()]
        return of(_BARE_NAMED) if any(bare) and not all(bare) else found


def leaves(sql: str, selection: Selection) -> list[Leaf] | None:
    """None if there are too many."""
    with reading() as cursor:
        return _leaves(cursor, sql, selection)


def _leaves(cursor: CursorWrapper, sql: str, selection: Selection) -> list[Leaf] | None:
    parameters = {**selection.parameters, "zone": selection.zone, "rows": MAX_LEAVES + 1}
    cursor.execute(_LEAVES_THAT_FIT.substitute(leaves=sql), parameters | {"bytes": MAX_LEAF_BYTES})
    found: list[Leaf] = cursor.fetchall()
    too_many = len(found) > MAX_LEAVES or (found and found[0][2] is None)
    return None if too_many else found


def ends_of_buckets(selection: Selection, bucket: str, order: str) -> list[BucketEnd] | None:
    """The first (ASC) or the last (DESC) datapoint of each bucket. None if these are more than MAX_LEAVES."""
    parameters = {**selection.parameters, "zone": selection.zone, "rows": MAX_LEAVES + 1}
    with reading() as cursor:
        cursor.execute(_END_OF_INTERVAL.substitute(bucket=bucket, order=order), parameters)
        found = [BucketEnd(*row) for row in cursor.fetchall()]
    return found if len(found) <= MAX_LEAVES else None


def values_of_ends(selection: Selection, ends: Sequence[BucketEnd]) -> Iterator[list[Leaf]]:
    """The whole values, in pages of bounded size. Leaves out those that have been deleted meanwhile."""
    page: list[BucketEnd] = []
    large = 0
    for end in ends:
        if len(page) == PAGE or (end.large and large == LARGE_VALUES):
            yield from _values(selection.channel, page)
            page, large = [], 0
        page.append(end)
        large += end.large
    if page:
        yield from _values(selection.channel, page)


def _values(channel: ChannelPk, ends: Sequence[BucketEnd]) -> Iterator[list[Leaf]]:
    keys: dict[str, Any] = {"ats": [end.at for end in ends], "ids": [end.id for end in ends]}
    with reading() as cursor:
        cursor.execute(_VALUES_OF_KEYS, keys | {"channel": channel, "bytes": MAX_PAGE_BYTES})
        found = cursor.fetchall()
    if found and found[0][1] is None:
        half = len(ends) // 2
        yield from _values(channel, ends[:half])
        yield from _values(channel, ends[half:])
    elif found:
        yield [(ends[nth - 1].bucket, [], text) for nth, text in found]


def newest_of_device(
    channel: ChannelPk, device: DevicePk, rows: int, look_at: int, characters: int
) -> list[DatapointPreview]:
    """Newest first. Looks only among the channel's newest `look_at` datapoints."""
    parameters = {"channel": channel, "device": device, "rows": rows, "look_at": look_at}
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST_OF_DEVICE, parameters | {"characters": characters})
        return [DatapointPreview(*row) for row in cursor.fetchall()]


@contextmanager
def reading(zone: str = "UTC", one_snapshot: bool = False) -> Iterator[CursorWrapper]:
    """A transaction with a time zone, and with a time limit for each query. It is rolled back, which resets
    both, also if it is nested in another one. With `one_snapshot`, all its queries see the same state of the
    data, unless it is nested. Raises ContractError: RANGE_TOO_LARGE."""
    seconds = settings.READ_SECONDS
    outermost = not connection.in_atomic_block
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            if one_snapshot and outermost:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(_SET_LIMITS, [zone, f"{seconds}s"])
            yield cursor
            transaction.set_rollback(True)
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            detail = f"Reading it took longer than {counted(seconds, 'second')}: ask for it in parts."
            raise ContractError("RANGE_TOO_LARGE", detail) from error
        raise
