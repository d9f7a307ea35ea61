"""A semaphore that accounts share: each has at most its share of the places, and they take turns in
waiting."""

import asyncio
from collections import Counter, deque


class Busy(Exception):
    """There is no free place, and none to wait for."""


class FairSemaphore:
    """For one event loop."""

    def __init__(self, places: int, per_account: int, waiting: int, waiting_per_account: int) -> None:
        self.taken: Counter[str] = Counter()
        self._free = places
        self._per_account = per_account
        self._max_waiting = waiting
        self._max_waiting_per_account = waiting_per_account
        self._waiting_count = 0
        # The account whose turn is next comes first; an account that got a place goes to the end.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, account: str, seconds: float, left: asyncio.Future[None]) -> bool:
        """Returns False if the client left meanwhile (`left` is done); then there is nothing to release.
        Raises Busy after so many seconds, or at once if too many wait already."""
        if left.done():
            return False
        if self._free and self.taken[account] < self._per_account:
            self._grant(account)
            return True
        own_turns = self._waiting.get(account, ())
        if self._waiting_count >= self._max_waiting or len(own_turns) >= self._max_waiting_per_account:
            raise Busy
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        self._waiting_count += 1
        try:
            await asyncio.wait({turn, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done():
                self.release(account)
            raise
        finally:
            if not turn.done():
                turn.cancel()
                self._waiting[account].remove(turn)
                self._dequeued(account)
        if left.done():
            if turn.done() and not turn.cancelled():
                self.release(account)
            return False
        if turn.cancelled():
            raise Busy
        return True

    def release(self, account: str) -> None:
        self.taken[account] -= 1
        if not self.taken[account]:
            del self.taken[account]
        self._free += 1
        while self._free:
            following = next((each for each in self._waiting if self.taken[each] < self._per_account), None)
            if following is None:
                return
            turns = self._waiting.pop(following)
            self._waiting[following] = turns  # at the end
            self._grant(following)
            turns.popleft().set_result(None)
            self._dequeued(following)

    def _grant(self, account: str) -> None:
        self._free -= 1
        self.taken[account] += 1

    def _dequeued(self, account: str) -> None:
        self._waiting_count -= 1
        if not self._waiting[account]:
            del self._waiting[account]
