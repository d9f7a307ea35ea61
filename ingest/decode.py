"""Payload bytes -> JSON text of the value, by kind of message. Pure.

The value's type is the platform's decision (docs/contract.md, Values): what is JSON stays as it came, byte
for byte; binary becomes a hex string; url-encoded forms become objects. What JSON may be is in
thingscale/lib/json_rules.py.
"""

from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import orjson

from ingest.message import Kind, Reason
from thingscale.lib import exact_json, json_rules, points
from thingscale.lib.errors import ContractError
from thingscale.lib.json_rules import MAX_BYTES, BadValue, number_or_text
from thingscale.lib.points import Points

MAX_PAYLOAD = MAX_BYTES
MAX_ARRAY = 1024 * 1024  # of datapoints, by HTTP
MAX_ARRAY_MQTT = 256 * 1024
AN_ARRAY = 'an array must look like [{"value": 21.5, "at": "2026-01-31T13:45:30Z", "tag": "roof"}]'
LOCAL_TIMES = Points((), (), ())  # in place of an array's: to be read in the zone of its user
UTC = ZoneInfo("UTC")
MAX_FIELDS = 1000
MAX_STATE = 16 * 1024  # bytes as JSON: a list of devices has each one's
_FORM_KEYS = {"v": "value", "v2": "value2", "v3": "value3", "v4": "value4"}


class BadArray(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail  # a sentence that says what to do


def decode(kind: Kind, payload: bytes) -> bytes:
    """JSON text of the value. Raises BadValue with the reason."""
    if len(payload) > MAX_PAYLOAD:
        raise BadValue(Reason.TOO_LARGE, "is larger than 64 KiB")
    return _DECODERS[kind](payload)


def is_array(payload: bytes) -> bool:
    """Whether a device's JSON is to be an array of datapoints."""
    return payload[:1] in _BEFORE_ARRAY and payload[:64].lstrip(_BEFORE_ARRAY[1:])[:1] == b"["


_BEFORE_ARRAY = b"[ \t\r\n\xef\xbb\xbf"  # itself, white space, a byte order mark


def decode_array(payload: bytes, limit: int, now: int, zone: ZoneInfo | None = None) -> Points:
    """Datapoints of one message, all or none. Without a zone, LOCAL_TIMES if some `at` needs one. Raises
    BadArray, which names the first bad element."""
    if len(payload) > limit:
        raise BadArray(Reason.TOO_LARGE, f"An array has at most {limit // 1024} KiB: send it in parts.")
    try:
        body = exact_json.loads(json_rules.trimmed(payload))
    except (ValueError, RecursionError):
        raise BadArray(Reason.BAD_JSON_FORMAT, f"It is not whole JSON: {AN_ARRAY}.") from None
    if not body or not isinstance(body, list):
        raise BadArray(Reason.BAD_JSON_FORMAT, f"It has no datapoint: {AN_ARRAY}.")
    if zone is None and points.has_local_time(body):
        return LOCAL_TIMES
    try:
        return points.parse(body, zone or UTC, now)
    except ContractError as error:
        if error.code == Reason.TOO_LARGE:
            raise BadArray(Reason.TOO_LARGE, error.detail) from None
        detail = f"{error.detail.removesuffix('.')}: {AN_ARRAY}."
        raise BadArray(Reason.BAD_JSON_FORMAT, detail) from None


def _binary(payload: bytes) -> bytes:
    return b'"' + payload.hex().encode() + b'"'


def _form(payload: bytes) -> bytes:
    return _object({_FORM_KEYS[key]: value for key, value in _pairs(payload) if key in _FORM_KEYS})


def _state(payload: bytes) -> bytes:
    text = _object({key: value.strip() for key, value in _pairs(payload)})
    if len(text) > MAX_STATE:
        raise BadValue(Reason.TOO_LARGE, "is larger than 16 KiB as a state")
    return text


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
    text = orjson.dumps({key: number_or_text(value) for key, value in fields.items()})
    json_rules.check(text, fields)
    return text


_DECODERS = {Kind.JSON: json_rules.bare, Kind.BINARY: _binary, Kind.FORM: _form, Kind.STATE: _state}
