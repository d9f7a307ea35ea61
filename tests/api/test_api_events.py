"""GET, POST, PUT, DELETE /v2/event."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, document, refusal
from django.db import connections
from django.utils import timezone

from thingscale.accounts.models import Account, User
from thingscale.devices.models import Device
from thingscale.events.actions import MAX_CONTACT_POINTS, create_event
from thingscale.events.models import Condition, ContactPoint, Event, MaintenanceWindow
from thingscale.streams.models import Channel

EMPTY: dict[str, Any] = {
    "mapped_ch": None,
    "description": "",
    "notify_type": "email",
    "post_url": "",
    "enabled": True,
    "source": "",
    "operator": "=",
    "threshold": "",
    "repeat": "every",
    "min_interval": 0,
    "kind": "threshold",
    "devices": "",
    "for": 0,
    "clear": "",
    "window": 0,
    "period": 0,
    "grace": 0,
    "no_data_after": 0,
    "severity": "warning",
    "quiet_hours": "",
    "muted_until": None,
    "channels": [],
    "state": "ok",
}
FULL: dict[str, Any] = {
    "mapped_ch": 0,
    "description": "too hot",
    "notify_type": "http",
    "post_url": "https://example.com/hook?a=b",
    "enabled": False,
    "source": "data:value",
    "operator": ">=",
    "threshold": "23.40",
    "repeat": "crossing",
    "min_interval": 60,
    "kind": "threshold",
    "devices": "roof-*",
    "for": 300,
    "clear": "22",
    "window": 600,
    "period": 60,
    "grace": 120,
    "no_data_after": 3600,
    "severity": "critical",
    "quiet_hours": "22:00-06:00",
    "muted_until": "2099-01-31T13:45:30+0900",
    "channels": [],
    "state": "ok",  # read only
}


def test_a_new_event(api: Caller) -> None:
    response = api.post("event")
    assert (response.status_code, document(response)) == (201, {"event_id": 1})
    assert document(api.get("event")) == document(api.get("event/1")) == [{"event_id": 1} | EMPTY]


def test_a_new_event_with_all_fields(api: Caller, channel: Channel) -> None:
    assert document(api.post("event", FULL)) == {"event_id": 1}
    assert document(api.get("event/1/")) == [{"event_id": 1} | FULL]


@pytest.mark.parametrize(
    "fields",
    [
        {"notify_type": "http"},
        {"operator": ">"},
        {"operator": "=", "threshold": "open", "source": "door"},
        {"mapped_ch": 0, "source": "value1", "threshold": "13", "notify_type": "email", "enabled": "true"},
    ],
)
def test_an_original_client_makes_its_event_bit_by_bit(
    api: Caller, channel: Channel, fields: dict[str, Any]
) -> None:
    assert api.post("event", fields).status_code == 201
    api.post("event")
    for name, value in fields.items():
        assert api.put("event/2", {name: value}).status_code == 200
    one, other = document(api.get("event"))
    assert one | {"event_id": 2} == other


def test_changing_an_event(api: Caller, channel: Channel) -> None:
    api.post("event")
    response = api.put("event/1", FULL)
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    assert document(api.get("event/1")) == [{"event_id": 1} | FULL]
    assert api.put("event/1", {"mapped_ch": None}).status_code == 200
    assert document(api.get("event/1")) == [{"event_id": 1} | FULL | {"mapped_ch": None}]
    assert api.put("event/1", {}).status_code == 200


def test_what_a_get_returned_can_be_sent_back(api: Caller, channel: Channel) -> None:
    api.post("event", FULL)
    (row,) = document(api.get("event/1"))
    assert api.put("event/1", row | {"event_id": 7, "unknown": 1}).status_code == 200
    assert document(api.get("event")) == [row]


def test_a_number_never_comes_again(api: Caller, outsider: Caller) -> None:
    assert [document(api.post("event"))["event_id"] for _ in range(3)] == [1, 2, 3]
    response = api.delete("event/3")
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    assert document(api.post("event")) == {"event_id": 4}
    assert [row["event_id"] for row in document(api.get("event"))] == [1, 2, 4]
    assert document(outsider.post("event")) == {"event_id": 1}


@pytest.mark.parametrize("number", ["9", "0", "-1", "x", "01", "1.0", "9" * 30, "%00"])
def test_no_such_event(api: Caller, number: str) -> None:
    api.post("event")
    assert refusal(api.get(f"event/{number}")) == (404, "NO_EVENT")
    assert refusal(api.put(f"event/{number}", {})) == (404, "NO_EVENT")
    assert refusal(api.delete(f"event/{number}")) == (404, "NO_EVENT")


def test_an_outsider_sees_nothing(api: Caller, outsider: Caller, channel: Channel) -> None:
    api.post("event", FULL)
    assert document(outsider.get("event")) == []
    assert refusal(outsider.get("event/1")) == (404, "NO_EVENT")
    assert refusal(outsider.put("event/1", {"description": "mine"})) == (404, "NO_EVENT")
    assert refusal(outsider.delete("event/1")) == (404, "NO_EVENT")
    assert refusal(outsider.post("event", {"mapped_ch": 0})) == (400, "BAD_PARAMETER")
    assert document(api.get("event/1")) == [{"event_id": 1} | FULL]


BAD_FIELDS = [
    ("mapped_ch", 1),
    ("mapped_ch", -1),
    ("mapped_ch", "x"),
    ("mapped_ch", 2**31),
    ("notify_type", "sms"),
    ("notify_type", None),
    ("post_url", "ftp://example.com"),
    ("post_url", "example.com"),
    ("post_url", "http://" + "x" * 2000),
    ("enabled", "maybe"),
    ("operator", "=="),
    ("operator", ""),
    ("source", "a\0b"),
    ("source", 7 * "x" * 1000),
    ("threshold", ["1"]),
    ("threshold", "x" * 1001),
    ("repeat", "never"),
    ("min_interval", -1),
    ("min_interval", 10**9),
    ("min_interval", "soon"),
    ("kind", "other"),
    ("kind", "range"),  # with a threshold that is none
    ("kind", "silence"),  # without a period
    ("devices", "a/b"),
    ("devices", "x" * 65),
    ("for", -1),
    ("for", 10**12),
    ("for", None),
    ("clear", "30"),  # beyond the threshold
    ("clear", "x"),
    ("window", 10**6),
    ("period", -1),
    ("grace", "1 min"),
    ("no_data_after", 9),
    ("severity", "bad"),
    ("quiet_hours", "22-6"),
    ("muted_until", "soon"),
    ("muted_until", True),
    ("muted_until", []),
    ("channels", [1]),
    ("channels", 1),
    ("channels", ["x"]),
    ("channels", [2**40]),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_bad_field_is_named(api: Caller, channel: Channel, field: str, value: Any) -> None:
    api.post("event", FULL)
    named = {"range": "threshold", "silence": "period"}.get(str(value), field)
    changes = {"period": 0, field: value}
    for response in (api.put("event/1", changes), api.post("event", FULL | changes)):
        assert refusal(response) == (400, "BAD_PARAMETER")
        assert re.match(rf"{named}(\[0\])?: ", document(response)["detail"])
    assert document(api.get("event")) == [{"event_id": 1} | FULL]


def test_an_order_needs_a_number(api: Caller) -> None:
    api.post("event", {"threshold": "open"})
    for operator in ("<", ">", "<=", ">="):
        assert refusal(api.put("event/1", {"operator": operator})) == (400, "BAD_PARAMETER")
    assert api.put("event/1", {"operator": "!="}).status_code == 200
    assert api.put("event/1", {"operator": "<", "threshold": " -3.5 "}).status_code == 200
    assert refusal(api.put("event/1", {"threshold": "open"})) == (400, "BAD_PARAMETER")
    assert api.put("event/1", {"threshold": 13}).status_code == 200
    assert document(api.get("event/1"))[0]["threshold"] == "13"


@pytest.mark.parametrize("body", [b"{", b"[]", b"12", b"a=1"])
def test_a_body_that_is_not_the_object_expected(api: Caller, body: bytes) -> None:
    api.post("event")
    assert refusal(api.put("event/1", body)) == (400, "BAD_JSON_FORMAT")
    assert refusal(api.post("event", body)) == (400, "BAD_JSON_FORMAT")
    assert refusal(api.put("event/1")) == (411, "LENGTH_REQUIRED")


def test_an_event_from_before_a_rule_can_be_switched_off(api: Caller, owner: User) -> None:
    event = create_event(owner, {"quiet_hours": "22:00-06:00"})
    Event.objects.filter(pk=event.pk).update(quiet_hours="at night")
    assert api.put("event/1", {"enabled": False, "description": "old"}).status_code == 200
    assert refusal(api.put("event/1", {"threshold": "1"})) == (400, "BAD_PARAMETER")


def test_a_webhook_gets_a_secret_that_stays(api: Caller, owner: User) -> None:
    def secret() -> bytes:
        return bytes(Event.objects.for_account(owner).get(number=1).secret_ciphertext or b"")

    create_event(owner, {})
    assert not secret()
    assert api.put("event/1", {"notify_type": "http"}).status_code == 200
    first = secret()
    assert first
    assert api.put("event/1", {"notify_type": "email"}).status_code == 200
    assert api.put("event/1", {"notify_type": "http"}).status_code == 200
    assert secret() == first
    assert create_event(owner, {"notify_type": "http"}).secret_ciphertext not in {None, first}


def test_contacts_of_an_event(api: Caller, owner: User, outsider: Caller) -> None:
    assert outsider.user
    mine, mine_too, other = (
        ContactPoint.objects.create(user=user, name=name, ciphertext=b"")
        for user, name in ((owner, "a"), (owner, "b"), (outsider.user, "a"))
    )
    assert api.post("event", {"channels": [mine.pk]}).status_code == 201
    assert document(api.get("event"))[0]["channels"] == [mine.pk]
    assert refusal(api.put("event/1", {"channels": [other.pk]})) == (400, "BAD_PARAMETER")
    assert api.put("event/1", {"channels": [mine_too.pk, mine.pk, mine.pk]}).status_code == 200
    assert api.put("event/1", {"threshold": "1"}).status_code == 200
    assert document(api.get("event"))[0]["channels"] == [mine.pk, mine_too.pk]
    assert api.put("event/1", {"channels": []}).status_code == 200
    assert document(api.get("event"))[0]["channels"] == []


def test_as_many_contacts_as_an_account_has(api: Caller, owner: User) -> None:
    made = ContactPoint.objects.bulk_create(
        ContactPoint(user=owner, name=f"{n}", ciphertext=b"") for n in range(MAX_CONTACT_POINTS)
    )
    assert api.post("event", {"channels": [each.pk for each in made]}).status_code == 201
    assert len(document(api.get("event/1"))[0]["channels"]) == MAX_CONTACT_POINTS
    too_many = [*(each.pk for each in made), made[0].pk]
    assert refusal(api.put("event/1", {"channels": too_many})) == (400, "BAD_PARAMETER")


def test_an_address_that_was_forbidden_since_does_not_stop_other_changes(
    api: Caller, owner: User, channel: Channel
) -> None:
    assert api.post("event", FULL).status_code == 201
    Event.objects.update(post_url="http://10.0.0.1/hook")
    whole = document(api.get("event/1"))[0] | {"threshold": "25"}
    assert api.put("event/1", whole).status_code == 200
    assert document(api.get("event/1"))[0]["threshold"] == "25"
    assert refusal(api.put("event/1", {"post_url": "http://10.0.0.2/hook"})) == (400, "BAD_PARAMETER")


def test_muted_is_what_fires_and_nobody_is_told(api: Caller, owner: User, outsider: Caller) -> None:
    assert outsider.user
    now = timezone.now()
    event = create_event(owner, {})
    roof, cellar = (Device.objects.create(user=owner, device_id=name) for name in ("roof", "cellar"))
    fields = {"event": event, "since": now, "at": now}
    of_roof = Condition.objects.create(**fields, device=roof.pk, state="firing")
    of_cellar = Condition.objects.create(**fields, device=cellar.pk, state="pending")

    def state() -> str:
        shown: str = document(api.get("event/1"))[0]["state"]
        return shown

    def window(user: Account, devices: str, begins: timedelta = timedelta(0)) -> MaintenanceWindow:
        hour = timedelta(hours=1)
        return MaintenanceWindow.objects.create(
            user_id=user.pk, devices=devices, starts_at=now + begins, ends_at=now + begins + hour
        )

    window(outsider.user, "*")
    window(owner, "*", timedelta(hours=1))
    window(owner, "cellar")
    assert state() == "firing"
    of_now = window(owner, "ro*")
    assert state() == "muted"
    Condition.objects.update(state="firing")
    assert state() == "muted"
    of_now.delete()
    assert state() == "firing"
    Condition.objects.filter(pk=of_roof.pk).update(muted_until=now + timedelta(hours=1))
    assert state() == "muted"
    Condition.objects.update(muted_until=None)
    there = now.astimezone(owner.zone)
    hours = "-".join(f"{there + timedelta(hours=n):%H:%M}" for n in (-1, 1))
    for change in ({"muted_until": now + timedelta(hours=1)}, {"quiet_hours": hours}):
        Event.objects.update(**change)
        assert state() == "muted"
        Event.objects.update(muted_until=None, quiet_hours="")
        assert state() == "firing"
    Condition.objects.update(state="pending")
    Event.objects.update(muted_until=now + timedelta(hours=1))
    assert state() == "pending"
    assert of_cellar.event_id == event.pk


def test_one_too_many(api: Caller, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(max_events=2)
    assert [api.post("event").status_code for _ in range(2)] == [201, 201]
    assert refusal(api.post("event")) == (400, "BAD_PARAMETER")


def test_deleting_the_channel_keeps_the_event(api: Caller, channel: Channel) -> None:
    api.post("event", FULL)
    assert api.delete("channel/0").status_code == 200
    assert document(api.get("event/1"))[0]["mapped_ch"] is None


@pytest.mark.django_db(transaction=True)
def test_events_made_at_the_same_moment_have_different_numbers(api: Caller, owner: User) -> None:
    def post(_: int) -> int:
        try:
            number: int = document(Caller(owner, api.token).post("event"))["event_id"]
            return number
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(post, range(8))) == list(range(1, 9))
    assert Event.objects.count() == 8
