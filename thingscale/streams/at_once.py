"""A small batch of datapoints in one statement, which is a transaction by itself.

BEGIN, the commit log's mark, COPY, newest values and COMMIT are six round trips: for a few datapoints these
cost several times what storing them does.
"""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from uuid import UUID

import psycopg

from thingscale.streams import stale
from thingscale.streams.writer import Row, array

MOST = 200  # datapoints; for more, COPY costs little beside them, and does not hold them all as text
MOST_BYTES = 256 * 1024

_STORE = (Path(__file__).parent / "sql" / "store_at_once.sql").read_text()
_value = itemgetter(Row._fields.index("value"))


def fits(rows: Sequence[Row]) -> bool:
    small = 0 < len(rows) <= MOST and sum(map(len, map(_value, rows))) <= MOST_BYTES
    return small and not stale.any_late(rows)


def write(connection: psycopg.Connection, rows: Sequence[Row], writer: UUID, batch: int, seen: int) -> bool:
    """As commit_log.mark() and writer.write() in a transaction. False, with nothing stored and the batch not
    marked, if there is an announcement that this writer has not seen, or no journal row of it."""
    ordered = sorted(rows, key=itemgetter(0, 1))
    channels, times, devices, tags, values, dedupes = zip(*ordered, strict=True)
    arrays = [
        *(array(channels), array(times), array(devices), array(dedupes)),
        *(array(tag or 0 for tag in tags), array(map(len, values))),
        (b"[%s]" % b",".join(values)).decode(),
    ]
    row = connection.execute(_STORE, [seen, batch, writer, batch, *arrays, seen], prepare=True).fetchone()
    return row is not None and int(row[0]) <= seen
