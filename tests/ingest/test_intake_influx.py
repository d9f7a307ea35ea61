"""The door of InfluxDB's clients: what they ask, and what they expect as an answer."""

from typing import Any

import orjson
import pytest

from ingest.connectors.intake import influx
from ingest.connectors.intake.request import (
    AUTH_REQUIRED,
    METHOD_NOT_ALLOWED,
    TRY_AGAIN,
    IntakeRequest,
    Refusal,
)
from thingscale.intakes.formats.readings import BadBody, Reading

NOW = 1_764_400_000_000_000
BAD = Refusal(400, "BAD_JSON_FORMAT", "line 3: a field has no name: write name=value.")
TOO_FAST = Refusal(429, "TOO_MANY_REQUESTS", "Wait.", retry_after=7)
TOO_LARGE = Refusal(413, "TOO_LARGE", "Send less.")


def request(endpoint: str = "/write", device_id: str = "", **query: str) -> IntakeRequest:
    return IntakeRequest("POST", endpoint, query, {}, device_id)


def test_what_clients_ask_before_they_write() -> None:
    ping = influx.constant(request("/ping"))
    assert ping is not None
    assert (ping.status, ping.body, ping.headers["X-Influxdb-Version"]) == (204, b"", "1.8.10")
    verbose = influx.constant(request("/ping", verbose="true"))  # the Arduino library
    assert verbose is not None
    assert (verbose.status, orjson.loads(verbose.body)) == (200, {"version": "1.8.10"})
    health = influx.constant(request("/health"))
    assert health is not None
    assert (health.status, orjson.loads(health.body)["status"]) == (200, "pass")
    assert influx.constant(request("/write")) is None
    assert influx.constant(request("/api/v2/write")) is None
    assert influx.constant(request("")) is None


@pytest.mark.parametrize(
    ("queries", "results"),
    [
        ("", [{"statement_id": 0}]),  # in the body of a POST, as Telegraf has it
        ('CREATE DATABASE "telegraf"', [{"statement_id": 0}]),
        ("SHOW DATABASES;", [{"statement_id": 0}]),
        ("SHOW DATABASES; SHOW DATABASES", [{"statement_id": 0}, {"statement_id": 1}]),
        (
            "select * from cpu",
            [{"statement_id": 0, "error": "Only writes are taken here: read over REST, or in the console."}],
        ),
    ],
)
def test_queries(queries: str, results: list[dict[str, Any]]) -> None:
    answer = influx.constant(request("/query", q=queries))
    assert answer is not None
    assert (answer.status, orjson.loads(answer.body)) == (200, {"results": results})


def test_the_answer_to_a_thousand_queries_is_bounded() -> None:
    answer = influx.constant(request("/query", q="SELECT 1;" * 100_000))
    assert answer is not None
    assert len(answer.body) < 4000


def test_what_is_stored_has_no_content() -> None:
    for endpoint in ("/write", "/api/v2/write", ""):
        answer = influx.stored(request(endpoint), 5)
        assert (answer.status, answer.body, answer.content_type) == (204, b"", "")


@pytest.mark.parametrize(
    ("refusal", "count", "status", "error"),
    [
        (BAD, 0, 400, "unable to parse: line 3: a field has no name: write name=value."),
        (BAD, 2, 400, "partial write: line 3: a field has no name: write name=value."),
        (AUTH_REQUIRED, 0, 401, AUTH_REQUIRED.detail),
        (METHOD_NOT_ALLOWED, 0, 405, METHOD_NOT_ALLOWED.detail),
        (TOO_LARGE, 0, 413, "Send less."),
        (TOO_FAST, 0, 503, "Wait."),  # Telegraf drops what gets a 4xx
        (TRY_AGAIN, 0, 503, TRY_AGAIN.detail),
    ],
)
def test_refusals_of_version_1(refusal: Refusal, count: int, status: int, error: str) -> None:
    for endpoint in ("/write", ""):
        answer = influx.refused(request(endpoint), refusal, count)
        assert (answer.status, orjson.loads(answer.body)) == (status, {"error": error})
        assert answer.headers.get("Retry-After") == (
            str(refusal.retry_after) if refusal.retry_after else None
        )
        assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (BAD, 400, "invalid"),
        (AUTH_REQUIRED, 401, "unauthorized"),
        (TOO_LARGE, 413, "request too large"),
        (TOO_FAST, 429, "too many requests"),
        (TRY_AGAIN, 503, "unavailable"),
        (Refusal(411, "LENGTH_REQUIRED", "Say how long it is."), 411, "invalid"),
    ],
)
def test_refusals_of_version_2(refusal: Refusal, status: int, code: str) -> None:
    answer = influx.refused(request("/api/v2/write"), refusal)
    assert (answer.status, orjson.loads(answer.body)) == (status, {"code": code, "message": refusal.detail})
    assert answer.headers.get("Retry-After") == (str(refusal.retry_after) if refusal.retry_after else None)


def test_the_precision_is_in_the_query() -> None:
    (reading,) = influx.read(request(precision="s", db="x"), b"t v=1 1764400000", NOW)
    assert reading == Reading("x", "t", b'{"v":1}', NOW)
    assert influx.read(request(precision="", db="x"), b"t v=1 1764400000000000000", NOW) == [reading]
    with pytest.raises(BadBody, match="precision"):
        influx.read(request(precision="d", db="x"), b"t v=1", NOW)


@pytest.mark.parametrize(
    ("sent", "device_id"),
    [
        (request(device_id="boiler 1", db="telegraf"), "boiler 1"),
        (request(device_id="a/b"), "a%2Fb"),
        (request(db="garden"), "garden"),
        (request("/api/v2/write", bucket="garden/autogen"), "garden"),
    ],
)
def test_whose_a_line_is_that_does_not_say_so(sent: IntakeRequest, device_id: str) -> None:
    assert [reading.device_id for reading in influx.read(sent, b"t v=1\nt,host=h v=1", NOW)] == [
        device_id,
        "h",
    ]


def test_what_the_intake_says() -> None:
    sent = request()._replace(options={"device_tags": ["building", "room"], "precision": "s"})
    (reading,) = influx.read(sent, b"t,host=h,room=kitchen v=1 1764400000", NOW)
    assert reading == Reading("kitchen", "t/host=h", b'{"v":1}', NOW)
    sent = sent._replace(query={"precision": "ms"})  # the sender knows better
    assert influx.read(sent, b"t,host=h,room=kitchen v=1 1764400000000", NOW) == [reading]
