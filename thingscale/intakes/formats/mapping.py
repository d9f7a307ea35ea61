"""What a mapping does with a message, once `mapped.compile` has read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from thingscale.intakes.formats import sparkplug
from thingscale.intakes.formats.readings import (
    MAX_BODY,
    MAX_READINGS,
    BadBody,
    Reading,
    device_id_of,
    json_value,
    tag_of,
)
from thingscale.intakes.formats.templates import EACH, UNITS, Getter, Path, Scope, TooMuch, Unreadable
from thingscale.lib import clock, json_rules
from thingscale.lib.reasons import Reason

MAX_NAME = 1024  # characters of a device or a tag, as the sender has it
MAX_TOPIC = 4096  # characters
MAX_WORK = 200_000  # paths that are read for one message, and the like
MAX_WORK_MQTT = 20_000  # the same, where all clients of a gateway wait meanwhile
MAX_MADE = 2 * MAX_BODY  # bytes of all readings of a message together

Condition = Callable[[Scope], bool]


class Mapping:
    """What `compile` makes. Keeps nothing of what it decodes, so all threads may use it at once."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    def decode(
        self, topic: str | None, headers: MappingOf[str, str], body: bytes, now: int, work: int = MAX_WORK
    ) -> list[Reading]:
        """`topic` is MQTT's, or what stands behind the key in a URL. Names of headers are in lower case.
        `work` is what it may cost. Raises BadBody."""
        if len(body) > MAX_BODY:
            raise BadBody(Reason.TOO_LARGE, f"The body has more than {MAX_BODY} bytes: send less at a time.")
        if topic is not None and len(topic) > MAX_TOPIC:
            raise BadBody(Reason.UNKNOWN_TOPIC, f"The topic has more than {MAX_TOPIC} characters.")
        scope = Scope(topic, headers, work)
        parsed: dict[str, tuple[Any, bytes | None]] = {}
        try:
            for rule in self._rules:
                if rule.topic is not None and not topic_fits(rule.topic, scope.levels):
                    continue
                if not all(condition(scope) for condition in rule.first_when):
                    continue
                if rule.ignore and not rule.when:
                    return []
                if rule.body not in parsed:
                    parsed[rule.body] = _parse_body(rule.body, body)
                scope.body, raw = parsed[rule.body]
                if all(condition(scope) for condition in rule.when):
                    return rule.readings(scope, _Made(raw, len(body), now + clock.MAX_AHEAD))
        except TooMuch:
            detail = "The mapping makes too much work of this payload: send fewer elements at a time."
            raise BadBody(Reason.TOO_LARGE, detail) from None
        except Unreadable as unreadable:
            raise BadBody(Reason.BAD_JSON_FORMAT, f"A condition's field {unreadable}.") from None
        fits = f"No rule fits the topic {topic[:100]!r} with this payload" if topic else "No rule fits"
        reason = Reason.UNKNOWN_TOPIC if topic else Reason.BAD_JSON_FORMAT
        raise BadBody(reason, f"{fits}: add a rule for it, or one that ignores it.")


@dataclass(frozen=True, slots=True)
class Rule:
    topic: list[str] | None  # the levels of a topic filter
    first_when: list[Condition]  # those that don't read the body, which may be of any kind
    body: str
    when: list[Condition]
    parts: list[Part]
    ignore: bool  # it takes the message and makes nothing of it
    may_be_empty: bool

    def readings(self, scope: Scope, made: _Made) -> list[Reading]:
        if self.ignore:
            return []
        for part in self.parts:
            part.make(scope, made)
        if not made.readings and not self.may_be_empty:
            places = ", ".join(part.value_text for part in self.parts)[:200]
            raise BadBody(Reason.BAD_JSON_FORMAT, f"There is no value in it: looked for {places}.")
        return made.readings


@dataclass(slots=True)
class _Made:
    """What has been made of a message so far."""

    raw: bytes | None  # the body's JSON text
    size: int  # of the body
    latest: int  # the last time that a reading may have
    readings: list[Reading] = field(default_factory=list)
    room: int = MAX_MADE


@dataclass(frozen=True, slots=True)
class Part:
    """One reading of a rule, or one for each element that its steps come to."""

    each: list[Path]
    first_when: list[Condition]  # before the steps
    last_when: list[Condition]  # of each element
    device: Getter
    tag: Getter | None
    value: Getter
    time: Callable[[Scope, int], int | None] | None
    is_body: bool  # the value is the body as it came
    value_text: str
    cost: int  # of one reading, in units of MAX_WORK

    def make(self, scope: Scope, made: _Made) -> None:
        where: list[int | str] = []
        try:
            if not all(condition(scope) for condition in self.first_when):
                return
            if self.each:
                self._step(0, scope, made, where)
            else:
                scope.spend(self.cost)
                self._emit(scope, made)
        except (BadBody, Unreadable, json_rules.BadValue) as bad:
            raise self._located(bad, where) from None

    def _step(self, depth: int, scope: Scope, made: _Made, where: list[int | str]) -> None:
        attribute = EACH[depth]
        last = depth == len(self.each) - 1
        where.append(-1)
        for place, element in _elements(self.each[depth], scope):
            where[-1] = place
            scope.spend(1)
            setattr(scope, attribute, element)
            if last:
                scope.spend(self.cost)
                if all(condition(scope) for condition in self.last_when):
                    self._emit(scope, made)
            else:
                self._step(depth + 1, scope, made, where)
        where.pop()

    def _emit(self, scope: Scope, made: _Made) -> None:
        value = self.value(scope)
        if value is None:
            return
        if self.is_body and made.raw is not None:
            text = _body_text(made.raw, value)
        else:
            text = _value_text(value, made.size > json_rules.MAX_BYTES)
        device = self.device(scope)
        if device is None:
            raise BadBody(Reason.DEVICE_ID_ZERO, "there is no device id in it: see the mapping's device")
        device_id = _device_id(device)
        tag: str | None = None
        if self.tag is not None:
            written = self.tag(scope)
            if written is None:
                raise BadBody(Reason.BAD_PARAMETER, "there is no tag in it: see the mapping's tag")
            tag = _tag(written) if written else None
        at = self.time(scope, made.latest) if self.time is not None else None
        made.room -= len(text) + len(device) + (len(tag) if tag else 0)
        if made.room < 0:
            raise BadBody(Reason.TOO_LARGE, f"all values together have more than {MAX_MADE} bytes")
        if len(made.readings) >= MAX_READINGS:
            raise BadBody(
                Reason.TOO_LARGE, f"there are more than {MAX_READINGS} readings: send fewer at a time"
            )
        made.readings.append(Reading(device_id, tag, text, at))

    def _located(self, bad: Exception, where: list[int | str]) -> BadBody:
        place = ""
        for depth, at in enumerate(where):
            path = self.each[depth].text
            place += path.removeprefix(EACH[depth - 1]) if depth else path
            place += "" if at == -1 else f"[{orjson.dumps(at).decode()}]"
        start = f"{place[:300]}: " if place else ""
        if isinstance(bad, BadBody):
            detail = bad.detail if start else bad.detail[:1].upper() + bad.detail[1:]
            return BadBody(bad.reason, f"{start}{detail}.")
        reason = bad.reason if isinstance(bad, json_rules.BadValue) else Reason.BAD_JSON_FORMAT
        subject = "what the mapping reads" if isinstance(bad, Unreadable) else "the value"
        return BadBody(reason, f"{start}{subject if start else subject[:1].upper() + subject[1:]} {bad}.")


def _elements(path: Path, scope: Scope) -> Iterable[tuple[int | str, Any]]:
    found = path.get(scope)
    if found is None:
        return ()
    if found.__class__ is list:
        return enumerate(found)
    if found.__class__ is dict:
        return ((key, {"key": key, "value": value}) for key, value in found.items())
    raise BadBody(Reason.BAD_JSON_FORMAT, "there is no array and no object to step through")


def _body_text(raw: bytes, value: Any) -> bytes:
    """As it came, with each digit."""
    if value.__class__ is list:
        return _value_text(value, True)
    if len(raw) > json_rules.MAX_BYTES:
        raise _too_large()
    json_rules.check(raw, value)
    return raw


def _value_text(value: Any, maybe_large: bool) -> bytes:
    kind = value.__class__
    if kind is int or kind is bool or kind is float:
        return orjson.dumps(value)  # what was read from JSON is finite
    if maybe_large:
        _check_size(value)
    return json_value({"value": value} if kind is list else value)  # an array is no value


def _check_size(value: Any) -> None:
    """Before text is made of it: a mapping can put the same part of a body into a value many times."""
    size, left = 0, [value]
    while left:
        item = left.pop()
        kind = item.__class__
        if kind is dict:
            left += item.values()
            size += sum(map(len, item))
        elif kind is list:
            left += item
        size += len(item) if kind is str else 1
        if size > json_rules.MAX_BYTES or len(left) > json_rules.MAX_BYTES:
            raise _too_large()


def _too_large() -> json_rules.BadValue:
    return json_rules.BadValue(Reason.TOO_LARGE, "is larger than 64 KiB")


@lru_cache(maxsize=4096)
def _device_id(name: str) -> str:
    if len(name) > MAX_NAME:
        raise BadBody(Reason.BAD_PARAMETER, f"the device id has more than {MAX_NAME} characters")
    device_id = device_id_of(name)
    if not device_id:
        raise BadBody(Reason.DEVICE_ID_ZERO, "there is no device id in it: see the mapping's device")
    return device_id


@lru_cache(maxsize=4096)
def _tag(name: str) -> str | None:
    if len(name) > MAX_NAME:
        raise BadBody(Reason.BAD_PARAMETER, f"the tag has more than {MAX_NAME} characters")
    return tag_of(name)


def _parse_body(kind: str, body: bytes) -> tuple[Any, bytes | None]:
    """What paths read, and its JSON text if it has one."""
    if kind == "sparkplug":
        return sparkplug.decode(body), None
    if kind == "hex":
        return body.hex() or None, None
    text = json_rules.trimmed(body)
    if kind == "text":
        try:
            return text.decode() or None, None
        except UnicodeDecodeError:
            raise BadBody(Reason.BAD_JSON_FORMAT, "The body is not UTF-8: send text.") from None
    try:
        value = orjson.loads(text)
        if kind == "json" or not isinstance(value, float):
            return value, text
    except orjson.JSONDecodeError as error:
        if kind == "json":
            detail = f"The body is not whole JSON: {str(error)[:120]}."
            raise BadBody(Reason.BAD_JSON_FORMAT, detail) from None
    if not text.strip():
        return None, None  # an empty payload clears a retained message
    try:
        bare = json_rules.bare(text)
    except json_rules.BadValue as bad:
        raise BadBody(bad.reason, f"The body {bad.rule}.") from None
    return orjson.loads(bare), bare


def topic_fits(pattern: Sequence[str], levels: Sequence[str]) -> bool:
    """Whether a topic fits a filter, both by level."""
    if pattern[-1] == "#":
        pattern = pattern[:-1]
        if len(levels) < len(pattern):
            return False
    elif len(levels) != len(pattern):
        return False
    return all(wanted in ("+", level) for wanted, level in zip(pattern, levels, strict=False))


# Times


def time_getter(path: Path) -> Callable[[Scope, int], int | None]:
    unit = path.filters[-1][0] if path.filters and path.filters[-1][0] in UNITS else ""
    get = path.get

    def at(scope: Scope, latest: int) -> int | None:
        value = get(scope)
        if value is None:
            return None
        moment = _moment(value, unit)
        if not clock.OLDEST_DATAPOINT <= moment <= latest:
            raise BadBody(
                Reason.BAD_JSON_FORMAT,
                f"the time {str(value)[:40]} is not from 2000-01-01 to a day ahead: set the sender's clock",
            )
        return moment

    return at


def _moment(value: Any, unit: str) -> int:
    """Microseconds. Numbers in text are numbers; without a unit it shows by their size."""
    kind = value.__class__
    if kind is str and unit != "iso" and len(value) <= 40 and json_rules.is_number(value):
        text = value.strip()
        value = int(text) if text.isdigit() else float(text)
        kind = value.__class__
    if kind is str and unit in ("", "iso"):
        return _iso(value)
    if kind not in (int, float) or unit == "iso" or not 0 <= value < 1e20:
        raise BadBody(Reason.BAD_JSON_FORMAT, f"the time {str(value)[:40]!r} can't be read")
    if not unit:  # seconds until the year 5138
        unit = "s" if value < 1e11 else "ms" if value < 1e14 else "us" if value < 1e17 else "ns"
    return int(value // 1000 if unit == "ns" else round(value * UNITS[unit]))


def _iso(text: str) -> int:
    try:
        if len(text) > 64:
            raise ValueError
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadBody(Reason.BAD_JSON_FORMAT, f"the time {text[:40]!r} can't be read") from None
    if moment.tzinfo is None:
        raise BadBody(
            Reason.BAD_JSON_FORMAT,
            f"the time {text[:40]!r} has no offset such as Z or +09:00: leave it out of the mapping",
        )
    try:
        return clock.to_us(moment)
    except OverflowError:
        return 0
