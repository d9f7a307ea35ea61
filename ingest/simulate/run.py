"""Paces the senders for the wanted time, then waits for the last answers."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ingest.simulate.tally import Tally

TICK_SECONDS = 0.01
LAST_ANSWERS_SECONDS = 15.0


class Sender(Protocol):
    tally: Tally

    @property
    def waiting(self) -> int: ...
    def offer(self) -> bool: ...
    async def run(self) -> None: ...
    async def close(self) -> None: ...


Progress = Callable[[float], None]


async def simulate(
    senders: Sequence[Sender], rate: float, duration: float, stop: asyncio.Event, progress: Progress
) -> float:
    """Calls `progress` each second with the seconds since the start. Returns for how many seconds it sent."""
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    started = time.monotonic()
    line = asyncio.create_task(_show_progress(progress, started))
    try:
        await _pace(senders, rate, started + duration, stop)
        seconds = time.monotonic() - started
        for _ in range(int(LAST_ANSWERS_SECONDS / TICK_SECONDS)):
            if not any(sender.waiting for sender in senders):
                break
            await asyncio.sleep(TICK_SECONDS)
    finally:
        line.cancel()
        for sender in senders:
            await sender.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(line, *tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()):
            raise error
    return seconds


async def _pace(senders: Sequence[Sender], rate: float, end: float, stop: asyncio.Event) -> None:
    """Offers readings to the devices in turn. A device without room is passed over; readings that no device
    has room for are left out."""
    started = time.monotonic()
    done = turn = 0
    while (now := time.monotonic()) < end and not stop.is_set():
        due = int((now - started) * rate)
        while done < due:
            done += 1
            for _ in senders:
                turn += 1
                if senders[turn % len(senders)].offer():
                    break
            else:
                done = due
        await asyncio.sleep(TICK_SECONDS)


async def _show_progress(progress: Progress, started: float) -> None:
    while True:
        await asyncio.sleep(1)
        progress(time.monotonic() - started)
