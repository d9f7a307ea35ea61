"""A channel's datapoints as a file, for the API and for the console.

Each function yields parts of bytes, which are read page by page. With a limit, these are the newest
datapoints.
"""

from collections.abc import Iterator
from itertools import chain

from django.conf import settings
from django.utils.translation import gettext as _

from thingscale.lib.errors import ContractError
from thingscale.lib.plurals import counted
from thingscale.streams import csv_columns, queries
from thingscale.streams.csv_columns import Dialect
from thingscale.streams.queries import Selection

LINES, CSV = "application/x-ndjson", "text/csv"
TYPES = {LINES: LINES, CSV: "text/csv; charset=utf-8; header=present"}
FOR_SPREADSHEETS = Dialect(marked=True)
_BYTE_ORDER_MARK = "\ufeff"  # without it, spreadsheets take UTF-8 for something else


def check_size(selection: Selection, stored: int) -> None:
    """`stored` is the channel's total; with it, most calls need not count. Raises ContractError."""
    limit = settings.STREAM_MAX_ROWS
    if stored > limit and queries.has_more_than(selection, limit):
        raise ContractError(
            "RANGE_TOO_LARGE",
            _("The range has more than %(rows)s: ask for it in parts.") % {"rows": counted(limit, "row")},
        )


def lines(selection: Selection, limit: int | None = None) -> Iterator[bytes]:
    """A JSON object a line, in the shape of the REST API."""
    return _in_lines(read(selection, limit, queries.V2_LINES), "\n")


def csv(
    selection: Selection, limit: int | None = None, dialect: Dialect = FOR_SPREADSHEETS
) -> Iterator[bytes]:
    paths = csv_columns.columns(selection)
    rows = read(selection, limit, csv_columns.form(paths, dialect))
    first = csv_columns.line(csv_columns.names(paths), dialect)
    return _in_lines(chain([_BYTE_ORDER_MARK + first if dialect.marked else first], rows), "\r\n")


def read(selection: Selection, limit: int | None, form: queries.RowFormat) -> Iterator[str]:
    """Pages of text. The first one is read at once, so that an error comes before the answer has begun."""
    pages = queries.pages(selection, form) if limit is None else queries.newest(selection, limit, form)
    first = next(pages, None)
    return pages if first is None else chain([first], pages)


def _in_lines(pages: Iterator[str], end: str) -> Iterator[bytes]:
    for page in pages:
        yield (page + end).encode()
