"""Payload bytes -> JSON text of the value, by kind of message. Pure.

The value's type is the platform's decision (CONTRACT 4): what is JSON stays as it came, byte for byte; binary
becomes a hex string; url-encoded forms become objects. What JSON may be is in thingscale/lib/json_rules.py.
"""

from urllib.parse import parse_qsl

import orjson

from ingest.message import Kind, Reason
from thingscale.lib import json_rules
from thingscale.lib.json_rules import MAX_BYTES, BadValue

MAX_PAYLOAD = MAX_BYTES
MAX_FIELDS = 1000
_FORM_KEYS = {"v": "value", "v2": "value2", "v3": "value3", "v4": "value4"}


def decode(kind: Kind, payload: bytes) -> bytes:
    """JSON text of the value. Raises BadValue with the reason."""
    if len(payload) > MAX_PAYLOAD:
        raise BadValue(Reason.TOO_LARGE, "is larger than 64 KiB")
    return _DECODERS[kind](payload)


def _binary(payload: bytes) -> bytes:
    return b'"' + payload.hex().encode() + b'"'


def _form(payload: bytes) -> bytes:
    return _object({_FORM_KEYS[key]: value for key, value in _pairs(payload) if key in _FORM_KEYS})


def _state(payload: bytes) -> bytes:
    return _object({key: value.strip() for key, value in _pairs(payload)})


def _pairs(payload: bytes) -> list[tuple[str, str]]:
    try:
        text = json_rules.trimmed(payload).decode()
        if "=" not in text:
            raise BadValue(Reason.BAD_JSON_FORMAT, "has no key=value pairs")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadValue(Reason.BAD_JSON_FORMAT, "is not url-encoded UTF-8") from None


def _object(fields: dict[str, str]) -> bytes:
    if not fields:
        raise BadValue(Reason.BAD_JSON_FORMAT, "has no key=value pairs")
    text = orjson.dumps({key: json_rules.number_or_text(value) for key, value in fields.items()})
    json_rules.check(text, fields)
    return text


_DECODERS = {Kind.JSON: json_rules.bare, Kind.BINARY: _binary, Kind.FORM: _form, Kind.STATE: _state}
