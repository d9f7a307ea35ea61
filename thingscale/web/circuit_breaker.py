"""A circuit breaker for Valkey: requests must not wait for a server that is away."""

import logging
import threading
import time
from collections.abc import Callable

from redis.exceptions import RedisError

log = logging.getLogger(__name__)


class CircuitBreaker:
    """After a failure, no request asks the server for PAUSE; then one request tries."""

    PAUSE = 5.0  # seconds
    QUIET = 60.0  # between two lines in the log

    def __init__(self, loss: str) -> None:
        self._loss = loss  # what is missing meanwhile, for the log
        self._lock = threading.Lock()
        self._open_until = self._logged_at = float("-inf")
        self._failed = False

    def ask(self, question: Callable[[], int]) -> int | None:
        """None while the server is away."""
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                return None
            if self._failed:
                self._open_until = now + self.PAUSE  # this request tries, the others go on without
        try:
            answer = question()
        except (RedisError, OSError) as error:
            with self._lock:
                now = time.monotonic()
                self._failed, self._open_until = True, now + self.PAUSE
                log_it = now >= self._logged_at + self.QUIET
                if log_it:
                    self._logged_at = now
            if log_it:
                log.warning("%s while Valkey is away: %s", self._loss, type(error).__name__)
            return None
        if self._failed:
            self._failed, self._open_until = False, float("-inf")
        return answer
