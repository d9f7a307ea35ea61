"""For a process whose machine's clock is wrong. Python imports this module first, if it is in its path: all
that tells the time of day is ahead by the seconds that the file ANOTHER_CLOCK has at that moment. What runs
evenly (time.monotonic()) is as it was.
"""

import datetime
import mmap
import os
import struct
import time
from datetime import datetime as _real
from pathlib import Path
from typing import Any

_now, _now_ns = time.time, time.time_ns
with Path(os.environ["ANOTHER_CLOCK"]).open("rb") as _file:
    _seconds = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)


def ahead() -> float:
    (seconds,) = struct.unpack("d", _seconds[:])
    return float(seconds)


class _Kind(type):
    """The times themselves are of the real class."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, _real)


class _Datetime(_real, metaclass=_Kind):
    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return _real(*arguments, **named)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _real.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _real.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


time.time = lambda: _now() + ahead()
time.time_ns = lambda: _now_ns() + int(ahead() * 1e9)
_Datetime.__name__ = "datetime"
datetime.datetime = _Datetime  # type: ignore[misc]
