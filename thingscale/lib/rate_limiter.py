"""How often a device may POST (docs/contract.md, Limits), and how often somebody may fail. Pure: the caller
brings the time."""

TOLERANCE = 0.5  # seconds that one message may come early, so that a device's jitter costs it nothing
MAX_DEVICES = 200_000  # within two gaps, in fair shares for the accounts
MAX_FAILING = 100_000  # addresses or the like; twice as many for a moment

Devices = dict[str, float]  # by their ids: when each one's next message would be on time


class RateLimiter:
    """On average `rate` a second for each device of an account; 0: no limit. Each process counts for
    itself."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.gap = 1 / rate if rate else 0.0
        self._due: dict[int, Devices] = {}
        self._older: dict[int, Devices] = {}
        self._count = 0  # of the devices in `_due`
        self._turned_at = 0.0

    def wait(self, account: int, device_id: str, now: float) -> float:
        """Seconds until the device's next message is welcome; 0: this one is. `now` in seconds, of any
        origin."""
        if not self.gap:
            return 0.0
        if now - self._turned_at > 2 * self.gap + TOLERANCE:  # a device silent for two gaps needs no memory
            self._older, self._due, self._count, self._turned_at = self._due, {}, 0, now
        devices = self._due.get(account)
        if devices is None:
            devices = self._due[account] = {}
        due = devices.get(device_id)
        if due is None:
            due = self._older[account].get(device_id, now) if account in self._older else now
        early = due - TOLERANCE - now
        if early > 0:
            return early
        if device_id not in devices:
            if not self._has_room(devices):
                return self.gap
            self._count += 1
        devices[device_id] = max(due, now) + self.gap
        return 0.0

    def left(self, account: int, device_id: str, now: float) -> int:
        """How many messages of the device would be welcome at once; only with a rate."""
        devices, older = self._due.get(account, {}), self._older.get(account, {})
        if device_id not in devices and not self._has_room(devices):
            return 0
        due = devices.get(device_id) or older.get(device_id, now)
        ahead = now + TOLERANCE - max(due, now)
        return int(ahead / self.gap) + 1 if ahead >= 0 else 0

    def _has_room(self, devices: Devices) -> bool:
        """For one more of the same account. An account that makes up device ids waits with those: to forget a
        device would be to let it send more, be it its own or another account's."""
        return self._count < MAX_DEVICES or len(devices) * len(self._due) < MAX_DEVICES


class FailureLimiter:
    """At most `most` failures at once, and on average as many in `seconds`; 0: no limit."""

    def __init__(self, most: int, seconds: float) -> None:
        self._gap = seconds / most if most else 0.0
        self._seconds = seconds
        self._forgotten_at: dict[str, float] = {}  # by who failed: when all of it will be
        self._older: dict[str, float] = {}
        self._turned_at = 0.0

    def note(self, who: str, now: float) -> None:
        """A failure; `now` in seconds, of any origin."""
        if not self._gap:
            return
        if now - self._turned_at > self._seconds or len(self._forgotten_at) >= MAX_FAILING:
            # Who has not failed for so long needs no memory.
            self._older, self._forgotten_at, self._turned_at = self._forgotten_at, {}, now
        at = max(self._at(who), now) + self._gap
        self._forgotten_at[who] = min(at, now + self._seconds + self._gap / 2)

    def too_many(self, who: str, now: float) -> bool:
        """Whether one more would be."""
        return bool(self._gap) and self._at(who) - now > self._seconds - self._gap / 2

    def _at(self, who: str) -> float:
        return self._forgotten_at.get(who) or self._older.get(who, 0.0)
