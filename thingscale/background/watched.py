"""Watches threads and tasks that have to run for as long as their process.

If one of them raises, this logs it and starts it again after a moment. Until it has run well for a while, the
process is not ready: /readyz asks `failing()`. So none can be dead unnoticed.
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
STEADY_SECONDS = 5.0  # without a failure, until a part counts as well again

_parts: "weakref.WeakSet[Part]" = weakref.WeakSet()
_lock = threading.Lock()


def failing() -> list[str]:
    """The names of the parts of this process that are not well."""
    with _lock:
        parts = list(_parts)
    return sorted({part.name for part in parts if not part.well})


class Part:
    """A thread or task that is watched."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._failed_at: float | None = None
        with _lock:
            _parts.add(self)

    @property
    def well(self) -> bool:
        return self._failed_at is None or time.monotonic() - self._failed_at > STEADY_SECONDS

    def failed(self, error: BaseException | None) -> None:
        """Logs only the first of several failures with its traceback: many of them would fill the disk."""
        if self.well:
            log.critical("%s failed, and begins again", self.name, exc_info=error)
        else:
            log.error("%s failed again: %s", self.name, type(error).__name__)
        self._failed_at = time.monotonic()


class WatchedThread(Part):
    """Runs `work` until `stop()`. `work` may return once `stopping` is set; if it returns earlier, it has
    failed."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name)
        self.stopping = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Tells the thread to end, and waits for it up to so many seconds."""
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
    """Runs `work` again and again until this task is cancelled. Each end of it counts as a failure."""
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
    """A done callback for tasks that end: asyncio would log their failure only at garbage collection."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("A task failed: %s", task.get_name(), exc_info=error)
