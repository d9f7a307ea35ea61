"""Limits how often a device may POST (docs/contract.md, Limits), and how often somebody may fail. The caller
passes the time."""

TOLERANCE = 0.5  # seconds by which a message may come early: the timing of devices varies
MAX_DEVICES = 200_000  # that are remembered, within two gaps, in fair shares for the accounts
MAX_FAILING = 100_000  # addresses or the like that are remembered; twice as many for a moment

Devices = dict[str, float]  # by device id, when the next message would be on time


class RateLimiter:
    """Lets each device of an account send `rate` messages a second on average; 0: no limit. Each process
    counts for itself."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.gap = 1 / rate if rate else 0.0
        self._due: dict[int, Devices] = {}
        self._older: dict[int, Devices] = {}
        self._count = 0  # of the devices in `_due`
        self._turned_at = 0.0

    def wait(self, account: int, device_id: str, now: float) -> float:
        """Seconds until the device may send its next message; 0 if it may send this one. `now` is in seconds
        since any time."""
        if not self.gap:
            return 0.0
        # A device that was silent for two gaps need not be remembered.
        if now - self._turned_at > 2 * self.gap + TOLERANCE:
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
        """How many messages the device might send at once. Only to be called if there is a rate."""
        devices, older = self._due.get(account, {}), self._older.get(account, {})
        if device_id not in devices and not self._has_room(devices):
            return 0
        due = devices.get(device_id) or older.get(device_id, now)
        ahead = now + TOLERANCE - max(due, now)
        return int(ahead / self.gap) + 1 if ahead >= 0 else 0

    def _has_room(self, devices: Devices) -> bool:
        """Whether there is room for one more device of the account. If an account makes up device ids, these
        have to wait. No device is forgotten to make room, since that one could send more then."""
        return self._count < MAX_DEVICES or len(devices) * len(self._due) < MAX_DEVICES


class FailureLimiter:
    """Allows `most` failures at once, and as many in `seconds` on average; 0: no limit."""

    def __init__(self, most: int, seconds: float) -> None:
        self._gap = seconds / most if most else 0.0
        self._seconds = seconds
        self._forgotten_at: dict[str, float] = {}  # when all failures of somebody will be forgotten
        self._older: dict[str, float] = {}
        self._turned_at = 0.0

    def note(self, who: str, now: float) -> None:
        """Counts a failure. `now` is in seconds since any time."""
        if not self._gap:
            return
        if now - self._turned_at > self._seconds or len(self._forgotten_at) >= MAX_FAILING:
            # Those that have not failed for `seconds` need not be remembered.
            self._older, self._forgotten_at, self._turned_at = self._forgotten_at, {}, now
        at = max(self._at(who), now) + self._gap
        self._forgotten_at[who] = min(at, now + self._seconds + self._gap / 2)

    def too_many(self, who: str, now: float) -> bool:
        """Whether one more failure would be too many."""
        return bool(self._gap) and self._at(who) - now > self._seconds - self._gap / 2

    def _at(self, who: str) -> float:
        return self._forgotten_at.get(who) or self._older.get(who, 0.0)
