"""The door of remote write: what its senders send, and what they expect as an answer."""

from collections.abc import Mapping

import pytest
from remote_write import packed, request_1, request_2

from ingest.connectors.intake import prometheus
from ingest.connectors.intake.request import (
    AUTH_REQUIRED,
    METHOD_NOT_ALLOWED,
    TOO_SLOW,
    TRY_AGAIN,
    IntakeRequest,
    Refusal,
    too_many,
)
from thingscale.intakes.formats.readings import BadBody

NOW = 1_770_000_000_000_000
MS = NOW // 1000
V1, V2 = b"application/x-protobuf", b"application/x-protobuf;proto=io.prometheus.write.v2.Request"
BAD = Refusal(400, "BAD_JSON_FORMAT", "timeseries[3] has text that is not UTF-8.")


def request(
    content_type: bytes | None = V1, encoding: bytes | None = b"snappy", device_id: str = ""
) -> IntakeRequest:
    headers = {b"content-type": content_type, b"content-encoding": encoding}
    known = {name: value for name, value in headers.items() if value is not None}
    return IntakeRequest("POST", "/api/v1/write", {}, known, device_id, counts={})


@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        (V1, b"snappy", None),
        (V2, b"Snappy", None),
        (None, None, None),
        (b'Application/X-Protobuf; proto="io.prometheus.write.v2.Request"', b"snappy", None),
        (b"application/x-protobuf; proto=prometheus.WriteRequest", b"snappy", None),
        (b"application/x-protobuf;proto=io.prometheus.write.v3.Request", b"snappy", 415),
        (b"application/json", b"snappy", 415),
        (V1, b"gzip", 415),
        (V1, b"zstd", 415),  # which VictoriaMetrics' agent tries first
    ],
)
def test_types_and_compressions(
    content_type: bytes | None, encoding: bytes | None, status: int | None
) -> None:
    answer = prometheus.constant(request(content_type, encoding))
    assert (answer.status if answer else None) == status
    if answer:
        assert answer.headers["Accept-Encoding"] == "snappy"
        assert answer.body.startswith(b"UNSUPPORTED_TYPE: Send application/x-protobuf")


def test_each_message_is_read_as_its_content_type_says() -> None:
    series = {"__name__": "up", "instance": "a", "job": "j"}, [(MS, 1.0)]
    for content_type, body in ((V1, request_1(series)), (V2, request_2(series))):
        assert prometheus.read(request(content_type), packed(body), NOW) == [("a", "up", b"1.0", NOW)]
    with pytest.raises(BadBody, match="Send application/x-protobuf"):  # at /in/KEY/DEVICE_ID
        prometheus.read(request(b"text/plain"), packed(b""), NOW)


def test_the_device_of_the_url_is_that_of_series_that_name_none() -> None:
    body = packed(request_1(({"__name__": "x"}, [(MS, 1.0)]), ({"__name__": "y", "job": "j"}, [(MS, 1.0)])))
    assert [each.device_id for each in prometheus.read(request(device_id="d"), body, NOW)] == ["d", "j"]


def counts(headers: Mapping[str, str]) -> list[str | None]:
    return [
        headers.get(f"X-Prometheus-Remote-Write-{word}-Written")
        for word in ("Samples", "Histograms", "Exemplars")
    ]


def test_2_0_is_told_how_much_is_stored() -> None:
    histogram = {"count_int": 1, "sum": 1.0, "timestamp": MS}
    body = request_2(
        ({"__name__": "x", "instance": "a"}, [(MS, 1.0), (MS - 1, float("nan"))]),
        ({"__name__": "x", "instance": "b", "cpu": "0"}, [(MS, 1.0)]),
        ({"__name__": "h", "instance": "b"}, [histogram]),
    )
    asked = request(V2)
    readings = prometheus.read(asked, packed(body), NOW)
    answer = prometheus.stored(asked, len(readings))
    assert (answer.status, answer.body, counts(answer.headers)) == (204, b"", ["3", "1", "0"])
    refusal = BAD._replace(devices=frozenset({"b"}))
    answer = prometheus.refused(asked, refusal, 1)
    assert (answer.status, counts(answer.headers)) == (400, ["2", "0", "0"])
    for refusal in (BAD, TRY_AGAIN):
        assert counts(prometheus.refused(asked, refusal).headers) == ["0", "0", "0"]
    assert counts(prometheus.stored(request(), 5).headers) == [None] * 3


@pytest.mark.parametrize(
    ("refusal", "status", "retry_after"),
    [
        (BAD, 400, None),
        (AUTH_REQUIRED, 401, None),
        (METHOD_NOT_ALLOWED, 405, None),
        (too_many(7), 429, "7"),
        (TRY_AGAIN, 503, "1"),
        (TOO_SLOW, 503, "1"),  # a 4xx would be dropped
    ],
)
def test_refusals(refusal: Refusal, status: int, retry_after: str | None) -> None:
    answer = prometheus.refused(request(), refusal)
    assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
    assert answer.content_type == "text/plain; charset=utf-8"
    assert b"\n" not in answer.body
    assert "WWW-Authenticate" not in answer.headers
    assert answer.headers.get("Allow") == ("POST" if status == 405 else None)
