"""Places that many want at once: each account has at most its share of them, and the others' turns come first
when it has more to ask. For one event loop."""

import asyncio
from collections import Counter, deque


class Busy(Exception):
    """There is no place, nor one to wait on."""


class Shares:
    def __init__(self, places: int, per_account: int, waiting: int, waiting_per_account: int) -> None:
        self.taken: Counter[str] = Counter()
        self._free = places
        self._per_account = per_account
        self._max_waiting = waiting
        self._waiting_per_account = waiting_per_account
        self._count = 0
        # Those whose turn is next come first; an account that got a place goes to the end.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, account: str, seconds: float, left: asyncio.Future[None]) -> bool:
        """False: the client left meanwhile (`left` is done), and there is nothing to release. Raises Busy
        after so many seconds, or at once if too many wait already."""
        if left.done():
            return False
        if self._free and self.taken[account] < self._per_account:
            self._grant(account)
            return True
        turn = self._queue(account)
        try:
            await asyncio.wait({turn, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done():
                self.release(account)
            raise
        finally:
            if not turn.done():
                self._leave(account, turn)
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
        self._next()

    def _grant(self, account: str) -> None:
        self._free -= 1
        self.taken[account] += 1

    def _queue(self, account: str) -> asyncio.Future[None]:
        mine = self._waiting.get(account, ())
        if self._count >= self._max_waiting or len(mine) >= self._waiting_per_account:
            raise Busy
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        self._count += 1
        return turn

    def _leave(self, account: str, turn: asyncio.Future[None]) -> None:
        turn.cancel()
        self._waiting[account].remove(turn)
        self._dequeued(account)

    def _dequeued(self, account: str) -> None:
        self._count -= 1
        if not self._waiting[account]:
            del self._waiting[account]

    def _next(self) -> None:
        while self._free:
            account = next((each for each in self._waiting if self.taken[each] < self._per_account), None)
            if account is None:
                return
            turns = self._waiting.pop(account)
            self._waiting[account] = turns  # at the end
            self._grant(account)
            turns.popleft().set_result(None)
            self._dequeued(account)
