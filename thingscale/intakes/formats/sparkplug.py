"""Sparkplug B payloads (protobuf, as its specification 3.0 numbers the fields) as what JSON can say.

A metric has its name, or only an alias that the birth certificate of its edge node or device has given to the
name. Payloads are decoded one by one, and nothing is kept between them, so such a metric is called `alias 7`;
the names and aliases of a birth certificate are in `aliases`, to be looked up.
"""

import struct
from collections.abc import Iterator
from math import isfinite
from typing import Any

from thingscale.intakes.formats.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    double,
    fields,
    key,
    text,
    varints,
)
from thingscale.intakes.formats.readings import MAX_READINGS, BadBody
from thingscale.lib.reasons import Reason

MAX_DEPTH = 8  # of templates in templates
MAX_CELLS = 200_000  # of arrays and data sets
MAX_FIELDS = 500_000

# Fields by the names of the specification: Payload, Metric, DataSet, Template.
TIMESTAMP, METRICS, SEQ, UUID, BODY = (
    key(1, VARINT),
    key(2, BYTES),
    key(3, VARINT),
    key(4, BYTES),
    key(5, BYTES),
)
NAME, ALIAS, METRIC_TIMESTAMP = key(1, BYTES), key(2, VARINT), key(3, VARINT)
DATATYPE, IS_NULL = key(4, VARINT), key(7, VARINT)
INT_VALUE, LONG_VALUE, FLOAT_VALUE = key(10, VARINT), key(11, VARINT), key(12, FIXED32)
DOUBLE_VALUE, BOOLEAN_VALUE, STRING_VALUE = key(13, FIXED64), key(14, VARINT), key(15, BYTES)
BYTES_VALUE, DATASET_VALUE, TEMPLATE_VALUE = key(16, BYTES), key(17, BYTES), key(18, BYTES)
COLUMNS, TYPES, PACKED_TYPES, ROWS = key(2, BYTES), key(3, VARINT), key(3, BYTES), key(4, BYTES)
ELEMENTS = key(1, BYTES)
TEMPLATE_METRICS = key(2, BYTES)
VALUES = frozenset(
    {
        INT_VALUE,
        LONG_VALUE,
        FLOAT_VALUE,
        DOUBLE_VALUE,
        BOOLEAN_VALUE,
        STRING_VALUE,
        BYTES_VALUE,
        DATASET_VALUE,
        TEMPLATE_VALUE,
    }
)
# The values of a data set are those of a metric, by numbers that are less by nine.
CELLS = {
    key(1, VARINT): INT_VALUE,
    key(2, VARINT): LONG_VALUE,
    key(3, FIXED32): FLOAT_VALUE,
    key(4, FIXED64): DOUBLE_VALUE,
    key(5, VARINT): BOOLEAN_VALUE,
    key(6, BYTES): STRING_VALUE,
}

_FLOAT = struct.Struct("<f")
_MOST = 3.4e38  # that a float holds
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # bits of the data types Int8 to Int64
_ARRAYS = {
    22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d", 34: "q",
}  # fmt: skip
_BOOLEAN_ARRAY, _STRING_ARRAY = 32, 33


class _Budget:
    """What one payload may still be made of: a few bytes of protobuf can be much more in memory."""

    def __init__(self) -> None:
        self.metrics = MAX_READINGS
        self.cells = MAX_CELLS
        self.fields = MAX_FIELDS

    def spend_metric(self) -> None:
        self.metrics -= 1
        if self.metrics < 0:
            raise _too_large(f"{MAX_READINGS} metrics")

    def spend_cells(self, count: int) -> None:
        self.cells -= count
        if self.cells < 0:
            raise _too_large(f"{MAX_CELLS} elements of arrays and data sets")

    def fields_of(self, message: bytes) -> Iterator[tuple[int, Any]]:
        for field in fields(message):
            self.fields -= 1
            if self.fields < 0:
                raise _too_large(f"{MAX_FIELDS} fields")
            yield field


def _too_large(what: str) -> BadBody:
    return BadBody(Reason.TOO_LARGE, f"The payload has more than {what}: send fewer at a time.")


def decode(body: bytes) -> dict[str, Any]:
    """Raises BadBody."""
    metrics: list[dict[str, Any]] = []
    payload: dict[str, Any] = {"metrics": metrics}
    budget = _Budget()
    try:
        for field, value in budget.fields_of(body):
            if field == METRICS:
                metrics.append(_metric(value, budget, 0))
            elif field == TIMESTAMP:
                payload["timestamp"] = value
            elif field == SEQ:
                payload["seq"] = value
            elif field == UUID:
                payload["uuid"] = text(value)
            elif field == BODY:
                payload["body"] = value.hex()
    except (ValueError, struct.error):
        detail = (
            f"metrics[{len(metrics)}] or what follows is no Sparkplug B payload: is the topic spBv1.0/...?"
        )
        raise BadBody(Reason.BAD_JSON_FORMAT, detail) from None
    aliases = {
        str(metric["alias"]): metric["name"] for metric in metrics if "alias" in metric and metric["named"]
    }
    if aliases:
        payload["aliases"] = aliases
    return payload


def _metric(message: bytes, budget: _Budget, depth: int) -> dict[str, Any]:
    budget.spend_metric()
    metric: dict[str, Any] = {}
    name, value, value_field, datatype, null = "", None, 0, 0, False
    for field, content in budget.fields_of(message):
        if field == NAME:
            name = text(content)
        elif field == ALIAS:
            metric["alias"] = content
        elif field == METRIC_TIMESTAMP:
            metric["timestamp"] = content
        elif field == DATATYPE:
            datatype = content
        elif field == IS_NULL:
            null = bool(content)
        elif field in VALUES:
            value_field, value = field, content
    metric["named"] = bool(name)
    metric["name"] = name or (f"alias {metric['alias']}" if "alias" in metric else "")
    if value_field and not null:
        metric["value"] = _value(value_field, value, datatype, budget, depth)
    return metric


def _value(field: int, value: Any, datatype: int, budget: _Budget, depth: int) -> Any:
    if field in (INT_VALUE, LONG_VALUE):
        return _integer(value, datatype)
    if field == FLOAT_VALUE:
        return _finite(_shortest(_FLOAT.unpack(value)[0]))
    if field == DOUBLE_VALUE:
        return _finite(double(value))
    if field == BOOLEAN_VALUE:
        return bool(value)
    if field == STRING_VALUE:
        return text(value)
    if field == BYTES_VALUE:
        return _bytes(value, datatype, budget)
    if depth >= MAX_DEPTH:
        raise ValueError
    return _dataset(value, budget) if field == DATASET_VALUE else _template(value, budget, depth + 1)


def _integer(value: int, datatype: int) -> int:
    bits = _SIGNED.get(datatype)
    if bits is None:
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _shortest(number: float) -> float:
    """21.3 as somebody wrote it, not 21.299999237060547: of the numbers that a float can't tell apart, the
    shortest."""
    if not isfinite(number):
        return number
    exact = _FLOAT.pack(number)
    for digits in (6, 7, 8):
        short = float(f"{number:.{digits}g}")
        if abs(short) < _MOST and _FLOAT.pack(short) == exact:
            return short
    return number


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _bytes(value: bytes, datatype: int, budget: _Budget) -> Any:
    """An array by its data type, else hexadecimal."""
    if datatype == _STRING_ARRAY:
        budget.spend_cells(value.count(b"\0"))
        return [text(part) for part in value.split(b"\0")[:-1]]
    if datatype == _BOOLEAN_ARRAY:
        (count,) = struct.unpack_from("<I", value)
        if count > 8 * (len(value) - 4):
            raise ValueError
        budget.spend_cells(count)
        return [bool(value[4 + place // 8] & 0x80 >> place % 8) for place in range(count)]
    code = _ARRAYS.get(datatype)
    if code is None:
        return value.hex()
    budget.spend_cells(len(value) // struct.calcsize(code))
    numbers = struct.unpack(f"<{len(value) // struct.calcsize(code)}{code}", value)
    if code == "f":
        return [_finite(_shortest(number)) for number in numbers]
    return [_finite(number) if code == "d" else number for number in numbers]


def _dataset(message: bytes, budget: _Budget) -> dict[str, Any]:
    columns: list[str] = []
    types: list[int] = []
    rows: list[list[Any]] = []
    for field, value in budget.fields_of(message):
        if field == COLUMNS:
            columns.append(text(value))
        elif field == TYPES:
            types.append(value)
        elif field == PACKED_TYPES:
            types += varints(value)
        elif field == ROWS:
            budget.spend_cells(1)
            rows.append(_row(value, types, budget))
    return {"columns": columns, "rows": rows}


def _row(message: bytes, types: list[int], budget: _Budget) -> list[Any]:
    cells: list[Any] = []
    for field, value in budget.fields_of(message):
        if field == ELEMENTS:
            budget.spend_cells(1)
            datatype = types[len(cells)] if len(cells) < len(types) else 0
            cell = None
            for kind, content in budget.fields_of(value):
                if kind in CELLS:
                    cell = _value(CELLS[kind], content, datatype, budget, MAX_DEPTH)
            cells.append(cell)
    return cells


def _template(message: bytes, budget: _Budget, depth: int) -> dict[str, Any]:
    """A template's metrics by name."""
    metrics = (
        _metric(value, budget, depth)
        for field, value in budget.fields_of(message)
        if field == TEMPLATE_METRICS
    )
    return {metric["name"]: metric.get("value") for metric in metrics}
