"""The clock is set by an hour, forward and back, under load, and clients send again what they had sent.

The clock is that of the ingest and web processes alone, which read an offset from a file. Steady time
goes on, as it does on a machine whose clock is set. They go by the database's clock, so nothing is off.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from drill_client import until
from drill_load import KEYED, LONG, QOS_1, Mix
from private_place import Place

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.drill]

HOUR = 3600
STEPS = (HOUR, 0, -HOUR, 0, HOUR, -HOUR, HOUR) if LONG else (HOUR, 0, -HOUR, 0)  # seconds off, one by one
SLACK = 5  # seconds
CLOCK = """
import os, time
real, real_ns, path = time.time, time.time_ns, os.environ["DRILL_CLOCK"]


def offset():
    with open(path) as file:
        return int(file.read() or 0)


time.time = lambda: real() + offset()
time.time_ns = lambda: real_ns() + offset() * 10**9

from datetime import UTC, datetime
from django.utils import timezone
timezone.now = lambda: datetime.fromtimestamp(time.time(), UTC)
"""


class Clock:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.set(0)
        (folder / "sitecustomize.py").write_text(CLOCK)
        self.environment = {"DRILL_CLOCK": str(self._file), "PYTHONPATH": str(folder)}

    def set(self, seconds: int) -> None:
        """In one step: whoever reads meets the old file or the new one."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def stepped(place: Place, clock: Clock) -> Iterator[Place]:
    """With processes of its own."""
    stack = place.stack.another(**clock.environment)
    stack.ensure("ingest", "web")
    yield place._replace(stack=stack)
    stack.stop()


def off(place: Place, device: str) -> float:
    """By how many seconds the `at` of the device's last datapoint, by arrival, differs from our clock."""
    with psycopg.connect(place.url) as connection:
        row = connection.execute(
            """SELECT extract(epoch FROM d.at)::float FROM datapoint d
            JOIN devices_device v ON v.id = d.device WHERE v.device_id = %s ORDER BY d.id DESC LIMIT 1""",
            [device],
        ).fetchone()
    assert row
    return float(row[0]) - time.time()


async def step(place: Place, mix: Mix, clock: Clock, seconds: int) -> None:
    """With messages on their way that are stored, and whose acknowledgement never arrives."""
    await mix.moves(60)
    mix.deafen(True)
    await until(lambda: all(len(sender.flights) >= sender.window for sender in mix.senders), 60)
    await until(lambda: all(are_stored(mix, device) for device in mix.mqtt), 60, 0.05)
    clock.set(seconds)
    for sender in mix.senders:
        sender.move()
    mix.deafen(False)
    await mix.moves(60)
    for device in (QOS_1, KEYED):
        assert abs(off(place, device)) < SLACK


def are_stored(mix: Mix, device: str) -> bool:
    """What is on its way at the device's clients."""
    on_their_way = {number for sender in mix.mqtt[device] for number, _ in sender.flights.values()}
    return on_their_way <= set(mix.numbers(device))


async def drill(place: Place, mix: Mix, clock: Clock) -> None:
    async with mix.flowing(60):
        for seconds in STEPS:
            await step(place, mix, clock, seconds)


def test_clock_is_set(stepped: Place, clock: Clock) -> None:
    mix = Mix(stepped)
    asyncio.run(drill(stepped, mix, clock))
    assert mix.load.repeated >= len(STEPS) * len(mix.senders)
    log.info("%d steps, %d stored, %d sent again by MQTT", len(STEPS), mix.check(), mix.load.repeated)
