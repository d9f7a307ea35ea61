"""How often a device may POST (CONTRACT 1: once a second). Pure: the caller brings the time."""

TOLERANCE = 0.5  # seconds that one message may come early, so that a device's jitter costs it nothing
MAX_KEYS = 200_000  # remembered at once; past that the older half is forgotten


class Pace:
    """On average `rate` a second for each key; 0: no limit. Each process counts for itself."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.gap = 1 / rate if rate else 0.0
        self._due: dict[object, float] = {}  # when each key's next message would be on time
        self._older: dict[object, float] = {}
        self._turned_at = 0.0

    def wait(self, key: object, now: float) -> float:
        """Seconds until the key's next message is welcome; 0: this one is. `now` in seconds, any origin."""
        if not self.gap:
            return 0.0
        self._forget(now)
        due = self._due.get(key) or self._older.get(key, now)
        early = due - TOLERANCE - now
        if early > 0:
            return early
        self._due[key] = max(due, now) + self.gap
        return 0.0

    def left(self, key: object, now: float) -> int:
        """How many messages of the key would be welcome at once; only with a rate."""
        due = self._due.get(key) or self._older.get(key, now)
        ahead = now + TOLERANCE - max(due, now)
        return int(ahead / self.gap) + 1 if ahead >= 0 else 0

    def _forget(self, now: float) -> None:
        """A key that was silent for two gaps needs no memory."""
        if now - self._turned_at > 2 * self.gap + TOLERANCE or len(self._due) > MAX_KEYS:
            self._older, self._due, self._turned_at = self._due, {}, now
