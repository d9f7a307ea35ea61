"""The event loop's time in fair shares. An account has a slice of each short window; who has used that up
goes on in turn with the others, a slice at a time. So what its clients send, and what is delivered to them,
delays the clients of others by a slice at a time, however much it is."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

SLICE_SECONDS = 0.005  # of an account, at a time
WINDOW_SECONDS = 0.01  # in which it has a slice before it has to wait for a turn

Work = Callable[[float], bool]  # it is given the time by which to stop, and says whether it is done
now = time.perf_counter
log = logging.getLogger(__name__)


class Turns:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Share] = deque()  # whose turn is next comes first
        self.contested = False  # there is more than one account, so that nobody may take more than a slice

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def share(self) -> "Share":
        return Share(self)

    def join(self, share: "Share") -> None:
        """It has something to do."""
        if not self._waiting:
            self._call_soon(self._next)
        self._waiting.append(share)

    def _next(self) -> None:
        share = self._waiting[0]  # and there until it is done, so that nobody who joins makes a second round
        share.work()
        self._waiting.popleft()
        if share.works:
            self._waiting.append(share)
        if self._waiting:
            self._call_soon(self._next)


class Share:
    """An account's."""

    __slots__ = ("renews_at", "turns", "used", "works")

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.used = 0.0  # seconds, in this window
        self.renews_at = 0.0  # when the next one may begin
        self.works: deque[Work] = deque()  # that wait for a turn

    def over(self, at: float) -> bool:
        """Whether no time is left, so that further work has to wait. What took longer than a slice counts for
        the next windows, too."""
        if at >= self.renews_at:
            windows = 1 + (at - self.renews_at) // WINDOW_SECONDS
            self.used, self.renews_at = max(0.0, self.used - windows * SLICE_SECONDS), at + WINDOW_SECONDS
        return self.used >= SLICE_SECONDS or bool(self.works)

    def wait(self, work: Work) -> None:
        """Behind what waits already."""
        if not self.works:
            self.turns.join(self)
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
        self.used += now() - started
