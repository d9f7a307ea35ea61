"""The door of OTLP/HTTP: what its senders send, and what they expect as an answer."""

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToJson, Parse
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from ingest.connectors.intake import otlp
from ingest.connectors.intake.request import (
    AUTH_REQUIRED,
    METHOD_NOT_ALLOWED,
    TOO_LARGE,
    TOO_SLOW,
    TRY_AGAIN,
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    too_many,
)
from thingscale.intakes.formats.readings import BadBody

NOW = 1_770_000_000_000_000
PROTOBUF, JSON = b"application/x-protobuf", b"application/json"
BAD = Refusal(400, "BAD_JSON_FORMAT", "resourceMetrics[0] has text that is not UTF-8.")
TYPES = pytest.mark.parametrize("content_type", [PROTOBUF, JSON, b"application/json; charset=utf-8"])


def request(content_type: bytes = PROTOBUF, encoding: bytes = b"", device_id: str = "") -> IntakeRequest:
    headers = {b"content-type": content_type, b"content-encoding": encoding}
    return IntakeRequest("POST", "/v1/metrics", {}, headers, device_id, counts={})


def body(content_type: bytes) -> bytes:
    """Of two data points of `a`, and one of `b`."""
    made = ExportMetricsServiceRequest()
    for host in ("a", "b", "a"):
        metrics = made.resource_metrics.add()
        metrics.resource.attributes.add(key="host.name").value.string_value = host
        metrics.scope_metrics.add().metrics.add(name="m").gauge.data_points.add(
            time_unix_nano=NOW * 1000 - len(made.resource_metrics) * 1000, as_int=5
        )
    written: bytes = made.SerializeToString() if content_type == PROTOBUF else MessageToJson(made).encode()
    return written


def parsed(answer: IntakeAnswer, message: Any) -> Any:
    """The answer, of the same form as what was asked."""
    if answer.content_type == "application/json":
        return Parse(answer.body, message())
    assert answer.content_type == "application/x-protobuf"
    return message.FromString(answer.body)


@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        (PROTOBUF, b"", None),
        (PROTOBUF, b"gzip", None),
        (JSON, b"gzip", None),
        (b"Application/JSON;charset=utf-8", b"", None),
        (b"", b"", 415),
        (b"text/plain", b"", 415),
        (PROTOBUF, b"snappy", 415),
        (JSON, b"zstd", 415),
    ],
)
def test_types_and_compressions(content_type: bytes, encoding: bytes, status: int | None) -> None:
    answer = otlp.constant(request(content_type, encoding))
    assert (answer.status if answer else None) == status
    if answer:
        assert parsed(answer, Status).message
    assert otlp.constant(request(content_type, encoding)._replace(method="GET")) is None


@TYPES
def test_what_is_stored_is_answered_in_the_same_form(content_type: bytes) -> None:
    asked = request(content_type)
    assert len(otlp.read(asked, body(content_type), NOW)) == 3
    answer = otlp.stored(asked, 3)
    assert answer.status == 200
    assert parsed(answer, ExportMetricsServiceResponse) == ExportMetricsServiceResponse()
    assert answer.body == (b"" if content_type == PROTOBUF else b"{}")


@TYPES
def test_what_is_refused_in_part_is_a_partial_success(content_type: bytes) -> None:
    asked = request(content_type)
    otlp.read(asked, body(content_type), NOW)
    refusal = Refusal(400, "DEVICE_DISABLED", "Device a: enable it.", devices=frozenset({"a"}))
    answer = otlp.refused(asked, refusal, 1)
    partial = parsed(answer, ExportMetricsServiceResponse).partial_success
    assert (answer.status, partial.rejected_data_points, partial.error_message) == (
        *(200, 2, "Device a: enable it."),
    )


@TYPES
@pytest.mark.parametrize(
    ("refusal", "status", "code", "retry_after"),
    [
        (BAD, 400, 3, None),
        (AUTH_REQUIRED, 401, 16, None),
        (Refusal(403, "QUOTA_EXCEEDED", "Full."), 403, 7, None),
        (METHOD_NOT_ALLOWED, 405, 12, None),
        (TOO_LARGE, 413, 8, None),
        (too_many(7), 429, 8, "7"),
        (TRY_AGAIN, 503, 14, "1"),
        (TOO_SLOW, 503, 14, "1"),  # senders drop what gets a 408
    ],
)
def test_refusals_are_statuses(
    content_type: bytes, refusal: Refusal, status: int, code: int, retry_after: str | None
) -> None:
    answer = otlp.refused(request(content_type), refusal)
    assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
    said = parsed(answer, Status)
    shown = TRY_AGAIN if refusal is TOO_SLOW else refusal
    assert (said.code, said.message) == (code, f"{shown.code}: {shown.detail}")
    assert "WWW-Authenticate" not in answer.headers


def test_at_an_intake_s_own_path() -> None:
    """/in/KEY/DEVICE_ID, where the type is not looked at before the body is read."""
    made = ExportMetricsServiceRequest()
    metric = made.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(as_int=5)
    readings = otlp.read(request(device_id="d7"), made.SerializeToString(), NOW)
    assert readings == [("d7", "m", b"5", NOW)]
    with pytest.raises(BadBody, match="Send metrics as"):
        otlp.read(request(b"text/plain"), b"", NOW)
    assert orjson.loads(otlp.refused(request(JSON), BAD).body)["code"] == 3
