"""Deletes a channel's datapoints of a range of time, a batch at a time. After each batch totals, newest
values and rollups are right again."""

from datetime import datetime
from typing import NamedTuple

from django.db import connection, transaction

from thingscale.lib.ids import ChannelPk
from thingscale.streams import rollups

BATCH_ROWS = 20_000  # of a transaction: writers of the same channel wait for it

_COUNT = """
SELECT count(*), min(at), max(at) FROM datapoint
WHERE channel = %(channel)s AND at >= %(start)s AND at <= %(end)s
"""

_DELETE = """
WITH batch AS (
    SELECT max(at) AS until
    FROM (
        SELECT at FROM datapoint WHERE channel = %(channel)s AND at >= %(start)s AND at <= %(end)s
        ORDER BY at LIMIT %(rows)s
    ) AS oldest
), gone AS (
    DELETE FROM datapoint USING batch
    WHERE channel = %(channel)s AND at >= %(start)s AND at <= batch.until
    RETURNING coalesce(tag, 0) AS tag, at
), tally AS (
    SELECT tag, count(*) AS n FROM gone GROUP BY tag
), totals AS (
    UPDATE streams_latest l
    SET bytes = bytes - bytes * n / greatest(l.count, 1), count = greatest(l.count - n, 0)
    FROM tally WHERE l.channel_id = %(channel)s AND l.tag = tally.tag
)
SELECT count(*), min(at), max(at) FROM gone
"""

# What a batch that is written now has stored is seen, or its writer waits for the row and compares with it.
_NEWEST = """
UPDATE streams_latest l SET at = left_over.at, value = left_over.value
FROM streams_latest old, LATERAL (
    SELECT at, value FROM datapoint WHERE channel = %(channel)s AND coalesce(tag, 0) = old.tag
    ORDER BY at DESC, id DESC LIMIT 1
) AS left_over
WHERE old.channel_id = %(channel)s AND old.at >= %(first)s AND old.at <= %(last)s
    AND l.channel_id = old.channel_id AND l.tag = old.tag
"""

_NOTHING_LEFT = """
DELETE FROM streams_latest l
WHERE l.channel_id = %(channel)s AND l.at >= %(first)s AND l.at <= %(last)s AND NOT EXISTS (
    SELECT FROM datapoint d WHERE d.channel = %(channel)s AND coalesce(d.tag, 0) = l.tag
)
"""


class Found(NamedTuple):
    datapoints: int
    first: datetime | None
    last: datetime | None


def count_range(channel: ChannelPk, start: datetime, end: datetime) -> Found:
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"channel": channel, "start": start, "end": end})
        return Found(*cursor.fetchone())


def delete_range(channel: ChannelPk, start: datetime, end: datetime) -> int:
    """Both included. Can be stopped at any moment, and repeated."""
    total = 0
    while deleted := _delete_batch(channel, start, end):
        total += deleted
    return total


def _delete_batch(channel: ChannelPk, start: datetime, end: datetime) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DELETE, {"channel": channel, "start": start, "end": end, "rows": BATCH_ROWS})
        deleted, first, last = cursor.fetchone()
        if deleted:
            cursor.execute(_NOTHING_LEFT, {"channel": channel, "first": first, "last": last})
            cursor.execute(_NEWEST, {"channel": channel, "first": first, "last": last})
            rollups.delete_between(channel, first, last)
        return int(deleted)
