"""Threads that work for the event loop, shared fairly between accounts."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from thingscale.web.fair_semaphore import FairSemaphore

WAIT_SECONDS = 5.0  # for a thread
T = TypeVar("T")


class ClientLeft(Exception):
    """The client left, or reads too slowly."""


class FairThreads:
    """A pool of threads, of which one account has at most `share` at once."""

    def __init__(self, name: str, threads: int, share: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._semaphore = FairSemaphore(threads, share, waiting=1000, waiting_per_account=100)

    async def run(
        self,
        account: str,
        left: "asyncio.Future[None]",
        function: Callable[..., T],
        *arguments: Any,
        seconds: float = WAIT_SECONDS,
    ) -> T:
        """Runs the function in a thread. Raises Busy, or ClientLeft as soon as `left` is done."""
        if not await self._semaphore.acquire(account, seconds, left):
            raise ClientLeft
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        # Released when the thread is free again: this task may be cancelled before that.
        work.add_done_callback(lambda _: self._semaphore.release(account))
        return await asyncio.shield(work)

    def run_later(self, function: Callable[[], object]) -> None:
        """For work that nobody waits for; it is in no account's share."""
        self._threads.submit(function)

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
