"""Remote write, as its senders know it. What is answered 429 or 5xx they send again; what any other 4xx, they
drop; at 415 they try another type or compression."""

from ingest.connectors.intake.request import (
    LEFT_OUT,
    TRY_AGAIN,
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    retry_headers,
)
from thingscale.intakes.formats import prometheus
from thingscale.intakes.formats.prometheus import Message
from thingscale.intakes.formats.readings import BadBody, Reading, device_id_of
from thingscale.lib.reasons import Reason

COUNTED = ("Samples", "Histograms", "Exemplars")
UNSUPPORTED_TYPE = Refusal(
    415,
    "UNSUPPORTED_TYPE",
    "Send application/x-protobuf of remote write 1.0 or 2.0, compressed with Snappy.",
)


def constant(request: IntakeRequest) -> IntakeAnswer | None:
    compressed = request.headers.get(b"content-encoding", b"snappy").strip().lower() == b"snappy"
    if request.method == "POST" and not (compressed and _message(request)):
        return refused(request, UNSUPPORTED_TYPE)
    return None


def read(request: IntakeRequest, body: bytes, now: int) -> list[Reading]:
    """None, where only metadata is sent."""
    message = _message(request)
    if message is None:
        raise BadBody(Reason.BAD_JSON_FORMAT, UNSUPPORTED_TYPE.detail)
    nameless = device_id_of(request.device_id) or prometheus.NAMELESS
    decoded = prometheus.decode(body, now, message, nameless)
    if request.counts is not None:
        request.counts["Samples"] = decoded.samples
        request.counts["Histograms"] = decoded.histograms
        request.counts[LEFT_OUT] = {"": decoded.left_out}
    return decoded.readings


def stored(request: IntakeRequest, count: int) -> IntakeAnswer:
    return IntakeAnswer(204, headers=_written(request, frozenset()))


def refused(request: IntakeRequest, refusal: Refusal, count: int = 0) -> IntakeAnswer:
    if refusal.status == 408:  # which they would drop
        refusal = TRY_AGAIN
    headers = retry_headers(refusal) | _written(request, refusal.devices if count else None)
    if refusal.status == 405:
        headers["Allow"] = "POST"
    elif refusal.status == 415:
        headers["Accept-Encoding"] = "snappy"
    # Of which Prometheus logs the first line.
    text = f"{refusal.code}: {refusal.detail}"
    return IntakeAnswer(refusal.status, text.encode(), "text/plain; charset=utf-8", headers)


def _written(request: IntakeRequest, without: frozenset[str] | None) -> dict[str, str]:
    """How much of it is stored, as 2.0 wants to know: of all devices but some; None: of none."""
    if _message(request) is not Message.V2:
        return {}
    headers = {}
    for word in COUNTED:
        counts = request.counts.get(word, {}) if request.counts and without is not None else {}
        count = sum(number for device_id, number in counts.items() if device_id not in (without or ()))
        headers[f"X-Prometheus-Remote-Write-{word}-Written"] = str(count)
    return headers


def _message(request: IntakeRequest) -> Message | None:
    """Which its Content-Type names; None: another one than those known."""
    media_type, *parameters = request.headers.get(b"content-type", b"application/x-protobuf").split(b";")
    if media_type.strip().lower() != b"application/x-protobuf":
        return None
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"proto":
            named = value.strip().strip(b'"').decode("latin-1")
            return next((message for message in Message if message == named), None)
    return Message.V1
