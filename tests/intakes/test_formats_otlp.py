"""Metrics of OpenTelemetry, as its own SDK and its generated classes write them."""

import math
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import fuzzing
import orjson
import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from thingscale.intakes.formats import otlp, protobuf
from thingscale.intakes.formats.otlp import Decoded
from thingscale.intakes.formats.readings import MAX_READINGS, BadBody
from thingscale.lib import clock
from thingscale.lib.reasons import Reason

NOW = 1_770_000_000_000_000  # 2026-02-02
NS = NOW * 1000


def both(request: Any, now: int = NOW) -> Decoded:
    """As protobuf and as JSON, which has to be the same."""
    found = otlp.decode(request.SerializeToString(), now, as_json=False)
    for kept in (False, True):  # lowerCamelCase, or the names of the fields
        text = MessageToJson(request, preserving_proto_field_name=kept).encode()
        assert otlp.decode(text, now, as_json=True) == found
    return found


def values(decoded: Decoded) -> list[tuple[str, str | None, Any, int | None]]:
    return [(device, tag, orjson.loads(value), at) for device, tag, value, at in decoded.readings]


def attribute(of: Any, name: str, value: Any) -> None:
    pair = of.attributes.add(key=name)
    kind = {
        str: "string_value",
        bool: "bool_value",
        int: "int_value",
        float: "double_value",
        bytes: "bytes_value",
    }
    setattr(pair.value, kind[type(value)], value)


class Made:
    """A request that grows."""

    def __init__(self, **resource: Any) -> None:
        self.request = ExportMetricsServiceRequest()
        self.resource(**resource)

    def resource(self, **attributes: Any) -> None:
        self.metrics = self.request.resource_metrics.add()
        for name, value in attributes.items():
            attribute(self.metrics.resource, name.replace("_", "."), value)
        self.scope("test")

    def scope(self, name: str) -> None:
        self.in_scope = self.metrics.scope_metrics.add()
        self.in_scope.scope.name = name

    def gauge(self, name: str, value: float, /, at: int = NS, flags: int = 0, **attributes: Any) -> Any:
        metric = self.in_scope.metrics.add(name=name, unit="1")
        point = metric.gauge.data_points.add(time_unix_nano=at, flags=flags)
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
        for each, content in attributes.items():
            attribute(point, each, content)
        return metric.gauge


def test_one_datapoint_for_each_metric_device_and_time() -> None:
    made = Made(host_name="h1")
    gauge = made.gauge("system.cpu.time", 1.5, cpu="cpu0", state="idle")
    other = gauge.data_points.add(time_unix_nano=NS, as_double=2.5)
    attribute(other, "state", "user")
    attribute(other, "cpu", "cpu0")
    made.gauge("system.uptime", 2**53 + 1)
    made.resource(host_name="h2")
    made.gauge("system.uptime", -5, at=NS - 1_000_000_999)
    found = both(made.request)
    assert sorted(values(found), key=str) == [
        ("h1", "system.cpu.time", {"cpu=cpu0,state=idle": 1.5, "cpu=cpu0,state=user": 2.5}, NOW),
        ("h1", "system.uptime", 2**53 + 1, NOW),
        ("h2", "system.uptime", -5, NOW - 1_000_001),
    ]
    assert found.points == {"h1": 3, "h2": 1}


DRAWN = str(uuid.UUID(int=5, version=4))


@pytest.mark.parametrize(
    ("attributes", "device"),
    [
        ({"service.name": "shop", "host.name": "h", "service.instance.id": "shop-1"}, "shop-1"),
        ({"service.name": "shop", "host.name": "h", "device.id": "D"}, "h"),
        ({"service.name": "shop", "device.id": "D"}, "D"),
        ({"service.name": "shop"}, "shop"),
        ({"service.name": "shop", "host.name": "h", "service.instance.id": DRAWN}, "h"),
        ({"service.instance.id": DRAWN.upper()}, DRAWN.upper()),
        ({"service.name": "", "host.name": "rack/1"}, "rack%2F1"),
        ({"device.id": 7}, "7"),
        ({}, "otlp"),
    ],
)
def test_which_attribute_names_the_device(attributes: dict[str, Any], device: str) -> None:
    made = Made()
    for name, value in attributes.items():
        attribute(made.metrics.resource, name, value)
    made.gauge("m", 1.0)
    assert both(made.request).readings[0].device_id == device


def test_resources_that_name_no_device_are_of_the_device_of_the_url() -> None:
    made = Made()
    made.gauge("m", 1.0)
    found = otlp.decode(made.request.SerializeToString(), NOW, as_json=False, nameless="d7")
    assert found.readings[0].device_id == "d7"


def test_attributes_of_every_kind() -> None:
    made = Made()
    point = made.gauge("m", 1.0, a=True, b=-7, c=0.5, d=b"\x01\xff", e="x,y", f="").data_points[0]
    of_array = point.attributes.add(key="g").value.array_value
    of_array.values.add(string_value="x")
    of_array.values.add().kvlist_value.values.add(key="k").value.bool_value = False
    point.attributes.add(key="h")
    key = 'a=true,b=-7,c=0.5,d=01ff,e=x%2Cy,f=,g=["x"%2C{"k":false}],h='
    assert values(both(made.request)) == [("otlp", "m", {key: 1.0}, NOW)]


def test_two_scopes_with_the_same_metric() -> None:
    made = Made(host_name="h")
    made.gauge("m", 1.0)
    made.scope("other")
    made.gauge("m", 2.0)
    made.gauge("n", 3.0)
    assert values(both(made.request))[::-1] == [
        ("h", "n", 3.0, NOW),
        ("h", "m", {"value": 1.0, "scope=other": 2.0}, NOW),
    ]


def test_what_has_no_value_is_left_out_and_counted() -> None:
    made = Made(host_name="h")
    made.gauge("m", 0.0, flags=1)
    made.gauge("m", math.nan, a="1")
    made.gauge("m", math.inf, a="2")
    made.in_scope.metrics.add(name="m").gauge.data_points.add(time_unix_nano=NS)
    made.gauge("m", 5.0, a="3")
    made.in_scope.metrics.add(name="nothing")
    made.in_scope.metrics.add(name="empty").sum.SetInParent()
    found = both(made.request)
    assert values(found) == [("h", "m", {"a=3": 5.0}, NOW)]
    assert (found.left_out, found.points) == (4, {"h": 5})


def test_without_a_time_it_is_of_now() -> None:
    made = Made()
    made.gauge("m", 1.0, at=0)
    assert both(made.request).readings[0].at == NOW


def test_histograms_and_summaries_are_objects() -> None:
    made = Made(host_name="h")
    made.in_scope.metrics.add(name="plain").histogram.data_points.add(
        time_unix_nano=NS,
        count=6,
        sum=7.5,
        min=0.5,
        max=3.0,
        bucket_counts=[1, 0, 3, 2],
        explicit_bounds=[0.5, 1, 2.5],
    )
    made.in_scope.metrics.add(name="empty").histogram.data_points.add(
        time_unix_nano=NS, count=2, sum=math.nan
    )
    point = made.in_scope.metrics.add(name="exponential").exponential_histogram.data_points.add(
        time_unix_nano=NS, count=2**63, sum=1.0, scale=1, zero_count=2
    )
    point.positive.offset, point.negative.offset = -1, 2
    point.positive.bucket_counts.extend([3, 0, 1])  # above 2^-0.5, 1 and 2^0.5
    point.negative.bucket_counts.extend([7])  # below -2
    point = made.in_scope.metrics.add(name="summary").summary.data_points.add(
        time_unix_nano=NS, count=9, sum=3.0
    )
    point.quantile_values.add(quantile=0.5, value=1.5)
    point.quantile_values.add(quantile=0.99, value=math.nan)
    assert {tag: value for _, tag, value, _ in values(both(made.request))} == {
        "plain": {
            "count": 6,
            "sum": 7.5,
            "min": 0.5,
            "max": 3.0,
            "buckets": {"0.5": 1, "2.5": 3, "+Inf": 2},
        },
        "empty": {"count": 2, "buckets": {}},
        "exponential": {
            "count": 2**63,
            "sum": 1.0,
            "zero": 2,
            "buckets": {"1": 3, "2": 1, "-2": 7},
        },
        "summary": {"count": 9, "sum": 3.0, "quantiles": {"0.5": 1.5}},
    }


def test_what_the_sdk_of_opentelemetry_sends() -> None:
    def temperature(options: CallbackOptions) -> Iterator[Observation]:
        yield Observation(21.5, {"room": "attic"})

    reader = InMemoryMetricReader()
    views = [View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider([reader], Resource({"service.name": "shop", "host.name": "h"}), views=views)
    meter = provider.get_meter("shop")
    counter = meter.create_counter("orders", unit="1")
    counter.add(2, {"kind": "new"})
    counter.add(1, {"kind": "old"})
    duration = meter.create_histogram("duration", unit="s")
    duration.record(0.3)
    meter.create_histogram("size").record(8)
    meter.create_observable_gauge("temperature", [temperature])
    data = reader.get_metrics_data()
    assert data is not None
    provider.shutdown()
    found = both(encode_metrics(data), clock.now_us())
    by_tag = {tag: value for _, tag, value, _ in values(found)}
    assert by_tag == {
        "orders": {"kind=new": 2, "kind=old": 1},
        "duration": {"count": 1, "sum": 0.3, "min": 0.3, "max": 0.3, "buckets": {"5": 1}},
        "size": {"count": 1, "sum": 8, "min": 8, "max": 8, "buckets": {"8": 1}},
        "temperature": {"room=attic": 21.5},
    }
    assert {reading.device_id for reading in found.readings} == {"h"}


def one(**point: Any) -> bytes:
    """A request in JSON with one data point, of a gauge."""
    metric = {"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": str(NS), **point}]}}
    return orjson.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})


@pytest.mark.parametrize(
    ("point", "value"),
    [
        ({"asInt": "-9223372036854775808"}, -(2**63)),
        ({"asInt": 12}, 12),
        ({"asInt": 12.0}, 12),
        ({"asDouble": 12}, 12.0),
        ({"asDouble": "1.5"}, 1.5),
        ({"asDouble": "NaN"}, None),
        ({"asDouble": "-Infinity"}, None),
        ({"asDouble": 1.5, "timeUnixNano": NS, "flags": 0, "unknown": [{}], "attributes": None}, 1.5),
    ],
)
def test_numbers_as_json_may_have_them(point: dict[str, Any], value: object) -> None:
    found = otlp.decode(one(**point), NOW, as_json=True)
    assert [orjson.loads(reading.value) for reading in found.readings] == ([] if value is None else [value])


POINT = "resourceMetrics[0].scopeMetrics[0].metrics[0].dataPoints[0]"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The body is not whole JSON"),
        (b"\xff", "The body is not whole JSON"),
        (b"[]", "The body is not a JSON object"),
        (b'{"resourceMetrics": {}}', "The body has something else where an array should be."),
        (b'{"resourceMetrics": [[]]}', "The body has something else where an object should be."),
        (one(asInt="1.5"), f"{POINT} has something else where a whole number should be."),
        (one(asInt=True), f"{POINT} has something else where a whole number should be."),
        (one(asInt=2**63), f"{POINT} has something else where a whole number should be."),
        (one(asDouble="x"), f"{POINT} has something else where a number should be."),
        (one(asInt=1, flags=-1), f"{POINT} has something else"),
        (one(asInt=1, timeUnixNano="1"), f"{POINT} has a time that is not from 2000-01-01 to a day ahead."),
        (one(asInt=1, attributes=[{"key": 5}]), f"{POINT} has something else where a text should be."),
        (
            one(asInt=1, attributes=[{"key": "a", "value": {"bytesValue": "é"}}]),
            f"{POINT} has something else where Base64",
        ),
        (one(asInt=1, attributes=[{"key": "a"}] * 257), f"{POINT} has more than 256 attributes."),
        (
            one(asInt=1, attributes=[{"key": "a" * 16_385}]),
            f"{POINT} has more than 16 KiB of attributes.",
        ),
    ],
)
def test_the_first_bad_part_is_named(body: bytes, detail: str) -> None:
    with pytest.raises(BadBody) as raised:
        otlp.decode(body, NOW, as_json=True)
    assert raised.value.detail.startswith(detail)


def test_the_first_bad_data_point_is_named() -> None:
    made = Made()
    made.gauge("m", 1.0)
    made.scope("other")
    made.gauge("m", 1.0)
    made.in_scope.metrics.add(name="h").histogram.data_points.add(
        time_unix_nano=NS, bucket_counts=[1, 2], explicit_bounds=[1, 2]
    )
    with pytest.raises(BadBody) as raised:
        both(made.request)
    assert raised.value.reason is Reason.BAD_JSON_FORMAT
    assert raised.value.detail == (
        "resourceMetrics[0].scopeMetrics[1].metrics[1].dataPoints[0] has not one bucket more than bounds."
    )


@pytest.mark.parametrize("count", [MAX_READINGS, MAX_READINGS + 1])
def test_as_many_datapoints_as_a_payload_may_have(count: int) -> None:
    made = Made()
    gauge = made.gauge("m", 0.5)
    for number in range(1, count):
        gauge.data_points.add(time_unix_nano=NS - number * 1000, as_int=number)
    body = made.request.SerializeToString()
    if count > MAX_READINGS:
        with pytest.raises(BadBody, match="is beyond 20000 datapoints"):
            otlp.decode(body, NOW, as_json=False)
    else:
        assert len(otlp.decode(body, NOW, as_json=False).readings) == count


def nested(levels: int) -> bytes:
    value = protobuf.written(1, b"x")
    for _ in range(levels):
        value = protobuf.written(5, protobuf.written(1, value))
    return value


def in_point(field: bytes) -> bytes:
    point = field + b"\x19" + NS.to_bytes(8, "little") + b"\x31" + bytes(8)
    metric = protobuf.written(5, protobuf.written(1, point))
    return protobuf.written(1, protobuf.written(2, protobuf.written(2, metric)))


def of_value(value: bytes) -> bytes:
    return in_point(protobuf.written(7, protobuf.written(1, b"a") + protobuf.written(2, value)))


def test_attributes_are_nested_eight_levels_deep() -> None:
    assert otlp.decode(of_value(nested(7)), NOW, as_json=False).readings
    with pytest.raises(BadBody, match="nested deeper than 8 levels"):
        otlp.decode(of_value(nested(8)), NOW, as_json=False)


BOMBS = {
    "a length beyond the body": b"\x0a\xff\xff\xff\xff\x0f" + bytes(100),
    "groups in groups": b"\x0b" * 1_000_000,
    "arrays in arrays": of_value(nested(5000)),
    "two million empty resources": b"\x0a\x00" * 2_000_000,
    "two million empty scopes": protobuf.written(1, b"\x12\x00" * 2_000_000),
    "two million empty metrics": protobuf.written(1, protobuf.written(2, b"\x12\x00" * 2_000_000)),
    "two million empty data points": protobuf.written(
        1, protobuf.written(2, protobuf.written(2, protobuf.written(5, b"\x0a\x00" * 2_000_000)))
    ),
    "two million empty attributes": in_point(b"\x3a\x00" * 2_000_000),
    "an array of two million": of_value(protobuf.written(5, b"\x0a\x00" * 2_000_000)),
    "millions of buckets": protobuf.written(
        1,
        protobuf.written(
            2,
            protobuf.written(
                2,
                protobuf.written(
                    10, protobuf.written(1, protobuf.written(8, protobuf.written(2, b"\x02" * 4_000_000)))
                ),
            ),
        ),
    ),
    "JSON, nested": b'{"resourceMetrics":' + b"[" * 4_000_000,
    "JSON, two million empty resources": b'{"resourceMetrics":[' + b"{}," * 1_300_000 + b"{}]}",
    "JSON, an attribute nested": one(
        asInt=1,
        attributes=[
            orjson.Fragment(b'{"key":"a","value":' + b'{"arrayValue":{"values":[' * 200 + b"]}}" * 200 + b"}")
        ],
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little(name: str, costs_little: Any) -> None:
    def read() -> None:
        with suppress(BadBody):
            assert not otlp.decode(BOMBS[name], NOW, as_json=name.startswith("JSON")).readings

    costs_little(read)


def test_fuzz() -> None:
    made = Made(host_name="h", device_id=7)
    gauge = made.gauge("system.cpu.time", 1.5, cpu="cpu0", state="idle", deep=True)
    gauge.data_points.add(time_unix_nano=NS - 1000, as_int=-1)
    of_array = gauge.data_points[0].attributes.add(key="g").value.array_value
    of_array.values.add().kvlist_value.values.add(key="k").value.double_value = 0.5
    made.scope("other")
    made.in_scope.metrics.add(name="plain").histogram.data_points.add(
        time_unix_nano=NS, count=6, sum=7.5, bucket_counts=[1, 2], explicit_bounds=[0.5]
    )
    point = made.in_scope.metrics.add(name="exponential").exponential_histogram.data_points.add(
        time_unix_nano=NS, count=3, scale=20, zero_count=1
    )
    point.positive.bucket_counts.extend([3, 0, 1])
    point = made.in_scope.metrics.add(name="summary").summary.data_points.add(time_unix_nano=NS, count=9)
    point.quantile_values.add(quantile=0.5, value=1.5)
    requests = [made.request]
    made = Made()
    made.gauge("m", math.nan, flags=1)
    made.gauge("m" * 200, 1e308)
    requests.append(made.request)
    good = 0
    for payload in fuzzing.payloads([request.SerializeToString() for request in requests]):
        good += fuzzing.check(lambda body: otlp.decode(body, NOW, as_json=False).readings, payload)
    assert good > fuzzing.TIMES // 200
    good = 0
    for payload in fuzzing.payloads([MessageToJson(each, indent=None).encode() for each in requests]):
        good += fuzzing.check(lambda body: otlp.decode(body, NOW, as_json=True).readings, payload)
    assert good > fuzzing.TIMES // 200
