"""Limits how many datapoints a second an account may send to its intakes (docs/contract.md, Limits).
The caller passes the time."""

import threading

BURST_SECONDS = 10.0  # worth of datapoints may come at once
SHARE = 0.75  # of the account's rate is the most that one intake can use
NOT_STORED = 20  # datapoints as which a device counts besides, if nothing of it is stored: it takes longer
MAX_KNOWN = 100_000  # accounts and intakes that are remembered

Bucket = tuple[int, int]  # account, and its intake, or ACCOUNT
ACCOUNT = -1


class PointRate:
    """`rate` is an account's; 0: no limit. Each process counts for itself. How many datapoints a request or
    an MQTT message has is only known once it is read, so the next ones wait for it."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._lock = threading.Lock()  # large bodies are read in a thread
        # When what has come is worked off; in the past, if less came than may.
        self._due: dict[Bucket, float] = {}

    def wait(self, account: int, intake: int, own_rate: int | None, now: float) -> float:
        """Seconds until the intake may take its next request; 0: now. `now` is in seconds since any time."""
        buckets = self._buckets(account, intake, own_rate)
        return max([0.0, *(self._due.get(bucket, now) - now for bucket in buckets)])

    def take(self, account: int, intake: int, own_rate: int | None, points: int, now: float) -> float:
        """Counts so many datapoints, unless it has to wait: so many seconds."""
        with self._lock:
            wait = self.wait(account, intake, own_rate, now)
            if not wait:
                self._count(account, intake, own_rate, points, now)
            return wait

    def count(self, account: int, intake: int, own_rate: int | None, points: int, now: float) -> None:
        """Whatever has come before."""
        with self._lock:
            self._count(account, intake, own_rate, points, now)

    def give_back(self, account: int, intake: int, own_rate: int | None, points: int, now: float) -> None:
        with self._lock:
            self._count(account, intake, own_rate, -points, now)

    def _count(self, account: int, intake: int, own_rate: int | None, points: int, now: float) -> None:
        if len(self._due) >= MAX_KNOWN:
            self._due = {bucket: due for bucket, due in self._due.items() if due > now - BURST_SECONDS}
        for bucket, rate in self._buckets(account, intake, own_rate).items():
            idle = now - BURST_SECONDS
            self._due[bucket] = max(self._due.get(bucket, idle), idle) + points / rate

    def _buckets(self, account: int, intake: int, own_rate: int | None) -> dict[Bucket, float]:
        buckets: dict[Bucket, float] = {}
        if self.rate:
            buckets[account, ACCOUNT] = self.rate
            buckets[account, intake] = SHARE * self.rate
        if own_rate:
            buckets[account, intake] = min(own_rate, buckets.get((account, intake), own_rate))
        return buckets
