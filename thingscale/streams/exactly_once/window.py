"""The window in which a message that is sent again is recognised: it is looked for among the datapoints and
requests that arrived since the window's start.

If the clock is set forward, what has just been stored would be out of the window. So for as long as it
matters, the window reaches back to what the clock showed before.
"""

import threading
import time
from collections import deque

from django.conf import settings

from thingscale.lib.clock import now_us

DRIFT = 1_000_000  # microseconds; a larger change of the clock is a step
MAX_STEP = 86_400 * 1_000_000  # a larger step, as after a start without a clock, is ignored


class DedupeWindow:
    """Each process has one. start() has to be called often: of several steps of the clock between two calls,
    only the sum is seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = now_us() - _steady_us()
        self._steps: deque[tuple[int, int]] = deque(maxlen=100)  # steady time of each, and the offset before

    def start(self) -> int:
        """In microseconds since 1970 UTC."""
        length = settings.DEDUPE_SECONDS * 1_000_000
        with self._lock:
            steady, now = _steady_us(), now_us()
            if abs(now - steady - self._offset) > DRIFT:
                self._steps.append((steady, self._offset))
                self._offset = now - steady
            while self._steps and self._steps[0][0] < steady - length:
                self._steps.popleft()
            shown = (steady + offset for _, offset in self._steps)
            return min([now, *(then for then in shown if now - then < MAX_STEP)]) - length


def _steady_us() -> int:
    return time.monotonic_ns() // 1000


DEDUPE_WINDOW = DedupeWindow()
