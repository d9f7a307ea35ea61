"""Rows of writers that were killed go, and in nobody's way."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from ingest.service import connect
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
