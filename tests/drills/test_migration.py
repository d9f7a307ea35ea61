"""The database is migrated, back and forward, while messages come in."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from drill_client import until
from drill_load import Mix
from drill_platform import SECONDS
from private_place import Place, manage

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

Flow = Callable[[Place, Mix], Coroutine[Any, Any, None]]

BACK = ("events", "0009_waiting")  # a table that ingest does not need
LOCK_SECONDS = 3
ALTERED = ("devices_device", "streams_channel", "streams_latest", "streams_journal", "datapoint")


def alter(url: str, table: str) -> None:
    """As a migration that rewrites a large table: nobody else can read it for that long."""
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN drill int DEFAULT 0")
        connection.execute("SELECT pg_sleep(%s)", [LOCK_SECONDS])
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER TABLE {table} DROP COLUMN drill")


async def drill(place: Place, mix: Mix) -> None:
    async with mix.flowing(SECONDS):
        await mix.moves(SECONDS)
        await asyncio.to_thread(manage, place.stack, "migrate", *BACK, "--verbosity", "0")
        await mix.moves(SECONDS)
        await asyncio.to_thread(manage, place.stack, "migrate", "--verbosity", "0")
        await mix.moves(SECONDS)


async def lock_drill(place: Place, mix: Mix) -> None:
    """All those tables at once, and devices that the gateway has to look up."""
    async with mix.flowing(SECONDS):
        await mix.moves(SECONDS)
        altering = [asyncio.to_thread(alter, place.url, table) for table in ALTERED]
        altered = asyncio.gather(*altering)
        for sender in mix.senders:
            sender.move()  # what it sends again is looked up among the datapoints, under its device's lock
        await asyncio.wait_for(altered, SECONDS)
        before = mix.load.count
        await until(lambda: mix.load.count > before, SECONDS)
        await mix.moves(SECONDS)


@pytest.mark.parametrize("flow", [drill, lock_drill], ids=["migrated", "locked"])
def test_migrated_while_messages_come_in(place: Place, flow: Flow) -> None:
    processes = dict(place.stack.processes)
    mix = Mix(place)
    asyncio.run(flow(place, mix))
    log.info("%d stored; %d connections", mix.check(), sum(sender.connections for sender in mix.senders))
    assert {status for status, _, _ in mix.answers()} <= {200, 201, 503}
    assert [name for name, process in processes.items() if process.poll() is not None] == []
