"""What senders of a mapped intake get as an answer: 200 and OK, unless their preset says something else."""

from ingest.connectors.intake.request import (
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    json_answer,
    retry_headers,
)
from ingest.intake_messages import NO_MAPPING
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.intakes.presets import presets
from thingscale.lib.reasons import Reason


def constant(request: IntakeRequest) -> IntakeAnswer | None:
    return None


def read(request: IntakeRequest, body: bytes, now: int) -> list[Reading]:
    headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in request.headers.items()}
    if request.mapping is None:
        raise BadBody(Reason.UNSTORABLE, NO_MAPPING)
    readings: list[Reading] = request.mapping.decode(request.device_id or None, headers, body, now)
    return readings


def stored(request: IntakeRequest, count: int) -> IntakeAnswer:
    preset = presets().get(request.preset)
    if preset and preset.answer:
        return IntakeAnswer(200, preset.answer.encode(), "application/json")
    return json_answer(200, {"result": "OK"})


def refused(request: IntakeRequest, refusal: Refusal, count: int = 0) -> IntakeAnswer:
    headers = retry_headers(refusal) | ({"Allow": "POST"} if refusal.status == 405 else {})
    return json_answer(refusal.status, {"error": refusal.code, "detail": refusal.detail}, headers)
