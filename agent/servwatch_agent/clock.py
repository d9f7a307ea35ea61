"""The clocks that samples and sending go by. Tests have one that runs faster."""

from __future__ import annotations

import asyncio
import time


class Clock:
    def wall(self) -> float:
        """Seconds since 1970. It may be set at any time, in both directions."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds; it is never set."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
