"""kill -9 of one part after the other, at random, under load of all kinds."""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable

import psycopg
import pytest
from drill_client import until
from drill_load import LONG, QOS_1, Mix
from drill_platform import Subscriber, check_health
from private_place import Place
from stack import wait_until

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.drill]

KILLS = 100 if LONG else 5  # each victim once
AWAY_SECONDS = 2.0  # at most, between a kill and the next start
OURS = ("ingest", "web", "celery")
VALKEY = "valkey"
BACKEND = "a PostgreSQL backend"
VICTIMS = (*OURS, VALKEY, BACKEND)


def victims(chance: random.Random) -> list[str]:
    """Each about as often as the others, in random order."""
    chosen = [VICTIMS[number % len(VICTIMS)] for number in range(KILLS)]
    chance.shuffle(chosen)
    return chosen


def kill(place: Place, victim: str) -> Callable[[], None]:
    """Returns what brings it back."""
    if victim in OURS:
        place.stack.kill(victim)
        return lambda: place.stack.start(victim)
    if victim == VALKEY:
        place.servers.valkey.kill()
        return place.servers.valkey.start
    os.kill(backend(place), signal.SIGKILL)  # PostgreSQL ends the others too, and recovers
    return lambda: wait_until(place.servers.postgres.ready, 60, "PostgreSQL's recovery")


def backend(place: Place) -> int:
    """A process of PostgreSQL that works for the ingest process or for web."""
    with psycopg.connect(place.url) as connection:
        rows = connection.execute(
            """SELECT pid FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
        ).fetchall()
    chosen: int = random.choice(rows)[0]
    return chosen


async def moment(mix: Mix, chance: random.Random) -> None:
    """In mid-flow, or before the clients are back from the last kill."""
    if chance.random() < 0.3:
        await asyncio.sleep(chance.uniform(0, 0.2))
        return
    goal = mix.load.count + chance.randrange(1, 2000 if LONG else 500)
    await until(lambda: mix.load.count >= goal and mix.load.in_flight, 60)


async def drill(place: Place, mix: Mix, chosen: list[str], chance: random.Random) -> int:
    """How often the kill hit something that was on its way."""
    caught = 0
    async with mix.flowing(60):
        for victim in chosen:
            await moment(mix, chance)
            caught += mix.load.in_flight > 0
            come_back = await asyncio.to_thread(kill, place, victim)
            await asyncio.sleep(chance.uniform(0, AWAY_SECONDS if LONG else 0.3))
            await asyncio.to_thread(come_back)
        await mix.moves(60)
    return caught


def test_whatever_is_killed(place: Place) -> None:
    seed = time.time_ns()
    chance = random.Random(seed)
    log.info("seed %d", seed)
    mix, chosen = Mix(place), victims(chance)
    with Subscriber(place, QOS_1) as subscriber:
        caught = asyncio.run(drill(place, mix, chosen, chance))
        stored = mix.check()
        log.info("%d kills, %d stored, %d sent again by MQTT", len(chosen), stored, mix.load.repeated)
        assert caught >= KILLS // 2, "the kills came while nothing was on its way"
        assert {status for status, _, _ in mix.answers()} <= {200, 201, 503}
        check_health(place, subscriber)
