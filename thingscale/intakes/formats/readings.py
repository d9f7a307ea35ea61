"""What every format makes of a payload: readings of devices, by names that devices and tags can have."""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from thingscale.lib import json_rules
from thingscale.lib.names import MAX_LENGTH, MAX_TAG, bad_device_id, bad_tag, is_blank
from thingscale.lib.points import Points
from thingscale.lib.reasons import Reason

MAX_BODY = 4 * 1024 * 1024  # bytes, unpacked
MAX_READINGS = 20_000  # of a payload

_NOT_IN_DEVICE_ID = re.compile(r"%(?=[0-9A-F]{2})|[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_TAG = re.compile(r"%(?=[0-9A-F]{2})|[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|(?<=/)/|/$")
_HASHED = 8  # characters by which names differ that are too long


class Reading(NamedTuple):
    device_id: str
    tag: str | None
    value: bytes  # JSON text, as `json_value` makes it
    at: int | None  # microseconds since 1970 UTC; None: the time of arrival


class BadBody(Exception):
    """Nothing of the payload is stored."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail  # a sentence that names the first bad part, and says what to do


def json_value(value: Any) -> bytes:
    """JSON text that jsonb takes. Raises BadValue."""
    json_rules.check_nesting(value)
    try:
        text = orjson.dumps(value)
    except TypeError:
        raise json_rules.BadValue(Reason.BAD_JSON_FORMAT, "has text that is not UTF-8") from None
    if len(text) > json_rules.MAX_BYTES:
        raise json_rules.BadValue(Reason.TOO_LARGE, "is larger than 64 KiB")
    json_rules.check(text, value)
    return text


def device_id_of(name: str) -> str:
    """The name as it is, where a device can have it; else with characters percent-encoded, so that no two
    names become one. Empty if the name is."""
    encoded = _NOT_IN_DEVICE_ID.sub(_encoded, name)
    if encoded == "" or bad_device_id(encoded) is None:
        return encoded
    return _shortened(_with_visible_ends(encoded), MAX_LENGTH)


def tag_of(name: str) -> str | None:
    """The same, for a tag."""
    encoded = _NOT_IN_TAG.sub(_encoded, name)
    if encoded == "" or not bad_tag(encoded):
        return encoded or None
    return _shortened(_with_visible_ends(encoded), MAX_TAG)


def by_device(readings: Iterable[Reading], now: int) -> dict[tuple[str, bool], Points]:
    """With those apart that have a time of their own. `now` is the time of the others."""
    found: dict[tuple[str, bool], list[tuple[str | None, bytes, int]]] = {}
    for device_id, tag, value, at in readings:
        points = found.setdefault((device_id, at is not None), [])
        points.append((tag, value, now if at is None else at))
    return {key: Points.of(points) for key, points in found.items()}


def _encoded(match: re.Match[str]) -> str:
    return _percent(match[0])


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _with_visible_ends(name: str) -> str:
    if name == "0" or is_blank(name):  # as no device may be called
        return _percent(name)
    start = next(place for place, character in enumerate(name) if not is_blank(character))
    end = next(place for place in range(len(name), 0, -1) if not is_blank(name[place - 1]))
    return _percent(name[:start]) + name[start:end] + _percent(name[end:])


def _shortened(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    return f"{name[: most - _HASHED - 1]}~{sha256(name.encode()).hexdigest()[:_HASHED]}"
