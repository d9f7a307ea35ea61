"""Since when a datapoint is recent: what may have been sent before is looked for among those.

A clock that is set forward would put what has just been stored out of reach. So for as long as that matters
the look goes back to what the clock showed before.
"""

import threading
import time
from collections import deque

from django.conf import settings

from thingscale.lib.clock import now_us

DRIFT = 1_000_000  # microseconds; a larger change of the clock is a step
FARTHEST = 86_400 * 1_000_000  # a clock that was off by more, as after a start without one, is not followed


class Window:
    """Each process has one, which is to be asked often: steps between two looks are seen as their sum."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = now_us() - _steady_us()
        self._left: deque[tuple[int, int]] = deque(maxlen=100)  # steady time of the step, offset before it

    def since(self) -> int:
        """Microseconds since 1970 UTC, as the clock shows or showed."""
        reach = settings.DEDUPE_SECONDS * 1_000_000
        with self._lock:
            steady, now = _steady_us(), now_us()
            if abs(now - steady - self._offset) > DRIFT:
                self._left.append((steady, self._offset))
                self._offset = now - steady
            while self._left and self._left[0][0] < steady - reach:
                self._left.popleft()
            shown = (steady + offset for _, offset in self._left)
            return min([now, *(then for then in shown if now - then < FARTHEST)]) - reach


def _steady_us() -> int:
    return time.monotonic_ns() // 1000


WINDOW = Window()
