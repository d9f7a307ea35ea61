"""Who has left with an answer to all that it had sent: what comes after that is new, though it may look like
something from before. Not known of a client (after a restart, at another gateway), it may be the same."""

import time

from thingscale.devices.presence import ClientKey
from thingscale.lib.clock import now_us
from thingscale.lib.fair_cache import FairCache

MAX_CLIENTS = 100_000
DRIFT = 1_000_000  # microseconds; a larger difference between the clocks is a step of one


class Settled:
    def __init__(self) -> None:
        self._at: FairCache[str, tuple[int, int]] = FairCache(MAX_CLIENTS)  # by both clocks, microseconds

    def note(self, client: ClientKey, at: int = 0) -> None:
        """`at`: until then, else until now."""
        now = now_us()
        since = now - at if at else 0
        self._at.update(client[0], {client[1]: (now - since, _steady_us() - since)})

    def at(self, client: ClientKey) -> int:
        """Microseconds since 1970; 0: not known. A clock that was set since then tells nothing: a datapoint
        from after that time might look older."""
        shown, steady = self._at.get(*client) or (0, 0)
        in_step = abs((now_us() - shown) - (_steady_us() - steady)) <= DRIFT
        return shown if shown and in_step else 0


def _steady_us() -> int:
    return time.monotonic_ns() // 1000
