"""How much of bodies that are still coming a process holds, in all and of one account: a thousand
connections, each with nearly all of a large body, would be all of its memory."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from thingscale.web.request_body import Message, Receive, read_body

FREE = 64 * 1024  # bytes of each body that don't count, so that no ordinary message finds it full
MAX_BYTES = 128 * 2**20
MAX_BYTES_PER_ACCOUNT = 32 * 2**20


class NoRoom(Exception):
    """The sender has to try again, once other bodies are whole."""


class BodyRoom:
    """For one event loop."""

    def __init__(self, most: int = MAX_BYTES, per_account: int = MAX_BYTES_PER_ACCOUNT) -> None:
        self.taken: Counter[Hashable] = Counter()  # bytes by account
        self._most = most
        self._per_account = per_account

    async def read(self, account: Hashable, receive: Receive, most: int) -> bytes | None:
        """As read_body does. Raises NoRoom."""
        with self.counted(account, receive) as counting:
            return await read_body(counting, most)

    @contextmanager
    def counted(self, account: Hashable, receive: Receive) -> Iterator[Receive]:
        """What is received takes room until the end. It raises NoRoom."""
        size = counted = 0

        async def counting() -> Message:
            nonlocal size, counted
            event = await receive()
            size += len(event.get("body", b""))
            if more := max(0, size - FREE - counted):
                self._take(account, more)
                counted += more
            return event

        try:
            yield counting
        finally:
            self.taken[account] -= counted
            if not self.taken[account]:
                del self.taken[account]

    def _take(self, account: Hashable, size: int) -> None:
        if self.taken[account] + size > self._per_account or self.taken.total() + size > self._most:
            raise NoRoom
        self.taken[account] += size
