"""A cache of bounded size that accounts share. When it is full, the account with the most entries loses its
oldest ones, so that an account with many entries pushes out its own."""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FairCache(Generic[K, V]):
    """`accounts` has the entries of each account, oldest first, for callers to read."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.accounts: dict[int, dict[K, V]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, account: int, key: K) -> V | None:
        entries = self.accounts.get(account)
        return entries.get(key) if entries else None

    def update(self, account: int, entries: Mapping[K, V]) -> None:
        kept = self.accounts.setdefault(account, {})
        before = len(kept)
        kept.update(entries)
        self._count += len(kept) - before
        if self._count > self.max_entries:
            self._make_room()

    def forget(self, account: int, key: K) -> None:
        entries = self.accounts.get(account)
        if entries and entries.pop(key, None) is not None:
            self._count -= 1
            if not entries:
                del self.accounts[account]

    def forget_account(self, account: int) -> None:
        self._count -= len(self.accounts.pop(account, ()))

    def clear(self) -> None:
        self.accounts.clear()
        self._count = 0

    def _make_room(self) -> None:
        """Drops the older half of the largest account's entries, then of the account that is the largest by
        then, until a sixteenth of the cache is free: so this is done seldom."""
        sizes = [(-len(entries), account) for account, entries in self.accounts.items()]
        heapify(sizes)
        while self._count > self.max_entries - self.max_entries // 16:
            _, largest = heappop(sizes)
            entries = self.accounts[largest]
            oldest = list(islice(entries, (len(entries) + 1) // 2))
            for key in oldest:
                del entries[key]
            self._count -= len(oldest)
            if entries:
                heappush(sizes, (-len(entries), largest))
            else:
                del self.accounts[largest]
