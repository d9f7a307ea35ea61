"""What senders of a mapped intake get as an answer: 200 and OK, unless their preset says something else."""

from ingest.connectors.intake.request import (
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    json_answer,
    retry_headers,
)
from thingscale.intakes.formats.readings import Reading


def constant(request: IntakeRequest) -> IntakeAnswer | None:
    return None


def read(request: IntakeRequest, body: bytes, now: int) -> list[Reading]:
    headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in request.headers.items()}
    readings: list[Reading] = request.mapping.decode(None, headers, body, now)
    if not request.device_id:
        return readings
    return [
        reading if reading.device_id else reading._replace(device_id=request.device_id)
        for reading in readings
    ]


def stored(request: IntakeRequest, count: int) -> IntakeAnswer:
    return json_answer(200, {"result": "OK"})


def refused(request: IntakeRequest, refusal: Refusal, count: int = 0) -> IntakeAnswer:
    headers = retry_headers(refusal) | ({"Allow": "POST"} if refusal.status == 405 else {})
    return json_answer(refusal.status, {"error": refusal.code, "detail": refusal.detail}, headers)
