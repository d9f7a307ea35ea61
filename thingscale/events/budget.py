"""What an account may cause: so much at once, and so much a second. Each process has budgets of its own."""

import threading


class Budget:
    """What an account may have of something: so much at once, and so much a second."""

    MAX_ACCOUNTS = 10_000  # that are remembered

    def __init__(self, burst: int, rate: int) -> None:
        self._burst = burst
        self._rate = rate
        self._full_at: dict[int, float] = {}  # when an account will have all of it again
        self._lock = threading.Lock()

    def left(self, account: int, now: float) -> int:
        missing = max(self._full_at.get(account, now) - now, 0.0) * self._rate
        return max(int(self._burst - missing), 0)

    def take(self, account: int, count: int, now: float) -> None:
        with self._lock:
            self._full_at[account] = max(self._full_at.get(account, now), now) + count / self._rate
            if len(self._full_at) > self.MAX_ACCOUNTS:
                self._full_at = {each: at for each, at in self._full_at.items() if at > now}
