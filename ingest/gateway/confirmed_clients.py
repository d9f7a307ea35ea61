"""Which clients had an answer to all that they had sent when they disconnected. What such a client sends next
is new, even if it looks like something from before. A client that is not known here, after a restart or at
another gateway, may be sending the same thing again."""

import time

from thingscale.devices.presence import ClientKey
from thingscale.lib.clock import now_us
from thingscale.lib.fair_cache import FairCache

MAX_CLIENTS = 100_000
MAX_DRIFT = 1_000_000  # microseconds; if the two clocks differ by more, one of them was set


class ConfirmedClients:
    def __init__(self) -> None:
        self._at: FairCache[str, tuple[int, int]] = FairCache(MAX_CLIENTS)  # by both clocks, microseconds

    def note(self, client: ClientKey, at: int = 0) -> None:
        """All that it sent until `at` (0: until now) is answered."""
        now = now_us()
        since = now - at if at else 0
        self._at.update(client[0], {client[1]: (now - since, _monotonic_us() - since)})

    def at(self, client: ClientKey) -> int:
        """Microseconds since 1970; 0: not known. If the clock was set since then, the time is of no use: a
        datapoint that came later might look older."""
        wall, monotonic = self._at.get(*client) or (0, 0)
        in_step = abs((now_us() - wall) - (_monotonic_us() - monotonic)) <= MAX_DRIFT
        return wall if wall and in_step else 0


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000
