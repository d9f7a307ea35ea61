"""Asking Valkey in the middle of a request, which must not wait for one that is away."""

import logging
import threading
import time
from collections.abc import Callable

from redis.exceptions import RedisError

log = logging.getLogger(__name__)


class CircuitBreaker:
    """Keeps requests from waiting for a server that is away: after a failure nobody asks for `PAUSE`, then
    one request tries."""

    PAUSE = 5.0  # seconds
    QUIET = 60.0  # between two lines in the log

    def __init__(self, loss: str) -> None:
        self._loss = loss  # what the log says is missing meanwhile
        self._lock = threading.Lock()
        self._open_until = self._told = float("-inf")
        self._failed = False

    def ask(self, question: Callable[[], int]) -> int | None:
        """None while the server is away."""
        if not self._may_ask():
            return None
        try:
            answer = question()
        except (RedisError, OSError) as error:
            self._fail(error)
            return None
        if self._failed:
            self._failed, self._open_until = False, float("-inf")
        return answer

    def _may_ask(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                return False
            if self._failed:
                self._open_until = now + self.PAUSE  # the others go on without
            return True

    def _fail(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            self._failed, self._open_until = True, now + self.PAUSE
            if now < self._told + self.QUIET:
                return
            self._told = now
        log.warning("%s while Valkey is away: %s", self._loss, type(error).__name__)
