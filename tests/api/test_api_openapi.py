"""The OpenAPI description: it is committed, it is served, and its examples are true."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from api_calls import Caller, at, document, refusal, store
from django.test import Client

from api.management.commands.write_openapi import FILE
from api.v2 import openapi, samples
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.streams.actions import create_channel, create_tag
from thingscale.web.static_files import found, version

DESCRIPTION: dict[str, Any] = yaml.safe_load(FILE.read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
}
NOT_HERE = {"POST /publish/{device_id}"}  # needs a broker: tests/e2e


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
    assert api.post("event", samples.EVENT_BODY).status_code == 201
    return api


def test_the_committed_file_is_up_to_date() -> None:
    assert FILE.read_text() == openapi.as_yaml(), "make openapi"


def test_it_is_served_to_everybody(db: None) -> None:
    response = Client().get("/v2/openapi.json")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json() == DESCRIPTION
    assert refusal(Client().post("/v2/openapi.json")) == (405, "METHOD_NOT_ALLOWED")


def test_it_is_openapi_3_1() -> None:
    assert DESCRIPTION["openapi"] == "3.1.0"
    assert DESCRIPTION["components"]["securitySchemes"]["apiToken"]["name"] == "X-APITOKEN"
    for operation in OPERATIONS.values():
        assert operation["security"] == [{"apiToken": []}]
        assert {"401", "429", "503"} <= operation["responses"].keys()


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
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return [example["value"] for example in content.get("examples", {}).values()] or [None]


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
    response = known(method, template[1:].format(**path), body, **headers)
    answers = OPERATIONS[name]["responses"]
    assert str(response.status_code) == min(answers)  # the success comes first
    content = answers[str(response.status_code)]["content"]["application/json"]
    sample = content["examples"]["Answer"]["value"]
    answer = document(response)
    for shown in (answer, sample):
        jsonschema.Draft202012Validator(schema_of(content["schema"])).validate(shown)
    if name != "GET /session":  # nobody is connected
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
        "DeviceViewSet",
        "EventViewSet",
        "PublishViewSet",
        "SessionViewSet",
        "StreamViewSet",
        "UserViewSet",
    }
    actions = sum(
        len(pattern.callback.actions) - ("head" in pattern.callback.actions)
        for pattern in urlpatterns
        if hasattr(pattern.callback, "actions")
    )
    assert actions == len(OPERATIONS)


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
    types = {"string": str, "integer": int}
    for schema in found:
        assert all(type(each) is types[schema["type"]] for each in schema["enum"]), schema
