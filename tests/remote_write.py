"""Requests of Prometheus' remote write, as the protobuf library writes them: the second opinion of our
reader."""

import struct
from collections.abc import Sequence
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_DOUBLE, _INT64, _UINT64, _UINT32 = (
    _TYPES.TYPE_DOUBLE,
    _TYPES.TYPE_INT64,
    _TYPES.TYPE_UINT64,
    _TYPES.TYPE_UINT32,
)
_STRING, _SINT32, _SINT64 = _TYPES.TYPE_STRING, _TYPES.TYPE_SINT32, _TYPES.TYPE_SINT64
STALE: float = struct.unpack("<d", b"\x02\x00\x00\x00\x00\x00\xf0\x7f")[0]

# name: (number, type or message); a name with a * is repeated.
_HISTOGRAM = {
    "count_int": (1, _UINT64),
    "count_float": (2, _DOUBLE),
    "sum": (3, _DOUBLE),
    "schema": (4, _SINT32),
    "zero_threshold": (5, _DOUBLE),
    "zero_count_int": (6, _UINT64),
    "zero_count_float": (7, _DOUBLE),
    "negative_spans*": (8, "Span"),
    "negative_deltas*": (9, _SINT64),
    "negative_counts*": (10, _DOUBLE),
    "positive_spans*": (11, "Span"),
    "positive_deltas*": (12, _SINT64),
    "positive_counts*": (13, _DOUBLE),
    "reset_hint": (14, _UINT32),
    "timestamp": (15, _INT64),
    "custom_values*": (16, _DOUBLE),
}
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "Label": {"name": (1, _STRING), "value": (2, _STRING)},
    "Sample": {"value": (1, _DOUBLE), "timestamp": (2, _INT64)},
    "Span": {"offset": (1, _SINT32), "length": (2, _UINT32)},
    "Histogram": _HISTOGRAM,
    "Exemplar1": {"labels*": (1, "Label"), "value": (2, _DOUBLE), "timestamp": (3, _INT64)},
    "Series1": {
        "labels*": (1, "Label"),
        "samples*": (2, "Sample"),
        "exemplars*": (3, "Exemplar1"),
        "histograms*": (4, "Histogram"),
    },
    "Metadata1": {"type": (1, _UINT32), "metric_family_name": (2, _STRING), "help": (4, _STRING)},
    "Request1": {"timeseries*": (1, "Series1"), "metadata*": (3, "Metadata1")},
    "Exemplar2": {"labels_refs*": (1, _UINT32), "value": (2, _DOUBLE), "timestamp": (3, _INT64)},
    "Metadata2": {"type": (1, _UINT32), "help_ref": (3, _UINT32), "unit_ref": (4, _UINT32)},
    "Series2": {
        "labels_refs*": (1, _UINT32),
        "samples*": (2, "Sample"),
        "histograms*": (3, "Histogram"),
        "exemplars*": (4, "Exemplar2"),
        "metadata": (5, "Metadata2"),
        "created_timestamp": (6, _INT64),
    },
    "Request2": {"symbols*": (4, _STRING), "timeseries*": (5, "Series2")},
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="remote_write_of_tests", package="tests", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name.removesuffix("*"), number=number)
            field.label = _TYPES.LABEL_REPEATED if field_name.endswith("*") else _TYPES.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = _TYPES.TYPE_MESSAGE, f".tests.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tests.{name}"))
        for name in _MESSAGES
    }


CLASSES = _classes()
Labels = dict[str, str]
# Milliseconds and number, or fields of a histogram
Value = tuple[int, float] | dict[str, Any]


def packed(message: Any) -> bytes:
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    return bytes(cramjam.snappy.compress_raw(raw))


def request_1(*series: tuple[Labels, Sequence[Value]]) -> Any:
    request = CLASSES["Request1"]()
    for labels, values in series:
        made = request.timeseries.add()
        for name, value in sorted(labels.items()):
            made.labels.add(name=name, value=value)
        _fill(made, values)
    return request


def request_2(*series: tuple[Labels, Sequence[Value]]) -> Any:
    symbols = {"": 0}
    request = CLASSES["Request2"]()
    for labels, values in series:
        made = request.timeseries.add()
        for pair in sorted(labels.items()):
            made.labels_refs.extend(symbols.setdefault(text, len(symbols)) for text in pair)
        made.metadata.type = 2
        _fill(made, values)
    request.symbols.extend(symbols)
    return request


def _fill(series: Any, values: Sequence[Value]) -> None:
    for value in values:
        if isinstance(value, dict):
            series.histograms.add(**value)
        else:
            series.samples.add(timestamp=value[0], value=value[1])
