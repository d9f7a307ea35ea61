"""What may take long or hang is measured in threads of its own, so that no sample waits for it: file systems,
whose disk may be gone, processes, units, and checks. A sample takes what is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
MOST_JOBS = 100
log = logging.getLogger(__name__)


class Background:
    """Calls `measure` every `every()` seconds, for as long as the process lives."""

    def __init__(self, name: str, measure: Callable[[], Any], every: Callable[[], float], late: Any = None):
        self.name = name
        self.measure = measure
        self.every = every
        self.late = late  # what it is once it is overdue
        self._result: Any = None
        self._finished_at: float | None = None
        self._measured = threading.Event()
        self._started_at = time.monotonic()
        self._failed = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def latest(self) -> Any:
        """None: there is nothing yet, or it can't be measured."""
        limit = 2 * self.every() + 20
        if time.monotonic() - (self._finished_at or self._started_at) > limit:
            return self.late
        return self._result

    def wait(self, seconds: float) -> None:
        """For its first result."""
        self._measured.wait(seconds)

    def _run(self) -> None:
        while True:
            try:
                self._result = self.measure()
                self._failed = False
            except Exception as error:  # of any kind: nothing else would try again
                self._result = None
                if not self._failed:
                    log.warning("%s can't be measured: %s: %s", self.name, type(error).__name__, error)
                self._failed = True
            self._finished_at = time.monotonic()
            self._measured.set()
            time.sleep(self.every())


class Worker:
    """A thread that does one thing after the other, so that the event loop waits for no disk or server."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(MOST_JOBS)
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, seconds: float, function: Callable[..., Result], *arguments: Any) -> Result:
        """What `function` returns or raises. Raises asyncio.TimeoutError if that takes longer: it is done
        later all the same. Raises queue.Full if too much waits already: then it never is."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def job() -> None:
            try:
                result = function(*arguments)
            except Exception as error:
                finish(done.set_exception, error)
            else:
                finish(done.set_result, result)

        def finish(how: Callable[[Any], None], what: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lambda: None if done.done() else how(what))

        self._jobs.put_nowait(job)
        return await asyncio.wait_for(done, seconds)

    def _run(self) -> None:
        while True:
            self._jobs.get()()
