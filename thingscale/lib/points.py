"""Datapoints as JSON, one or an array, with times of their own: one parser for REST and devices. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn
from zoneinfo import ZoneInfo

import orjson

from thingscale.lib import clock, json_rules
from thingscale.lib.errors import ContractError
from thingscale.lib.exact_json import Number
from thingscale.lib.names import TAG_RULE, bad_tag
from thingscale.lib.reasons import Reason

MAX_POINTS = 10_000  # a call
MAX_VALUE = json_rules.MAX_BYTES  # of JSON text
VALUES = frozenset({str, int, float, bool, dict})
_TYPES = VALUES | {Number}
_BETWEEN = b',"\\u0000",'  # a NUL character, as no value has it, between two elements of an array

Index = int | None  # in the array; None: the body is one point


class Points(NamedTuple):
    """Datapoints by field."""

    tags: Sequence[str | None]
    values: Sequence[bytes]  # JSON text
    times: Sequence[int]  # microseconds since 1970 UTC

    @classmethod
    def of(cls, points: Iterable[tuple[str | None, bytes, int]]) -> "Points":
        return cls(*(list(zip(*points, strict=True)) or [(), (), ()]))


def parse(body: Any, zone: ZoneInfo, now: int) -> Points:
    """`now` is the time of those that have none, in microseconds since 1970. Raises ContractError naming the
    first bad point: BAD_JSON_FORMAT, BAD_PARAMETER, TOO_LARGE."""
    if not isinstance(body, list):
        return Points.of([_point(body, zone, now, None)])
    if len(body) > MAX_POINTS:
        raise ContractError("TOO_LARGE", f"An array has at most {MAX_POINTS} points: send it in parts.")
    ordinary = _ordinary(body, zone, now)
    return ordinary or Points.of(_point(item, zone, now, index) for index, item in enumerate(body))


def has_local_time(body: list[Any]) -> bool:
    """Whether what a time means depends on the zone."""
    times = {at for item in body if isinstance(item, dict) and isinstance(at := item.get("at"), str)}
    return bool(times) and clock.all_to_us(list(times)) is None and any(map(_is_local, times))


def _is_local(text: str) -> bool:
    try:
        return clock.read_time(text).moment.tzinfo is None
    except ValueError:
        return False


def _ordinary(body: list[Any], zone: ZoneInfo, now: int) -> Points | None:
    """All at once, in loops that run in C. None where that does not tell whether there is a fault."""
    try:
        texts = _texts([item["value"] for item in body])
        tags = [item.get("tag") for item in body]
        usable = all(tag is None or (type(tag) is str and not bad_tag(tag)) for tag in set(tags))
        times = _times([item.get("at") for item in body], zone, now)
    except (KeyError, TypeError, ValueError):
        return None
    if texts is None or not usable:
        return None
    return Points(tags, texts, times)


def _times(texts: list[Any], zone: ZoneInfo, now: int) -> list[int]:
    """Raises ValueError, and TypeError for what no dict takes as a key."""
    times = clock.all_to_us(texts)
    if times and min(times) >= clock.OLDEST_DATAPOINT and max(times) <= now + clock.MAX_AHEAD:
        return times
    moments = {text: clock.datapoint_time(text, zone, now) for text in set(texts)}
    return [moments[text] for text in texts]


def _texts(values: list[Any]) -> list[bytes] | None:
    """JSON text of each; None if one may break a rule. Raises TypeError for text that is not UTF-8."""
    if not values or not _TYPES.issuperset(map(type, values)):
        return None
    marked = ["\0"] * (2 * len(values) - 1)
    marked[::2] = values
    texts = orjson.dumps(marked, _as_written, orjson.OPT_PASSTHROUGH_SUBCLASS)[1:-1].split(
        _BETWEEN
    )  # one call
    longest = max(map(len, texts))
    if longest > MAX_VALUE or len(texts) > len(values) or json_rules.suspicious(texts, longest):
        return None
    return texts


def _point(item: Any, zone: ZoneInfo, now: int, index: Index) -> tuple[str | None, bytes, int]:
    """Tag, value and time."""
    if not isinstance(item, dict):
        what = "The body is not" if index is None else f"[{index}] is not"
        raise ContractError("BAD_JSON_FORMAT", f'{what} a JSON object such as {{"value": 12.5}}.')
    if "value" not in item:
        _bad(index, "value", "is missing")
    value = _value(item["value"], index)
    return _tag(item.get("tag"), index), value, _at(item.get("at"), zone, now, index)


def _place(index: Index, field: str) -> str:
    return field if index is None else f"[{index}].{field}"


def _bad(index: Index, field: str, rule: str) -> NoReturn:
    raise ContractError("BAD_PARAMETER", f"{_place(index, field)}: {rule}.")


def _value(value: Any, index: Index) -> bytes:
    """JSON text that jsonb accepts."""
    if type(value) not in _TYPES:
        _bad(index, "value", "must be a number, a string, true, false or an object")
    try:
        json_rules.check_nesting(value)  # first, since orjson would go too deep
        text = orjson.dumps(value, _as_written, orjson.OPT_PASSTHROUGH_SUBCLASS)
        text = memoryview(text).tobytes()  # orjson's own keeps the kilobytes that it was written into
        if len(text) > MAX_VALUE:
            raise ContractError("TOO_LARGE", f"{_place(index, 'value')}: has more than {MAX_VALUE} bytes.")
        json_rules.check(text, value)
    except json_rules.BadValue as error:
        if error.reason is Reason.TOO_LARGE:
            raise ContractError("TOO_LARGE", f"{_place(index, 'value')}: {error.rule}.") from None
        _bad(index, "value", error.rule)
    except TypeError:
        _bad(index, "value", "has text that is not UTF-8 (half of a surrogate pair)")
    return text


def _as_written(number: Number) -> orjson.Fragment:
    return orjson.Fragment(number.encode())


def _tag(tag: Any, index: Index) -> str | None:
    if tag is not None and (not isinstance(tag, str) or isinstance(tag, Number) or bad_tag(tag)):
        _bad(index, "tag", f"must be text of {TAG_RULE}")
    return tag


def _at(at: Any, zone: ZoneInfo, now: int, index: Index) -> int:
    try:
        return clock.datapoint_time(at, zone, now)
    except ValueError as error:
        _bad(index, "at", str(error))
