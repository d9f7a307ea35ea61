"""Metrics of OpenTelemetry (OTLP/HTTP), as protobuf or JSON.

The device is named by attributes of the resource (`DEVICE_ATTRIBUTES`), the tag is the metric, the attributes
of a data point are keys. A number is stored as it is sent, whether it is a gauge or a sum; histograms and
summaries are objects. Exemplars are passed over, and so are data points without a value.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from thingscale.intakes.formats.labelled import (
    DEVICE_IDS,
    MAX_BUCKETS,
    MAX_KEY,
    TAGS,
    Labelled,
    Remembered,
    bound,
    exponential_bound,
    key_of,
    with_finite_numbers,
)
from thingscale.intakes.formats.protobuf import BadMessage, Field, Kind, Schema
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.lib.json_rules import BadValue
from thingscale.lib.reasons import Reason

NAMELESS = "otlp"  # the device of resources that name none
DEVICE_ATTRIBUTES = ("service.instance.id", "host.name", "device.id", "service.name")
MAX_PARTS = 200_000  # resources, scopes, metrics and data points of a payload
MAX_ATTRIBUTES = 256  # of a data point or resource
MAX_LEVELS = 8  # of an attribute that is an array or a map

# An instance's id that is drawn anew at each start would make a new device each time (a UUID of version 4).
_DRAWN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NO_VALUE = 1  # in the flags of a data point

_REQUEST = Schema(resource_metrics=Field(1, Kind.MESSAGE, repeated=True))
_RESOURCE_METRICS = Schema(
    resource=Field(1, Kind.MESSAGE), scope_metrics=Field(2, Kind.MESSAGE, repeated=True)
)
_RESOURCE = Schema(attributes=Field(1, Kind.MESSAGE, repeated=True))
_SCOPE_METRICS = Schema(scope=Field(1, Kind.MESSAGE), metrics=Field(2, Kind.MESSAGE, repeated=True))
_SCOPE = Schema(name=Field(1, Kind.STRING))
_METRIC = Schema(
    name=Field(1, Kind.STRING),
    gauge=Field(5, Kind.MESSAGE),
    sum=Field(7, Kind.MESSAGE),
    histogram=Field(9, Kind.MESSAGE),
    exponential_histogram=Field(10, Kind.MESSAGE),
    summary=Field(11, Kind.MESSAGE),
)
_DATA = Schema(data_points=Field(1, Kind.MESSAGE, repeated=True))
_NUMBER = Schema(
    time_unix_nano=Field(3, Kind.FIXED),
    as_double=Field(4, Kind.DOUBLE),
    as_int=Field(6, Kind.SFIXED),
    attributes=Field(7, Kind.MESSAGE, repeated=True),
    flags=Field(8, Kind.UINT),
)
_HISTOGRAM = Schema(
    time_unix_nano=Field(3, Kind.FIXED),
    count=Field(4, Kind.FIXED),
    sum=Field(5, Kind.DOUBLE),
    bucket_counts=Field(6, Kind.FIXED, repeated=True),
    explicit_bounds=Field(7, Kind.DOUBLE, repeated=True),
    attributes=Field(9, Kind.MESSAGE, repeated=True),
    flags=Field(10, Kind.UINT),
    min=Field(11, Kind.DOUBLE),
    max=Field(12, Kind.DOUBLE),
)
_EXPONENTIAL_HISTOGRAM = Schema(
    attributes=Field(1, Kind.MESSAGE, repeated=True),
    time_unix_nano=Field(3, Kind.FIXED),
    count=Field(4, Kind.FIXED),
    sum=Field(5, Kind.DOUBLE),
    scale=Field(6, Kind.SINT),
    zero_count=Field(7, Kind.FIXED),
    positive=Field(8, Kind.MESSAGE),
    negative=Field(9, Kind.MESSAGE),
    flags=Field(10, Kind.UINT),
    min=Field(12, Kind.DOUBLE),
    max=Field(13, Kind.DOUBLE),
)
_BUCKETS = Schema(offset=Field(1, Kind.SINT), bucket_counts=Field(2, Kind.UINT, repeated=True))
_SUMMARY = Schema(
    time_unix_nano=Field(3, Kind.FIXED),
    count=Field(4, Kind.FIXED),
    sum=Field(5, Kind.DOUBLE),
    quantile_values=Field(6, Kind.MESSAGE, repeated=True),
    attributes=Field(7, Kind.MESSAGE, repeated=True),
    flags=Field(8, Kind.UINT),
)
_QUANTILE = Schema(quantile=Field(1, Kind.DOUBLE), value=Field(2, Kind.DOUBLE))
_KEY_VALUE = Schema(key=Field(1, Kind.STRING), value=Field(2, Kind.MESSAGE))
_ANY_VALUE = Schema(
    string_value=Field(1, Kind.STRING),
    bool_value=Field(2, Kind.BOOL),
    int_value=Field(3, Kind.INT),
    double_value=Field(4, Kind.DOUBLE),
    array_value=Field(5, Kind.MESSAGE),
    kvlist_value=Field(6, Kind.MESSAGE),
    bytes_value=Field(7, Kind.BINARY),
)
_VALUES = Schema(values=Field(1, Kind.MESSAGE, repeated=True))

Reader = Callable[[Schema, Any], dict[str, Any]]  # of a message as it came: Schema.read or Schema.read_json


class Decoded(NamedTuple):
    readings: list[Reading]
    points: Counter[str]  # data points by device, with those that were left out
    left_out: int


def decode(body: bytes, now: int, *, as_json: bool, nameless: str = NAMELESS) -> Decoded:
    """`nameless` is the device of resources that name none. Raises BadBody."""
    read: Reader = Schema.read_json if as_json else Schema.read
    labelled = Labelled(now)
    points = Counter[str]()
    left_out = 0
    request = _Request(read, nameless)
    try:
        data_points = request.data_points(_json_object(body) if as_json else body)
        for device_id, tag, scope, kind, message in data_points:
            points[device_id] += 1
            schema, value_of = _KINDS[kind]
            point = read(schema, message)
            value = None if point.get("flags", 0) & _NO_VALUE else value_of(read, point)
            if value is None:
                left_out += 1
                continue
            attributes = point.get("attributes")
            labels = _key(read, attributes) if attributes else ""
            time = point.get("time_unix_nano", 0)
            place = device_id, tag, time // 1000 if time else now
            if isinstance(value, dict):
                labelled.add_object(place, labels, value, scope)
            else:
                labelled.add(place, labels, value, scope)
    except BadMessage as error:
        raise BadBody(Reason.BAD_JSON_FORMAT, f"{request.place} {error}.") from None
    except BadValue as error:
        raise BadBody(error.reason, f"{request.place} {error.rule}.") from None
    return Decoded(labelled.readings(), points, left_out)


# Device id, tag, scope as a label, which of _KINDS, message
_DataPoint = tuple[str, str | None, str, str, Any]


class _Request:
    def __init__(self, read: Reader, nameless: str) -> None:
        self._read = read
        self._nameless = nameless
        self._where: tuple[int, ...] = ()  # what is being read
        self._parts = 0

    @property
    def place(self) -> str:
        """What is being read, as JSON would name it."""
        names = ("resourceMetrics", "scopeMetrics", "metrics", "dataPoints")
        pairs = zip(names, self._where, strict=False)
        return ".".join(f"{name}[{index}]" for name, index in pairs) or "The body"

    def data_points(self, request: Any) -> Iterator[_DataPoint]:
        """One after the other. Raises BadMessage, BadValue."""
        read = self._read
        for in_request in self._each(read(_REQUEST, request), "resource_metrics"):
            resource_metrics = read(_RESOURCE_METRICS, in_request)
            device_id = DEVICE_IDS[_device_name(read, resource_metrics)] or self._nameless
            for in_resource in self._each(resource_metrics, "scope_metrics"):
                scope_metrics = read(_SCOPE_METRICS, in_resource)
                name = read(_SCOPE, scope_metrics["scope"]).get("name") if "scope" in scope_metrics else ""
                scope = key_of([("scope", name)]) if name else ""
                for in_scope in self._each(scope_metrics, "metrics"):
                    metric = read(_METRIC, in_scope)
                    tag = TAGS[metric.get("name", "")]
                    for kind in _KINDS.keys() & metric.keys():
                        for message in self._each(read(_DATA, metric[kind]), "data_points"):
                            yield device_id, tag, scope, kind, message

    def _each(self, message: dict[str, Any], name: str) -> Iterator[Any]:
        """The messages of a repeated field, as long as there are not too many in all."""
        messages = message.get(name, ())
        self._parts += len(messages)
        if self._parts > MAX_PARTS:
            rule = f"is beyond {MAX_PARTS} parts and data points: send less at a time"
            raise BadValue(Reason.TOO_LARGE, rule)
        outer = self._where
        for index, each in enumerate(messages):
            self._where = (*outer, index)
            yield each
        self._where = outer


def _json_object(body: bytes) -> dict[str, Any]:
    """Raises BadMessage."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadMessage("is not whole JSON in UTF-8") from None
    if not isinstance(request, dict):
        raise BadMessage("is not a JSON object")
    return request


def _device_name(read: Reader, resource_metrics: dict[str, Any]) -> str:
    """Empty if the resource names no device."""
    resource = read(_RESOURCE, resource_metrics["resource"]) if "resource" in resource_metrics else {}
    attributes = dict(_attributes(read, resource.get("attributes", ())))
    instance, *others = (attributes.get(name, "") for name in DEVICE_ATTRIBUTES)
    names = [*others, instance] if _DRAWN.fullmatch(instance) else [instance, *others]
    return next(filter(None, names), "")


# Attributes


def _key(read: Reader, attributes: Sequence[Any]) -> str:
    """Raises BadMessage, BadValue."""
    if read is Schema.read:
        return _KEYS[tuple(attributes)]
    return key_of(_attributes(read, attributes))


def _key_of_bytes(attributes: tuple[bytes, ...]) -> str:
    return key_of(_attributes(Schema.read, attributes))


_KEYS = Remembered(_key_of_bytes, lambda attributes: sum(map(len, attributes)))


def _attributes(read: Reader, attributes: Sequence[Any]) -> list[tuple[str, str]]:
    """Names and values, as text. Raises BadMessage, BadValue."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_ATTRIBUTES} attributes")
    found, size = [], 0
    for attribute in attributes:
        pair = read(_KEY_VALUE, attribute)
        value = _any_value(read, pair.get("value"), MAX_LEVELS)
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        found.append((pair.get("key", ""), text))
        size += len(found[-1][0]) + len(text)
        if size > MAX_KEY:
            raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_KEY >> 10} KiB of attributes")
    return found


def _any_value(read: Reader, message: Any, levels: int) -> Any:
    """As JSON has it; what has no value is empty. Raises BadMessage."""
    if message is None:
        return ""
    if not levels:
        raise BadMessage(f"has an attribute that is nested deeper than {MAX_LEVELS} levels")
    kind, value = next(iter(read(_ANY_VALUE, message).items()), ("", ""))
    if kind == "array_value":
        return [_any_value(read, item, levels - 1) for item in read(_VALUES, value).get("values", ())]
    if kind == "kvlist_value":
        pairs = [read(_KEY_VALUE, item) for item in read(_VALUES, value).get("values", ())]
        return {pair.get("key", ""): _any_value(read, pair.get("value"), levels - 1) for pair in pairs}
    return value.hex() if isinstance(value, bytes) else value


# Values of data points


def _number(read: Reader, point: dict[str, Any]) -> float | None:
    value: float | None = point.get("as_int", point.get("as_double"))
    return value if value is not None and math.isfinite(value) else None


def _histogram(read: Reader, point: dict[str, Any]) -> dict[str, Any]:
    counts, bounds = point.get("bucket_counts", ()), point.get("explicit_bounds", ())
    if len(counts) > MAX_BUCKETS:
        raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_BUCKETS} buckets")
    if counts and len(counts) != len(bounds) + 1:
        raise BadMessage("has not one bucket more than bounds")
    uppers = map(bound, (*bounds, math.inf))
    buckets = {upper: count for upper, count in zip(uppers, counts, strict=False) if count}
    return _summed(point, {"buckets": buckets})


def _exponential_histogram(read: Reader, point: dict[str, Any]) -> dict[str, Any]:
    scale, buckets = point.get("scale", 0), {}
    for sign in ("negative", "positive"):
        half = read(_BUCKETS, point[sign]) if sign in point else {}
        counts, offset = half.get("bucket_counts", ()), half.get("offset", 0)
        if len(counts) > MAX_BUCKETS:
            raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_BUCKETS} buckets")
        for index, count in enumerate(counts, offset):  # bounds are bound(index) and bound(index + 1)
            if not count:
                continue
            if sign == "positive":
                buckets[bound(exponential_bound(index + 1, scale))] = count
            else:
                buckets[bound(-exponential_bound(index, scale))] = count
    zero = {"zero": point["zero_count"]} if point.get("zero_count") else {}
    return _summed(point, zero | {"buckets": buckets})


def _summary(read: Reader, point: dict[str, Any]) -> dict[str, Any]:
    quantiles = point.get("quantile_values", ())
    if len(quantiles) > MAX_BUCKETS:
        raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_BUCKETS} quantiles")
    pairs = [read(_QUANTILE, quantile) for quantile in quantiles]
    values = {bound(pair.get("quantile", 0.0)): pair.get("value", 0.0) for pair in pairs}
    return _summed(point, {"quantiles": values})


def _summed(point: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    known = {name: point[name] for name in ("sum", "min", "max") if name in point}
    return with_finite_numbers({"count": point.get("count", 0)} | known | more)


_KINDS: dict[str, tuple[Schema, Callable[[Reader, dict[str, Any]], Any]]] = {
    "gauge": (_NUMBER, _number),
    "sum": (_NUMBER, _number),
    "histogram": (_HISTOGRAM, _histogram),
    "exponential_histogram": (_EXPONENTIAL_HISTOGRAM, _exponential_histogram),
    "summary": (_SUMMARY, _summary),
}
