"""A running system is dumped, and the dump restored beside it: all that was acknowledged before the dump
began is there, and another ingest process goes on with it."""

import asyncio
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from drill_load import LONG, Mix
from drill_platform import SECONDS
from private_place import Place, manage

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

COPY = "restored"
PROGRAM_SECONDS = 600 if LONG else 60  # of a database in which other drills have left their datapoints


def pg(place: Place, program: str, *arguments: str) -> str:
    """Runs a program of the PostgreSQL that is running; its output."""
    install = place.servers.postgres.directory.install
    command = [str(install / "bin" / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(place: Place) -> Iterator[str]:
    """The URL of an empty database."""
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {COPY}")
    yield place.url.replace("/thingscale?", f"/{COPY}?")
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {COPY} WITH (FORCE)")


def acknowledged(mix: Mix) -> dict[str | None, set[int]]:
    kinds: dict[str | None, set[int]] = {
        device: set().union(*(sender.acked for sender in senders)) for device, senders in mix.mqtt.items()
    }
    return kinds | {kind: set(sender.acked) for kind, sender in mix.posts.items()}


async def dump(place: Place, mix: Mix, file: Path) -> dict[str | None, set[int]]:
    """What was acknowledged when the dump began."""
    async with mix.flowing(SECONDS):
        await mix.moves(SECONDS)
        before = acknowledged(mix)
        await asyncio.to_thread(pg, place, "pg_dump", "--format=custom", f"--file={file}", place.url)
        await mix.moves(SECONDS)
    return before


async def go_on(place: Place) -> Mix:
    mix = Mix(place)
    async with mix.flowing(SECONDS):
        await mix.moves(SECONDS)
    return mix


def ids(url: str, last: int = 0) -> tuple[int, int]:
    """Of the datapoints that arrived after that one: how many, and the last id."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), max(id) FROM datapoint WHERE id > %s", [last]).fetchone()
    assert row
    return row[0], row[1]


def test_dump_is_restored(place: Place, copy: str, tmp_path: Path) -> None:
    mix, file = Mix(place), tmp_path / "dump"
    before = asyncio.run(dump(place, mix, file))
    stored = mix.check()
    pg(place, "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={copy}", str(file))
    stack = place.stack.another(DATABASE_URL=copy)
    restored = place._replace(stack=stack, url=copy)
    for kind, acked in before.items():
        numbers = mix.numbers(kind, restored)
        assert acked <= set(numbers), f"{kind}: acknowledged before the dump, and not in it"
        assert len(numbers) == len(set(numbers))
    assert "No planned migration operations" in manage(stack, "migrate", "--plan")
    _, last = ids(copy)
    try:
        stack.ensure("ingest", "web")
        later = asyncio.run(go_on(restored))
    finally:
        stack.stop()
    log.info("%d stored, %d of them before the dump", stored, sum(map(len, before.values())))
    assert later.check() == ids(copy, last)[0], "ids go on where the dump ended"
