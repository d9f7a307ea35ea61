"""Shares the event loop's time fairly between accounts. An account has a slice of each short window. Whatever
it has to do beyond that waits for its turn among the other accounts, and then gets one slice at a time. So
one account delays the clients of others by a slice at most, however much its clients send or receive."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

SLICE_SECONDS = 0.005  # of an account, at a time
WINDOW_SECONDS = 0.01  # in which it has a slice before it has to wait for a turn

Work = Callable[[float], bool]  # gets the time by which to stop; returns whether it is done
now = time.perf_counter
log = logging.getLogger(__name__)


class FairScheduler:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._queue: deque[TimeShare] = deque()  # whose turn is next comes first
        self.contested = False  # there is more than one account, so that nobody may take more than a slice

    @property
    def busy(self) -> bool:
        """Whether some account waits for its turn."""
        return bool(self._queue)

    def new_share(self) -> "TimeShare":
        return TimeShare(self)

    def enqueue(self, share: "TimeShare") -> None:
        if not self._queue:
            self._call_soon(self._run_next)
        self._queue.append(share)

    def _run_next(self) -> None:
        # It stays in the queue while it runs: who comes meanwhile must not start a second round.
        share = self._queue[0]
        started = now()
        deadline = started + SLICE_SECONDS
        while share.waiting_work and now() < deadline:
            work = share.waiting_work[0]
            try:
                done = work(deadline)
            except Exception:
                log.exception("What was put off failed")
                done = True
            if done:
                share.waiting_work.popleft()
        share.used += now() - started
        self._queue.popleft()
        if share.waiting_work:
            self._queue.append(share)
        if self._queue:
            self._call_soon(self._run_next)


class TimeShare:
    """One account's."""

    __slots__ = ("renews_at", "scheduler", "used", "waiting_work")

    def __init__(self, scheduler: FairScheduler) -> None:
        self.scheduler = scheduler
        self.used = 0.0  # seconds, in this window
        self.renews_at = 0.0  # when the next one may begin
        self.waiting_work: deque[Work] = deque()  # until the account's turn

    def used_up(self, at: float) -> bool:
        """Whether further work has to wait. Work that took longer than a slice uses up the next windows,
        too."""
        if at >= self.renews_at:
            windows = 1 + (at - self.renews_at) // WINDOW_SECONDS
            self.used, self.renews_at = max(0.0, self.used - windows * SLICE_SECONDS), at + WINDOW_SECONDS
        return self.used >= SLICE_SECONDS or bool(self.waiting_work)

    def put_off(self, work: Work) -> None:
        """Until the account's turn, behind the work that waits already."""
        if not self.waiting_work:
            self.scheduler.enqueue(self)
        self.waiting_work.append(work)

    def run_in_order(self, work: Callable[[], None]) -> None:
        """At once, or behind the work that waits already."""
        if not self.waiting_work:
            work()
            return

        def run(_deadline: float) -> bool:
            work()
            return True

        self.put_off(run)
