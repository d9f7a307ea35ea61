"""Parses datapoints from JSON, one or an array, with times of their own: for REST and for devices."""

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
_SEPARATOR = b',"\\u0000",'  # an element that has only a NUL character, as no value has it

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
    """`now` is the time of points that have none, in microseconds since 1970. Raises ContractError, which
    names the first bad point: BAD_JSON_FORMAT, BAD_PARAMETER, TOO_LARGE."""
    if not isinstance(body, list):
        return Points.of([_point(body, zone, now, None)])
    if len(body) > MAX_POINTS:
        raise ContractError("TOO_LARGE", f"An array has at most {MAX_POINTS} points: send it in parts.")
    if together := _parse_together(body, zone, now):
        return together
    return Points.of(_point(item, zone, now, index) for index, item in enumerate(body))


def has_local_time(body: list[Any]) -> bool:
    """Whether a time has no offset, so that the zone decides what it means."""
    times = {at for item in body if isinstance(item, dict) and isinstance(at := item.get("at"), str)}
    if not times or clock.all_to_us(list(times)) is not None:
        return False
    for text in times:
        try:
            if clock.read_time(text).moment.tzinfo is None:
                return True
        except ValueError:
            continue
    return False


def _parse_together(body: list[Any], zone: ZoneInfo, now: int) -> Points | None:
    """Parses all points in loops that run in C. Returns None if one of them may have a fault."""
    try:
        values = [item["value"] for item in body]
        if not values or not _TYPES.issuperset(map(type, values)):
            return None
        with_separators = ["\0"] * (2 * len(values) - 1)
        with_separators[::2] = values
        text = orjson.dumps(with_separators, _as_written, orjson.OPT_PASSTHROUGH_SUBCLASS)[1:-1]
        texts = text.split(_SEPARATOR)
        longest = max(map(len, texts))
        if longest > MAX_VALUE or len(texts) > len(values) or json_rules.suspicious(texts, longest):
            return None
        tags = [item.get("tag") for item in body]
        if not all(tag is None or (type(tag) is str and not bad_tag(tag)) for tag in set(tags)):
            return None
        ats = [item.get("at") for item in body]
        times = clock.all_to_us(ats)
        if not times or min(times) < clock.OLDEST_DATAPOINT or max(times) > now + clock.MAX_AHEAD:
            moments = {at: clock.datapoint_time(at, zone, now) for at in set(ats)}
            times = [moments[at] for at in ats]
    except (KeyError, TypeError, ValueError):
        return None
    return Points(tags, texts, times)


def _point(item: Any, zone: ZoneInfo, now: int, index: Index) -> tuple[str | None, bytes, int]:
    """Tag, JSON text that jsonb accepts, and time."""
    if not isinstance(item, dict):
        what = "The body is not" if index is None else f"[{index}] is not"
        raise ContractError("BAD_JSON_FORMAT", f'{what} a JSON object such as {{"value": 12.5}}.')
    if "value" not in item:
        _bad(index, "value", "is missing")
    value, tag = item["value"], item.get("tag")
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
    if tag is not None and (not isinstance(tag, str) or isinstance(tag, Number) or bad_tag(tag)):
        _bad(index, "tag", f"must be text of {TAG_RULE}")
    try:
        return tag, text, clock.datapoint_time(item.get("at"), zone, now)
    except ValueError as error:
        _bad(index, "at", str(error))


def _place(index: Index, field: str) -> str:
    return field if index is None else f"[{index}].{field}"


def _bad(index: Index, field: str, rule: str) -> NoReturn:
    raise ContractError("BAD_PARAMETER", f"{_place(index, field)}: {rule}.")


def _as_written(number: Number) -> orjson.Fragment:
    return orjson.Fragment(number.encode())
