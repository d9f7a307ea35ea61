"""Threads that work for the event loop, and of which each account has its share."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from thingscale.web.shares import Shares

WAIT_SECONDS = 5.0  # for a thread
T = TypeVar("T")


class ClientLeft(Exception):
    """Or reads too slowly."""


class Lane:
    """Threads, of which an account has `share` at most at once."""

    def __init__(self, name: str, threads: int, share: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._shares = Shares(threads, share, waiting=1000, waiting_per_account=100)

    async def run(
        self,
        account: str,
        left: "asyncio.Future[None]",
        function: Callable[..., T],
        *arguments: Any,
        seconds: float = WAIT_SECONDS,
    ) -> T:
        """Raises Busy, ClientLeft."""
        if not await self._shares.take(account, seconds, left):
            raise ClientLeft
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        # Not when this task ends, which may be cancelled, but when the thread is free again.
        work.add_done_callback(lambda _: self._shares.release(account))
        return await asyncio.shield(work)

    def run_later(self, function: Callable[[], object]) -> None:
        """Outside of the shares, which nobody waits for."""
        self._threads.submit(function)

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
