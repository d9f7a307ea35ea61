"""Paths and templates of a mapping: `body.sensors[0].name`, `{topic[1]}-{each.key|lower}`.

A path names a place in the message, and filters of a closed list change what is found there. Neither can do
anything else: there is no code in them, no regular expression, and what they do is counted (`Scope.work`).
What is not there, or is null, is None.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from typing import Any

from thingscale.intakes.formats.ruuvi import advertised
from thingscale.lib import json_rules

MAX_TEMPLATE = 512  # characters
MAX_PLACEHOLDERS = 16  # of a template
MAX_PATH = 16  # keys
MAX_FILTERS = 4  # of a placeholder
MAX_TEXT = json_rules.MAX_BYTES  # characters that a template or a filter makes or takes
EACH = ("each", "each2", "each3")  # what the first step, the second and the third have come to

# What a sender signs in with, also in a URL, as proxies pass it on; what is between us and the sender.
_SECRET = (
    *("auth", "token", "key", "secret", "pass", "pwd", "jwt", "cookie", "session", "signature", "credential"),
    *("uri", "url", "path", "referer"),
)
_FROM_PROXIES = ("proxy-", "x-forwarded-", "x-real-ip", "forwarded", "via", "cf-", "x-envoy-", "x-amz")


def may_be_secret(header: str) -> bool:
    """Whether its value must not be read by a mapping, nor shown. `header` is in lower case."""
    return any(word in header for word in _SECRET)


class BadTemplate(ValueError):
    """A rule that completes a sentence that begins with the field's name."""


class Unreadable(ValueError):
    """Of what a message has: a rule that completes a sentence that begins with the place."""


class TooMuch(Exception):
    """One message makes too much work."""


class Scope:
    """What paths read: a message, and the elements that the steps have come to."""

    __slots__ = ("body", "each", "each2", "each3", "headers", "levels", "topic", "work")

    def __init__(self, topic: str | None, headers: Any, work: int) -> None:
        self.topic = topic
        self.levels = topic.split("/") if topic else ()
        self.headers = headers
        self.body: Any = None
        self.each: Any = None
        self.each2: Any = None
        self.each3: Any = None
        self.work = work  # that is left

    def spend(self, units: int) -> None:
        self.work -= units
        if self.work < 0:
            raise TooMuch


Getter = Callable[[Scope], Any]


class Path:
    """A place, and the filters on what is there."""

    def __init__(self, text: str) -> None:
        self.text = text
        place, self.filters = _parse(text)
        self.source = place[0]
        self.get = _getter(place)
        for name, argument in self.filters:
            self.get = _filtered(self.get, name, argument)

    @property
    def steps(self) -> int:
        """How many steps have to be taken before it can be read."""
        return EACH.index(self.source) + 1 if self.source in EACH else 0

    @property
    def is_body(self) -> bool:
        return self.text == "body"


class Template:
    """Text with paths in braces. One path and nothing else keeps the kind of what it finds."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_TEMPLATE:
            raise BadTemplate(f"is longer than {MAX_TEMPLATE} characters")
        self.parts = _parts(text)
        self.paths = [part for part in self.parts if isinstance(part, Path)]
        if len(self.paths) > MAX_PLACEHOLDERS:
            raise BadTemplate(f"has more than {MAX_PLACEHOLDERS} paths in braces")
        texts = [part if isinstance(part, str) else part.get for part in self.parts]
        self.value: Getter = self.only_path.get if self.only_path else _text_getter(texts, "")
        self.name: Getter = _text_getter(texts)

    @property
    def only_path(self) -> Path | None:
        return self.paths[0] if len(self.parts) == 1 and self.paths else None


def _text_getter(parts: Sequence[str | Getter], missing: str | None = None) -> Getter:
    """In a name (`missing` is None) what is empty counts as what is not there; text may have it."""
    if len(parts) == 1:
        only = parts[0]
        if isinstance(only, str):
            return lambda scope: only
        return lambda scope: _text(only(scope)) or missing

    def get(scope: Scope) -> str | None:
        found = []
        for part in parts:
            text = part if isinstance(part, str) else _text(part(scope))
            if not text and (text is None or missing is None):
                return None
            found.append(text)
        together = "".join(found)
        if len(together) > MAX_TEXT:
            raise Unreadable(f"makes more than {MAX_TEXT} characters")
        return together

    return get


def _text(value: Any) -> str | None:
    kind = value.__class__
    if kind is str:
        if len(value) > MAX_TEXT:
            raise Unreadable(f"has more than {MAX_TEXT} characters")
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return "true" if value else "false"
    return str(value) if kind in (int, float) else None


def _parts(text: str) -> list[str | Path]:
    parts: list[str | Path] = []
    literal, at = "", 0
    while at < len(text):
        character = text[at]
        if character in "{}" and text[at : at + 2] == character * 2:
            literal, at = literal + character, at + 2
        elif character == "}":
            raise BadTemplate("has a } without its {; write }} for one that is meant")
        elif character == "{":
            end = text.find("}", at)
            if end < 0:
                raise BadTemplate("has a { without its }; write {{ for one that is meant")
            if literal:
                parts.append(literal)
            parts.append(Path(text[at + 1 : end]))
            literal, at = "", end + 1
        else:
            literal, at = literal + character, at + 1
    return [*parts, literal] if literal or not parts else parts


def _parse(text: str) -> tuple[list[Any], list[tuple[str, Any]]]:
    """The source and its keys (text, numbers and slices), and the filters."""
    if len(text) > MAX_TEMPLATE:
        raise BadTemplate(f"is longer than {MAX_TEMPLATE} characters")
    place, at = [], 0
    name, at = _name(text, 0)
    if name not in ("topic", "header", "body", *EACH):
        raise BadTemplate(f"has {name[:40]!r}: a path begins with topic, header, body or each")
    place.append(name)
    while at < len(text) and text[at] != "|":
        if text[at] == ".":
            key, at = _name(text, at + 1)
            if not key:
                raise BadTemplate("has a dot with no name behind it")
        elif text[at : at + 2] == '["':
            end = text.find('"]', at)
            if end < 0:
                raise BadTemplate('has [" without its "]')
            key, at = text[at + 2 : end], end + 2
        elif text[at] == "[":
            key, at = _index(text, at)
        else:
            raise BadTemplate(f"can't be read from {text[at : at + 20]!r} on")
        place.append(key)
    if len(place) > MAX_PATH:
        raise BadTemplate(f"goes deeper than {MAX_PATH} levels")
    filters = [_filter(part) for part in text[at + 1 :].split("|")] if at < len(text) else []
    if len(filters) > MAX_FILTERS:
        raise BadTemplate(f"has more than {MAX_FILTERS} filters")
    return place, filters


def _name(text: str, start: int) -> tuple[str, int]:
    end = start
    while end < len(text) and text[end] not in ".[|":
        end += 1
    return text[start:end], end


def _index(text: str, at: int) -> tuple[Any, int]:
    end = text.find("]", at)
    inside = text[at + 1 : end] if end > 0 else ""
    try:
        if len(inside) > 12:
            raise ValueError
        numbers = [int(part) if part else None for part in inside.split(":")]
        if len(numbers) == 1 and numbers[0] is not None:
            return numbers[0], end + 1
        if len(numbers) == 2 and end > 0:
            return slice(*numbers), end + 1
    except ValueError:
        pass
    raise BadTemplate(f'has {text[at : at + 20]!r}: in brackets stands [1], [1:] or ["a name"]')


def _getter(place: list[Any]) -> Getter:
    source, keys = place[0], tuple(place[1:])
    if source == "topic":
        return _topic_getter(keys)
    if source == "header":
        return _header_getter(keys)
    if any(isinstance(key, slice) for key in keys):
        raise BadTemplate("has [from:to], which only a topic has")
    if source == "body":
        return _body_getter(keys)
    attribute = source

    def get(scope: Scope) -> Any:
        value = getattr(scope, attribute)
        for key in keys:
            value = _child(value, key)
        return value

    return get


def _body_getter(keys: tuple[Any, ...]) -> Getter:
    def get(scope: Scope) -> Any:
        value = scope.body
        for key in keys:
            value = value.get(key) if value.__class__ is dict else _child(value, key)
        return value

    return get


def _child(value: Any, key: Any) -> Any:
    if value.__class__ is dict:
        return value.get(key)
    if value.__class__ is list and key.__class__ is int and -len(value) <= key < len(value):
        return value[key]
    return None


def _topic_getter(keys: tuple[Any, ...]) -> Getter:
    if not keys:
        return lambda scope: scope.topic
    if len(keys) > 1 or isinstance(keys[0], str):
        raise BadTemplate("has a path behind topic: a topic has levels, such as topic[1] or topic[2:]")
    key = keys[0]
    if isinstance(key, slice):
        return lambda scope: "/".join(scope.levels[key]) or None
    return lambda scope: scope.levels[key] if -len(scope.levels) <= key < len(scope.levels) else None


def _header_getter(keys: tuple[Any, ...]) -> Getter:
    if len(keys) != 1 or not isinstance(keys[0], str):
        raise BadTemplate("has to name one header, as in header.x-name")
    name = keys[0].lower()
    if may_be_secret(name) or name.startswith(_FROM_PROXIES):
        raise BadTemplate(f"can't read the header {name[:60]}: what senders sign in with is out of reach")
    return lambda scope: scope.headers.get(name)


# Filters


def _lower(value: Any, argument: Any) -> Any:
    text = _text(value)
    return None if text is None else text.lower()


def _upper(value: Any, argument: Any) -> Any:
    text = _text(value)
    return None if text is None else text.upper()


def _trim(value: Any, argument: Any) -> Any:
    text = _text(value)
    return None if text is None else text.strip()


def _level(value: Any, number: int) -> Any:
    text = _text(value)
    return None if text is None else _child(text.split("/"), number)


def _split(value: Any, separator: str) -> Any:
    text = _text(value)
    return None if text is None else text.split(separator)


def _number(value: Any, argument: Any) -> Any:
    """Of text that is a number and nothing else; other text is not there."""
    if value.__class__ in (int, float):
        return value
    return _as_number(value) if value.__class__ is str and json_rules.is_number(value) else None


def _bare(value: Any, argument: Any) -> Any:
    """A number, true or false if the text is that, else the text."""
    if value.__class__ is not str:
        return value
    if json_rules.is_number(value):
        return _as_number(value)
    return {"true": True, "false": False}.get(value.strip(), value)


def _as_number(text: str) -> Any:
    text = text.strip()  # of more than float() knows as white space
    number = float(text) if len(text) <= json_rules.MAX_DIGITS else float("inf")
    if number in (float("inf"), float("-inf")):
        raise Unreadable("has a number out of range")
    return int(text) if len(text) < 19 and text.lstrip("-").isdigit() else number


def _base64_hex(value: Any, argument: Any) -> Any:
    text = _text(value)
    if text is None:
        return None
    try:
        padded = text.strip().translate({45: 43, 95: 47}) + "=" * (-len(text.strip()) % 4)
        return binascii.a2b_base64(padded.encode("ascii"), strict_mode=True).hex()
    except ValueError:
        raise Unreadable("is no base64") from None


def _hex(value: Any, argument: Any) -> Any:
    """Hexadecimal as programs print it, `0A:1b` or `0x0A1B`, in one form."""
    text = _text(value)
    if text is None:
        return None
    plain = text.strip().removeprefix("0x").replace(":", "").replace("-", "").replace(" ", "")
    try:
        return bytes.fromhex(plain).hex()
    except ValueError:
        raise Unreadable("is no hexadecimal") from None


def _pairs(value: Any, without: str) -> Any:
    """`cpu=cpu0/path=%2F`: an object's texts and numbers in the order of their keys, as a tag has them."""
    if value.__class__ is not dict:
        return None
    skipped = without.split(",")
    found, length = [], 0
    for key in sorted(value):
        if key not in skipped:
            text = _text(value[key]) or ""
            found.append((key, text))
            length += len(key) + len(text)
            if length > MAX_TEMPLATE:
                raise Unreadable(f"has more than {MAX_TEMPLATE} characters in its pairs")
    return "/".join(f"{key}={text}" for key, text in found)


def _ruuvi(value: Any, argument: Any) -> Any:
    text = _text(value)
    return None if text is None else advertised(text)


_Filter = Callable[[Any, Any], Any]
_FILTERS: dict[str, tuple[_Filter, type | None]] = {
    "at": (_child, int),
    "bare": (_bare, None),
    "base64_hex": (_base64_hex, None),
    "hex": (_hex, None),
    "level": (_level, int),
    "lower": (_lower, None),
    "number": (_number, None),
    "pairs": (_pairs, str),
    "ruuvi": (_ruuvi, None),
    "split": (_split, str),
    "trim": (_trim, None),
    "upper": (_upper, None),
}
UNITS = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 0, "iso": 0}  # the filters that only a time has


def _filter(text: str) -> tuple[str, Any]:
    name, colon, argument = text.partition(":")
    if name in UNITS and not colon:
        return name, None
    if name not in _FILTERS:
        known = ", ".join([*_FILTERS, *UNITS])
        raise BadTemplate(f"has the filter {name[:40]!r}: there are {known}")
    kind = _FILTERS[name][1]
    if kind is None:
        if colon:
            raise BadTemplate(f"has {name}:, and that filter takes nothing behind a colon")
        return name, None
    if not argument and name != "pairs":
        raise BadTemplate(f"has {name} without what belongs behind it, as in {name}:1")
    if kind is str:
        return name, argument
    try:
        if len(argument) > 6:
            raise ValueError
        return name, int(argument)
    except ValueError:
        raise BadTemplate(f"has {name}:{argument[:20]}, where a number belongs behind the colon") from None


def _filtered(get: Getter, name: str, argument: Any) -> Getter:
    if name in UNITS:
        return get  # `times` reads it
    apply = _FILTERS[name][0]

    def filtered(scope: Scope) -> Any:
        value = get(scope)
        if value is None:
            return None
        if value.__class__ is str:
            scope.spend(len(value) >> 4)
        elif value.__class__ is dict:
            scope.spend(len(value))
        return apply(value, argument)

    return filtered
