"""Whether a datapoint is what an event watches for. Pure: the same for the writers, which compare what they
store, and for the preview, which compares what is stored.

A source is a path into the value. At each `:` it goes a step down: by the key of an object, or by the index
of an array, if the step is a number. A key that reads as the rest of the path goes first: "a:b" of
{"a:b": 1}. Of an array without an index, all elements count. What the path leads to is compared if it is a
number, a text, true or false; all others, and what is not there, neither match nor clear.

Two sides are compared as numbers if both are numbers, by the contract's rules for numbers: so the text
"23.40" is a number, and "007", "12E4" and true are none. Integers of more than 64 bits are compared as
doubles.
"""

import math
import operator
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from thingscale.lib import json_rules

MAX_STEPS = 64  # of a source: a value has at most 32 levels, and keys may have a colon in them
MAX_TEXT = 1000  # characters of a compared text that are kept
MAX_IDENTITY = 100  # characters of a value that are remembered; of a longer one a hash is
MAX_SAMPLES = 32  # of a rate, that are remembered to find the highest value, and as many for the lowest
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
# A threshold that has to be a number may be written more freely than one that may be text.
_THRESHOLD = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MISSING = object()
UNCLEAR = object()
Number = int | float


class Verdict(NamedTuple):
    """What a rule says of a datapoint. `value` is what was compared, as text; of an array the first one that
    matched."""

    matched: bool  # False: the condition is over
    value: str


@dataclass(slots=True)
class Memory:
    """What a rule of change, rate or trend remembers of the datapoints of one device and tag."""

    rule: int = 0  # `Rule.fingerprint`
    at: int = -(1 << 63)  # microseconds: of the newest one
    value: Any = None  # a number, or a text that stands for the value
    # Time and number, of the window of a rate. Each of the highest is higher than those behind it. Of a
    # trend, the highest are some of its window, at even distances.
    highest: list[tuple[int, Number]] = field(default_factory=list)
    lowest: list[tuple[int, Number]] = field(default_factory=list)

    @classmethod
    def load(cls, text: bytes | str) -> "Memory":
        rule, at, value, highest, lowest = orjson.loads(text)
        return cls(rule, at, value, [(at, n) for at, n in highest], [(at, n) for at, n in lowest])

    def dump(self) -> bytes:
        return orjson.dumps([self.rule, self.at, self.value, self.highest, self.lowest])


_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


class Path:
    """A compiled source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.steps = source.split(":", MAX_STEPS) if source else []
        self.rests = [":".join(self.steps[start:]) for start in range(len(self.steps))]
        self._indices = [int(step) if _INDEX.fullmatch(step) else None for step in self.steps]
        # A datapoint that is a number, a text, true or false is v1's `value`.
        self.takes_bare = source in {"", "value", "value1"}

    def find(self, value: Any) -> list[Any]:
        """All that the path leads to, in order."""
        found = self.one(value)
        if found is None:
            return []
        return list(self.values(value)) if found is UNCLEAR else [found]

    def one(self, value: Any) -> Any:
        """What the path leads to, if that is one number or text, true or false, and is soon found. None: it
        leads to nothing. UNCLEAR: values() can tell."""
        if value.__class__ is not dict:
            return UNCLEAR
        if len(self.steps) == 1:
            found = value.get(self.source)
            if found is None and self.source == "value1" and "value1" not in value:
                found = value.get("value")
        else:
            found = value if self.steps else None
            for step, rest in zip(self.steps, self.rests, strict=True):
                if found.__class__ is not dict or (rest != step and rest in found):
                    return UNCLEAR
                found = found.get(step)
                if found is None:
                    return UNCLEAR if step == "value1" else None
        return UNCLEAR if found.__class__ is dict or found.__class__ is list else found

    def values(self, value: Any) -> Iterator[Any]:
        """The same, one by one."""
        steps, rests, indices, end = self.steps, self.rests, self._indices, len(self.steps)
        if type(value) is not dict and type(value) is not list:
            if self.takes_bare and value is not None:
                yield value
            return
        if not steps:
            return
        if steps[0] == "value1" and type(value) is dict and not {"value1", rests[0]} & value.keys():
            steps = ["value", *steps[1:]]
        below: list[tuple[Any, int]] = [(value, 0)]  # what is still to be looked at, the next one last
        while below:
            found, step = below.pop()
            kind = type(found)
            if kind is list:
                index = indices[step] if step < end else None
                if index is None:
                    below.extend((each, step) for each in reversed(found))
                elif index < len(found):
                    below.append((found[index], step + 1))
            elif step == end:
                if kind is not dict and found is not None:
                    yield found
            elif kind is dict:
                whole = found.get(rests[step], _MISSING)
                if whole is not _MISSING:
                    below.append((whole, end))
                elif steps[step] in found:
                    below.append((found[steps[step]], step + 1))


class Rule:
    """An event, compiled."""

    compares_text = False  # also true and false
    remembers = False  # it has to see all datapoints, each with the Memory of its device and tag
    # Numbers between the first two never match, unless they are the third. None: any number may.
    quiet: tuple[Number, Number, Number | None] | None = None

    def __init__(self, event: int, source: str, devices: str) -> None:
        self.event = event  # primary key
        self.path = Path(source)
        self.devices = devices
        # * and ? only.
        self._device = re.compile(translate(devices.replace("[", "[[]"))) if devices else None

    @staticmethod
    def of(  # noqa: PLR0913  (an event's fields)
        event: int,
        kind: str,
        source: str,
        operator: str,
        threshold: str,
        *,
        clear: str = "",
        window: int = 0,
        period: int = 0,
        devices: str = "",
    ) -> "Rule":
        """Raises ValueError for an event that compares no datapoints, because it lacks something."""
        threshold, clear = threshold.strip(), clear.strip()
        match kind:
            case "threshold":
                return _Threshold(event, source, devices, operator, threshold, clear)
            case "range":
                return _Range(event, source, devices, threshold, clear)
            case "change" if not threshold:
                return _OtherValue(event, source, devices)
            case "change":
                return _Moved(event, source, devices, threshold, clear)
            case "rate":
                return _Rate(event, source, devices, threshold, clear, window)
            case "trend":
                return _Trend(event, source, devices, operator, threshold, window, period)
        raise ValueError("It compares no datapoints")

    def is_quiet(self, number: Number) -> bool:
        """Whether this, if it is all that its path leads to, certainly does not match."""
        if self.quiet is None:
            return False
        low, high, exception = self.quiet
        return low < number < high and number != exception

    def watches(self, device_id: str) -> bool:
        """`device_id`: "" for a datapoint that no device has sent."""
        return self._device is None or (device_id != "" and self._device.match(device_id) is not None)

    def sees(self, value: Any, at: int = 0, memory: Memory | None = None) -> Verdict | None:
        """None: it neither matches nor clears. `value` is JSON text, or what that was parsed to; `at` is its
        time, in microseconds."""
        return self.judge(
            self.path.values(orjson.loads(value) if isinstance(value, bytes) else value), at, memory
        )

    def judge(self, values: Iterable[Any], at: int = 0, memory: Memory | None = None) -> Verdict | None:
        """The same of what its path leads to."""
        if not self.remembers:
            return self._compare(values)
        assert memory is not None
        if memory.rule != self.fingerprint:
            memory.rule, memory.at, memory.value = self.fingerprint, at, None
            memory.highest, memory.lowest = [], []
        # Of a datapoint that comes late, there is no saying what was before it.
        return self._remember(values, at, memory) if at >= memory.at else None

    @property
    def fingerprint(self) -> int:
        """Changes with what the memory depends on."""
        return 0

    def _compare(self, values: Iterable[Any]) -> Verdict | None:
        raise NotImplementedError

    def _remember(self, values: Iterable[Any], at: int, memory: Memory) -> Verdict | None:
        raise NotImplementedError


class _Threshold(Rule):
    """While it holds, it ends only when it would not hold with `clear` in place of the threshold."""

    def __init__(  # noqa: PLR0913, PLR0917
        self, event: int, source: str, devices: str, operator: str, threshold: str, clear: str
    ) -> None:
        super().__init__(event, source, devices)
        self._holds = _HOLDS[operator]
        self._text = threshold
        self.compares_text = operator in {"=", "!="}
        self._clear = None
        if self.compares_text:
            if not threshold:
                raise ValueError("The threshold is missing")
            self._number = _number_of_text(threshold)
            if operator == "=":
                self.quiet = -math.inf, math.inf, self._number
            return
        self._number = number = read_threshold(threshold)
        self._clear = read_threshold(clear) if clear else None
        self.quiet = (-math.inf, number, None) if ">" in operator else (number, math.inf, None)

    def _compare(self, values: Iterable[Any]) -> Verdict | None:
        cleared, stays = None, False
        for value in values:
            number = to_number(value)
            if number is not None and self._number is not None:
                holds = self._holds(number, self._number)
                stays = stays or (self._clear is not None and self._holds(number, self._clear))
            elif self.compares_text:
                holds = self._holds(value if type(value) is str else to_text(value), self._text)
            else:
                continue
            if holds:
                return Verdict(True, to_text(value))
            cleared = cleared or Verdict(False, to_text(value))
        return None if stays else cleared


class _Range(Rule):
    """Matches outside of it. With `clear`, it ends only inside of that."""

    def __init__(self, event: int, source: str, devices: str, threshold: str, clear: str) -> None:
        super().__init__(event, source, devices)
        self._low, self._high = read_range(threshold)
        self._clear_low, self._clear_high = read_range(clear) if clear else (self._low, self._high)
        self.quiet = self._low, self._high, None

    def _compare(self, values: Iterable[Any]) -> Verdict | None:
        cleared, stays = None, False
        for value in values:
            number = to_number(value)
            if number is None:
                continue
            if not self._low <= number <= self._high:
                return Verdict(True, to_text(value))
            stays = stays or not self._clear_low <= number <= self._clear_high
            cleared = cleared or Verdict(False, to_text(value))
        return None if stays else cleared


class _OtherValue(Rule):
    """Any change. Of an array, any change of an element."""

    remembers = True

    @property
    def fingerprint(self) -> int:
        return zlib.crc32(b"change:" + self.path.source.encode())

    def _remember(self, values: Iterable[Any], at: int, memory: Memory) -> Verdict | None:
        found = list(values)
        if not found:
            return None
        before, memory.value, memory.at = memory.value, _identity(found), at
        return None if before is None else Verdict(before != memory.value, to_text(found[0]))


class _Moved(Rule):
    """A number that differs from the one before by more than the threshold. Of an array, the first number
    counts. With `clear`, it ends only when it moves by no more than that."""

    remembers = True

    def __init__(self, event: int, source: str, devices: str, threshold: str, clear: str) -> None:
        super().__init__(event, source, devices)
        self._limit = read_threshold(threshold)
        self._clear = read_threshold(clear) if clear else self._limit

    @property
    def fingerprint(self) -> int:
        return zlib.crc32(b"moved:" + self.path.source.encode())

    def _remember(self, values: Iterable[Any], at: int, memory: Memory) -> Verdict | None:
        number = next((n for each in values if (n := to_number(each)) is not None), None)
        if number is None:
            return None
        moved = self._moved(number, at, memory)
        if moved is None:
            return None
        if moved > self._limit:
            return Verdict(True, to_text(number))
        return None if moved > self._clear else Verdict(False, to_text(number))

    def _moved(self, number: Number, at: int, memory: Memory) -> Number | None:
        """How far. None: there is nothing to compare it with."""
        before, memory.value, memory.at = memory.value, number, at
        return None if before is None else abs(number - before)


class _Rate(_Moved):
    """The same, against all of the last `window` seconds."""

    def __init__(  # noqa: PLR0913, PLR0917
        self, event: int, source: str, devices: str, threshold: str, clear: str, window: int
    ) -> None:
        super().__init__(event, source, devices, threshold, clear)
        if window <= 0:
            raise ValueError("The window is missing")
        self._window = window * 1_000_000

    @property
    def fingerprint(self) -> int:
        return zlib.crc32(f"rate:{self._window}:{self.path.source}".encode())

    def _moved(self, number: Number, at: int, memory: Memory) -> Number | None:
        since, memory.at = at - self._window, at
        highest = memory.highest = [each for each in memory.highest if each[0] >= since]
        lowest = memory.lowest = [each for each in memory.lowest if each[0] >= since]
        moved = max(highest[0][1] - number, number - lowest[0][1], 0) if highest and lowest else None
        while highest and highest[-1][1] <= number:
            highest.pop()
        while lowest and lowest[-1][1] >= number:
            lowest.pop()
        for extremes in (highest, lowest):
            if len(extremes) >= MAX_SAMPLES:  # of two neighbours the older one stays, which is further away
                del extremes[1::2]
            extremes.append((at, number))
        return moved


class _Trend(Rule):
    """A number that gets to the threshold soon, or has got there, if it goes on as it did in the window: by
    the line that fits what came in it best. Less than half of a window tells nothing."""

    remembers = True

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        event: int,
        source: str,
        devices: str,
        operator: str,
        threshold: str,
        window: int,
        period: int,
    ) -> None:
        super().__init__(event, source, devices)
        self._holds = _HOLDS[operator]
        if operator in {"=", "!="}:
            raise ValueError("A trend goes above or below its threshold")
        self._limit = read_threshold(threshold)
        if window <= 0 or period <= 0:
            raise ValueError("The time is missing")
        self._window, self._ahead = window * 1_000_000, period * 1_000_000

    @property
    def fingerprint(self) -> int:
        return zlib.crc32(f"trend:{self._window}:{self.path.source}".encode())

    def _remember(self, values: Iterable[Any], at: int, memory: Memory) -> Verdict | None:
        number = next((n for each in values if (n := to_number(each)) is not None), None)
        if number is None:
            return None
        kept = memory.highest = [each for each in memory.highest if each[0] >= at - self._window]
        memory.at = at
        points = [*kept, (at, number)]
        if not kept or at - kept[-1][0] >= self._window // MAX_SAMPLES:
            kept.append((at, number))
            del kept[: max(0, len(kept) - MAX_SAMPLES - 1)]
        if at - points[0][0] < self._window // 2:
            return None
        reached = number + _slope(points) * self._ahead
        return Verdict(self._holds(number, self._limit) or self._holds(reached, self._limit), to_text(number))


def _slope(points: Sequence[tuple[int, Number]]) -> float:
    """Of the line with the least squares, a microsecond."""
    start = points[0][0]
    times = [float(at - start) for at, _ in points]
    middle, mean = sum(times) / len(points), sum(number for _, number in points) / len(points)
    spread = sum((at - middle) ** 2 for at in times)
    if not spread:
        return 0.0
    return sum((at - middle) * (n - mean) for at, (_, n) in zip(times, points, strict=True)) / spread


def read_threshold(text: str) -> Number:
    """Raises ValueError."""
    text = text.strip()
    if not _THRESHOLD.fullmatch(text):
        raise ValueError("It is not a number")
    number = float(text)
    if math.isinf(number):
        raise ValueError("It is more than a double holds")
    return int(text) if text.lstrip("-").isdecimal() and abs(number) < 1 << 63 else number


def read_range(text: str) -> tuple[Number, Number]:
    """Of LOW..HIGH. Raises ValueError."""
    low, separator, high = text.partition("..")
    if not separator:
        raise ValueError("It is not LOW..HIGH")
    limits = read_threshold(low), read_threshold(high)
    if limits[0] > limits[1]:
        raise ValueError("LOW is more than HIGH")
    return limits


def to_number(value: Any) -> Number | None:
    kind = type(value)
    if kind is float or (kind is int and -(1 << 63) <= value < 1 << 64):
        return value  # type: ignore[no-any-return]
    if kind is str:
        return _number_of_text(value)
    return _number_of_text(str(value)) if kind is int else None


def _number_of_text(text: str) -> Number | None:
    if len(text) > MAX_TEXT or not json_rules.is_number(text):
        return None
    try:
        number = orjson.loads(text.strip())
    except orjson.JSONDecodeError:
        return None
    return number if type(number) is int or (type(number) is float and math.isfinite(number)) else None


def to_text(value: Any) -> str:
    """Of a number, a text, true or false."""
    if type(value) is str:
        return value[:MAX_TEXT]
    return str(value).lower() if type(value) is bool else repr(value)


def _identity(values: list[Any]) -> str:
    """The same text for what is the same value."""
    if len(values) == 1 and (number := to_number(values[0])) is not None:
        return repr(int(number) if number == int(number) else number)
    text = repr(values)
    if len(text) <= MAX_IDENTITY:
        return text
    return blake2b(text.encode(), digest_size=16).hexdigest()
