"""Payload bytes -> JSON text that PostgreSQL's jsonb accepts. Pure.

The value's type is the platform's decision (CONTRACT 4): JSON objects, numbers and strings stay as they
came, byte for byte; binary becomes a hex string; url-encoded forms become objects.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

import orjson

from ingest.message import Kind, Reason

MAX_PAYLOAD = 64 * 1024
MAX_NESTING = 32
MAX_FIELDS = 1000
MAX_DIGITS = 1000  # of a number
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,100})?")
_LONG_EXPONENT = re.compile(rb"[0-9][eE][+-]?[0-9]{3}")  # may not fit PostgreSQL's numeric
_FORM_KEYS = {"v": "value", "v2": "value2", "v3": "value3", "v4": "value4"}


class Undecodable(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(kind: Kind, payload: bytes) -> bytes:
    """JSON text of the value. Raises Undecodable with the reason."""
    if len(payload) > MAX_PAYLOAD:
        raise Undecodable(Reason.TOO_LARGE)
    return _DECODERS[kind](payload)


def text_value(text: str) -> Any:
    """A number, as JSON text, only if it can't be anything else: `23.40`, ` -3`, `0`;
    `007`, `12E4`, `nan` and `04A1B2` stay text, for RFID uids look like that."""
    trimmed = text.strip()
    return orjson.Fragment(trimmed) if _NUMBER.fullmatch(trimmed) else text


def _json(payload: bytes) -> bytes:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise Undecodable(Reason.BAD_JSON_FORMAT) from None
    if value.__class__ not in _VALUE_TYPES:
        raise Undecodable(Reason.BAD_JSON_FORMAT)
    if len(payload) > 2 * MAX_NESTING and _brackets(payload) > MAX_NESTING and _nesting(value) > MAX_NESTING:
        raise Undecodable(Reason.BAD_JSON_FORMAT)
    if b"\\u0000" in payload and _NUL.search(payload):
        raise Undecodable(Reason.NUL_CHARACTER)
    if (len(payload) > MAX_DIGITS or _LONG_EXPONENT.search(payload)) and not _numbers_fit(payload):
        raise Undecodable(Reason.BAD_JSON_FORMAT)
    return payload


_VALUE_TYPES = frozenset({dict, str, int, float})


def _brackets(payload: bytes) -> int:
    return payload.count(b"{") + payload.count(b"[")


def _nesting(value: Any) -> int:
    """Depth of objects and arrays, level by level."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


# In the text, for a key that comes twice hides its first value. An even number of backslashes escapes itself.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_EXPONENT = re.compile(rb"[eE]([+-]?[0-9]+)")
_DIGITS = re.compile(rb"[0-9]+")


def _numbers_fit(payload: bytes) -> bool:
    """Every number has at most 1,000 digits and an exponent within 330: every double does, and numeric has
    room for it."""
    outside = _STRING.sub(b'""', payload)
    digits = max(map(len, _DIGITS.findall(outside)), default=0)
    exponents = (len(e) <= 5 and abs(int(e)) <= 330 for e in _EXPONENT.findall(outside))
    return digits <= MAX_DIGITS and all(exponents)


def _binary(payload: bytes) -> bytes:
    return b'"' + payload.hex().encode() + b'"'


def _form(payload: bytes) -> bytes:
    fields = {_FORM_KEYS[key]: value for key, value in _pairs(payload) if key in _FORM_KEYS}
    if not fields:
        raise Undecodable(Reason.BAD_JSON_FORMAT)
    return _dump(fields)


def _state(payload: bytes) -> bytes:
    fields = {key: value.strip() for key, value in _pairs(payload)}
    if not fields:
        raise Undecodable(Reason.BAD_JSON_FORMAT)
    return _dump(fields)


def _dump(fields: dict[str, str]) -> bytes:
    if any("\0" in text for pair in fields.items() for text in pair):
        raise Undecodable(Reason.NUL_CHARACTER)
    return orjson.dumps({key: text_value(value) for key, value in fields.items()})


def _pairs(payload: bytes) -> list[tuple[str, str]]:
    """Url-encoded pairs; a trailing line end is a device's habit, not data."""
    try:
        text = payload.decode().rstrip("\r\n")
        if "=" not in text:
            raise Undecodable(Reason.BAD_JSON_FORMAT)
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Undecodable(Reason.BAD_JSON_FORMAT) from None


_DECODERS = {Kind.JSON: _json, Kind.BINARY: _binary, Kind.FORM: _form, Kind.STATE: _state}
