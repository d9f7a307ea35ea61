"""A call that writes does not do more than what was meant (R1), and names have no invisible ends (R2)."""

from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store
from django.urls import get_resolver
from event_history import event_history
from intake_history import intake_history

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import ActivationRule, Device
from thingscale.events.models import ContactPoint, Delivery, Event, Incident, MaintenanceWindow
from thingscale.intakes.models import Intake
from thingscale.streams.models import Channel, Tag

pytestmark = pytest.mark.slow
RULE = 987_654  # the rule that there is
PATHS = {
    "device": "device/x",
    "channel": "channel/0",
    "stream": "stream/0",
    "event": "event/1",
    "incident": "incident/1",
    "contact": "contact/1",
    "maintenance": "maintenance/1",
    "intake": "intake/1",
    "rule": f"rule/{RULE}",
}
BODIES = {"stream": {"value": 1}, "publish": {"payload": "x"}}
REFUSED = (400, "BAD_PARAMETER")


def writing_calls() -> list[tuple[str, str, str]]:
    """(version, method, service) of each call that writes, from the routes themselves."""
    found = set()
    for version in ("v1", "v2"):
        for pattern in get_resolver(f"api.{version}.urls").url_patterns:
            actions = getattr(pattern.callback, "actions", {})
            service = str(pattern.pattern).lstrip("^").split("/")[0]
            found |= {
                (version, method.upper(), service) for method in actions if method not in {"get", "head"}
            }
    return sorted(found)


CALLS = writing_calls()


def call(
    owner: User, version: str, method: str, service: str, query: str = "", body: Any = None, **headers: str
) -> Any:
    path = {"publish": "publish/x", **PATHS}.get(service, service)
    if method == "POST":
        path = {
            "device/x": "device/new",
            "channel/0": "channel/9",
            "event/1": "event",
            "maintenance/1": "maintenance",
            "contact/1": "contact",
            "intake/1": "intake",
            f"rule/{RULE}": "rule",
        }.get(path, path)
    if body is None and method != "DELETE":
        body = BODIES.get(service, {})
    return Caller(owner, version=version)(method, path + query, body, **headers)


def everything(owner: User) -> list[Any]:
    return [
        list(Device.objects.values()),
        list(Channel.objects.values()),
        list(Tag.objects.values()),
        list(Event.objects.values()),
        list(ContactPoint.objects.values()),
        list(Delivery.objects.values()),
        list(Incident.objects.values()),
        list(MaintenanceWindow.objects.values()),
        list(Intake.objects.values()),
        list(ActivationRule.objects.values()),
        list(User.objects.values()),
        document(Caller(owner).get("stream/0?endtime=last&pagelimit=99")),
    ]


@pytest.fixture(autouse=True)
def data(owner: User, channel: Channel) -> None:
    create_device(owner, "x", mapped_channel=channel)
    store(channel, [(at("2026-01-31 00:00:00"), "1"), (at("2026-01-31 00:00:01"), "2", "room")])
    assert Caller(owner).post("event").status_code == 201
    event_history(owner)
    intake_history(owner)
    ActivationRule.objects.create(pk=RULE, user=owner, pattern="pump*", channel=channel)


def test_the_table_has_every_call_that_writes() -> None:
    assert len(CALLS) == 25
    assert ("v1", "POST", "publish") in CALLS
    assert ("v2", "DELETE", "channel") in CALLS


@pytest.mark.parametrize("written", CALLS, ids=" ".join)
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?tagname=", {}),
        ("?tagname", {}),
        ("", {"X_TAGNAME": ""}),
        ("", {"X_TAGNAME": " \t "}),
        ("?tagname=room", {"X_DEVICEID": ""}),
        ("?tag=room", {}),
        ("?TAGNAME=room", {}),
        ("?tagname=room&tagname=", {}),
        ("?tagname=room&deviceid=x", {}),
        ("?endtime=last", {}),
        ("?=", {}),
        ("", {"Idempotency_Key": ""}),
    ],
)
def test_r1_what_is_empty_or_unknown_is_refused_and_nothing_done(
    owner: User, written: tuple[str, str, str], query: str, headers: dict[str, str]
) -> None:
    before = everything(owner)
    assert refusal(call(owner, *written, query, **headers)) == REFUSED
    assert everything(owner) == before


@pytest.mark.parametrize("written", [each for each in CALLS if each[1] == "DELETE"], ids=" ".join)
@pytest.mark.parametrize("body", ["{}", '{"tag": "room"}', " ", "x=1"])
def test_r1_a_delete_with_a_body_is_refused(owner: User, written: tuple[str, str, str], body: str) -> None:
    before = everything(owner)
    assert refusal(call(owner, *written, body=body)) == REFUSED
    assert everything(owner) == before


@pytest.mark.parametrize("option", ["X_DEVICEID", "X_STARTTIME", "X_ENDTIME"])
def test_r1_a_delete_with_an_option_of_another_call_is_refused(owner: User, option: str) -> None:
    assert refusal(Caller(owner).delete("channel/0", **{option: "2026-01-31 00:00"})) == REFUSED
    assert refusal(Caller(owner).delete("device/x", X_TAGNAME="room")) == REFUSED
    assert Channel.objects.exists()
    assert Device.objects.exists()


@pytest.mark.parametrize("blank", ["%20", "%E2%80%8B", "%C2%A0"])
def test_r1_a_blank_is_no_tag(owner: User, blank: str) -> None:
    before = everything(owner)
    for method, body in (("DELETE", None), ("PUT", {"tag": "y"}), ("POST", {})):
        assert refusal(Caller(owner)(method, f"channel/0?tagname={blank}", body)) == REFUSED
    assert everything(owner) == before


def test_unknown_headers_are_ignored_and_a_call_without_options_works(owner: User) -> None:
    assert Caller(owner).delete("device/x", X_REQUEST_ID="", X_ANYTHING="1").status_code == 200
    assert Caller(owner).delete("channel/0?tagname=room").status_code == 200
    assert Caller(owner).delete("channel/0", X_TAGNAME="").status_code == 400
    assert Caller(owner).delete("channel/0").status_code == 200


@pytest.mark.parametrize("ending", [" ", "\u200b", "\xa0"])
def test_r2_a_name_that_is_older_is_reached_exactly(owner: User, channel: Channel, ending: str) -> None:
    api, name = Caller(owner), f"room{ending}"
    store(channel, [(at("2026-01-31 00:00:02"), "3", name)])
    query = f"channel/0?tagname={name}"
    rows = document(api.get(f"stream/0?endtime=last&pagelimit=9&tagname={name}"))["stream"]
    assert [(row["tag"], row["value"]) for row in rows] == [(name, 3)]
    assert api.put(query, {"tag": "renamed"}).status_code == 200
    assert set(Tag.objects.values_list("name", flat=True)) == {"room", "renamed"}
    Tag.objects.filter(name="renamed").update(name=name)
    assert api.delete(query).status_code == 200
    assert set(Tag.objects.values_list("name", flat=True)) == {"room"}


@pytest.mark.parametrize(
    "name", ["kitchen ", " kitchen", "kitchen\u200b", "\ufeffkitchen", "kitchen\xa0", "\xad"]
)
def test_r2_no_door_of_the_api_makes_such_a_name(owner: User, name: str) -> None:
    api = Caller(owner)
    assert refusal(api.post(f"channel/0?tagname={name}")) == REFUSED
    assert refusal(api.put("channel/0?tagname=room", {"tag": name})) == REFUSED
    assert refusal(api.post("stream/0", {"value": 1, "tag": name})) == REFUSED
    assert refusal(api.post("stream/0", [{"value": 1}, {"value": 1, "tag": name}])) == REFUSED
    assert refusal(api.post(f"device/{name.replace(' ', '%20')}")) == REFUSED
    assert set(Tag.objects.values_list("name", flat=True)) == {"room"}
    assert Device.objects.count() == 1


def test_r2_white_space_around_a_header_is_not_part_of_it(owner: User) -> None:
    assert Caller(owner).delete("channel/0", X_TAGNAME=" room\t").status_code == 200
    assert not Tag.objects.exists()
    assert Channel.objects.exists()


def test_a_bearer_token_is_an_api_token(owner: User) -> None:
    token = Caller(owner).token
    anonymous = Caller(None)
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert anonymous.get("user", Authorization=f"{scheme} {token}").status_code == 200
    for wrong in (f"Basic {token}", token, "Bearer", f"Bearer {token[:-1]}", f"Token {token}"):
        assert refusal(anonymous.get("user", Authorization=wrong)) == (401, "AUTH_REQUIRED")
    wrong = Caller(None).get("user", X_APITOKEN="F" * 32, Authorization=f"Bearer {token}")
    assert refusal(wrong) == (401, "AUTH_REQUIRED")


FIELDS = [
    *(
        "value",
        "tag",
        "at",
        "payload",
        "qos",
        "retain",
        "topic",
        "description",
        "location",
        "enabled",
        "enable",
    ),
    *("mapped_ch", "channel_name", "value1_name", "streams", "retention_days", "channel", "stream", "action"),
]


@pytest.mark.parametrize("depth", [33, 300, 1000, 1500])
@pytest.mark.parametrize(("version", "method", "service"), [each for each in CALLS if each[1] != "DELETE"])
def test_what_is_nested_deep_is_an_error_of_the_caller(
    owner: User, version: str, method: str, service: str, depth: int
) -> None:
    """Python's and orjson's readers and writers each end at another depth."""
    deep = '{"a":' * depth + "1" + "}" * depth
    bodies = [deep, f"[{deep}]", *(f'{{"value":1,"payload":"x","{name}":{deep}}}' for name in FIELDS)]
    found = {call(owner, version, method, service, body=body).status_code for body in bodies}
    assert max(found) < 500
    assert 400 in found
