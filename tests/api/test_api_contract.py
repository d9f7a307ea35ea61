"""The calls of docs/contract.md, row by row: success, each error it lists, a wrong token, one request
too many, and another user. A row, an error or a route that is missing here fails."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from api_calls import Caller, at, document, refusal, store
from documents import table
from event_history import event_history
from intake_history import intake_history
from pytest_django import Settings

from api.v1.urls import urlpatterns as v1
from api.v2.urls import urlpatterns as v2
from thingscale.accounts.models import User
from thingscale.devices import mqtt_client
from thingscale.devices.actions import create_device
from thingscale.events.models import Event
from thingscale.streams.actions.channels import create_channel

PAGE = "docs/contract.md"
CALL = re.compile(r"(GET|POST|PUT|DELETE) /(?:v2/)?([^,:; ]+)")


def calls() -> Iterator[tuple[str, int, list[str]]]:
    """Of the tables in docs/contract.md: a call, the status of its success, and its errors."""
    for row in table(PAGE, "REST v2") + table(PAGE, "REST v1"):
        call = CALL.match(row[0])
        assert call, row
        yield f"{call[1]} {call[2]}", int(row[1].split(" ")[0]), [each for each in row[2].split(", ") if each]


TABLE = {call: errors for call, _, errors in calls()}


class Sent(NamedTuple):
    path: str
    body: Any = None
    headers: dict[str, str] = {}
    before: Callable[[User], object] = lambda user: None


class Row(NamedTuple):
    success: Sent
    status: int
    errors: dict[str, Sent] = {}
    outsider: str = ""  # the refusal; empty: it works, on his own


def limit(**limits: int) -> Callable[[User], object]:
    return lambda user: User.objects.filter(pk=user.pk).update(**limits)


def no_broker(*message: Any) -> None:
    """For real in tests/e2e/test_platform.py."""
    raise mqtt_client.Unavailable


LAST = {"X_ENDTIME": "last"}
LISTS = ("device", "channel", "event", "intake", "rule", "user")
PUBLISH = Row(
    Sent("publish/x", {"payload": "hello", "qos": 1}),
    200,
    {
        "404 NO_DEVICE": Sent("publish/none", {"payload": "hello"}),
        "400 BAD_JSON_FORMAT": Sent("publish/x", {"payload": "hello", "qos": 3}),
        "503 BROKER_UNAVAILABLE": Sent("publish/x", {"payload": "hello"}),
    },
    "404 NO_DEVICE",
)
OLDER = ("GET device", "GET channel", "GET channel/{number}", "GET stream/{number}")  # in v1 as in v2
ROWS = {
    "GET device": Row(Sent("device"), 200),
    "GET device/{device_id}": Row(
        Sent("device/x"), 200, {"404 NO_DEVICE": Sent("device/none")}, "404 NO_DEVICE"
    ),
    "POST device/{device_id}": Row(
        Sent("device/y"),
        201,
        {
            "403 MAX_DEVICE_REACH": Sent("device/y", before=limit(max_devices=1)),
            "403 DEVICE_INUSE": Sent("device/x"),
            "400 DEVICE_ID_ZERO": Sent("device/0"),
        },
    ),
    "PUT device/{device_id}": Row(
        Sent("device/x", {"mapped_ch": 0}),
        200,
        {
            "404 NO_DEVICE": Sent("device/none", {}),
            "404 NO_CHANNEL": Sent("device/x", {"mapped_ch": 9}),
            "400 BAD_PARAMETER": Sent("device/x", {"enabled": "maybe"}),
        },
        "404 NO_DEVICE",
    ),
    "DELETE device/{device_id}": Row(
        Sent("device/x"), 200, {"404 NO_DEVICE": Sent("device/none")}, "404 NO_DEVICE"
    ),
    "GET channel": Row(Sent("channel"), 200),
    "GET channel/{number}": Row(
        Sent("channel/0"), 200, {"404 NO_CHANNEL": Sent("channel/9")}, "404 NO_CHANNEL"
    ),
    "POST channel/{number}": Row(
        Sent("channel/1"),
        201,
        {
            "403 CHANNEL_INUSE": Sent("channel/0"),
            "404 NO_CHANNEL": Sent("channel/9", headers={"X_TAGNAME": "t"}),
            "403 MAX_CHANNEL_REACH": Sent("channel/1", before=limit(max_channels=1)),
        },
    ),
    "PUT channel/{number}": Row(
        Sent("channel/0", {"channel_name": "roof"}),
        200,
        {
            "404 NO_CHANNEL": Sent("channel/9", {}),
            "400 BAD_PARAMETER": Sent("channel/0", {"retention_days": 0}),
        },
        "404 NO_CHANNEL",
    ),
    "DELETE channel/{number}": Row(
        Sent("channel/0"), 200, {"404 NO_CHANNEL": Sent("channel/9")}, "404 NO_CHANNEL"
    ),
    "GET stream/{number}": Row(
        Sent("stream/0", headers=LAST),
        200,
        {"404 NO_CHANNEL": Sent("stream/9", headers=LAST), "400 BAD_PARAMETER": Sent("stream/0")},
        "404 NO_CHANNEL",
    ),
    "POST stream/{number}": Row(
        Sent("stream/0", [{"value": 1}]),
        201,
        {
            "404 NO_CHANNEL": Sent("stream/9", {"value": 1}),
            "400 BAD_PARAMETER": Sent("stream/0", {"value": None}),
            "413 TOO_LARGE": Sent("stream/0", [{"value": 1}] * 10_001),
        },
        "404 NO_CHANNEL",
    ),
    "GET rule": Row(Sent("rule"), 200),
    "GET rule/{number}": Row(Sent("rule/1"), 200, {"404 NO_RULE": Sent("rule/9")}, "404 NO_RULE"),
    "POST rule": Row(
        Sent("rule", {"pattern": "y*", "own_channel": True}),
        201,
        {
            "404 NO_CHANNEL": Sent("rule", {"pattern": "y*", "mapped_ch": 9}),
            "400 BAD_PARAMETER": Sent("rule", {"pattern": "y/*", "mapped_ch": 0}),
        },
    ),
    "PUT rule/{number}": Row(
        Sent("rule/1", {"mapped_ch": 0}),
        200,
        {
            "404 NO_RULE": Sent("rule/9", {}),
            "404 NO_CHANNEL": Sent("rule/1", {"mapped_ch": 9}),
            "400 BAD_PARAMETER": Sent("rule/1", {"own_channel": False}),
        },
        "404 NO_RULE",
    ),
    "DELETE rule/{number}": Row(Sent("rule/1"), 200, {"404 NO_RULE": Sent("rule/9")}, "404 NO_RULE"),
    "GET event": Row(Sent("event"), 200),
    "GET event/{number}": Row(Sent("event/1"), 200, {"404 NO_EVENT": Sent("event/9")}, "404 NO_EVENT"),
    "POST event": Row(Sent("event"), 201, {"400 BAD_PARAMETER": Sent("event", {"operator": "~"})}),
    "PUT event/{number}": Row(
        Sent("event/1", {"threshold": "30"}),
        200,
        {"404 NO_EVENT": Sent("event/9", {}), "400 BAD_PARAMETER": Sent("event/1", {"mapped_ch": 9})},
        "404 NO_EVENT",
    ),
    "DELETE event/{number}": Row(Sent("event/1"), 200, {"404 NO_EVENT": Sent("event/9")}, "404 NO_EVENT"),
    "POST event/{number}/test": Row(
        Sent("event/1/test"),
        201,
        {
            "404 NO_EVENT": Sent("event/9/test"),
            "400 BAD_PARAMETER": Sent(
                "event/1/test", before=lambda user: Event.objects.update(notify_type="none")
            ),
        },
        "404 NO_EVENT",
    ),
    "GET event/{number}/secret": Row(
        Sent("event/1/secret"), 200, {"404 NO_EVENT": Sent("event/9/secret")}, "404 NO_EVENT"
    ),
    "POST event/{number}/secret": Row(
        Sent("event/1/secret"), 201, {"404 NO_EVENT": Sent("event/9/secret")}, "404 NO_EVENT"
    ),
    "GET contact": Row(Sent("contact"), 200),
    "GET contact/{number}": Row(
        Sent("contact/1"), 200, {"404 NO_CONTACT": Sent("contact/9")}, "404 NO_CONTACT"
    ),
    "POST contact": Row(
        Sent("contact", {"name": "Slack", "url": "ntfys://topic"}),
        201,
        {"400 BAD_PARAMETER": Sent("contact", {"name": "Slack", "url": "nothing"})},
    ),
    "PUT contact/{number}": Row(
        Sent("contact/1", {"enabled": False}),
        200,
        {
            "404 NO_CONTACT": Sent("contact/9", {}),
            "400 BAD_PARAMETER": Sent("contact/1", {"name": ""}),
        },
        "404 NO_CONTACT",
    ),
    "DELETE contact/{number}": Row(
        Sent("contact/1"), 200, {"404 NO_CONTACT": Sent("contact/9")}, "404 NO_CONTACT"
    ),
    "POST contact/{number}/test": Row(
        Sent("contact/1/test"), 201, {"404 NO_CONTACT": Sent("contact/9/test")}, "404 NO_CONTACT"
    ),
    "GET incident": Row(
        Sent("incident"),
        200,
        {
            "400 BAD_PARAMETER": Sent("incident", headers={"X_STATE": "none"}),
            "404 NO_INCIDENT": Sent("incident", headers={"X_BEFORE": "9"}),
        },
    ),
    "GET incident/{number}": Row(
        Sent("incident/1"), 200, {"404 NO_INCIDENT": Sent("incident/9")}, "404 NO_INCIDENT"
    ),
    "PUT incident/{number}": Row(
        Sent("incident/1", {"acknowledged": True}),
        200,
        {
            "404 NO_INCIDENT": Sent("incident/9", {}),
            "400 BAD_PARAMETER": Sent("incident/1", {"acknowledged": "x"}),
        },
        "404 NO_INCIDENT",
    ),
    "GET delivery": Row(
        Sent("delivery"),
        200,
        {
            "400 BAD_PARAMETER": Sent("delivery", headers={"X_STATE": "none"}),
            "404 NO_DELIVERY": Sent("delivery", headers={"X_BEFORE": "9"}),
        },
    ),
    "GET maintenance": Row(Sent("maintenance"), 200),
    "POST maintenance": Row(
        Sent("maintenance", {"starts_at": "2099-01-01", "ends_at": "2099-01-02"}),
        201,
        {"400 BAD_PARAMETER": Sent("maintenance", {"ends_at": "2000-01-01"})},
    ),
    "DELETE maintenance/{number}": Row(
        Sent("maintenance/1"), 200, {"404 NO_MAINTENANCE": Sent("maintenance/9")}, "404 NO_MAINTENANCE"
    ),
    "GET intake": Row(Sent("intake"), 200),
    "GET intake/{number}": Row(Sent("intake/1"), 200, {"404 NO_INTAKE": Sent("intake/9")}, "404 NO_INTAKE"),
    "POST intake": Row(
        Sent("intake", {"name": "Telegraf", "format": "influx"}),
        201,
        {"400 BAD_PARAMETER": Sent("intake", {"name": "Telegraf", "format": "xml"})},
    ),
    "PUT intake/{number}": Row(
        Sent("intake/1", {"enabled": False}),
        200,
        {"404 NO_INTAKE": Sent("intake/9", {}), "400 BAD_PARAMETER": Sent("intake/1", {"rate": 0})},
        "404 NO_INTAKE",
    ),
    "DELETE intake/{number}": Row(
        Sent("intake/1"), 200, {"404 NO_INTAKE": Sent("intake/9")}, "404 NO_INTAKE"
    ),
    "POST intake/{number}/key": Row(
        Sent("intake/1/key"), 201, {"404 NO_INTAKE": Sent("intake/9/key")}, "404 NO_INTAKE"
    ),
    "DELETE intake/{number}/key": Row(
        Sent("intake/1/key"), 200, {"404 NO_INTAKE": Sent("intake/9/key")}, "404 NO_INTAKE"
    ),
    "GET intake/{number}/message": Row(
        Sent("intake/1/message"), 200, {"404 NO_INTAKE": Sent("intake/9/message")}, "404 NO_INTAKE"
    ),
    "POST intake/try": Row(
        Sent("intake/try", {"format": "influx", "body": "m,host=h v=1"}),
        200,
        {
            "404 NO_INTAKE": Sent("intake/try", {"intake_id": 9}),
            "400 BAD_PARAMETER": Sent("intake/try", {"format": "xml"}),
        },
    ),
    "GET user": Row(Sent("user"), 200),
    "PUT user": Row(
        Sent("user", {"organization": "x"}), 200, {"400 BAD_PARAMETER": Sent("user", {"email1": "nobody"})}
    ),
    "POST publish/{device_id}": PUBLISH,
    "GET session": Row(Sent("session"), 200),
}
ROWS |= {f"GET v1/{call[4:]}": ROWS[call] for call in OLDER}
ROWS["POST v1/publish/{device_id}"] = PUBLISH
EACH = pytest.mark.parametrize("call", ROWS)


@pytest.fixture(autouse=True)
def world(owner: User, api: Caller) -> None:
    channel = create_channel(owner, 0, name="sensor_1")
    create_device(owner, "x", mapped_channel=channel)
    store(channel, [(at("2026-01-31 00:00:00"), "1")])
    assert api.post("event").status_code == 201
    event_history(owner)
    intake_history(owner)


def perform(api: Caller, call: str, sent: Sent) -> Any:
    method, path = call.split(" ")
    caller = Caller(api.user, api.token, "v1" if path.startswith("v1/") else "v2")
    return caller(method, sent.path, sent.body, **sent.headers)


def code_of(response: Any) -> str:
    return "{} {}".format(*refusal(response))


def test_every_row_and_every_error_has_a_test() -> None:
    assert {call: list(row.errors) for call, row in ROWS.items()} == TABLE
    assert {call: row.status for call, row in ROWS.items()} == {call: status for call, status, _ in calls()}


def test_every_route_has_a_row() -> None:
    routes = set()
    for version, patterns in (("v1/", v1), ("", v2)):
        for pattern in patterns:
            path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", str(pattern.pattern))
            path = version + path.strip("^$").removesuffix("/?")
            methods = getattr(pattern.callback, "actions", None) or ()
            routes |= {f"{method.upper()} {path}" for method in methods}
    assert {route for route in routes if not route.startswith("HEAD")} == set(TABLE)


@EACH
def test_success(api: Caller, call: str) -> None:
    response = perform(api, call, ROWS[call].success)
    assert response.status_code == ROWS[call].status
    document(response)


@pytest.mark.parametrize(
    ("call", "error"), [(call, error) for call, row in ROWS.items() for error in row.errors]
)
def test_each_error(
    api: Caller, owner: User, call: str, error: str, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    if error == "503 BROKER_UNAVAILABLE":
        settings.INGEST_MODE = "broker"
        monkeypatch.setattr(mqtt_client, "publish", no_broker)
    sent = ROWS[call].errors[error]
    sent.before(owner)
    assert code_of(perform(api, call, sent)) == error


@EACH
def test_a_wrong_token(call: str) -> None:
    assert code_of(perform(Caller(None, "F" * 32), call, ROWS[call].success)) == "401 AUTH_REQUIRED"


@EACH
def test_one_request_too_many(api: Caller, owner: User, call: str) -> None:
    limit(rest_rate=0)(owner)
    response = perform(api, call, ROWS[call].success)
    assert code_of(response) == "429 TOO_MANY_REQUESTS"
    assert response["Retry-After"] == "1"


@EACH
def test_another_user(api: Caller, outsider: Caller, call: str) -> None:
    everything = [document(api.get(path)) for path in LISTS]
    response = perform(outsider, call, ROWS[call].success)
    if ROWS[call].outsider:
        assert code_of(response) == ROWS[call].outsider
    else:
        assert response.status_code == ROWS[call].status
        assert not contains(document(response), "x", "sensor_1", "owner@example.com")
    assert [document(api.get(path)) for path in LISTS] == everything


def contains(node: Any, *texts: str) -> bool:
    """Whether one of the owner's texts is somewhere in the answer."""
    if isinstance(node, dict | list):
        return any(contains(each, *texts) for each in (node.values() if isinstance(node, dict) else node))
    return node in texts
