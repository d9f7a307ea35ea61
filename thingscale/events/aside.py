"""Events that can't be followed for now: somebody has locked their rows, or following them takes too long.
What was seen of them waits, in order, while others go on. Pure.
"""

import time
from dataclasses import dataclass

MAX_EVENTS = 1_000
FIRST_SECONDS = 10.0  # that one waits; twice as long each time
TRIES = 10  # for an hour and a half
IN_A_ROW_SECONDS = 60.0  # after its wait, in which it fails again


@dataclass
class _Wait:
    until: float
    seconds: float
    tries: int = 1


class Aside:
    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}

    def events(self) -> list[int]:
        now = time.monotonic()
        return [event for event, wait in self._waits.items() if wait.until > now]

    def add(self, event: int) -> bool:
        """Whether it may be tried again: not if it has failed too often, in a row."""
        now = time.monotonic()
        wait = self._waits.pop(event, None)
        if wait and wait.tries >= TRIES:
            return False
        if wait and now <= wait.until + IN_A_ROW_SECONDS:
            seconds = wait.seconds * 2
            self._waits[event] = _Wait(now + seconds, seconds, wait.tries + 1)
        else:
            self._waits[event] = _Wait(now + FIRST_SECONDS, FIRST_SECONDS)
        if len(self._waits) > MAX_EVENTS:
            del self._waits[next(iter(self._waits))]
        return True
