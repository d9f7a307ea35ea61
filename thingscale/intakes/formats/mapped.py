"""Payloads of any shape, read as a mapping says: where in topic, headers and body the device, the tag, the
value and the time are. A mapping is data that an account has written, or a preset (`presets/`).

    {"rules": [{"topic": "+/sensors", "when": [{"field": "body.type", "is": "report"}],
                "device": "{topic[0]}",
                "readings": [{"each": "body.sensors", "tag": "{each.key|lower}", "value": "{each.value}"}]}]}

The first rule that fits takes the message, and all its readings are made, or none. A value that is not there
makes no reading. A step through an array comes to its elements; one through an object to `each.key` and
`each.value`. The next step, inside of the first, comes to `each2`.

What a mapping may ask for is bounded when it is compiled, and what a message may cost when it is decoded.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import orjson

from thingscale.intakes.formats.mapping import Condition, Mapping, Part, Rule, time_getter
from thingscale.intakes.formats.templates import (
    EACH,
    UNITS,
    BadTemplate,
    Getter,
    Path,
    Scope,
    Template,
    Unreadable,
)
from thingscale.lib import json_rules

MAX_MAPPING = 16 * 1024  # bytes, as JSON
MAX_RULES = 32
MAX_RULE_READINGS = 16
MAX_CONDITIONS = 16
MAX_CHOICES = 64  # of one condition, keys of a value, alternatives
MAX_VALUE_DEPTH = 4
MAX_VALUE_PATHS = 64

BODIES = ("json", "bare", "text", "hex", "sparkplug")
KINDS = {"array": (list,), "bool": (bool,), "number": (int, float), "object": (dict,), "text": (str,)}
_READING_KEYS = {"when", "each", "device", "tag", "value", "time", "note"}
_RULE_KEYS = _READING_KEYS | {"topic", "body", "readings", "ignore", "may_be_empty"}


class BadMapping(Exception):
    """The mapping is not saved."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}." if field else f"The mapping {rule}.")
        self.field = field  # "rules[0].device"; empty: the whole of it
        self.rule = rule  # completes a sentence that begins with the field, and says what to do


def compile(mapping: object) -> Mapping:
    """Raises BadMapping."""
    whole = _checked_size(mapping)
    _only(whole, "", {"body", "rules"})
    body = _body_kind(whole.get("body", "json"), "body")
    rules = _list(whole.get("rules"), "rules", MAX_RULES)
    if not rules:
        raise BadMapping("rules", "is empty: a mapping has at least one rule")
    return Mapping([_rule(rule, f"rules[{place}]", body) for place, rule in enumerate(rules)])


def _checked_size(mapping: object) -> dict[str, Any]:
    try:
        json_rules.check_nesting(mapping)
        size = len(orjson.dumps(mapping))
    except (TypeError, json_rules.BadValue):
        raise BadMapping("", 'is no JSON object: write {"rules": [...]}, at most 32 levels deep') from None
    if size > MAX_MAPPING:
        raise BadMapping("", f"has more than {MAX_MAPPING // 1024} KiB: split it into several intakes")
    return _object(mapping, "")


def _rule(rule: object, field: str, body: str) -> Rule:
    written = _object(rule, field)
    _only(written, field, _RULE_KEYS)
    topic = _topic_filter(written["topic"], f"{field}.topic") if "topic" in written else None
    body = _body_kind(written.get("body", body), f"{field}.body")
    when = _conditions(written, field)
    if any(path.steps for path, _ in when) and "readings" in written:
        raise BadMapping(f"{field}.when", "reads each: put that condition into the reading")
    ignore = _flag(written, "ignore", field)
    if ignore:
        _only(written, field, {"topic", "body", "when", "ignore", "note"})
        parts = []
    elif "readings" in written:
        shared: dict[str, Any] = {
            name: written[name] for name in ("device", "tag", "time", "each") if name in written
        }
        if "value" in written:
            raise BadMapping(f"{field}.value", "stands beside readings: put it into one of them")
        listed = _list(written["readings"], f"{field}.readings", MAX_RULE_READINGS)
        parts = [
            _part({**shared, **_reading(reading, f"{field}.readings[{n}]")}, f"{field}.readings[{n}]")
            for n, reading in enumerate(listed)
        ]
        if not parts:
            raise BadMapping(f"{field}.readings", 'is empty: write "ignore": true for nothing at all')
    else:
        parts = [replace(_part(written, field), first_when=[])]  # which are the rule's own
        when = [(path, condition) for path, condition in when if path.steps == 0]
    return Rule(
        topic,
        [condition for path, condition in when if path.source != "body"],
        body,
        [condition for path, condition in when if path.source == "body"],
        parts,
        ignore=ignore,
        may_be_empty=_flag(written, "may_be_empty", field),
    )


def _reading(reading: object, field: str) -> dict[str, Any]:
    written = _object(reading, field)
    _only(written, field, _READING_KEYS)
    return written


def _part(written: dict[str, Any], field: str) -> Part:
    each = _steps(written.get("each", []), f"{field}.each")
    counted = _Counted(len(each))
    when = _conditions(written, field, counted)
    for name in ("device", "value"):
        if name not in written:
            raise BadMapping(f"{field}.{name}", "is missing: say where in the message it is")
    device = _name(written["device"], f"{field}.device", counted)
    tag = _name(written["tag"], f"{field}.tag", counted) if "tag" in written else None
    value = written["value"]
    before = counted.cost
    getter = _value(value, f"{field}.value", counted, 0)
    if counted.cost - before > MAX_VALUE_PATHS:
        raise BadMapping(f"{field}.value", f"has more than {MAX_VALUE_PATHS} paths and filters")
    time = None
    if "time" in written:
        time = _time(written["time"], f"{field}.time", counted)
    return Part(
        each=each,
        first_when=[condition for path, condition in when if path.steps == 0],
        last_when=[condition for path, condition in when if path.steps > 0],
        device=device,
        tag=tag,
        value=getter,
        time=time,
        is_body=value == "{body}",
        value_text=orjson.dumps(value).decode()[:80],
        cost=counted.cost,
    )


class _Counted:
    """Makes templates of a reading: they may read only what its steps come to, and are counted."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.cost = 1

    def template(self, text: object, field: str, *, times: bool = False) -> Template:
        if not isinstance(text, str):
            raise BadMapping(field, 'has to be text such as "{body.name}"')
        try:
            template = Template(text)
        except BadTemplate as bad:
            raise BadMapping(field, str(bad)) from None
        for path in template.paths:
            self.path(path, field)
        if not times:
            _no_units(template.paths, field)
        return template

    def path(self, path: Path, field: str) -> Path:
        self.cost += 1 + len(path.filters)
        if path.steps > self.steps:
            raise BadMapping(field, f"reads {path.source}, but there are {self.steps} steps in each")
        return path


def _no_units(paths: Iterable[Path], field: str) -> None:
    for path in paths:
        for name, _ in path.filters:
            if name in UNITS:
                raise BadMapping(field, f"has the filter {name}, which only a time has")


def _path(text: object, field: str) -> Path:
    if not isinstance(text, str):
        raise BadMapping(field, 'has to be a path such as "body.name"')
    try:
        path = Path(text.removeprefix("{").removesuffix("}"))
    except BadTemplate as bad:
        raise BadMapping(field, str(bad)) from None
    _no_units([path], field)
    return path


def _steps(each: object, field: str) -> list[Path]:
    listed = [each] if isinstance(each, str) else _list(each, field, len(EACH))
    paths = []
    for place, text in enumerate(listed):
        path = _path(text, field)
        if path.steps > place:
            raise BadMapping(field, f"reads {path.source} in step {place + 1}, where it is not known yet")
        paths.append(path)
    return paths


def _name(written: object, field: str, counted: _Counted) -> Getter:
    """A template, or several of which the first counts that is there."""
    if not isinstance(written, list):
        return counted.template(written, field).name if written != "" else _nothing
    alternatives = [
        counted.template(text, f"{field}[{n}]").name if text != "" else _nothing
        for n, text in enumerate(_list(written, field, MAX_CHOICES))
    ]
    if not alternatives:
        raise BadMapping(field, "is empty: name at least one")

    def first(scope: Scope) -> Any:
        for alternative in alternatives:
            found = alternative(scope)
            if found is not None:
                return found
        return None

    return first


def _time(written: object, field: str, counted: _Counted) -> Callable[[Scope, int], int | None]:
    """One path, or several of which the first counts that is there."""
    listed = _list(written, field, MAX_CHOICES) if isinstance(written, list) else [written]
    alternatives = []
    for text in listed:
        path = counted.template(text, field, times=True).only_path
        if path is None:
            raise BadMapping(field, "has to be one path in braces, such as {body.time|s}")
        if any(name in UNITS for name, _ in path.filters[:-1]):
            raise BadMapping(field, "has a filter behind the one that says what the time is in")
        alternatives.append(time_getter(path))
    if not alternatives:
        raise BadMapping(field, "is empty: name at least one")
    if len(alternatives) == 1:
        return alternatives[0]

    def first(scope: Scope, latest: int) -> int | None:
        for alternative in alternatives:
            at = alternative(scope, latest)
            if at is not None:
                return at
        return None

    return first


def _nothing(scope: Scope) -> str:
    return ""  # no tag


def _value(written: object, field: str, counted: _Counted, depth: int) -> Getter:
    if isinstance(written, bool | int | float):
        return lambda scope: written
    if isinstance(written, str):
        return counted.template(written, field).value
    if depth >= MAX_VALUE_DEPTH:
        raise BadMapping(field, f"is nested deeper than {MAX_VALUE_DEPTH} levels")
    keys = _object(written, field)
    if "$zip" in keys:
        _only(keys, field, {"$zip"})
        return _zip(keys["$zip"], f"{field}.$zip", counted)
    if "$merge" in keys:
        _only(keys, field, {"$merge"})
        listed = _list(keys["$merge"], f"{field}.$merge", MAX_RULE_READINGS)
        return _merge([_value(part, f"{field}.$merge", counted, depth + 1) for part in listed])
    if "$without" in keys:
        _only(keys, field, {"$without", "of"})
        return _without(keys, field, counted)
    if not 0 < len(keys) <= MAX_CHOICES:
        raise BadMapping(field, f"has to have 1 to {MAX_CHOICES} keys")
    getters = [(key, _value(item, f"{field}.{key}", counted, depth + 1)) for key, item in keys.items()]

    def build(scope: Scope) -> Any:
        found = {}
        for key, get in getters:
            value = get(scope)
            if value is not None:
                found[key] = value
        return found or None

    return build


def _zip(written: object, field: str, counted: _Counted) -> Getter:
    """An object of an array of names and one of values."""
    listed = _list(written, field, 2)
    if len(listed) != 2:
        raise BadMapping(field, "has to be two paths: the names, and their values")
    names, values = (counted.path(_path(text, field), field).get for text in listed)

    def zipped(scope: Scope) -> Any:
        found_names, found_values = names(scope), values(scope)
        if found_names.__class__ is not list or found_values.__class__ is not list:
            return None
        if len(found_names) != len(found_values):
            raise Unreadable(f"has {len(found_names)} names and {len(found_values)} values")
        scope.spend(len(found_names))
        return {
            str(name): value
            for name, value in zip(found_names, found_values, strict=True)
            if value is not None and name.__class__ in (str, int)
        } or None

    return zipped


def _merge(getters: list[Getter]) -> Getter:
    """Objects as one; what is no object, or not there, is left out."""

    def merged(scope: Scope) -> Any:
        found = {}
        for get in getters:
            value = get(scope)
            if value.__class__ is dict:
                scope.spend(len(value))
                found.update(value)
        return found or None

    return merged


def _without(keys: dict[str, Any], field: str, counted: _Counted) -> Getter:
    """An object but for some of its keys."""
    left_out = frozenset(_texts(keys["$without"], f"{field}.$without"))
    get = counted.path(_path(keys.get("of"), f"{field}.of"), f"{field}.of").get

    def kept(scope: Scope) -> Any:
        value = get(scope)
        if value.__class__ is not dict:
            return value
        scope.spend(len(value))
        return {key: item for key, item in value.items() if key not in left_out} or None

    return kept


_TESTS = {"is", "is_not", "in", "not_in", "exists", "kind"}


def _conditions(
    written: dict[str, Any], field: str, counted: _Counted | None = None
) -> list[tuple[Path, Condition]]:
    """Each with what it reads."""
    listed = _list(written.get("when", []), f"{field}.when", MAX_CONDITIONS)
    found = []
    for place, condition in enumerate(listed):
        name = f"{field}.when[{place}]"
        keys = _object(condition, name)
        _only(keys, name, {"field", *_TESTS})
        tests = [key for key in keys if key in _TESTS]
        if len(tests) != 1:
            raise BadMapping(name, f"has to have one of {', '.join(sorted(_TESTS))}")
        path = _path(keys.get("field"), f"{name}.field")
        if counted is not None:
            counted.path(path, f"{name}.field")
        found.append((path, _condition(path.get, tests[0], keys[tests[0]], name)))
    return found


def _condition(get: Getter, test: str, wanted: Any, field: str) -> Condition:
    if test == "exists":
        if not isinstance(wanted, bool):
            raise BadMapping(f"{field}.exists", "has to be true or false")
        return lambda scope: (get(scope) is not None) is wanted
    if test == "kind":
        classes = KINDS.get(wanted) if isinstance(wanted, str) else None
        if classes is None:
            raise BadMapping(f"{field}.kind", f"has to be one of {', '.join(KINDS)}")
        return lambda scope: get(scope).__class__ in classes
    choices = [wanted] if test in ("is", "is_not") else _list(wanted, f"{field}.{test}", MAX_CHOICES)
    for choice in choices:
        if not isinstance(choice, str | int | float | bool):
            raise BadMapping(f"{field}.{test}", "compares with text, a number, true or false")
    known = frozenset(map(_comparable, choices))
    if test in ("is", "in"):
        return lambda scope: _comparable(get(scope)) in known
    return lambda scope: _comparable(get(scope)) not in known


def _comparable(value: Any) -> Any:
    """1 is not true, and objects are equal to nothing."""
    kind = value.__class__
    if kind is bool:
        return (value,)
    return value if kind in (str, int, float) else None


def _topic_filter(written: object, field: str) -> list[str]:
    if not isinstance(written, str) or not 0 < len(written) <= 256:
        raise BadMapping(field, "has to be an MQTT topic filter such as tele/+/SENSOR")
    levels = written.split("/")
    if "#" in levels[:-1] or any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        raise BadMapping(field, "has a + or # that is no whole level, or a # that is not the last one")
    return levels


def _body_kind(written: object, field: str) -> str:
    if written not in BODIES or not isinstance(written, str):
        raise BadMapping(field, f"has to be one of {', '.join(BODIES)}")
    return written


def _flag(written: dict[str, Any], name: str, field: str) -> bool:
    value = written.get(name, False)
    if not isinstance(value, bool):
        raise BadMapping(f"{field}.{name}", "has to be true or false")
    return value


def _only(written: dict[str, Any], field: str, known: set[str]) -> None:
    for name in written:
        if name not in known:
            raise BadMapping(
                f"{field}.{name[:60]}" if field else name[:60],
                f"is not known here: there are {', '.join(sorted(known - {'note'}))}",
            )


def _object(written: object, field: str) -> dict[str, Any]:
    if not isinstance(written, dict) or not all(isinstance(key, str) for key in written):
        raise BadMapping(field, "has to be a JSON object")
    return written


def _list(written: object, field: str, most: int) -> list[Any]:
    if not isinstance(written, list):
        raise BadMapping(field, "has to be an array")
    if len(written) > most:
        raise BadMapping(field, f"has more than {most} elements")
    return written


def _texts(written: object, field: str) -> list[str]:
    listed = _list(written, field, MAX_CHOICES)
    if not all(isinstance(text, str) for text in listed):
        raise BadMapping(field, "has to be an array of texts")
    return listed
