"""Remote write, 1.0 and 2.0, against what the protobuf library writes."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import fuzzing
import orjson
import pytest
from remote_write import CLASSES, STALE, Labels, Value, packed, request_1, request_2

from thingscale.intakes.formats import labelled, prometheus, protobuf
from thingscale.intakes.formats.prometheus import Decoded, Message
from thingscale.intakes.formats.readings import MAX_BODY, MAX_READINGS, BadBody
from thingscale.lib import clock
from thingscale.lib.reasons import Reason

NOW = 1_770_000_000_000_000  # 2026-02-02
MS = NOW // 1000
HISTOGRAM: dict[str, Any] = {
    "count_int": 12,
    "sum": 18.5,
    "schema": 1,
    "zero_threshold": 0.001,
    "zero_count_int": 2,
    "negative_spans": [{"offset": 1, "length": 1}],
    "negative_deltas": [1],
    "positive_spans": [{"offset": 0, "length": 2}, {"offset": 1, "length": 2}],
    "positive_deltas": [2, 1, -3, 4],  # 2, 3, 0, 4
    "timestamp": MS,
}
NODE = {"instance": "10.0.0.1:9100", "job": "node"}


def decode(request: Any, message: Message = Message.V1) -> Decoded:
    return prometheus.decode(packed(request), NOW, message)


def both(*series: tuple[Labels, Sequence[Value]]) -> Decoded:
    """As both messages have it, which has to be the same."""
    found = decode(request_1(*series))
    assert decode(request_2(*series), Message.V2) == found
    return found


def values(decoded: Decoded) -> list[tuple[str, str | None, Any, int | None]]:
    return [(device, tag, orjson.loads(value), at) for device, tag, value, at in decoded.readings]


def metric(name: str, **labels: str) -> Labels:
    return {"__name__": name, **NODE, **labels}


def test_one_datapoint_for_each_metric_instance_and_time() -> None:
    found = both(
        (metric("node_cpu_seconds_total", cpu="0", mode="idle"), [(MS, 123.4), (MS - 15_000, 123.0)]),
        (metric("node_cpu_seconds_total", cpu="0", mode="user"), [(MS, 5.0)]),
        (metric("node_load1"), [(MS, 0.25)]),
        ({"__name__": "up", "job": "node"}, [(MS, 0.0)]),
        ({"__name__": "cluster:load"}, [(MS, -1.5)]),
    )
    assert sorted(values(found), key=str) == [
        ("10.0.0.1:9100", "node_cpu_seconds_total", {"cpu=0,mode=idle": 123.0}, NOW - 15_000_000),
        ("10.0.0.1:9100", "node_cpu_seconds_total", {"cpu=0,mode=idle": 123.4, "cpu=0,mode=user": 5.0}, NOW),
        ("10.0.0.1:9100", "node_load1", 0.25, NOW),
        ("node", "up", 0.0, NOW),
        ("prometheus", "cluster:load", -1.5, NOW),
    ]
    assert found.samples == {"10.0.0.1:9100": 4, "node": 1, "prometheus": 1}


def test_series_without_instance_and_job_are_of_the_device_of_the_url() -> None:
    body = packed(request_1(({"__name__": "m"}, [(MS, 1.0)])))
    assert prometheus.decode(body, NOW, Message.V1, "d7").readings[0].device_id == "d7"


def test_series_are_told_apart_by_all_of_their_labels() -> None:
    found = both(
        (metric("m", a="1,b=2"), [(MS, 1.0)]),
        (metric("m", a="1", b="2"), [(MS, 2.0)]),
        (metric("m", a="1%2Cb=2"), [(MS, 3.0)]),
        (metric("m", a="x=y:z", empty=""), [(MS, 4.0)]),
        (metric("m", a="nul\0"), [(MS, 5.0)]),
        (metric("m"), [(MS, 6.0)]),
    )
    assert values(found) == [
        (
            NODE["instance"],
            "m",
            {
                "a=1%2Cb=2": 1.0,
                "a=1,b=2": 2.0,
                "a=1%252Cb=2": 3.0,
                "a=x=y:z": 4.0,
                "a=nul%00": 5.0,
                "value": 6.0,
            },
            NOW,
        )
    ]


def test_two_jobs_with_the_same_series_of_an_instance() -> None:
    found = both(
        ({"__name__": "up", "instance": "i", "job": "a"}, [(MS, 1.0)]),
        ({"__name__": "up", "instance": "i", "job": "b"}, [(MS, 0.0)]),
        ({"__name__": "up", "instance": "i", "job": "b"}, [(MS, 0.0)]),
    )
    assert values(found) == [("i", "up", {"job=b": 0.0, "value": 1.0}, NOW)]


@pytest.mark.parametrize("number", [STALE, math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_left_out_and_counted(number: float) -> None:
    found = both((metric("m", a="1"), [(MS, number)]), (metric("m", a="2"), [(MS, 1.0)]))
    assert values(found) == [(NODE["instance"], "m", {"a=2": 1.0}, NOW)]
    assert (found.left_out, found.samples[NODE["instance"]]) == (1, 2)
    assert both((metric("m"), [(MS, number)])).readings == []


def test_metadata_and_exemplars_are_passed_over() -> None:
    request = request_1((metric("m"), [(MS, 1.0)]))
    request.metadata.add(metric_family_name="m", help="A metric.", type=1)
    request.timeseries[0].exemplars.add(value=2.0, timestamp=MS)
    assert values(decode(request)) == [(NODE["instance"], "m", 1.0, NOW)]
    del request.timeseries[:]
    assert decode(request).readings == []


def test_fields_may_come_in_any_order() -> None:
    series = request_1((metric("m", a="1"), [(MS, 1.0), (MS - 1000, 0.0)])).timeseries[0]
    labels = b"".join(protobuf.written(1, label.SerializeToString()) for label in series.labels)
    samples = b"".join(protobuf.written(2, sample.SerializeToString()) for sample in series.samples)
    backwards = b"\x10" + protobuf.written(1, MS)[1:] + b"\x09" + bytes(8)  # time, then number
    for text in (
        samples + labels,
        labels[:20] + labels[20:] + samples,
        protobuf.written(2, backwards) + labels,
    ):
        found = decode(protobuf.written(1, text))
        assert {reading.at for reading in found.readings} <= {NOW, NOW - 1_000_000}
        assert {reading.tag for reading in found.readings} == {"m"}
    first = request_2((metric("m"), [(MS, 1.0)])).SerializeToString()
    request = CLASSES["Request2"].FromString(first)
    symbols = b"".join(protobuf.written(4, symbol.encode()) for symbol in request.symbols)
    behind = protobuf.written(5, request.timeseries[0].SerializeToString()) + symbols
    assert decode(behind, Message.V2) == decode(first, Message.V2)


def test_a_label_that_looks_like_a_sample() -> None:
    """Its end has the bytes of a field with a sample."""
    for tail in ("\x12\x10\x09" + "x" * 15, "\x12\x07\x10" + "x" * 6):
        request = request_1((metric("m", z=tail), []))
        assert decode(request).readings == []
        request.timeseries[0].samples.add(timestamp=MS, value=2.0)
        assert orjson.loads(decode(request).readings[0].value) == {
            f"z={tail}".replace("\x12", "%12")
            .replace("\x10", "%10")
            .replace("\x09", "%09")
            .replace("\x07", "%07"): 2.0
        }


def test_a_native_histogram_is_an_object() -> None:
    value = {
        "count": 12,
        "sum": 18.5,
        "zero": 2,
        "buckets": {"-1": 1, "1": 2, "1.41421356237": 3, "4": 4},
    }
    assert values(both((metric("h"), [HISTOGRAM]))) == [(NODE["instance"], "h", value, NOW)]
    found = both((metric("h", path="/"), [HISTOGRAM]), (metric("h"), [HISTOGRAM]))
    assert values(found)[0][2] == {"path=/": value, "value": value}
    assert found.histograms == {NODE["instance"]: 2}
    of_floats: Value = {
        "count_float": 4.5,
        "sum": 1.0,
        "schema": -53,
        "positive_spans": [{"offset": 1, "length": 2}],
        "positive_counts": [1.5, 3.0],
        "custom_values": [0.1, 0.5],
        "timestamp": MS,
    }
    value = {"count": 4.5, "sum": 1.0, "buckets": {"0.5": 1.5, "+Inf": 3.0}}
    assert values(both((metric("h"), [of_floats]))) == [(NODE["instance"], "h", value, NOW)]
    found = both((metric("h"), [{"sum": STALE, "timestamp": MS}]))
    assert (found.readings, found.left_out) == ([], 1)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"positive_deltas": [2**63 - 1] * 3}, "timeseries[0] has a number beyond 64 bits."),
        ({"positive_deltas": [1] * 1001}, "timeseries[0] has a histogram of more than 1000 buckets."),
        ({"schema": -53, "positive_deltas": [1, 1]}, "timeseries[0] has a histogram with a bucket that has"),
    ],
)
def test_histograms_that_can_not_be_kept(fields: dict[str, Any], detail: str) -> None:
    histogram = {"timestamp": MS, "positive_spans": [{"length": 1001}], **fields}
    assert refused(request_1((metric("h"), [histogram]))).detail.startswith(detail)


def test_a_span_as_long_as_numbers_go() -> None:
    """Of the library a length has 32 bits."""
    span = protobuf.written(11, protobuf.written(2, (1 << 64) - 1))
    counts = protobuf.written(12, b"\x02\x00") + protobuf.written(15, MS)
    labels = request_1((metric("h"), [])).timeseries[0].SerializeToString()
    found = decode(protobuf.written(1, labels + protobuf.written(4, span + counts)))
    assert values(found)[0][2] == {"count": 0, "sum": 0.0, "buckets": {"1": 1, "2": 1}}


def test_bounds_of_a_histogram_are_those_of_the_client_library() -> None:
    assert [labelled.bound(labelled.exponential_bound(index, 0)) for index in (-1, 0, 1, 10)] == [
        "0.5",
        "1",
        "2",
        "1024",
    ]
    assert labelled.exponential_bound(1 << 31, 8) == math.inf
    assert labelled.exponential_bound(-(1 << 31), -(1 << 31)) == 0.0


def test_a_metric_of_thousands_of_series_is_several_datapoints() -> None:
    series = [(metric("m", handler=f"/api/v1/{n:04}", code="200"), [(MS, float(n))]) for n in range(5000)]
    found = both(*series)
    parts = [value for _, _, value, _ in values(found)]
    assert len(parts) > 1
    assert sum(map(len, parts)) == 5000
    assert max(len(reading.value) for reading in found.readings) <= 64 * 1024


@pytest.mark.parametrize(
    ("labels", "value", "reason", "detail"),
    [
        (metric("m"), (-1, 1.0), Reason.BAD_JSON_FORMAT, "timeseries[1] has a time that is not from 2000"),
        (metric("m"), (0, 1.0), Reason.BAD_JSON_FORMAT, "timeseries[1] has a time"),
        (
            metric("m"),
            ((NOW + clock.MAX_AHEAD) // 1000 + 1, 1.0),
            Reason.BAD_JSON_FORMAT,
            "timeseries[1] has a time",
        ),
        (
            metric("m", **{f"l{n}": "x" for n in range(300)}),
            (MS, 1.0),
            Reason.TOO_LARGE,
            "timeseries[1] has more than 256 labels",
        ),
        (
            metric("m", a="x" * 20_000),
            (MS, 1.0),
            Reason.TOO_LARGE,
            "timeseries[1] has more than 16 KiB of labels",
        ),
    ],
)
def test_the_first_bad_series_is_named(
    labels: Labels, value: tuple[int, float], reason: Reason, detail: str
) -> None:
    good = (metric("good"), [(MS, 1.0)])
    for request, message in (
        (request_1(good, (labels, [value])), Message.V1),
        (request_2(good, (labels, [value])), Message.V2),
    ):
        with pytest.raises(BadBody) as raised:
            decode(request, message)
        assert raised.value.reason is reason
        assert raised.value.detail.startswith(detail)


def test_the_newest_and_the_oldest_time() -> None:
    newest, oldest = (NOW + clock.MAX_AHEAD) // 1000, clock.OLDEST_DATAPOINT // 1000
    found = both((metric("m"), [(newest, 1.0), (oldest, 2.0)]))
    assert [reading.at for reading in found.readings] == [newest * 1000, oldest * 1000]


@pytest.mark.parametrize("count", [MAX_READINGS, MAX_READINGS + 1])
def test_as_many_datapoints_as_a_payload_may_have(count: int) -> None:
    series = (metric("m"), [(MS - n, 1.0) for n in range(count)])
    if count > MAX_READINGS:
        with pytest.raises(BadBody, match="is beyond 20000 datapoints"):
            both(series)
    else:
        assert len(both(series).readings) == count


def refused(request: Any, message: Message = Message.V1) -> BadBody:
    with pytest.raises(BadBody) as raised:
        decode(request, message)
    return raised.value


def test_symbols_that_are_not_there() -> None:
    request = request_2((metric("m"), [(MS, 1.0)]))
    request.timeseries[0].labels_refs[1] = 99
    assert refused(request, Message.V2).detail == "timeseries[0] refers to a symbol that is not there."
    del request.timeseries[0].labels_refs[1]
    assert refused(request, Message.V2).detail == "timeseries[0] has a label without a value."


def test_text_that_is_not_utf_8() -> None:
    raw = request_1((metric("m", a="xyz"), [(MS, 1.0)])).SerializeToString().replace(b"xyz", b"x\xffz")
    assert refused(raw).detail == "timeseries[0] has text that is not UTF-8."


def test_a_snappy_bomb_is_refused_by_its_stated_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("cramjam.snappy.decompress_raw")
    for size in (1 << 32) - 1, (1 << 35) - 1, MAX_BODY + 1:
        stated = protobuf.written(1, size)[1:]
        with pytest.raises(BadBody, match="has more than 4 MiB") as raised:
            prometheus.decode(stated + bytes(100), NOW, Message.V1)
        assert raised.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("body", [b"", b"\x00", b"not snappy", b"\xff" * 20, b"\x80\x80\x80\x02" + bytes(10)])
def test_what_is_not_snappy(body: bytes) -> None:
    if body == b"\x00":
        assert prometheus.decode(body, NOW, Message.V1).readings == []  # of no bytes
        return
    with pytest.raises(BadBody):
        prometheus.decode(body, NOW, Message.V1)


EMPTY_LABELS = protobuf.written(1, b"\x0a\x00" * 1_000_000)
BOMBS = {
    "a length beyond the body": b"\x0a\xff\xff\xff\xff\x0f" + bytes(100),
    "groups in groups": b"\x0b" * 1_000_000,
    "a million empty labels": EMPTY_LABELS,
    "a million empty labels and a sample": protobuf.written(
        1, b"\x0a\x00" * 1_000_000 + protobuf.written(2, b"\x10" + protobuf.written(1, MS)[1:])
    ),
    "two million empty series": b"\x0a\x00" * 2_000_000,
    "two million empty samples": protobuf.written(1, b"\x12\x00" * 2_000_000),
    "two million empty symbols": b"\x22\x00" * 2_000_000,
    "four million references": protobuf.written(5, protobuf.written(1, b"\x00" * 4_000_000)),
    "references, one by one": protobuf.written(5, b"\x08\x00" * 2_000_000),
    "a long text in each of many series": protobuf.written(4, b"")
    + protobuf.written(4, b"x" * 16_000)
    + b"".join(
        protobuf.written(
            5, b"\x0a\x02\x01\x00" + protobuf.written(2, b"\x10" + protobuf.written(1, MS - n)[1:])
        )
        for n in range(100_000)
    ),
    "millions of buckets": protobuf.written(
        1, protobuf.written(4, protobuf.written(12, b"\x02" * 4_000_000))
    ),
    "spans without end": protobuf.written(
        1,
        b"".join(
            protobuf.written(4, protobuf.written(11, b"\x10\xff\xff\xff\xff\x0f") * 100) for _ in range(99)
        ),
    ),
    "a varint without end": b"\x08" + b"\xff" * 4_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("message", Message)
def test_a_bomb_costs_little(name: str, message: Message, costs_little: Any) -> None:
    body = packed(BOMBS[name])

    def read() -> None:
        with suppress(BadBody):
            assert len(prometheus.decode(body, NOW, message).readings) <= 1

    costs_little(read)


def test_fuzz() -> None:
    series: list[tuple[Labels, list[Value]]] = [
        (metric("node_cpu_seconds_total", cpu="0", mode="idle"), [(MS, 123.4), (MS - 1, 0.0)]),
        (metric("m", a="1,b=2"), [(MS, STALE)]),
        (metric("h"), [HISTOGRAM, {**HISTOGRAM, "schema": -53, "custom_values": [0.5, 1.0]}]),
        ({"__name__": "x" * 200, "instance": "/"}, [(MS, 1e308)]),
    ]
    seeds = {
        Message.V1: [request_1(*series[n:]).SerializeToString() for n in range(4)],
        Message.V2: [request_2(*series[n:]).SerializeToString() for n in range(4)],
    }
    for message, requests in seeds.items():
        good = 0
        for payload in fuzzing.payloads(requests):
            good += fuzzing.check(lambda raw: decode(raw, message).readings, payload)  # noqa: B023
        assert good > fuzzing.TIMES // 200
    for payload in fuzzing.payloads([packed(request) for request in seeds[Message.V1]]):
        fuzzing.check(lambda body: prometheus.decode(body, NOW, Message.V1).readings, payload)
