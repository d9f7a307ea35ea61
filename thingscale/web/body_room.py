"""How much of bodies that are still coming a process holds, in all and of one account: a thousand
connections, each with nearly all of a large body, would be all of its memory."""

from collections import Counter

from thingscale.web.request_body import Message, Receive, read_body

FREE = 64 * 1024  # bytes of each body that don't count, so that no ordinary message finds it full
MAX_BYTES = 128 * 2**20
MAX_BYTES_PER_ACCOUNT = 32 * 2**20


class NoRoom(Exception):
    """The sender has to try again, once other bodies are whole."""


class BodyRoom:
    """For one event loop."""

    def __init__(self) -> None:
        self.taken: Counter[int] = Counter()  # bytes by account

    async def read(self, account: int, receive: Receive, most: int) -> bytes | None:
        """As read_body does. Raises NoRoom."""
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
            return await read_body(counting, most)
        finally:
            self.taken[account] -= counted
            if not self.taken[account]:
                del self.taken[account]

    def _take(self, account: int, size: int) -> None:
        if self.taken[account] + size > MAX_BYTES_PER_ACCOUNT or self.taken.total() + size > MAX_BYTES:
            raise NoRoom
        self.taken[account] += size
