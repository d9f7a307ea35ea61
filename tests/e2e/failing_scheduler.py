"""A scheduler that fails after some seconds, as any part of it may."""

from typing import Any

from thingscale.background.schedule import SharedSchedule

TICKS = 15  # of a fifth of a second


class Failing(SharedSchedule):
    ticks = 0

    def tick(self, *arguments: Any, **options: Any) -> float:
        self.ticks += 1
        if self.ticks > TICKS:
            raise OSError("No space left on device")
        return super().tick(*arguments, **options)

    def close(self) -> None:
        raise OSError("No space left on device")
