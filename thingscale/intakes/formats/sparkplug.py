"""Sparkplug B payloads (protobuf, as its specification 3.0 numbers the fields) as what JSON can say.

A metric has its name, or only an alias that the birth certificate of its edge node or device has given to the
name. Payloads are decoded one by one, and nothing is kept between them, so such a metric is called `alias 7`;
the names and aliases of a birth certificate are in `aliases`, to be looked up.
"""

import struct
from collections.abc import Iterator
from math import isfinite
from typing import Any

from thingscale.intakes.formats.readings import MAX_READINGS, BadBody
from thingscale.lib.reasons import Reason

MAX_DEPTH = 8  # of templates in templates
MAX_CELLS = 200_000  # of arrays and data sets
MAX_FIELDS = 500_000

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_MOST = 3.4e38  # that a float holds
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # bits of the data types Int8 to Int64
_ARRAYS = {
    22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d", 34: "q",
}  # fmt: skip
_BOOLEAN_ARRAY, _STRING_ARRAY = 32, 33

_Field = tuple[int, int, Any]  # number, wire type, a number or bytes


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

    def spend_field(self) -> None:
        self.fields -= 1
        if self.fields < 0:
            raise _too_large(f"{MAX_FIELDS} fields")


def _too_large(what: str) -> BadBody:
    return BadBody(Reason.TOO_LARGE, f"The payload has more than {what}: send fewer at a time.")


def decode(body: bytes) -> dict[str, Any]:
    """Raises BadBody."""
    payload: dict[str, Any] = {"metrics": []}
    budget = _Budget()
    try:
        for number, wire, value in _fields(body, budget):
            if number == 1 and wire == _VARINT:
                payload["timestamp"] = value
            elif number == 2 and wire == _BYTES:
                payload["metrics"].append(_metric(value, budget, 0))
            elif number == 3 and wire == _VARINT:
                payload["seq"] = value
            elif number == 4 and wire == _BYTES:
                payload["uuid"] = value.decode()
            elif number == 5 and wire == _BYTES:
                payload["body"] = value.hex()
    except (ValueError, struct.error):
        place = len(payload["metrics"])
        detail = f"metrics[{place}] or what follows is no Sparkplug B payload: is the topic spBv1.0/...?"
        raise BadBody(Reason.BAD_JSON_FORMAT, detail) from None
    aliases = {
        str(metric["alias"]): metric["name"]
        for metric in payload["metrics"]
        if "alias" in metric and metric["named"]
    }
    if aliases:
        payload["aliases"] = aliases
    return payload


def _metric(message: bytes, budget: _Budget, depth: int) -> dict[str, Any]:
    budget.spend_metric()
    found: dict[str, Any] = {"name": "", "named": False}
    last: _Field | None = None
    datatype = 0
    for number, wire, value in _fields(message, budget):
        if number == 1 and wire == _BYTES:
            found["name"] = value.decode()
        elif number == 2 and wire == _VARINT:
            found["alias"] = value
        elif number == 3 and wire == _VARINT:
            found["timestamp"] = value
        elif number == 4 and wire == _VARINT:
            datatype = value
        elif number == 7 and wire == _VARINT and value:
            return {**found, "named": bool(found["name"]), "name": _called(found)}
        elif 10 <= number <= 18:
            last = number, wire, value
    if last is not None:
        found["value"] = _value(last, datatype, budget, depth)
    return {**found, "named": bool(found["name"]), "name": _called(found)}


def _called(metric: dict[str, Any]) -> str:
    name: str = metric["name"]
    return name or (f"alias {metric['alias']}" if "alias" in metric else "")


def _value(field: _Field, datatype: int, budget: _Budget, depth: int) -> Any:
    number, wire, value = field
    if number in (10, 11) and wire == _VARINT:
        return _integer(value, datatype)
    if number == 12 and wire == _FIXED32:
        return _finite(_shortest(_FLOAT.unpack(value)[0]))
    if number == 13 and wire == _FIXED64:
        return _finite(_DOUBLE.unpack(value)[0])
    if number == 14 and wire == _VARINT:
        return bool(value)
    if wire != _BYTES:
        raise ValueError
    if number == 15:
        return value.decode()
    if number == 16:
        return _bytes(value, datatype, budget)
    if depth >= MAX_DEPTH:
        raise ValueError
    return _dataset(value, budget) if number == 17 else _template(value, budget, depth + 1)


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
        return [text.decode() for text in value.split(b"\0")[:-1]]
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
    for number, wire, value in _fields(message, budget):
        if number == 2 and wire == _BYTES:
            columns.append(value.decode())
        elif number == 3 and wire == _VARINT:
            types.append(value)
        elif number == 3 and wire == _BYTES:
            at = 0
            while at < len(value):
                datatype, at = _varint(value, at)
                types.append(datatype)
        elif number == 4 and wire == _BYTES:
            budget.spend_cells(1)
            rows.append(_row(value, types, budget))
    return {"columns": columns, "rows": rows}


def _row(message: bytes, types: list[int], budget: _Budget) -> list[Any]:
    cells: list[Any] = []
    for number, wire, value in _fields(message, budget):
        if number == 1 and wire == _BYTES:
            budget.spend_cells(1)
            cell = None
            for kind, cell_wire, content in _fields(value, budget):
                datatype = types[len(cells)] if len(cells) < len(types) else 0
                # 1 to 6 are int, long, float, double, boolean and string, as 10 to 15 are of a metric.
                if 1 <= kind <= 6:
                    cell = _value((kind + 9, cell_wire, content), datatype, budget, MAX_DEPTH)
            cells.append(cell)
    return cells


def _template(message: bytes, budget: _Budget, depth: int) -> dict[str, Any]:
    """A template's metrics by name."""
    found = {}
    for number, wire, value in _fields(message, budget):
        if number == 2 and wire == _BYTES:
            metric = _metric(value, budget, depth)
            found[metric["name"]] = metric.get("value")
    return found


def _fields(message: bytes, budget: _Budget) -> Iterator[_Field]:
    """Raises ValueError."""
    at, end = 0, len(message)
    while at < end:
        budget.spend_field()
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32, _BYTES):
            if wire == _BYTES:
                length, at = _varint(message, at)
            else:
                length = 8 if wire == _FIXED64 else 4
            if length > end - at:
                raise ValueError
            value, at = message[at : at + length], at + length
        else:
            raise ValueError
        yield number, wire, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError
