"""A scheduler that fails after some seconds, as one does whose file can't be written any more."""

from typing import Any

from celery.beat import PersistentScheduler

TICKS = 15  # of a fifth of a second


class Failing(PersistentScheduler):
    ticks = 0

    def tick(self, *arguments: Any, **options: Any) -> float:
        self.ticks += 1
        if self.ticks > TICKS:
            raise OSError("No space left on device")
        return float(super().tick(*arguments, **options))

    def close(self) -> None:
        raise OSError("No space left on device")
