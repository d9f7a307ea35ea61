"""The event loop's time in fair shares. Who has used up a slice in one turn of the loop goes on behind the
others: what the clients of one account send, and what is delivered for it, delays those of another by a slice
at a time, however much it is."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

SLICE_SECONDS = 0.005  # of an account, in one turn of the loop

Work = Callable[[float], bool]  # it is given the time by which to stop, and says whether it is done
now = time.perf_counter
log = logging.getLogger(__name__)


class Turns:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._due = False
        self._used: list[Share] = []  # in this turn of the loop
        self._waiting: deque[Share] = deque()  # whose turn is next comes first

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def share(self) -> "Share":
        return Share(self)

    def _next(self) -> None:
        self._due = False
        for share in self._used:
            share.used = 0.0
        self._used.clear()
        if self._waiting:
            share = self._waiting.popleft()
            share.work()
            if share.works:
                self._waiting.append(share)
            self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._call_soon(self._next)


class Share:
    """An account's."""

    __slots__ = ("_turns", "used", "works")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.used = 0.0  # seconds, in this turn of the loop
        self.works: deque[Work] = deque()  # that wait for a turn

    @property
    def over(self) -> bool:
        """Whether there is no time left in this turn, so that further work has to wait."""
        return self.used >= SLICE_SECONDS or bool(self.works)

    def use(self, seconds: float) -> None:
        """So much is used in all."""
        if seconds > self.used:
            if not self.used:
                self._turns._used.append(self)
                self._turns._soon()
            self.used = seconds

    def wait(self, work: Work) -> None:
        """Behind what waits already."""
        if not self.works:
            self._turns._waiting.append(self)
            self._turns._soon()
        self.works.append(work)

    def in_order(self, work: Callable[[], None]) -> None:
        """At once, or behind what waits already."""
        if not self.works:
            work()
            return

        def wait(_deadline: float) -> bool:
            work()
            return True

        self.wait(wait)

    def work(self) -> None:
        started = now()
        deadline = started + SLICE_SECONDS
        while self.works and now() < deadline:
            work = self.works[0]
            try:
                done = work(deadline)
            except Exception:
                log.exception("What was put off failed")
                done = True
            if done:
                self.works.popleft()
        self.use(now() - started)
