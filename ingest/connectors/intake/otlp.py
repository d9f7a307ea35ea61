"""OTLP/HTTP, as its senders know it. Each answer is a message of the same form as the request, protobuf or
JSON. What is answered 429 or 503 they send again; all else they drop."""

from ingest.connectors.intake.request import (
    LEFT_OUT,
    TRY_AGAIN,
    UNSUPPORTED_ENCODING,
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    json_answer,
    retry_headers,
)
from thingscale.intakes.formats import otlp, protobuf
from thingscale.intakes.formats.readings import BadBody, Reading, device_id_of
from thingscale.lib import content_encoding
from thingscale.lib.reasons import Reason

PROTOBUF, JSON = "application/x-protobuf", "application/json"
UNSUPPORTED_TYPE = Refusal(415, "UNSUPPORTED_TYPE", f"Send metrics as {PROTOBUF} or {JSON}.")
POINTS = "data points"
# Of google.rpc.Code
INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 3, 7, 8
UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 12, 14, 16
CODES = {
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    405: UNIMPLEMENTED,
    413: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    503: UNAVAILABLE,
}


def constant(request: IntakeRequest) -> IntakeAnswer | None:
    if request.method != "POST":
        return None
    if _content_type(request) not in {PROTOBUF, JSON}:
        return refused(request, UNSUPPORTED_TYPE)
    if not content_encoding.readable(request.headers.get(b"content-encoding", b"")):
        return refused(request, UNSUPPORTED_ENCODING)
    return None


def read(request: IntakeRequest, body: bytes, now: int) -> list[Reading]:
    content_type = _content_type(request)
    if content_type not in {PROTOBUF, JSON}:
        raise BadBody(Reason.BAD_JSON_FORMAT, UNSUPPORTED_TYPE.detail)
    nameless = device_id_of(request.device_id) or otlp.NAMELESS
    decoded = otlp.decode(body, now, as_json=content_type == JSON, nameless=nameless)
    if request.counts is not None:
        request.counts[POINTS] = decoded.points
        request.counts[LEFT_OUT] = {"": decoded.left_out}
    return decoded.readings


def stored(request: IntakeRequest, count: int) -> IntakeAnswer:
    if _content_type(request) == JSON:
        return json_answer(200, {})
    return IntakeAnswer(200, b"", PROTOBUF)


def refused(request: IntakeRequest, refusal: Refusal, count: int = 0) -> IntakeAnswer:
    as_json = _content_type(request) == JSON
    if count:  # ExportMetricsServiceResponse with a partial_success
        points = request.counts.get(POINTS, {}) if request.counts else {}
        rejected = sum(points.get(device_id, 0) for device_id in refusal.devices)
        if as_json:
            partial = {"rejectedDataPoints": str(rejected), "errorMessage": refusal.detail}
            return json_answer(200, {"partialSuccess": partial})
        body = protobuf.written(1, rejected) + protobuf.written(2, refusal.detail.encode())
        return IntakeAnswer(200, protobuf.written(1, body), PROTOBUF)
    if refusal.status == 408:  # which they would drop
        refusal = TRY_AGAIN
    headers = retry_headers(refusal) | ({"Allow": "POST"} if refusal.status == 405 else {})
    code, message = CODES.get(refusal.status, INVALID_ARGUMENT), f"{refusal.code}: {refusal.detail}"
    if as_json:  # google.rpc.Status
        return json_answer(refusal.status, {"code": code, "message": message}, headers)
    body = protobuf.written(1, code) + protobuf.written(2, message.encode())
    return IntakeAnswer(refusal.status, body, PROTOBUF, headers)


def _content_type(request: IntakeRequest) -> str:
    value = request.headers.get(b"content-type", b"").partition(b";")[0]
    return value.strip().lower().decode("latin-1")
