"""The OpenAPI description: it is committed, it is served, and its examples are true."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from api_calls import Caller, at, document, refusal, store
from django.test import Client
from event_history import event_history
from intake_history import intake_history
from pytest_django import Settings

from api.management.commands.write_openapi import FILE
from api.v2 import connector, openapi, openapi_examples
from ingest.connectors import http
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.lib import reasons
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.tags import create_tag
from thingscale.web.static_files import found, version

DESCRIPTION: dict[str, Any] = yaml.safe_load(FILE.read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
}
DEVICES = {f"POST {path}" for path in connector.PATHS}
NOT_HERE = {"POST /v2/publish/{device_id}", *DEVICES}  # need the platform: tests/e2e/test_openapi_clients.py
REST = OPERATIONS.keys() - DEVICES


@pytest.fixture
def known(owner: User) -> Caller:
    """An account in the state that the examples expect."""
    channel = create_channel(
        owner, 0, name="sensor_1", streams=[{"key": "temp", "label": "Temperature", "unit": "°C"}]
    )
    create_tag(channel, "roof")
    store(channel, [(at("2015-02-05 23:26:29"), '{"temp": 21.5}')])
    create_device(owner, "sensor-1", description="roof", mapped_channel=channel)
    api = Caller(owner)
    assert api.post("event", openapi_examples.EVENT_BODY).status_code == 201
    event_history(owner)
    intake_history(owner)
    return api


def test_the_committed_file_is_up_to_date() -> None:
    assert FILE.read_text() == openapi.as_yaml(), "make openapi"


@pytest.mark.parametrize(
    ("public_url", "host", "secure", "url"),
    [
        ("", "iot.example.com:8000", False, "http://iot.example.com:8000"),
        ("", "[::1]:8000", False, "http://[::1]:8000"),
        ("", "iot.example.com", True, "https://iot.example.com"),
        ("https://things.example.com", "10.0.0.7:8000", False, "https://things.example.com"),
    ],
)
def test_it_is_served_to_everybody(
    db: None, settings: Settings, public_url: str, host: str, secure: bool, url: str
) -> None:
    """With an address that a program can call which has only the file, such as Postman (R7)."""
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = public_url, ["*"]
    response = Client().get("/v2/openapi.json", headers={"host": host}, secure=secure)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json() == DESCRIPTION | {"servers": [{"url": url}]}
    assert DESCRIPTION["servers"] == [{"url": "http://127.0.0.1:8000"}]  # what `make run` says
    assert refusal(Client().post("/v2/openapi.json")) == (405, "METHOD_NOT_ALLOWED")


def test_it_is_openapi_3_1() -> None:
    assert DESCRIPTION["openapi"] == "3.1.0"
    schemes = DESCRIPTION["components"]["securitySchemes"]
    assert schemes["apiToken"]["name"] == "X-APITOKEN"
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["deviceToken"]["name"] == "X-DEVICETOKEN"
    for name, operation in OPERATIONS.items():
        assert operation["security"] == (
            [{"deviceToken": []}] if name in DEVICES else [{"apiToken": []}, {"bearer": []}]
        )
        assert {"401", "429", "503"} <= operation["responses"].keys()


def test_r7_a_call_says_which_errors_it_answers() -> None:
    for name, operation in OPERATIONS.items():
        answers = operation["responses"].keys()
        if "requestBody" in operation:
            assert {"400", "408", "413", "415"} <= answers, name
        if name.startswith("DELETE"):
            assert "400" in answers, name
        if any(parameter["in"] == "path" for parameter in operation.get("parameters", [])):
            assert "404" in answers, name
        assert {"403", "411", "422"} <= answers or name not in DEVICES
        for status in ("429", "503"):
            assert "Retry-After" in operation["responses"][status]["headers"], name


def test_r7_the_connector_says_all_that_it_answers() -> None:
    """Both the statuses and the codes, of whatever answer ingest has for a POST."""
    of_the_door = [
        each for each in vars(http).values() if isinstance(each, http.Answer) and each.status != 405
    ]
    possible = {(each.status, each.code) for each in of_the_door} | {(429, "TOO_MANY_REQUESTS")}
    possible |= {(answer.http, answer.code or reason.value) for reason, answer in reasons.ANSWERS.items()}
    for name in DEVICES:
        described = OPERATIONS[name]["responses"]
        assert {int(status) for status in described} == {status for status, _ in possible}
        for status, code in possible:
            assert code in json.dumps(described[str(status)]), (name, status, code)


def test_r7_a_call_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", name) for name in names), names


def test_the_page_needs_nothing_from_elsewhere(db: None) -> None:
    page = Client().get("/v2/docs").content.decode()
    assert Client().get("/v2/docs/").status_code == 200
    script = "/v2/docs?script="
    assert "/v2/openapi.json" in Client().get(script).content.decode()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/static/") or link == script
        if link == script:
            assert len(Client().get(link).content) > 100
        else:
            assert link.removeprefix(f"/static/{version()}/") in found(), link


def schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": DESCRIPTION["components"]}


def parameters(operation: dict[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """(path parameters, headers) of each example of the headers; the first has none."""
    given = operation.get("parameters", [])
    path = {p["name"]: str(p["examples"]["Sample"]["value"]) for p in given if p["in"] == "path"}
    examples = [
        {p["name"].replace("-", "_"): each["value"]}
        for p in given
        if p["in"] == "header"
        for each in p.get("examples", {}).values()
    ]
    for headers in examples or [{}]:
        yield path, headers


def bodies(operation: dict[str, Any]) -> list[Any]:
    contents = operation.get("requestBody", {}).get("content", {}).values()
    return [each["value"] for content in contents for each in content["examples"].values()] or [None]


CASES = [
    pytest.param(name, path, headers, body, id=f"{name} {index}")
    for name, operation in OPERATIONS.items()
    if name not in NOT_HERE
    for index, (path, headers, body) in enumerate(
        (path, headers, body) for path, headers in parameters(operation) for body in bodies(operation)
    )
]


@pytest.mark.parametrize(("name", "path", "headers", "body"), CASES)
def test_an_example_works(
    known: Caller, name: str, path: dict[str, str], headers: dict[str, str], body: Any
) -> None:
    method, template = name.split(" ")
    response = known(method, template.removeprefix("/v2/").format(**path), body, **headers)
    answers = OPERATIONS[name]["responses"]
    assert str(response.status_code) == min(answers)  # the success comes first
    content = answers[str(response.status_code)]["content"]["application/json"]
    sample = content["examples"]["Answer"]["value"]
    answer = document(response)
    for shown in (answer, sample):
        jsonschema.Draft202012Validator(schema_of(content["schema"])).validate(shown)
    if name != "GET /v2/session":  # nobody is connected
        assert keys(answer) == keys(sample)


def keys(node: Any) -> Any:
    """The shape of an answer, with the values left out but for those inside datapoints."""
    if isinstance(node, list):
        return [keys(item) for item in node]
    return {key: keys(value) for key, value in node.items()} if isinstance(node, dict) else None


def test_every_request_example_fits_its_schema() -> None:
    for operation in OPERATIONS.values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            validator = jsonschema.Draft202012Validator(schema_of(content["schema"]))
            for example in content["examples"].values():
                validator.validate(example["value"])


def test_every_call_that_takes_a_body_has_an_example() -> None:
    for name, operation in OPERATIONS.items():
        assert bodies(operation) != [None] or "requestBody" not in operation, name


def test_every_path_is_described() -> None:
    from api.v2.urls import urlpatterns

    views = {pattern.callback.cls.__name__ for pattern in urlpatterns if hasattr(pattern.callback, "actions")}
    assert views == {
        "ChannelViewSet",
        "ContactTestViewSet",
        "ContactViewSet",
        "DeliveryViewSet",
        "DeviceViewSet",
        "EventSecretViewSet",
        "EventTestViewSet",
        "EventViewSet",
        "IncidentViewSet",
        "IntakeKeyViewSet",
        "IntakeMessageViewSet",
        "IntakeTryViewSet",
        "IntakeViewSet",
        "MaintenanceViewSet",
        "PublishViewSet",
        "RuleViewSet",
        "SessionViewSet",
        "StreamViewSet",
        "UserViewSet",
    }
    actions = sum(
        len(pattern.callback.actions) - ("head" in pattern.callback.actions)
        for pattern in urlpatterns
        if hasattr(pattern.callback, "actions")
    )
    assert actions == len(REST)
    assert {path.removesuffix("/") for path in connector.PATHS} == http.KINDS.keys()


def enumerations(node: Any) -> Iterator[dict[str, Any]]:
    """Schemas with an `enum`; examples aside."""
    if isinstance(node, dict):
        if isinstance(node.get("enum"), list):
            yield node
        for name, inner in node.items():
            if name not in {"example", "examples"}:
                yield from enumerations(inner)
    if isinstance(node, list):
        for inner in node:
            yield from enumerations(inner)


def test_r7_an_enumeration_is_of_one_type_and_says_which() -> None:
    """Generators of clients leave out whole calls where it is not."""
    found = list(enumerations(DESCRIPTION))
    assert len(found) > 10
    assert not list(enumerations(DESCRIPTION["paths"])), "has no name: make it a component"
    types = {"string": str, "integer": int}
    for schema in found:
        assert all(type(each) is types[schema["type"]] for each in schema["enum"]), schema
        assert len(schema["x-enum-varnames"]) == len(schema["enum"])
