"""SIGTERM of one of our processes after the other, in mid-batch, under load of all kinds: a deployment."""

import asyncio
import logging
import random
import signal
import time

import pytest
from drill_client import until
from drill_load import LONG, Mix
from drill_platform import SECONDS
from private_place import Place

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

TURNS = 10 if LONG else 1
OURS = ("ingest", "web", "celery")
ENDS = {0, -signal.SIGTERM}  # uvicorn ends itself by the signal once it has finished


async def replace(place: Place, mix: Mix, chance: random.Random) -> list[int]:
    """How each of them ended."""
    codes = []
    async with mix.flowing(SECONDS):
        for name in OURS * TURNS:
            await mix.moves(SECONDS)
            goal = mix.load.count + chance.randrange(1, 1000)
            await until(lambda goal=goal: mix.load.count >= goal, SECONDS)  # type: ignore[misc]
            process = place.stack.processes[name]
            await asyncio.to_thread(place.stack.kill, name, signal.SIGTERM)
            codes.append(process.returncode)
            await asyncio.to_thread(place.stack.start, name)
        await mix.moves(SECONDS)
    return codes


def tracebacks(place: Place) -> int:
    return sum(place.stack.log(name).count("Traceback") for name in OURS)


def test_processes_are_replaced_under_load(place: Place) -> None:
    seed = time.time_ns()
    log.info("seed %d", seed)
    mix, before = Mix(place, window=100), tracebacks(place)
    codes = asyncio.run(replace(place, mix, random.Random(seed)))
    log.info("%d stored, %d sent again by MQTT, %s", mix.check(), mix.load.repeated, codes)
    assert set(codes) <= ENDS
    assert {status for status, _, _ in mix.answers()} <= {200, 201, 503}
    assert tracebacks(place) == before
