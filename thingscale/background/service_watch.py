"""Gives systemd signs of life as long as the parts of this process are well: processes/service_manager.py."""

import asyncio

from thingscale.background import watched
from thingscale.background.watched import WatchedThread
from thingscale.processes.service_manager import ServiceManager

STOP_SECONDS = 1.0


async def keep_telling(manager: ServiceManager) -> None:
    """For a process with an event loop: one that hangs tells nothing. Until it is cancelled."""
    while manager.present:
        manager.alive(watched.failing())
        await asyncio.sleep(manager.interval)


class TellingThread:
    """For a process without one."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._thread = WatchedThread("signs of life", self._run)

    def start(self) -> None:
        if self._manager.present:
            self._thread.start()

    def stop(self) -> None:
        self._thread.stop(STOP_SECONDS)

    def _run(self) -> None:
        while not self._thread.stopping.wait(self._manager.interval):
            self._manager.alive(watched.failing())
