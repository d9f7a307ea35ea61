"""Rows arrive in PostgreSQL as they were, whichever of their fields are null."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from stack import wait_until
from support import Account

from ingest.service import connect
from thingscale.lib.clock import from_us, now_us, to_us
from thingscale.lib.ids import ChannelPk, DevicePk, TagPk
from thingscale.streams import rollup_invalidation, writer
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import Journal, Latest
from thingscale.streams.writer import Row

STORED = "SELECT channel, at, device, tag, value::text, dedupe FROM datapoint WHERE channel = %s ORDER BY at"

WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
Write = Callable[[psycopg.Connection, Sequence[Row]], None]

pytestmark = pytest.mark.django_db(transaction=True)

DEVICE = DevicePk(1)


@pytest.fixture
def raw() -> Iterator[psycopg.Connection]:
    with connect() as connection:
        writer.Partitions().ensure(connection, [now_us()], now_us())
        yield connection


def in_steps(raw: psycopg.Connection, rows: Sequence[Row]) -> None:
    with raw.transaction(), raw.cursor() as cursor:
        writer.write(cursor, rows)


def in_one_statement(raw: psycopg.Connection, rows: Sequence[Row]) -> None:
    assert writer.fits_one_statement(rows, now_us())
    own = uuid4()
    commit_log.register(raw, own)
    assert writer.write_in_one_statement(raw, rows, own, 1, 0)


both_ways = pytest.mark.parametrize("write", [in_steps, in_one_statement])


@both_ways
def test_rows_and_newest_values(raw: psycopg.Connection, account: Account, write: Write) -> None:
    channel, at = account.channel().id, now_us()
    values = [b"1", '{"naïve": [1, null]}'.encode(), b'"\\"{},"', b"-0.250", b"true", b"[]", b'""', b"0"]
    fields = product((None, DevicePk(2**40)), (None, TagPk(7)), (None, -(2**63)))
    rows = [
        Row(channel, at + place, device, tag, value, dedupe)
        for place, ((device, tag, dedupe), value) in enumerate(zip(fields, values, strict=True))
    ]
    write(raw, list(reversed(rows)))
    stored = raw.execute(STORED, [channel]).fetchall()
    assert [Row(*row)._replace(at=to_us(row[1]), value=row[4].encode()) for row in stored] == rows
    newest = {latest.tag: (to_us(latest.at), latest.count, latest.bytes) for latest in Latest.objects.all()}
    untagged, tagged = ([row for row in rows if row.tag == tag] for tag in (None, 7))
    assert newest == {
        tag: (some[-1].at, 4, sum(len(row.value) for row in some))
        for tag, some in ((0, untagged), (7, tagged))
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT value::text FROM streams_latest ORDER BY tag")
        assert cursor.fetchall() == [(some[-1].value.decode(),) for some in (untagged, tagged)]


@both_ways
def test_of_the_same_moment_the_last_is_the_newest(
    raw: psycopg.Connection, account: Account, write: Write
) -> None:
    """And it comes after the others."""
    first, second, at = account.channel(1).id, account.channel(2).id, now_us()
    rows = [Row(channel, at, DEVICE, None, b"%d" % n, None) for n in range(9) for channel in (second, first)]
    write(raw, rows)
    write(
        raw,
        [
            Row(first, at - 1, DEVICE, None, b"10", None),
            Row(second, at, DEVICE, None, b"11", None),
        ],
    )
    assert [latest.value for latest in Latest.objects.order_by("channel_id")] == [8, 11]
    assert [latest.count for latest in Latest.objects.all()] == [10, 10]
    stored = raw.execute("SELECT value FROM datapoint WHERE channel = %s ORDER BY id", [second]).fetchall()
    assert [value for (value,) in stored] == [*range(9), 11]


def test_a_series_is_written_as_its_rows(raw: psycopg.Connection, account: Account) -> None:
    one, other, at = account.channel(1).id, account.channel(2).id, now_us()
    times, values = [at, at - 2, at - 1, at - 2], [b"4", b'{"a": "1"}', b"3", b"2"]
    in_steps(
        raw,
        [Row(one, at, None, None, value, None) for at, value in zip(times, values, strict=True)],
    )
    with raw.transaction(), raw.cursor() as cursor:
        writer.write_series(cursor, other, times, values)
    shape = "SELECT at, device, tag, value::text, dedupe FROM datapoint WHERE channel = %s ORDER BY id"
    stored = [raw.execute(shape, [channel]).fetchall() for channel in (one, other)]
    assert stored[0] == stored[1]
    assert [row[3] for row in stored[1]] == ['{"a": "1"}', "2", "3", "4"]
    totals = [(latest.at, latest.value, latest.count, latest.bytes) for latest in Latest.objects.all()]
    assert totals[0] == totals[1]


def test_a_month_is_remembered_until_it_is_over() -> None:
    """After that its partition may be dropped."""
    known, now = writer.Partitions(), now_us()
    last_year = now - 366 * writer.DAY
    known.remember(last_year, now)
    assert not known.cover([last_year], now)
    known.remember(last_year, last_year)
    assert known.cover([last_year], last_year)
    assert not known.cover([last_year], now)


def test_what_fits_into_one_statement() -> None:
    now = now_us()
    row = Row(ChannelPk(1), now, DEVICE, None, b"1", None)
    late = row._replace(at=now - rollup_invalidation.LATE - 1)  # the hour is to be marked
    assert writer.fits_one_statement([row] * writer.MAX_STATEMENT_ROWS, now)
    assert not writer.fits_one_statement([], now)
    assert not writer.fits_one_statement([row] * (writer.MAX_STATEMENT_ROWS + 1), now)
    assert not writer.fits_one_statement([row, row._replace(value=b"1" * writer.MAX_STATEMENT_BYTES)], now)
    assert not writer.fits_one_statement([row, late], now)


def test_nothing_at_once_while_an_announcement_is_unread(raw: psycopg.Connection, account: Account) -> None:
    own, rows = uuid4(), [Row(account.channel().id, now_us(), DEVICE, None, b"1", None)]
    commit_log.register(raw, own)
    assert writer.write_in_one_statement(raw, rows, own, 1, 0)
    raw.execute("UPDATE streams_journal SET repeats = 5 WHERE writer = %s", [own])
    assert not writer.write_in_one_statement(raw, rows, own, 2, 4)
    assert [commit_log.was_committed(raw, own, batch) for batch in (1, 2)] == [True, False]
    assert not writer.write_in_one_statement(raw, rows, own, 2, 5)  # given up
    assert Latest.objects.get().count == 1
    assert writer.write_in_one_statement(raw, rows, own, 3, 5)
    assert commit_log.was_committed(raw, own, 3)
    assert not writer.write_in_one_statement(raw, rows, own, 2, 5)  # too late
    assert Latest.objects.get().count == 2


def test_an_announcement_that_a_statement_waits_for(raw: psycopg.Connection, account: Account) -> None:
    own, rows = uuid4(), [Row(account.channel().id, now_us(), DEVICE, None, b"1", None)]
    commit_log.register(raw, own)
    with ThreadPoolExecutor(1) as thread, connect() as other:
        with other.transaction():
            other.execute("UPDATE streams_journal SET repeats = 5 WHERE writer = %s", [own])
            written = thread.submit(writer.write_in_one_statement, raw, rows, own, 1, 4)
            wait_until(lambda: other.execute(WAITS, [raw.info.backend_pid]).fetchone() == (True,))
        assert not written.result(60)
    assert not Latest.objects.exists()
    assert raw.execute(STORED, [rows[0].channel]).fetchall() == []


def test_nothing_at_once_without_a_journal_row(raw: psycopg.Connection, account: Account) -> None:
    """It may have been deleted meanwhile: what was announced since has to be read."""
    rows = [Row(account.channel().id, now_us(), DEVICE, None, b"1", None)]
    assert not writer.write_in_one_statement(raw, rows, uuid4(), 1, 0)
    assert not Latest.objects.exists()
    assert not Journal.objects.exists()


def test_what_was_stored_is_found_by_its_key(raw: psycopg.Connection, account: Account) -> None:
    key = 5
    channel, other, at = account.channel().id, account.channel(1).id, now_us()
    in_steps(raw, [Row(channel, at, None, None, b"1", dedupe) for dedupe in (key, key + 1, None)])
    asked = [(channel, key), (channel, ~key), (channel, key + 1000), (other, key)]
    with raw.transaction(), raw.cursor() as cursor:
        assert writer.stored_before(cursor, [(*each, from_us(at)) for each in asked]) == {(channel, key)}
        assert writer.stored_before(cursor, [(*each, from_us(at + 1)) for each in asked]) == set()


def test_what_the_release_before_has_stored_is_found_by_key_and_value(
    raw: psycopg.Connection, account: Account
) -> None:
    channel, other, at = account.channel().id, account.channel(1).id, now_us()
    in_steps(raw, [Row(channel, at, None, None, b'{"a": 1}', dedupe) for dedupe in (-5, -6, 7, None)])
    same: dict[tuple[int, int], bytes] = {
        (channel, -5): b'{"a":1}',
        (channel, -6): b'{"a":2}',
        (channel, 7): b'{"a":1}',
        (other, -5): b"1",
    }
    with raw.transaction(), raw.cursor() as cursor:
        assert writer.stored_by_the_release_before(cursor, same, from_us(at)) == {(channel, -5)}
        assert writer.stored_by_the_release_before(cursor, same, from_us(at + 1)) == set()


def test_a_keyed_lookup_does_not_read_the_channel(raw: psycopg.Connection, account: Account) -> None:
    channel, at = account.channel().id, now_us()
    in_steps(raw, [Row(channel, at, DEVICE, None, b"1", number) for number in range(-10, 5000)])
    asked = {"channels": [channel], "keys": [-5], "values": ["1"], "since": from_us(at)}
    with raw.transaction(force_rollback=True), raw.cursor() as cursor:
        cursor.execute("ANALYZE datapoint")
        cursor.execute(f"EXPLAIN ANALYZE {writer._STORED_BEFORE_KEYED}", asked)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "channel_dedupe_idx" in plan
    assert "Rows Removed by Filter" not in plan, plan


def test_meanwhile_is_called_before_the_rows_can_be_read(raw: psycopg.Connection, account: Account) -> None:
    row = Row(account.channel().id, now_us(), DEVICE, None, b"1", None)
    called: list[psycopg.pq.TransactionStatus | None] = []
    with raw.transaction(), raw.cursor() as cursor:
        writer.write(cursor, [row], lambda: called.append(raw.info.transaction_status))
        writer.write(cursor, [], lambda: called.append(None))
    assert called == [psycopg.pq.TransactionStatus.ACTIVE]  # PostgreSQL is still at it
