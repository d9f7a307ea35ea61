"""Numbers that have labels besides the name of a metric -> readings: all numbers of one metric, device and
time are one datapoint, whose keys are the labels (`{"cpu=0,mode=idle": 93.1}`). Without labels it is the bare
number.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import orjson

from thingscale.intakes.formats.readings import (
    MAX_READINGS,
    BadBody,
    Reading,
    device_id_of,
    json_value,
    tag_of,
)
from thingscale.lib import clock
from thingscale.lib.json_rules import BadValue
from thingscale.lib.reasons import Reason

UNLABELLED = "value"  # the key of a bare number among labelled ones
MAX_KEY = 16 * 1024  # characters
MAX_TEXT = 16 * 1024 * 1024  # characters of all keys and objects: a short body can refer to a long text often
MAX_BUCKETS = 1000  # of a histogram
MAX_REMEMBERED = 16_384
MAX_REMEMBERED_SIZE = 4 * 1024 * 1024  # bytes or characters, together
MAX_SHORT = 1000  # of one

_NOT_IN_VALUE = re.compile(r"%(?=[0-9A-F]{2})|[,\x00-\x1f\x7f]")
_NOT_IN_NAME = re.compile(r"%(?=[0-9A-F]{2})|[,=\x00-\x1f\x7f]")

K = TypeVar("K")
V = TypeVar("V")
Place = tuple[str, str | None, int | None]  # device id, tag, time in microseconds


def key_of(labels: Iterable[tuple[str, str]]) -> str:
    """`cpu=0,mode=idle`; empty without labels. What would make two sets of labels one is percent-encoded."""
    return ",".join([_PAIRS[pair] for pair in sorted(labels)])


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def bound(number: float) -> str:
    """The upper bound of a bucket, as a key."""
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return f"{number:.12g}"


def exponential_bound(index: int, scale: int) -> float:
    """The upper bound of this bucket, of which each is 2^(2^-scale) as wide as the one before."""
    try:
        return float(2.0 ** (index * 2.0**-scale))
    except OverflowError:
        return math.inf if index > 0 else 0.0


def with_finite_numbers(value: dict[str, Any]) -> dict[str, Any]:
    """Of a histogram or a summary: JSON has no others, and what is not there says the same."""
    return {
        name: with_finite_numbers(item) if isinstance(item, dict) else item
        for name, item in value.items()
        if not isinstance(item, float) or math.isfinite(item)
    }


class Remembered(dict[K, V]):
    """What has been made of something short lately: the same series come again every few seconds."""

    def __init__(self, make: Callable[[K], V], size: Callable[[K], int]) -> None:
        super().__init__()
        self._make = make
        self._size = size  # in bytes or characters
        self._all = 0

    def __missing__(self, key: K) -> V:
        made = self._make(key)
        size = self._size(key)
        if size <= MAX_SHORT:
            self._all += size
            if len(self) >= MAX_REMEMBERED or self._all > MAX_REMEMBERED_SIZE:
                self.clear()
                self._all = size
            self[key] = made
        return made


def _pair(pair: tuple[str, str]) -> str:
    name, value = pair
    return f"{_NOT_IN_NAME.sub(_percent, name)}={_NOT_IN_VALUE.sub(_percent, value)}"


_PAIRS: Remembered[tuple[str, str], str] = Remembered(_pair, lambda pair: len(pair[0]) + len(pair[1]))
DEVICE_IDS = Remembered(device_id_of, len)  # by the names that programs have for them
TAGS = Remembered(tag_of, len)


class Labelled:
    """What has been read of a payload."""

    def __init__(self, now: int) -> None:
        self._latest = now + clock.MAX_AHEAD
        self._found: dict[Place, dict[str, Any]] = {}
        self._room = MAX_TEXT

    def add(self, place: Place, key: str, value: Any, otherwise: str) -> None:
        """`value` is a number that JSON has. `otherwise` is a label that is no part of the key unless the key
        is there already. Of one series and time the last number counts. Raises BadValue."""
        values = self._found.get(place)
        self._room -= len(key)
        if values is None:
            at = place[2]
            if at is not None and not clock.OLDEST_DATAPOINT <= at <= self._latest:
                rule = "has a time that is not from 2000-01-01 to a day ahead"
                raise BadValue(Reason.BAD_JSON_FORMAT, rule)
            if len(self._found) >= MAX_READINGS:
                raise BadValue(Reason.TOO_LARGE, f"is beyond {MAX_READINGS} datapoints: send less at a time")
            self._found[place] = {key: value}
        elif otherwise and key in values and values[key] != value:
            self._room -= len(otherwise)
            values[f"{key},{otherwise}" if key else otherwise] = value
        else:
            values[key] = value
        if self._room < 0:
            raise BadValue(Reason.TOO_LARGE, "is beyond 16 MiB of labels: send less at a time")

    def add_object(self, place: Place, key: str, value: dict[str, Any], otherwise: str) -> None:
        """The same, for a histogram or a summary."""
        try:
            text = orjson.dumps(value)
        except TypeError:
            raise BadValue(Reason.BAD_JSON_FORMAT, "has a number beyond 64 bits") from None
        self._room -= len(text)
        self.add(place, key, orjson.Fragment(text), otherwise)

    def readings(self) -> list[Reading]:
        """Raises BadBody."""
        bare: list[tuple[Place, Any]] = []
        made: list[Reading] = []
        for place, values in self._found.items():
            if len(values) == 1 and "" in values and not isinstance(values[""], orjson.Fragment):
                bare.append((place, values[""]))
                continue
            device_id, tag, at = place
            whole: Any = values
            if "" in values:
                unlabelled = values.pop("")
                whole = values | {UNLABELLED: unlabelled} if values else unlabelled
            try:
                made += [Reading(device_id, tag, text, at) for text in _texts(whole)]
            except BadValue as error:
                raise BadBody(error.reason, f"{tag} of {device_id} {error.rule}.") from None
        texts = orjson.dumps([number for _, number in bare])[1:-1].split(b",")
        made += [
            Reading(device_id, tag, text, at)
            for ((device_id, tag, at), _), text in zip(bare, texts, strict=bool(bare))
        ]
        return made


def _texts(whole: Any) -> Iterator[bytes]:
    """JSON texts of an object, which is cut in two while it is too large: many thousand series of one metric
    are several datapoints. Raises BadValue."""
    parts = [whole]
    while parts:
        part = parts.pop()
        try:
            yield json_value(part)
        except BadValue as error:
            if error.reason is not Reason.TOO_LARGE or not isinstance(part, dict) or len(part) < 2:
                raise
            pairs = list(part.items())
            middle = len(pairs) // 2
            parts += [dict(pairs[middle:]), dict(pairs[:middle])]
