"""InfluxDB's line protocol over HTTP, as the clients of 1.8 and 2 have it: what they ask, and the forms of
their answers."""

from collections.abc import Mapping
from types import MappingProxyType

from ingest.connectors.intake.request import (
    IntakeAnswer,
    IntakeRequest,
    Refusal,
    json_answer,
    retry_headers,
)
from thingscale.intakes.formats import influx
from thingscale.intakes.formats.readings import Reading

V2 = "/api/v2/write"
VERSION = "1.8.10"  # whose clients are at home here: some look for it before they write
_HEADERS: Mapping[str, str] = MappingProxyType(
    {"X-Influxdb-Version": VERSION, "X-Influxdb-Build": "ThingScale"}
)
_HEALTH = {
    "name": "influxdb",
    "message": "ready for queries and writes",
    "status": "pass",
    "checks": [],
    "version": VERSION,
}
_MAX_STATEMENTS = 20
_NO_QUERIES = "Only writes are taken here: read over REST, or in the console."
_CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    413: "request too large",
    429: "too many requests",
    503: "unavailable",
}


def constant(request: IntakeRequest) -> IntakeAnswer | None:
    match request.endpoint:
        case "/ping" if request.query.get("verbose", "").lower() in {"1", "t", "true"}:
            return json_answer(200, {"version": VERSION}, _HEADERS)
        case "/ping":
            return IntakeAnswer(204, headers=_HEADERS)
        case "/health":
            return json_answer(200, _HEALTH, _HEADERS)
        case "/query":
            return json_answer(200, {"results": _results(request.query.get("q", ""))}, _HEADERS)
    return None


def read(request: IntakeRequest, body: bytes, now: int) -> list[Reading]:
    """A line that names no device is of the one in the URL, or is called as the database or the bucket."""
    precision = request.query.get("precision") or request.options.get("precision", "ns")
    device_tags = request.options.get("device_tags", influx.DEVICE_TAGS)
    database = (request.query.get("db") or request.query.get("bucket") or "").partition("/")[0]
    return influx.decode(body, now, precision, device_tags, request.device_id or database)


def stored(request: IntakeRequest, count: int) -> IntakeAnswer:
    return IntakeAnswer(204, headers=_HEADERS)


def refused(request: IntakeRequest, refusal: Refusal, count: int = 0) -> IntakeAnswer:
    headers = {**_HEADERS, **retry_headers(refusal)} | ({"Allow": "POST"} if refusal.status == 405 else {})
    if request.endpoint == V2:
        code = _CODES.get(refusal.status, "invalid" if refusal.status < 500 else "internal error")
        return json_answer(refusal.status, {"code": code, "message": refusal.detail}, headers)
    # Version 1 has no 429, and its clients drop what they get a 4xx for.
    status = 503 if refusal.status == 429 else refusal.status
    # By these words they tell that sending it again can't help.
    meaning = {400: "partial write: " if count else "unable to parse: "}.get(status, "")
    return json_answer(status, {"error": f"{meaning}{refusal.detail}"}, headers)


def _results(queries: str) -> list[dict[str, object]]:
    """Clients create their database, and look for it, before they write."""
    statements = [words for text in queries.split(";") if (words := text.split(maxsplit=1))]
    return [
        {"statement_id": number} | ({"error": _NO_QUERIES} if words[0].upper() == "SELECT" else {})
        for number, words in enumerate(statements[:_MAX_STATEMENTS] or [[""]])
    ]
