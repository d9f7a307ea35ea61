"""Rows of writers that were killed go, and in nobody's way. Who is fenced off stores nothing more."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection as django_connection
from stack import wait_until

from ingest.service import connect
from thingscale.devices.presence import key_of
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import Journal
from thingscale.streams.tasks import drop_expired

pytestmark = pytest.mark.django_db(transaction=True)

AGE = "UPDATE streams_journal SET at = now() - make_interval(days => %s) WHERE writer = %s"


@pytest.fixture
def raw() -> Iterator[psycopg.Connection]:
    with connect() as connection:
        yield connection


def entered(raw: psycopg.Connection, days: int) -> UUID:
    """A writer that stored something so long ago."""
    writer = uuid4()
    commit_log.register(raw, writer)
    raw.execute(AGE, [days, writer])
    return writer


def writers() -> set[UUID]:
    return set(Journal.objects.values_list("writer", flat=True))


def test_rows_go_after_a_week(raw: psycopg.Connection) -> None:
    kept = {entered(raw, days) for days in (0, 1, 6)}
    gone = {entered(raw, days) for days in (8, 1000)}
    assert writers() == kept | gone
    drop_expired()
    assert writers() == kept


def test_a_row_that_is_locked_is_left_for_the_next_time(raw: psycopg.Connection) -> None:
    """By a batch, or by an announcement, that may wait for another of them."""
    locked, _ = entered(raw, 8), entered(raw, 8)
    with raw.transaction():
        raw.execute("SELECT FROM streams_journal WHERE writer = %s FOR UPDATE", [locked])
        drop_expired()
        assert writers() == {locked}
    drop_expired()
    assert writers() == set()


def test_a_batch_keeps_the_row_of_its_writer(raw: psycopg.Connection) -> None:
    writer = entered(raw, 8)
    with raw.cursor() as cursor:
        commit_log.record_batch(cursor, writer, 1)
    drop_expired()
    assert commit_log.was_committed(raw, writer, 1)


def test_whose_row_is_gone_can_not_mark_it(raw: psycopg.Connection) -> None:
    with raw.cursor() as cursor, pytest.raises(commit_log.NotRegistered):
        commit_log.record_batch(cursor, uuid4(), 1)
    assert writers() == set()


def fence(raw: psycopg.Connection, *writers: UUID) -> None:
    with raw.cursor() as cursor:
        commit_log.fence(cursor, [key_of(writer) for writer in writers])


def store(raw: psycopg.Connection, writer: UUID) -> None:
    with raw.cursor() as cursor:
        commit_log.record_batch(cursor, writer, 1)


def test_who_has_a_row_is_fenced_off(raw: psycopg.Connection) -> None:
    fenced, other = entered(raw, 0), entered(raw, 0)
    fence(raw, fenced)
    commit_log.register(raw, fenced)  # on a new connection
    with pytest.raises(commit_log.Fenced):
        store(raw, fenced)
    store(raw, other)
    assert writers() == {fenced, other}


@pytest.mark.parametrize("times", [1, 2])
def test_who_has_stored_nothing_yet_is_fenced_off(raw: psycopg.Connection, times: int) -> None:
    fenced, other = uuid4(), uuid4()
    for _ in range(times):
        fence(raw, fenced)
    for writer in (fenced, other):
        commit_log.register(raw, writer)
    with pytest.raises(commit_log.Fenced):
        store(raw, fenced)
    store(raw, other)


def test_whose_row_was_deleted_is_fenced_off(raw: psycopg.Connection) -> None:
    idle = entered(raw, 8)
    drop_expired()
    fence(raw, idle)
    with pytest.raises(commit_log.NotRegistered):
        store(raw, idle)
    commit_log.register(raw, idle)
    with pytest.raises(commit_log.Fenced):
        store(raw, idle)


def test_a_fence_outlasts_the_week(raw: psycopg.Connection) -> None:
    """Its gateway may have been asleep, with the machine that it is on."""
    asleep, fenced, other = entered(raw, 0), uuid4(), entered(raw, 0)
    fence(raw, asleep, fenced)
    raw.execute("UPDATE streams_journal SET at = now() - interval '89 days'")
    drop_expired()
    assert other not in writers()
    commit_log.register(raw, fenced)
    for writer in (asleep, fenced):
        with pytest.raises(commit_log.Fenced):
            store(raw, writer)
    raw.execute("UPDATE streams_journal SET at = now() - interval '91 days'")
    drop_expired()
    assert not writers()


def test_a_fence_and_a_registration_at_the_same_moment(raw: psycopg.Connection) -> None:
    """The one that comes second sees the other's row."""
    writer = uuid4()
    with connect() as other, ThreadPoolExecutor(1) as threads:
        with raw.transaction():
            fence(raw, writer)
            registering = threads.submit(commit_log.register, other, writer)
            wait_until(lambda: waits(other), 30, "the registration to wait")
        registering.result(30)
        with pytest.raises(commit_log.Fenced):
            store(other, writer)


def waits(connection: psycopg.Connection) -> bool:
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s))", [connection.info.backend_pid])
        return bool(cursor.fetchone()[0])
