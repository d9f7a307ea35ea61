"""Aggregates as CSV and as lines of JSON."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

import orjson

from api.streams import in_shape
from api.viewsets import stream_time
from thingscale.accounts.models import Actor
from thingscale.streams import csv_columns
from thingscale.streams.csv_columns import MAX_COLUMNS, REST, Dialect
from thingscale.streams.queries import Leaf


class Row(NamedTuple):
    at: datetime | None  # the beginning of its bucket; None: of the whole range
    leaves: Sequence[Leaf]


def lines(pages: Iterable[list[Row]], actor: Actor) -> Iterator[bytes]:
    for page in pages:
        for row in page:
            value = in_shape(row.leaves)
            yield orjson.dumps({"_id": None, "value": value, "at": stream_time(row.at, actor)}) + b"\n"


def csv(pages: Iterable[list[Row]], actor: Actor, dialect: Dialect) -> Iterator[bytes]:
    """The columns are those of the first page: all numbers are in it, and whole values have no paths. Their
    names are those of a file of datapoints."""
    pages = iter(pages)
    first = next(pages, [])
    paths = sorted({tuple(path) for row in first for _, path, _ in row.leaves if path})
    columns = paths[:MAX_COLUMNS]
    head = ["at", "value", *(csv_columns.name(list(path)) for path in columns), REST]
    mark = "\ufeff" if dialect.marked else ""
    yield (mark + csv_columns.line(head, dialect) + "\r\n").encode()
    for row in chain(first, chain.from_iterable(pages)):
        texts = {tuple(path): text for _, path, text in row.leaves}
        rest = [leaf for leaf in row.leaves if leaf[1] and tuple(leaf[1]) not in columns]
        cells = [_cell(texts.get(path, ""), dialect) for path in ((), *columns)]
        cells.append(_cell(orjson.dumps(in_shape(rest)).decode() if rest else "", dialect))
        yield (dialect.separator.join((stream_time(row.at, actor) or "", *cells)) + "\r\n").encode()


def _cell(text: str, dialect: Dialect) -> str:
    """Of JSON text: a number, true and false as they are, a text without its quotes, nothing for null."""
    if text in {"", "null"}:
        return ""
    if text[0] in '"{[':
        return csv_columns.line([orjson.loads(text) if text[0] == '"' else text], dialect)
    return text
