"""Two ingest processes on one database, and clients that move to the other with what is on its way."""

import asyncio
import logging
import random
import time
from collections.abc import Iterator

import pytest
from drill_client import until
from drill_load import LONG, Mix
from private_place import Place
from stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

KILLS = 50 if LONG else 2
MOVES = 1000 if LONG else 15
SECONDS = 60


@pytest.fixture
def second(place: Place) -> Iterator[Stack]:
    stack = place.stack.another()
    stack.ensure("ingest")
    yield stack
    stack.stop()


async def fail_over(mix: Mix, stacks: list[Stack], chance: random.Random) -> None:
    """One of the two is killed in mid-flow, all go on with the other, and it comes back."""
    async with mix.flowing(SECONDS):
        for number in range(KILLS):
            await mix.moves(SECONDS)
            await flow(mix, chance.randrange(1000))
            await asyncio.to_thread(stacks[number % 2].kill, "ingest")
            for sender in mix.senders:
                sender.move(stacks[1 - number % 2].mqtt)
            await mix.moves(SECONDS)
            await asyncio.to_thread(stacks[number % 2].start, "ingest")


async def flow(mix: Mix, count: int) -> None:
    goal = mix.load.count + count
    await until(lambda: mix.load.count >= goal, SECONDS)


def test_clients_fail_over(place: Place, second: Stack) -> None:
    seed = time.time_ns()
    log.info("seed %d", seed)
    mix = Mix(place, window=50)
    asyncio.run(fail_over(mix, [place.stack, second], random.Random(seed)))
    log.info("%d kills, %d stored, %d sent again", KILLS, mix.check(), mix.load.repeated)


async def move_about(mix: Mix, ports: list[int], chance: random.Random) -> None:
    """Each time some of the clients, in mid-flow."""
    async with mix.flowing(SECONDS):
        await mix.moves(SECONDS)
        for _ in range(MOVES):
            await flow(mix, chance.randrange(200))
            for sender in mix.senders:
                if chance.random() < 0.5:
                    sender.move(chance.choice(ports))


def test_clients_move_under_load(place: Place, second: Stack) -> None:
    seed = time.time_ns()
    log.info("seed %d", seed)
    mix = Mix(place, window=200)
    asyncio.run(move_about(mix, [place.stack.mqtt, second.mqtt], random.Random(seed)))
    log.info("%d moves, %d stored, %d sent again", MOVES, mix.check(), mix.load.repeated)
