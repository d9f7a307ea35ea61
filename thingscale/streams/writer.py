"""Writes datapoints into PostgreSQL: their rows by binary COPY, newest values and totals, and the marks of
hours whose rollups they change, in the caller's transaction.

With the commit log, this takes six round trips, which for a few datapoints cost several times as much as the
storing. So a few datapoints are written in one statement, which is a transaction by itself.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import orjson
import psycopg

from thingscale.lib.clock import POSTGRES_EPOCH, from_us, to_us
from thingscale.lib.ids import ChannelPk, DevicePk, TagPk
from thingscale.streams import partitions, rollup_invalidation

COPY = "COPY datapoint (channel, at, device, dedupe, tag, value) FROM STDIN (FORMAT BINARY)"
SQL = Path(__file__).parent / "sql"
UPSERT = (SQL / "upsert_latest.sql").read_text()
COPY_BYTES = 256 * 1024  # given to the driver at a time

_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_ROW = struct.Struct(">hiqiqiqiqiib").pack  # channel, at, device, dedupe, no tag; jsonb, version 1
_BARE_ROW = struct.Struct(">hiqiqiiiib").pack  # the same without device and dedupe, as REST has it
_TAGGED_ROW = struct.Struct(">hiqiqiqiiiib").pack  # without dedupe, as intakes have it
_START = struct.Struct(">hiqiq").pack  # channel, at; the other fields follow one by one, if one is null
_BIGINT = struct.Struct(">iq").pack
_INTEGER = struct.Struct(">ii").pack
_JSONB = struct.Struct(">ib").pack
_NULL = struct.pack(">i", -1)
_STORED_BEFORE = (SQL / "stored_before.sql").read_text()
_STORED_BEFORE_KEYED = (SQL / "stored_before_keyed.sql").read_text()
_STORED_READINGS = (SQL / "stored_readings.sql").read_text()
TAGS_LOCK = 7_465_010  # advisory lock, with an account: one transaction at a time makes tags for it
_LOCK_TAGS = """SELECT pg_advisory_xact_lock(%s, (user_id %% 2147483647)::int)
    FROM (SELECT DISTINCT user_id FROM streams_channel WHERE id = ANY (%s) ORDER BY user_id) AS accounts"""
_CREATE_TAGS = (SQL / "create_tags.sql").read_text()
DAY = 86_400_000_000  # microseconds; no month begins within one
MAX_STATEMENT_ROWS = 200  # in one statement; for more rows, COPY costs less, and needs less memory
MAX_STATEMENT_BYTES = 256 * 1024
_STORE_IN_ONE_STATEMENT = (SQL / "store_in_one_statement.sql").read_text()
_at = itemgetter(1)
_value = itemgetter(4)


class Row(NamedTuple):
    channel: ChannelPk
    at: int  # microseconds since 1970 UTC
    device: DevicePk | None
    tag: TagPk | None
    value: bytes  # JSON text that jsonb accepts
    dedupe: int | None


def encode(row: Row) -> bytes:
    """One tuple in PostgreSQL's binary COPY form."""
    channel, at, device, tag, value, dedupe = row
    at -= POSTGRES_EPOCH
    if tag is None and device is not None and dedupe is not None:  # most of them, and in half the time
        return _ROW(6, 8, channel, 8, at, 8, device, 8, dedupe, -1, len(value) + 1, 1) + value
    if tag is not None and device is not None and dedupe is None:
        return _TAGGED_ROW(6, 8, channel, 8, at, 8, device, -1, 4, tag, len(value) + 1, 1) + value
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


def write(cursor: psycopg.Cursor, rows: Sequence[Row], meanwhile: Callable[[], None] | None = None) -> None:
    """Raises DataError for a value that jsonb does not accept. `meanwhile` is called while PostgreSQL takes
    the rows, and can't use the connection."""
    if not rows:
        return
    ordered = sorted(rows, key=itemgetter(0, 1))  # cheaper for the index, and keeps each device's order
    buffer = bytearray(_HEADER)
    with cursor.copy(COPY) as copy:
        for row in ordered:
            buffer += encode(row)
            if len(buffer) > COPY_BYTES:
                copy.write(bytes(buffer))
                buffer.clear()
        copy.write(bytes(buffer) + _TRAILER)
        if meanwhile:
            meanwhile()
    keys = [(row[0], row[3] or 0) for row in ordered]
    newest = dict(zip(keys, ordered, strict=True))  # the last of each (channel, tag)
    counts = Counter(keys)
    sizes = dict.fromkeys(newest, 0)
    for key, row in zip(keys, ordered, strict=True):
        sizes[key] += len(row[4])
    _update_latest(cursor, {key: (row[1], counts[key], sizes[key], row[4]) for key, row in newest.items()})
    rollup_invalidation.invalidate_late(cursor, ordered)


def fits_one_statement(rows: Sequence[Row], now: int) -> bool:
    if not 0 < len(rows) <= MAX_STATEMENT_ROWS or sum(map(len, map(_value, rows))) > MAX_STATEMENT_BYTES:
        return False
    oldest: int = min(map(_at, rows))
    return oldest >= now - rollup_invalidation.LATE  # the statement marks no hours of late rows


def write_in_one_statement(
    connection: psycopg.Connection, rows: Sequence[Row], writer: UUID, batch: int, seen: int
) -> bool:
    """Does in one statement what commit_log.record_batch() and write() do in a transaction. Returns False,
    and stores and records nothing, if there is an announcement that this writer has not seen, or if the
    writer is not registered. `seen` is the number of the last announcement that it has seen."""
    ordered = sorted(rows, key=itemgetter(0, 1))
    channels, times, devices, tags, values, dedupes = zip(*ordered, strict=True)
    arrays = [
        *(array(channels), array(times), array(devices), array(dedupes)),
        *(array(tag or 0 for tag in tags), array(map(len, values))),
        (b"[%s]" % b",".join(values)).decode(),
    ]
    row = connection.execute(
        _STORE_IN_ONE_STATEMENT, [seen, batch, writer, batch, *arrays, seen], prepare=True
    ).fetchone()
    return row is not None and int(row[0]) <= seen


def write_series(
    cursor: psycopg.Cursor, channel: ChannelPk, times: Sequence[int], values: Sequence[bytes]
) -> None:
    """As write(), for datapoints of one channel that have no tag, device and dedupe key: those of a REST
    request."""
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


def _update_latest(
    cursor: psycopg.Cursor, latest: Mapping[tuple[int, int], tuple[int, int, int, bytes]]
) -> None:
    """`latest`: for each channel and tag the time of the newest datapoint, their number, their bytes, and the
    newest value."""
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
    """An array in PostgreSQL's notation. The driver's own adaptation takes longer than the rest of a
    batch."""
    return f"{{{orjson.dumps(list(numbers))[1:-1].decode()}}}"


def text_array(texts: Iterable[bytes]) -> str:
    """The same, of JSON texts. They have no NUL characters."""
    escaped = b"\0".join(texts).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return '{"' + escaped.replace(b"\0", b'","').decode() + '"}'


def stored_before(cursor: psycopg.Cursor, keys: Sequence[tuple[int, int, datetime]]) -> set[tuple[int, int]]:
    """The pairs of channel and MQTT dedupe key that have a datapoint since the time beside them. Reads all
    recent datapoints of the channels (decision 0020)."""
    channels, dedupes, since = map(list, zip(*keys, strict=True))
    cursor.execute(
        _STORED_BEFORE, {"channels": channels, "keys": dedupes, "since": since, "earliest": min(since)}
    )
    return set(cursor.fetchall())


def stored_by_the_release_before(
    cursor: psycopg.Cursor, values: Mapping[tuple[int, int], bytes], since: datetime
) -> set[tuple[int, int]]:
    """The pairs of channel and HTTP dedupe key that have a datapoint of this value since `since`. The release
    before stored these without a submission."""
    channels, keys = zip(*values, strict=True)
    texts = [value.decode() for value in values.values()]
    parameters = {"channels": list(channels), "keys": list(keys), "values": texts, "since": since}
    cursor.execute(_STORED_BEFORE_KEYED, parameters)
    return set(cursor.fetchall())


def stored_readings(cursor: psycopg.Cursor, rows: Sequence[Row]) -> set[Row]:
    """Those of the rows, all with a device, that are datapoints already: of the same channel, device, tag,
    time and value. To be called with the locks of their devices. Most are newer than all of their channel and
    tag, so that one look at these tells."""
    keys = {(row[0], row[3] or 0) for row in rows}
    cursor.execute(
        """SELECT l.channel_id, l.tag, l.at FROM streams_latest l
        JOIN unnest(%s::bigint[], %s::int[]) AS k (channel, tag)
            ON l.channel_id = k.channel AND l.tag = k.tag""",
        [array(channel for channel, _ in keys), array(tag for _, tag in keys)],
        prepare=True,
    )
    newest = {(channel, tag): to_us(at) for channel, tag, at in cursor.fetchall()}
    older = [row for row in rows if row[1] <= newest.get((row[0], row[3] or 0), POSTGRES_EPOCH)]
    if not older:
        return set()
    channels, times, devices, tags, values, _ = zip(*older, strict=True)
    parameters = {
        "channels": array(channels),
        "times": array(times),
        "devices": array(devices),
        "tags": array(tags),
        "values": text_array(values),
        "first": from_us(min(times)),
        "last": from_us(max(times)),
    }
    cursor.execute(_STORED_READINGS, parameters, prepare=True)
    return {older[place - 1] for (place,) in cursor.fetchall()}


def tag_keys(
    cursor: psycopg.Cursor, tags: Sequence[tuple[ChannelPk, str]]
) -> dict[tuple[ChannelPk, str], TagPk]:
    """Primary keys of tags by channel and name. Makes those that are missing; leaves out those that would be
    more than the account's max_tags."""
    found = _find_tags(cursor, sorted(set(tags)))
    missing = sorted(set(tags) - found.keys())
    if missing:  # looked for first, since each conflict would use up one of the keys, which have 32 bits
        columns = [[channel for channel, _ in missing], [name for _, name in missing]]
        cursor.execute(_LOCK_TAGS, [TAGS_LOCK, columns[0]])
        cursor.execute(_CREATE_TAGS, [*columns, columns[0]])
        found |= _find_tags(cursor, missing)
    return found


def _find_tags(
    cursor: psycopg.Cursor, tags: Sequence[tuple[ChannelPk, str]]
) -> dict[tuple[ChannelPk, str], TagPk]:
    cursor.execute(
        """SELECT t.channel_id, t.name, t.id FROM streams_tag t
        JOIN unnest(%s::bigint[], %s::text[]) AS k (channel_id, name)
            ON t.channel_id = k.channel_id AND t.name = k.name""",
        [[channel for channel, _ in tags], [name for _, name in tags]],
    )
    return {(channel, name): key for channel, name, key in cursor.fetchall()}


class Partitions:
    """Remembers the newest month that has a partition, so that writing asks PostgreSQL only about others.
    Past months are not remembered, because their partitions are dropped once they are empty. Times and `now`
    are microseconds since 1970 UTC."""

    def __init__(self) -> None:
        self._known = 0, 0  # microseconds: beginning and end

    def ensure(self, connection: psycopg.Connection, times: Sequence[int], now: int) -> None:
        """Makes the partitions that datapoints of these times need; to be called before their transaction."""
        if not self.cover(times, now):
            make_partitions(connection, times)
            self.remember(max(times), now)

    def cover(self, times: Sequence[int], now: int) -> bool:
        first, end = self._known
        return first <= min(times) and max(times) < end and now < end

    def remember(self, time: int, now: int) -> None:
        """To be called once the partition of this time is committed."""
        month = partitions.month_of(from_us(time))
        if month < partitions.month_of(from_us(now)):
            return
        year, number = partitions.following(month)
        begin, end = datetime(*month, 1, tzinfo=UTC), datetime(year, number, 1, tzinfo=UTC)
        self._known = _microseconds(begin), _microseconds(end)


def make_partitions(connection: psycopg.Connection, times: Sequence[int]) -> None:
    """Makes the partitions of the months of these times, unless they exist."""
    for month in {partitions.month_of(from_us(day * DAY)) for day in {time // DAY for time in times}}:
        partitions.make(connection, month)


def _microseconds(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
