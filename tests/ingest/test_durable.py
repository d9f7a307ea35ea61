"""Rows of durable sessions follow what happens in memory, in order, whatever the database does meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from stack import wait_until
from support import Account

from ingest.mqtt import durable
from ingest.mqtt.durable import DurableSessions
from thingscale.devices.durable import Kept, save
from thingscale.devices.models import DurableSession
from thingscale.devices.presence import ClientKey

pytestmark = pytest.mark.django_db(transaction=True)
_WAITING = """SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%durablesession%'"""


def in_gateway(work: Callable[[DurableSessions], Coroutine[Any, Any, None]], seconds: float = 10) -> None:
    async def run() -> None:
        sessions = DurableSessions(lambda key: False, lambda key: None)
        await work(sessions)
        await sessions.stop(seconds)

    asyncio.run(run())


@contextmanager
def locked() -> Iterator[psycopg.Connection]:
    """Nobody else can write the rows. Yields a connection to ask with, which has no transaction."""
    parameters = connection.get_connection_params()
    with psycopg.connect(**parameters) as holder, psycopg.connect(**parameters, autocommit=True) as asking:
        holder.execute("LOCK TABLE devices_durablesession IN SHARE MODE")
        yield asking


def waiting(asking: psycopg.Connection) -> list[int]:
    return [pid for (pid,) in asking.execute(_WAITING)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "WRITE_SECONDS", 0.2)
    monkeypatch.setattr(durable, "RETRY_SECONDS", 0.05)


def test_what_happens_is_written_together(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(sessions: Mapping[ClientKey, Kept | None]) -> None:
        sizes.append(len(sessions))
        save(sessions)

    monkeypatch.setattr("thingscale.devices.durable.save", counted)

    async def work(sessions: DurableSessions) -> None:
        for number in range(durable.AT_ONCE + 1):
            sessions.keep((account.user.pk, f"c{number}"), [])
        await asyncio.gather(*(sessions.written((account.user.pk, f"c{number}")) for number in range(100)))
        sessions.end((account.user.pk, "c0"))

    in_gateway(work)
    assert DurableSession.objects.count() == durable.AT_ONCE
    assert sizes == [durable.AT_ONCE, 1, 1]


@pytest.mark.usefixtures("quick")
def test_what_could_not_be_written_in_time_does_not_pass_what_came_later(account: Account) -> None:
    key = account.user.pk, "c1"

    async def work(sessions: DurableSessions) -> None:
        with locked() as asking:
            sessions.keep(key, [])
            await sessions.written(key)
            await asyncio.to_thread(wait_until, lambda: waiting(asking), what="the first to wait")
            sessions.left(key, 60)
            await sessions.written(key)

    in_gateway(work)
    assert DurableSession.objects.get().expires_at is not None


def test_a_database_that_does_not_answer_counts_as_away(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = account.user.pk, "c1"
    monkeypatch.setattr(durable, "DATABASE_SECONDS", 0.1)
    monkeypatch.setattr(durable, "WRITE_SECONDS", 60.0)

    async def work(sessions: DurableSessions) -> None:
        with locked():
            sessions.keep(key, [])
            async with asyncio.timeout(3):  # before PostgreSQL itself ends the statement
                await sessions.written(key)
            sessions.left(key, 60)

    in_gateway(work)
    assert DurableSession.objects.get().expires_at is not None


@pytest.mark.usefixtures("quick")
def test_what_failed_is_written_again(account: Account) -> None:
    async def work(sessions: DurableSessions) -> None:
        with locked() as asking:
            sessions.keep((account.user.pk, "c1"), [["U000001/#", 1, False, False, 0]])
            first = asyncio.create_task(sessions.written((account.user.pk, "c1")))
            await asyncio.to_thread(wait_until, lambda: waiting(asking), what="the first to wait")
            asking.execute("SELECT pg_terminate_backend(%s)", waiting(asking))
            await first
        sessions.keep((account.user.pk, "c2"), [])

    in_gateway(work)
    assert sorted(DurableSession.objects.values_list("client_id", flat=True)) == ["c1", "c2"]


@pytest.mark.usefixtures("quick")
def test_one_that_can_not_be_written_does_not_keep_the_others(account: Account) -> None:
    unwritable = [["\0", 1, False, False, 0]]  # PostgreSQL's JSON has no such character

    async def work(sessions: DurableSessions) -> None:
        for number in range(100):
            sessions.keep((account.user.pk, f"c{number}"), unwritable if number == 50 else [])
        async with asyncio.timeout(10):
            while len(sessions._changed) + len(sessions._batch) > 1:
                sessions.write()
                await asyncio.sleep(0.01)

    in_gateway(work, seconds=0.1)
    assert DurableSession.objects.count() == 99


def test_a_session_that_is_given_up_does_not_go_on(account: Account) -> None:
    key = account.user.pk, "c1"

    async def work(sessions: DurableSessions) -> None:
        sessions.keep(key, [])
        sessions.give_up(key)
        sessions.left(key, 60)  # its client has gone before the broker heard of the end
        kept = sessions.find(key)
        assert kept is not None
        assert kept.over

    in_gateway(work)


@pytest.mark.usefixtures("quick")
def test_whoever_stops_does_not_wait_for_ever(account: Account) -> None:
    with locked() as asking:

        async def work(sessions: DurableSessions) -> None:
            sessions.keep((account.user.pk, "c1"), [])
            sessions.write()
            await asyncio.to_thread(wait_until, lambda: waiting(asking), what="it to wait")

        in_gateway(work, seconds=0.1)
        asking.execute("SELECT pg_terminate_backend(%s)", waiting(asking))
    assert not DurableSession.objects.exists()
