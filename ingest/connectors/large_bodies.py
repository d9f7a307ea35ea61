"""Bodies that take long to read, in a thread: the event loop would stand still over an array of 1 MiB.

One at a time: two would share the interpreter's lock. Accounts take turns. What waits is bounded, in all and
for each account.
"""

from asyncio import Future
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from thingscale.web.fair_semaphore import Busy
from thingscale.web.fair_threads import FairThreads

MAX_BYTES = 64 * 2**20  # of bodies that wait or are being read
MAX_BYTES_PER_ACCOUNT = 16 * 2**20
T = TypeVar("T")


class LargeBodies:
    def __init__(self) -> None:
        self._lane = FairThreads("bodies", 1, share=1)  # which bounds their count
        self._bytes: Counter[int] = Counter()  # by account

    async def read(
        self, user: int, body: bytes, left: "Future[None]", read: Callable[[bytes], T], seconds: float
    ) -> T:
        """Raises Busy if there is no room, or no turn in this time; ClientLeft if `left` is done before."""
        size = len(body)
        if self._bytes[user] + size > MAX_BYTES_PER_ACCOUNT or self._bytes.total() + size > MAX_BYTES:
            raise Busy
        self._bytes[user] += size
        try:
            return await self._lane.run(f"account {user}", left, read, body, seconds=seconds)
        finally:
            self._bytes[user] -= size
            if not self._bytes[user]:
                del self._bytes[user]

    def stop(self) -> None:
        self._lane.stop()
