"""Clients that are generated from our OpenAPI description call every operation of a running server (R7).

A new operation fails here until both clients call it.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from event_history import event_history
from intake_history import intake_history
from mqtt_clients import Device, gateway
from stack import ROOT, Stack, wait_until
from support import Account

from api.management.commands.write_openapi import FILE
from thingscale.events.actions import create_event
from thingscale.events.models import Event, LastNumber

pytestmark = pytest.mark.e2e
PROGRAM = Path(__file__).with_name("openapi_client.ts")
PACKAGE = "generated_client"
OPERATIONS = {
    operation["operationId"]: operation
    for item in yaml.safe_load(FILE.read_text())["paths"].values()
    for operation in item.values()
}
STRICT = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "target": "ES2022",
    "module": "NodeNext",
    "moduleResolution": "NodeNext",
    "lib": ["ES2022", "DOM", "DOM.Iterable"],
    "types": [],
    "outDir": "built",
}


@pytest.fixture
def server(stack: Callable[..., Stack], account: Account) -> Iterator[tuple[Stack, Account]]:
    """With an account that may call fast, whose device is connected, and in which something has fired."""
    account.user.rest_rate, account.user.email1 = 1000, "one@example.com"
    account.user.save()
    create_event(account.user, {})
    event_history(account.user)
    intake_history(account.user)
    Event.objects.all().delete()
    LastNumber.objects.all().delete()
    running = gateway(stack)
    account.device("connected", channel=None)
    with Device(running, account, "connected") as device:
        device.subscribe("connected/subscribe")
        yield running, account


def run(*command: str, folder: Path) -> str:
    """What it prints, which may be no error."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the package that openapi-python-client makes."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "config.yaml").write_text("post_hooks: []")  # nobody reads it, so it need not be pretty
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    options = ["--fail-on-warning", "--config", "config.yaml", "--output-path", PACKAGE]
    printed = run(*generate, *options, "--path", str(FILE), folder=folder)
    assert printed.split() == ["Generating", PACKAGE]  # nothing is left out
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield PACKAGE


def python_calls(models: Any) -> dict[str, tuple[int, Any, dict[str, Any]]]:
    """In order: operation -> status, what the answer is parsed into, arguments."""
    value = models.ValueObject.from_dict({"temp": 21.5})
    points = [models.Point(value=value), models.Point(value="text", tag="roof"), models.Point(value=True)]
    event = models.EventFields(
        mapped_ch=0, source="temp", operator=models.Operator.GREATER_OR_EQUAL, threshold="30", enabled=False
    )
    channel = models.ChannelFields(channel_name="roof", streams=[models.LabelFields(key="temp", unit="°C")])
    message = models.Publish(payload="on", qos=1)
    newest = {"x_endtime": "last", "x_pagelimit": 10, "x_pagesort": models.SortOrder.DESC}
    return {
        "channel_create": (201, models.Done, {"number": 0}),
        "channel_update": (200, models.Done, {"number": 0, "body": channel}),
        "device_create": (201, models.Done, {"device_id": "d1"}),
        "device_update": (
            200,
            models.Done,
            {"device_id": "d1", "body": models.DeviceFields(enabled=True, mapped_ch=0)},
        ),
        "connector_post_v2": (200, str, {"x_deviceid": "d1", "x_tagname": "roof", "body": value}),
        "connector_post_v1": (200, str, {"x_deviceid": "d1", "body": models.DeviceForm(v="1", v2="2")}),
        "connector_post": (201, str, {"x_deviceid": "d2", "body": models.DeviceForm(v="1")}),
        "stream_create": (201, models.Stored, {"number": 0, "body": points}),
        "stream_retrieve": (200, models.Stream, {"number": 0} | newest),
        "device_list": (200, [models.Device], {}),
        "device_retrieve": (200, [models.Device], {"device_id": "d1"}),
        "channel_list": (200, [models.Channel], {"x_withtag": models.Switch.TRUE}),
        "channel_retrieve": (200, [models.Channel], {"number": 0}),
        "event_create": (201, models.EventCreated, {"body": event}),
        "event_update": (200, models.Done, {"number": 1, "body": event}),
        "event_list": (200, [models.Event], {}),
        "event_retrieve": (200, [models.Event], {"number": 1}),
        "event_test_create": (201, models.Tested, {"number": 1}),
        "event_secret_create": (201, models.Secret, {"number": 1}),
        "event_secret_retrieve": (200, models.Secret, {"number": 1}),
        "incident_list": (200, [models.Incident], {"x_state": models.IncidentStateOption.OPEN}),
        "incident_retrieve": (200, [models.Incident], {"number": 1}),
        "incident_update": (
            200,
            models.Done,
            {"number": 1, "body": models.IncidentFields(acknowledged=True)},
        ),
        "delivery_list": (200, [models.Delivery], {"x_pagelimit": 10}),
        "contact_create": (
            201,
            models.ContactCreated,
            {"body": models.ContactFields(name="ntfy", url="ntfys://topic")},
        ),
        "contact_list": (200, [models.Contact], {}),
        "contact_retrieve": (200, [models.Contact], {"number": 1}),
        "contact_update": (200, models.Done, {"number": 1, "body": models.ContactFields(enabled=True)}),
        "contact_test_create": (201, models.Tested, {"number": 1}),
        "contact_destroy": (200, models.Done, {"number": 1}),
        "maintenance_create": (
            201,
            models.MaintenanceCreated,
            {"body": models.MaintenanceFields(starts_at="2099-01-01", ends_at="2099-01-02")},
        ),
        "maintenance_list": (200, [models.Maintenance], {}),
        "maintenance_destroy": (200, models.Done, {"number": 1}),
        "rule_create": (
            201,
            models.RuleCreated,
            {"body": models.RuleFields(pattern="roof-*", own_channel=True)},
        ),
        "rule_list": (200, [models.Rule], {}),
        "rule_retrieve": (200, [models.Rule], {"number": 1}),
        "rule_update": (200, models.Done, {"number": 1, "body": models.RuleFields(position=0)}),
        "rule_destroy": (200, models.Done, {"number": 1}),
        "event_destroy": (200, models.Done, {"number": 1}),
        "intake_create": (
            201,
            models.IntakeCreated,
            {"body": models.IntakeFields(name="Telegraf", format_=models.IntakeFormat.INFLUX)},
        ),
        "intake_list": (200, [models.Intake], {}),
        "intake_retrieve": (200, [models.Intake], {"number": 1}),
        "intake_update": (200, models.Done, {"number": 1, "body": models.IntakeFields(rate=1000)}),
        "intake_key_create": (201, models.Key, {"number": 1}),
        "intake_key_destroy": (200, models.Done, {"number": 1}),
        "intake_message_list": (200, [models.IntakeMessage], {"number": 1}),
        "intake_try_create": (
            200,
            models.IntakeTried,
            {"body": models.IntakeTry(format_=models.IntakeFormat.INFLUX, body="mem,host=server-1 used=21")},
        ),
        "intake_destroy": (200, models.Done, {"number": 1}),
        "user_list": (200, [models.User], {}),
        "user_update": (200, models.Done, {"body": models.UserFields(locale="Europe/Berlin")}),
        "publish_create": (200, models.Done, {"device_id": "connected", "body": message}),
        "session_list": (200, [models.Session], {}),
        "channel_destroy": (200, models.Done, {"number": 0}),
        "device_destroy": (200, models.Done, {"device_id": "d1"}),
    }


def test_r7_openapi_python_client_calls_everything(server: tuple[Stack, Account], package: str) -> None:
    """Each answer, and each refusal of a wrong token, is parsed into the model that the description names."""
    running, account = server
    client = importlib.import_module(package).AuthenticatedClient
    models: Any = importlib.import_module(f"{package}.models")
    calls = python_calls(models)
    assert calls.keys() == OPERATIONS.keys()

    def call(name: str, api_token: str, device_token: str) -> Any:
        operation, arguments = OPERATIONS[name], calls[name][2]
        module = importlib.import_module(f"{package}.api.{operation['tags'][0]}.{name}")
        header, token = "X-APITOKEN", api_token
        if operation["security"] == [{"deviceToken": []}]:
            header, token = "X-DEVICETOKEN", device_token
        signed_in = client(running.url(""), token, prefix="", auth_header_name=header)
        with signed_in:
            return module.sync_detailed(client=signed_in, **arguments)

    wait_until(lambda: call("session_list", account.api_token, "").parsed, what="the session to be seen")
    found = {}
    for name, (status, model, _) in calls.items():
        refused = call(name, account.device_token, account.api_token)  # each at the other door
        error = refused.parsed if model is str else refused.parsed.error
        assert (refused.status_code, error) == (401, "AUTH_REQUIRED"), name
        answer = call(name, account.api_token, account.device_token)
        assert answer.status_code == status, (name, answer.content)
        many = isinstance(model, list)
        rows = answer.parsed if many else [answer.parsed]
        assert rows, name
        assert {type(row) for row in rows} == {model[0] if many else model}, name
        found[name] = answer.parsed
    by_tag = {point.tag: point.value for point in found["stream_retrieve"].stream if point.tag}
    assert found["stream_create"].stored == 3
    assert len(found["stream_retrieve"].stream) == 5
    assert by_tag["roof"] in ("text", models.ValueObject.from_dict({"temp": 21.5}))
    assert found["event_retrieve"][0].operator is models.Operator.GREATER_OR_EQUAL
    assert (found["connector_post"], found["connector_post_v2"]) == ("NEW_DEVICE_FOUND", "OK")


def test_r7_openapi_python_client_signs_in_by_bearer(server: tuple[Stack, Account], package: str) -> None:
    """Which is what it does unless told otherwise; and other errors are parsed, too."""
    running, account = server
    retrieve = importlib.import_module(f"{package}.api.device.device_retrieve")
    with importlib.import_module(package).AuthenticatedClient(running.url(""), account.api_token) as client:
        (device,) = retrieve.sync(client=client, device_id="connected")
        assert (device.device_id, device.enabled, device.mapped_ch) == ("connected", True, None)
        assert retrieve.sync(client=client, device_id="none").error == "NO_DEVICE"


def test_r7_openapi_typescript_calls_everything(server: tuple[Stack, Account], tmp_path: Path) -> None:
    """openapi_client.ts has a call for each member of `operations`, or it would not compile."""
    running, account = server
    tools = ROOT / "node_modules"
    (tmp_path / "node_modules").symlink_to(tools)
    (tmp_path / "client.ts").write_text(PROGRAM.read_text())
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": STRICT, "files": ["client.ts"]}))
    printed = run(str(tools / ".bin/openapi-typescript"), str(FILE), "-o", "schema.d.ts", folder=tmp_path)
    assert len(printed.splitlines()) == 2, printed  # its name, and what it wrote: no warning
    run(str(tools / ".bin/tsc"), folder=tmp_path)
    tokens = [account.api_token, account.device_token]
    printed = run("node", "built/client.js", running.url(""), *tokens, folder=tmp_path)
    assert sorted(printed.split()) == sorted(OPERATIONS)
