"""kill -9 of one part after the other, at random, under load of all kinds."""

import asyncio
import logging
import random
import time

import pytest
from drill_client import until
from drill_kills import BACKEND, OURS, VALKEY, kill
from drill_load import LONG, QOS_1, Mix
from drill_platform import Subscriber, check_health
from private_place import Place

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.drill]

KILLS = 100 if LONG else 5  # each victim once
AWAY_SECONDS = 2.0  # at most, between a kill and the next start
VICTIMS = (*OURS, VALKEY, BACKEND)


def victims(chance: random.Random) -> list[str]:
    """Each about as often as the others, in random order."""
    chosen = [VICTIMS[number % len(VICTIMS)] for number in range(KILLS)]
    chance.shuffle(chosen)
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
