"""Time limits for many short waits. `asyncio.timeout` makes a timer for each, which costs more than the rest
of the work on a datapoint here."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

TICK = 0.1  # seconds that a limit may be late
T = TypeVar("T")


class Timeouts:
    """For the running event loop. One timer looks at all waits."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()  # which is a system call each time
        self._due: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait_for(self, seconds: float, wait: Awaitable[T]) -> T:
        """Raises TimeoutError."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._due[task] = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._look)
        try:
            return await wait
        except asyncio.CancelledError:
            if task in self._due or task.uncancel():  # by somebody else
                raise
            raise TimeoutError from None
        finally:
            self._due.pop(task, None)

    def _look(self) -> None:
        now = self._loop.time()
        for task in [task for task, due in self._due.items() if due <= now]:
            del self._due[task]
            task.cancel()
        self._timer = self._loop.call_later(TICK, self._look) if self._due else None
