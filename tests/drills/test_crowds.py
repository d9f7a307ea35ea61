"""Many clients at once: all come back in the same second, or all are there and say nothing."""

import asyncio
import logging
import resource
import time

import pytest
from drill_crowd import Crowd
from drill_load import LONG
from drill_memory import resident
from drill_platform import post
from private_place import Place

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

STORM = 5_000 if LONG else 1_000
IDLE = 20_000  # fewer where the system allows fewer open files
LEFT_FREE = 500  # open files, for everything else
SECONDS = 60.0
MEMBER_BYTES = 40_000  # of the gateway's memory


async def storm(place: Place, crowd: Crowd) -> float:
    """How long until all are served again after the gateway is killed under them."""
    async with crowd.present():
        crowd.send()
        await crowd.settle(SECONDS)
        crowd.send()
        place.stack.kill("ingest")
        await asyncio.to_thread(place.stack.start, "ingest")
        begun = time.monotonic()
        await crowd.settle(SECONDS)
        return time.monotonic() - begun


def test_reconnect_storm(place: Place) -> None:
    crowd = Crowd(place, "crowd", STORM)
    seconds = asyncio.run(storm(place, crowd))
    numbers = place.numbers("crowd")
    log.info("%d clients are served %.1f s after the gateway is back", STORM, seconds)
    assert sorted(numbers) == list(range(2 * STORM))
    assert sum(member.refused for member in crowd.members) == 0


async def idle(place: Place, crowd: Crowd) -> tuple[int, float]:
    """The gateway's memory for each, and how long a message of somebody else takes."""
    before = resident(place.stack, "ingest")
    async with crowd.present():
        await crowd.settle(4 * SECONDS)
        begun = time.monotonic()
        assert await asyncio.to_thread(post, place, "keyed", "neighbour") == 200
        took = time.monotonic() - begun
        return (resident(place.stack, "ingest") - before) // len(crowd.members), took


@pytest.mark.skipif(not LONG, reason="takes a minute: make drill")
def test_idle_connections(place: Place) -> None:
    count = min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - LEFT_FREE)
    each, took = asyncio.run(idle(place, Crowd(place, "crowd", count)))
    log.info("%d idle connections, %d bytes each; a message took %.3f s", count, each, took)
    assert each < MEMBER_BYTES
    assert took < 1
