"""docs/contract.md says what the code does. Its calls are in tests/api/test_api_contract.py."""

import re
from collections.abc import Iterable
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import yaml
from documents import ROOT, quoted, table, tables

from api import errors, options
from api import streams as api_streams
from api.management.commands.write_openapi import FILE
from api.v2 import streams as v2_streams
from ingest import decode as decoding
from ingest import intake_messages
from ingest.connectors import http
from ingest.decode import decode
from ingest.gateway import client
from ingest.message import Kind
from ingest.mqtt import frames
from ingest.topics import target
from thingscale.devices import commands
from thingscale.devices.models import ClientSession, HeldMessage
from thingscale.events.models import Event
from thingscale.intakes.formats import readings
from thingscale.lib import clock, json_rules, names, points
from thingscale.lib.json_rules import BadValue
from thingscale.lib.kinds import ENDPOINTS
from thingscale.lib.reasons import ANSWERS, Reason
from thingscale.streams import queries
from thingscale.streams.actions import channels
from thingscale.web import body_room, http_parser, request_body, wsgi_threads

PAGE = "docs/contract.md"
SCHEMAS = yaml.safe_load(FILE.read_text())["components"]["schemas"]
UNITS = {"KiB": 2**10, "MiB": 2**20}
LIMITS = {
    "device id": names.MAX_LENGTH,
    "tag": names.MAX_TAG,
    "value, as it is sent": json_rules.MAX_BYTES,
    "value, with its numbers written out": json_rules.MAX_WRITTEN_OUT,
    "nesting of a value": json_rules.MAX_NESTING,
    "digits of a number, written out": json_rules.MAX_DIGITS,
    "state of a device, as JSON": decoding.MAX_STATE,
    "array of datapoints": points.MAX_POINTS,
    "array by the HTTP connector": decoding.MAX_ARRAY,
    "array by MQTT": decoding.MAX_ARRAY_MQTT,
    "payload to an intake by HTTP, unpacked": readings.MAX_BODY,
    "readings of a payload": readings.MAX_READINGS,
    "devices of a payload": intake_messages.MAX_DEVICES,
    "bodies of an account that still come, but for the first 64 KiB of each": body_room.MAX_BYTES_PER_ACCOUNT,
    "the same, of REST calls": wsgi_threads.MAX_BYTES_PER_ACCOUNT,
    "body of a REST call": request_body.MAX_BODY,
    "time for a body": int(request_body.BODY_SECONDS),
    "head of a request": http_parser.MAX_HEAD,
    "target of a request": http_parser.MAX_TARGET,
    "headers of a request": http_parser.MAX_HEADERS,
    "`Idempotency-Key`": v2_streams.MAX_KEY,
    "rows with `X-ENDTIME: last`": api_streams.MAX_LAST,
    "values of an aggregate": queries.MAX_LEAVES,
    "values of an aggregate, with their keys": queries.MAX_LEAF_BYTES,
    "labels of a channel": channels.MAX_LABEL_BYTES,
    "payload of Publish": commands.MAX_PAYLOAD,
    "topic, without the token": names.MAX_TOPIC,
    "MQTT client id": client.MAX_CLIENT_ID,
    "topic filter": client.MAX_FILTER,
    "levels of a topic filter": client.MAX_LEVELS,
    "subscriptions of a client": client.MAX_SUBSCRIPTIONS,
    "rejected PUBLISH that is read past": frames.MAX_READ_OVER,
    "messages held for a device": HeldMessage.KEPT,
    "held for a device": HeldMessage.MAX_BYTES,
    "queue of a durable session, messages": ClientSession.MAX_QUEUED,
    "queue of a durable session": ClientSession.MAX_QUEUED_BYTES,
}


def test_limits() -> None:
    found = {}
    for what, limit in table(PAGE, "Limits"):
        number, _, unit = limit.replace(",", "").partition(" ")
        found[what] = int(number) * UNITS.get(unit, 1)
    assert found == LIMITS


@pytest.mark.parametrize(("setting", "standard"), [row[:2] for row in tables(PAGE, "Limits")[1]])
def test_standards_of_settings(setting: str, standard: str) -> None:
    written = (ROOT / "thingscale" / "settings.py").read_text()
    (default,) = re.findall(rf'env\.integer\("{setting.strip("`")}", ([0-9_]+)', written)
    assert int(default) == int(standard)
    assert re.search(rf"{setting}.* \| {standard} \|", (ROOT / "docs/configuration.md").read_text())


@pytest.mark.parametrize(("payload", "stored"), [row[:2] for row in table(PAGE, "Values")])
def test_values(payload: str, stored: str) -> None:
    sent = payload.strip("`").encode()
    if stored.startswith("`"):
        assert decode(Kind.JSON, sent).decode().strip() == stored.strip("`")
    else:
        with pytest.raises(BadValue) as caught:
            decode(Kind.JSON, sent)
        assert caught.value.reason == stored


def test_times_that_are_shown() -> None:
    moment, zone = clock.from_us(1_423_178_789_000_000), ZoneInfo("Asia/Tokyo")
    (without,), (with_colon,) = (quoted(row[-1]) for row in table(PAGE, "Times"))
    assert without == clock.without_colon(moment, zone)
    assert with_colon == clock.with_colon(clock.from_us(1_567_764_098_000_000), zone)


@pytest.mark.parametrize("written", [row[0].strip("`") for row in tables(PAGE, "Times")[1]])
def test_times_that_are_read(written: str) -> None:
    zone = ZoneInfo("Asia/Tokyo")
    start, end = clock.parse_start(written, zone), clock.parse_end(written, zone)
    assert start <= end < start + timedelta(days=1)


def codes_of_http() -> Iterable[tuple[str, int]]:
    """Of whatever answers before or beside REST and the connector."""
    for path in sorted((ROOT / "thingscale" / "web").glob("*.py")):
        for status, code in re.findall(r'\b([45]\d\d),\s*"([A-Z_]+)"', path.read_text()):
            yield code, int(status)


def test_error_codes() -> None:
    found = [(code, int(status)) for code, status, _ in table(PAGE, "Error codes")]
    assert [status for _, status in found] == sorted(status for _, status in found)
    ours = {*errors.STATUS.items(), *codes_of_http()}
    ours |= {(each.code, each.status) for each in vars(http).values() if isinstance(each, http.Answer)}
    assert set(found) == {(code, status) for code, status in ours if status >= 400}
    assert len(found) == len(set(found))


def test_answers_of_the_connector() -> None:
    answers = {(each.status, each.code) for each in vars(http).values() if isinstance(each, http.Answer)}
    answers |= {(answer.http, answer.code or reason.value) for reason, answer in ANSWERS.items()}
    answers |= {(429, "TOO_MANY_REQUESTS")}
    rows = tables(PAGE, "HTTP connector")[1]
    found = {(int(status), code) for status, codes in rows for code in codes.split(", ")}
    assert found | {(200, "OK")} == answers


def test_paths_of_the_connector() -> None:
    paths = [row[0] for row in table(PAGE, "HTTP connector")]
    assert {path.removeprefix("POST ").removesuffix("/") for path in paths} == http.KINDS.keys()


def test_reasons() -> None:
    found = {}
    for reason, answer, mqtt, note in table(PAGE, "Reasons"):
        status, _, code = answer.partition(" ")
        found[reason] = (int(status), code, int(mqtt, 16), note == "held")
    assert found == {
        reason.value: (answer.http, answer.code, answer.mqtt, answer.held)
        for reason, answer in ANSWERS.items()
    }
    assert list(found) == sorted(Reason)


def test_topics() -> None:
    """Each one as the gateway reads it; and each form that it knows is there."""
    found = {}
    for topic, who, _ in tables(PAGE, "MQTT")[1]:
        token, rest = topic.strip("`").split("/", 1)
        assert token == "TOKEN"
        read = target(rest.replace("[/TAG]", "/TAG"))
        if who == "platform, retained":
            assert read.refused is Reason.PLATFORM_TOPIC
            continue
        assert (read.device_id, read.refused) == ("DEVICE_ID", None), topic
        assert (read.kind is None) == (not who.startswith("device"))
        found[rest] = read.kind
    assert {rest: kind for rest, kind in found.items() if kind} == {
        endpoint.topic("DEVICE_ID") + ("[/TAG]" if endpoint.tagged else ""): kind
        for kind, endpoint in ENDPOINTS.items()
    }


def test_ports() -> None:
    written = (ROOT / "thingscale" / "settings.py").read_text()
    for port, _, setting in table(PAGE, "MQTT"):
        assert f'"{setting.strip("`")}", {port},' in written


def test_options() -> None:
    rows = [row[0].strip("`").removeprefix("X-") for row in table(PAGE, "Options")]
    assert sorted(rows) == sorted(options.OPTIONS)


@pytest.mark.parametrize("row", tables(PAGE, "REST v2")[1], ids=lambda row: row[0])
def test_fields_of_answers(row: list[str]) -> None:
    """Those of the schema, which a test holds against the answers themselves."""
    name, written = row
    outer = re.sub(r" \([^)]*\)", "", written)  # without the fields of fields
    shown = [field for field in quoted(outer) if not field.startswith("X-")]
    assert sorted(shown) == sorted(SCHEMAS[name.title()]["properties"])


def test_choices_of_events() -> None:
    found = {quoted(field)[0]: quoted(values) for field, values in table(PAGE, "Events")}
    assert found == {
        "operator": Event.Operator.values,
        "notify_type": Event.Notify.values,
        "repeat": Event.Repeat.values,
        "kind": Event.Kind.values,
        "severity": Event.Severity.values,
    }
    assert (Event().repeat, Event().kind, Event().severity) == ("every", "threshold", "warning")


def test_links_within_the_page() -> None:
    text = (ROOT / PAGE).read_text()
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
