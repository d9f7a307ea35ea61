"""Datapoints into PostgreSQL: binary COPY, newest values, totals and stale rollups, in the caller's
transaction.

BEGIN, the commit log's mark, COPY, newest values and COMMIT are six round trips, which for a few datapoints
cost several times what storing them does. Those go in one statement, which is a transaction by itself.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import orjson
import psycopg

from thingscale.lib.clock import POSTGRES_EPOCH, from_us
from thingscale.streams import partitions, rollup_invalidation

COPY = "COPY datapoint (channel, at, device, dedupe, tag, value) FROM STDIN (FORMAT BINARY)"
SQL = Path(__file__).parent / "sql"
UPSERT = (SQL / "upsert_latest.sql").read_text()
BUFFER = 256 * 1024  # bytes handed to the driver at a time

_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_ROW = struct.Struct(">hiqiqiqiqiib").pack  # channel, at, device, dedupe, no tag; jsonb, version 1
_BARE_ROW = struct.Struct(">hiqiqiiiib").pack  # the same without device and dedupe, as REST has it
_START = struct.Struct(">hiqiq").pack  # the same field by field, where one may be null: channel, at
_BIGINT = struct.Struct(">iq").pack
_INTEGER = struct.Struct(">ii").pack
_JSONB = struct.Struct(">ib").pack
_NULL = struct.pack(">i", -1)
STORED = (SQL / "stored_before.sql").read_text()
STORED_KEYED = (SQL / "stored_before_keyed.sql").read_text()
TAGS_LOCK = 7_465_010  # advisory lock, with an account: until COMMIT it gets tags from one transaction only
_LOCK_TAGS = """SELECT pg_advisory_xact_lock(%s, (user_id %% 2147483647)::int)
    FROM (SELECT DISTINCT user_id FROM streams_channel WHERE id = ANY (%s) ORDER BY user_id) AS accounts"""
_CREATE_TAGS = (SQL / "create_tags.sql").read_text()
DAY = 86_400_000_000  # microseconds; no month ends within one
MAX_ROWS_AT_ONCE = 200  # in one statement; beside more, COPY costs little, and holds them not all as text
MAX_BYTES_AT_ONCE = 256 * 1024
_STORE_AT_ONCE = (SQL / "store_at_once.sql").read_text()
_at = itemgetter(1)
_value = itemgetter(4)


class Row(NamedTuple):
    channel: int  # primary key of the channel
    at: int  # microseconds since 1970 UTC
    device: int | None
    tag: int | None
    value: bytes  # JSON text that jsonb accepts
    dedupe: int | None


def encode(row: Row) -> bytes:
    """One tuple in PostgreSQL's binary COPY form."""
    channel, at, device, tag, value, dedupe = row
    at -= POSTGRES_EPOCH
    if tag is None and device is not None and dedupe is not None:  # most of them, and in half the time
        return _ROW(6, 8, channel, 8, at, 8, device, 8, dedupe, -1, len(value) + 1, 1) + value
    if tag is None and device is None and dedupe is None:
        return _BARE_ROW(6, 8, channel, 8, at, -1, -1, -1, len(value) + 1, 1) + value
    return b"".join(
        (
            _START(6, 8, channel, 8, at),
            _NULL if device is None else _BIGINT(8, device),
            _NULL if dedupe is None else _BIGINT(8, dedupe),
            _NULL if tag is None else _INTEGER(4, tag),
            _JSONB(len(value) + 1, 1),
            value,
        )
    )


def write(cursor: psycopg.Cursor, rows: Sequence[Row]) -> None:
    """Stores the rows. Raises DataError for a value that jsonb does not accept.
    Sorting makes the index cheaper and keeps each device's order."""
    if not rows:
        return
    ordered = sorted(rows, key=itemgetter(0, 1))
    _copy(cursor, ordered)
    _upsert(cursor, ordered)
    rollup_invalidation.invalidate_late(cursor, ordered)


def fits_one_statement(rows: Sequence[Row], now: int) -> bool:
    if not 0 < len(rows) <= MAX_ROWS_AT_ONCE or sum(map(len, map(_value, rows))) > MAX_BYTES_AT_ONCE:
        return False
    oldest: int = min(map(_at, rows))
    return oldest >= now - rollup_invalidation.LATE  # the hours of late ones are to be marked


def write_at_once(
    connection: psycopg.Connection, rows: Sequence[Row], writer: UUID, batch: int, seen: int
) -> bool:
    """In one statement what commit_log.mark() and write() do in a transaction. False, with nothing stored
    and the batch not marked, if there is an announcement that this writer has not seen, or no journal row of
    it."""
    ordered = sorted(rows, key=itemgetter(0, 1))
    channels, times, devices, tags, values, dedupes = zip(*ordered, strict=True)
    arrays = [
        *(array(channels), array(times), array(devices), array(dedupes)),
        *(array(tag or 0 for tag in tags), array(map(len, values))),
        (b"[%s]" % b",".join(values)).decode(),
    ]
    row = connection.execute(
        _STORE_AT_ONCE, [seen, batch, writer, batch, *arrays, seen], prepare=True
    ).fetchone()
    return row is not None and int(row[0]) <= seen


def write_series(cursor: psycopg.Cursor, channel: int, times: Sequence[int], values: Sequence[bytes]) -> None:
    """As write(), of one channel, without tag, device and dedupe key: an array in one request."""
    order = sorted(range(len(times)), key=times.__getitem__)
    times, values = [times[place] for place in order], [values[place] for place in order]
    rows = [
        _BARE_ROW(6, 8, channel, 8, at - POSTGRES_EPOCH, -1, -1, -1, len(value) + 1, 1) + value
        for at, value in zip(times, values, strict=True)
    ]
    with cursor.copy(COPY) as copy:
        copy.write(b"".join([_HEADER, *rows, _TRAILER]))
    size = sum(map(len, values))
    _update_latest(cursor, {(channel, 0): (times[-1], len(rows), size, values[-1])})
    rollup_invalidation.invalidate_late(cursor, list(zip(repeat(channel), times)))


def _copy(cursor: psycopg.Cursor, rows: Sequence[Row]) -> None:
    buffer = bytearray(_HEADER)
    with cursor.copy(COPY) as copy:
        for row in rows:
            buffer += encode(row)
            if len(buffer) > BUFFER:
                copy.write(bytes(buffer))
                buffer.clear()
        copy.write(bytes(buffer) + _TRAILER)


def _upsert(cursor: psycopg.Cursor, rows: Sequence[Row]) -> None:
    """`rows` in order of channel and time, so the last of a (channel, tag) is its newest."""
    keys = [(row[0], row[3] or 0) for row in rows]
    newest = dict(zip(keys, rows, strict=True))
    counts = Counter(keys)
    sizes = dict.fromkeys(newest, 0)
    for key, row in zip(keys, rows, strict=True):
        sizes[key] += len(row[4])
    _update_latest(cursor, {key: (row[1], counts[key], sizes[key], row[4]) for key, row in newest.items()})


def _update_latest(
    cursor: psycopg.Cursor, latest: Mapping[tuple[int, int], tuple[int, int, int, bytes]]
) -> None:
    """By channel and tag: time and value of the newest, how many there are and their bytes."""
    times, counts, sizes, values = zip(*latest.values(), strict=True)
    cursor.execute(
        UPSERT,
        [
            array(channel for channel, _ in latest),
            array(tag for _, tag in latest),
            *map(array, (times, counts, sizes)),
            (b"[%s]" % b",".join(values)).decode(),
        ],
        prepare=True,
    )


def array(numbers: Iterable[int | None]) -> str:
    """As PostgreSQL writes one: the driver's own way takes longer than all the rest of a batch."""
    return f"{{{orjson.dumps(list(numbers))[1:-1].decode()}}}"


def stored_before(cursor: psycopg.Cursor, keys: Sequence[tuple[int, int, datetime]]) -> set[tuple[int, int]]:
    """Which (channel, MQTT key) have a datapoint not older than that: all recent datapoints of the channels
    are read (decision 0020)."""
    channels, dedupes, since = map(list, zip(*keys, strict=True))
    cursor.execute(STORED, {"channels": channels, "keys": dedupes, "since": since, "earliest": min(since)})
    return set(cursor.fetchall())


def stored_by_the_release_before(
    cursor: psycopg.Cursor, values: Mapping[tuple[int, int], bytes], since: datetime
) -> set[tuple[int, int]]:
    """Which (channel, key of HTTP) have a datapoint of this value not older than `since`: that release has no
    submissions."""
    channels, keys = zip(*values, strict=True)
    texts = [value.decode() for value in values.values()]
    cursor.execute(
        STORED_KEYED, {"channels": list(channels), "keys": list(keys), "values": texts, "since": since}
    )
    return set(cursor.fetchall())


def tag_keys(cursor: psycopg.Cursor, tags: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Primary keys of (channel, tag); a tag comes into being with its first datapoint. Those that the
    account has no room for are left out: it can have max_tags."""
    found = _find_tags(cursor, sorted(set(tags)))
    missing = sorted(set(tags) - found.keys())
    if missing:  # asking first, since a conflict would use up one of the keys, which have 32 bits
        columns = [[channel for channel, _ in missing], [name for _, name in missing]]
        cursor.execute(_LOCK_TAGS, [TAGS_LOCK, columns[0]])
        cursor.execute(_CREATE_TAGS, [*columns, columns[0]])
        found |= _find_tags(cursor, missing)
    return found


def _find_tags(cursor: psycopg.Cursor, tags: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
    cursor.execute(
        """SELECT t.channel_id, t.name, t.id FROM streams_tag t
        JOIN unnest(%s::bigint[], %s::text[]) AS k (channel_id, name)
            ON t.channel_id = k.channel_id AND t.name = k.name""",
        [[channel for channel, _ in tags], [name for _, name in tags]],
    )
    return {(channel, name): key for channel, name, key in cursor.fetchall()}


class Partitions:
    """Remembers the newest month that has a partition, so that writing asks PostgreSQL only for others. Past
    ones are not remembered: they are dropped when they are empty. Times and `now` are microseconds since 1970
    UTC."""

    def __init__(self) -> None:
        self._known = 0, 0  # microseconds: beginning and end

    def ensure(self, connection: psycopg.Connection, times: Sequence[int], now: int) -> None:
        """Makes what datapoints of these times need; to be called before the transaction that stores them."""
        if not self.cover(times, now):
            make_partitions(connection, times)
            self.remember(max(times), now)

    def cover(self, times: Sequence[int], now: int) -> bool:
        first, end = self._known
        return first <= min(times) and max(times) < end and now < end

    def remember(self, time: int, now: int) -> None:
        """Once the partition of this time is committed."""
        month = partitions.month_of(from_us(time))
        if month < partitions.month_of(from_us(now)):
            return
        year, number = partitions.following(month)
        begin, end = datetime(*month, 1, tzinfo=UTC), datetime(year, number, 1, tzinfo=UTC)
        self._known = _microseconds(begin), _microseconds(end)


def make_partitions(connection: psycopg.Connection, times: Sequence[int]) -> None:
    """Of the months of these times, where they are missing."""
    for month in {partitions.month_of(from_us(day * DAY)) for day in {time // DAY for time in times}}:
        partitions.make(connection, month)


def _microseconds(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
