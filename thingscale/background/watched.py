"""Threads and tasks that have to go on for as long as their process.

One that raises is logged, begins again after a moment, and makes its process not ready until it has gone well
for a while: `failing()` is what /readyz asks. So none is dead while everything looks fine.
"""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
STEADY_SECONDS = 5.0  # without a failure, after which it counts as well again

_parts: "weakref.WeakSet[Part]" = weakref.WeakSet()
_lock = threading.Lock()


def failing() -> list[str]:
    """The names of those that are not well, in this process."""
    with _lock:
        parts = list(_parts)
    return sorted({part.name for part in parts if not part.well})


class Part:
    def __init__(self, name: str) -> None:
        self.name = name
        self._failed_at: float | None = None
        with _lock:
            _parts.add(self)

    @property
    def well(self) -> bool:
        return self._failed_at is None or time.monotonic() - self._failed_at > STEADY_SECONDS

    def failed(self, error: BaseException | None) -> None:
        """The first one is logged with its traceback; an endless row of them would fill the disk."""
        if self.well:
            log.critical("%s failed, and begins again", self.name, exc_info=error)
        else:
            log.error("%s failed again: %s", self.name, type(error).__name__)
        self._failed_at = time.monotonic()


class WatchedThread(Part):
    """`work` runs until `stop()`. It may return once `stopping` is set; before that, to return is to fail."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name)
        self.stopping = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Tells it to end, and waits for so long."""
        self.stopping.set()
        self.join(seconds)

    def join(self, seconds: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def well(self) -> bool:
        ended = self._thread.ident is not None and not self._thread.is_alive()
        return super().well and (not ended or self.stopping.is_set())

    def _run(self) -> None:
        while not self.stopping.is_set():
            error: BaseException | None = None
            try:
                self._work()
            except BaseException as raised:
                error = raised
            if not self.stopping.is_set():
                self.failed(error)
                self.stopping.wait(AGAIN_SECONDS)


async def keep_going(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The same for a task: until it is cancelled."""
    part = Part(name)
    while True:
        error: BaseException | None = None
        try:
            await work()
        except Exception as raised:
            error = raised
        part.failed(error)
        await asyncio.sleep(AGAIN_SECONDS)


def log_failure(task: "asyncio.Task[Any]") -> None:
    """For tasks that have an end, as their done callback: asyncio says it when the garbage is collected."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("A task failed: %s", task.get_name(), exc_info=error)
