"""GET /v2/incident and /v2/delivery, PUT /v2/incident, and /v2/maintenance."""

from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal
from django.utils import timezone
from event_history import event_history

from thingscale.accounts.models import User
from thingscale.events.models import Condition, Delivery, Event, Incident, MaintenanceWindow
from thingscale.streams.models import Channel

INCIDENT = {
    "incident_id": 1,
    "event_id": 1,
    "state": "open",
    "title": "too hot",
    "severity": "warning",
    "mapped_ch": 0,
    "device_id": "x",
    "tag": None,
    "source": "temp",
    "threshold": "30",
    "current": 31.5,
    "started_at": "2026-01-31T09:00:00+0900",
    "ended_at": None,
    "over": None,
    "acknowledged": False,
    "acknowledged_at": None,
    "acknowledged_by": None,
}


@pytest.fixture
def history(owner: User, channel: Channel) -> Event:
    api = Caller(owner)
    assert api.post("event", {"mapped_ch": 0, "source": "temp", "threshold": "30"}).status_code == 201
    event_history(owner)
    return Event.objects.get()


def incidents(owner: User, event: Event, count: int) -> list[Incident]:
    """A minute apart, and two that began together."""
    return [
        Incident.objects.create(
            user=owner,
            event=event,
            number=event.number,
            title="",
            severity="info",
            started_at=at(f"2026-02-01 00:{place - (place == count - 1):02}:00"),
        )
        for place in range(count)
    ]


def ids(response: Any) -> list[int]:
    return [row["incident_id"] for row in document(response)]


def test_an_incident(api: Caller, history: Event) -> None:
    assert document(api.get("incident")) == document(api.get("incident/1")) == [INCIDENT]


def test_an_incident_is_acknowledged_once_and_for_good(api: Caller, owner: User, history: Event) -> None:
    (row,) = document(api.get("incident/1"))
    assert api.put("incident/1", row).status_code == 200
    assert document(api.get("incident/1")) == [row]
    assert api.put("incident/1", {"acknowledged": True}).status_code == 200
    (row,) = document(api.get("incident/1"))
    assert (row["acknowledged"], row["acknowledged_by"]) == (True, owner.email)
    assert row["acknowledged_at"]
    assert api.put("incident/1", {"acknowledged": True}).status_code == 200
    assert api.put("incident/1", {}).status_code == 200
    assert refusal(api.put("incident/1", {"acknowledged": False})) == (400, "BAD_PARAMETER")
    assert document(api.get("incident/1")) == [row]


def test_what_is_over_says_how_and_outlives_its_event(api: Caller, owner: User, history: Event) -> None:
    Incident.objects.update(ended_at=at("2026-01-31 01:00:00"), over=Incident.Over.CLEARED, tag="roof")
    assert api.delete("event/1").status_code == 200
    assert api.delete("channel/0").status_code == 200
    (row,) = document(api.get("incident"))
    over = {"state": "closed", "ended_at": "2026-01-31T10:00:00+0900", "over": "cleared", "tag": "roof"}
    assert row == INCIDENT | over | {"mapped_ch": row["mapped_ch"]}


def test_incidents_page_by_page(api: Caller, owner: User, history: Event) -> None:
    newest = [each.pk for each in incidents(owner, history, 7)][::-1]
    found: list[int] = []
    while page := ids(api.get("incident?pagelimit=3" + (f"&before={found[-1]}" if found else ""))):
        assert len(page) <= 3
        found += page
    assert found == [*newest, 1]
    for number in ("9999", "x", "01", "-1"):
        assert refusal(api.get("incident", X_BEFORE=number)) == (404, "NO_INCIDENT")
    assert refusal(api.get("incident?pagelimit=1001")) == (400, "BAD_PARAMETER")


def test_incidents_of_something(api: Caller, owner: User, history: Event) -> None:
    first = incidents(owner, history, 3)[0].pk
    Incident.objects.filter(pk=first).update(device_id="y", number=2, ended_at=timezone.now())
    assert ids(api.get("incident?deviceid=x")) == [1]
    assert ids(api.get("incident", X_DEVICEID="y")) == [first]
    assert ids(api.get("incident?eventid=2")) == ids(api.get("incident?state=closed")) == [first]
    assert first not in ids(api.get("incident?state=open&eventid=1"))
    assert ids(api.get("incident?endtime=2026-01-31")) == [1]
    assert ids(api.get("incident?starttime=2026-02-01 09:00&endtime=2026-02-01 09:00")) == [first]
    assert ids(api.get("incident?eventid=3")) == []
    for bad in ("eventid=x", "state=all", "starttime=soon", "deviceid=a%2B"):
        assert refusal(api.get(f"incident?{bad}")) == (400, "BAD_PARAMETER")


def test_deliveries(api: Caller, owner: User, history: Event) -> None:
    delivery = Delivery.objects.get()
    (row,) = document(api.get("delivery"))
    assert row | {"created_at": "", "next_try_at": ""} == {
        "delivery_id": str(delivery.pk),
        "event_id": 1,
        "incident_id": 1,
        "contact_id": None,
        "transport": "email",
        "about": "firing",
        "state": "waiting",
        "receiver": owner.email,
        "created_at": "",
        "next_try_at": "",
        "done_at": None,
        "tries": 0,
        "answer": "",
    }
    assert row["next_try_at"]
    other = Delivery.objects.create(
        user=owner, transport="http", about="test", receiver="example.com:443", body={}, status="sent"
    )
    newest = [row["delivery_id"] for row in document(api.get("delivery"))]
    assert newest == [str(other.pk), str(delivery.pk)]
    assert [row["delivery_id"] for row in document(api.get(f"delivery?before={other.pk}"))] == newest[1:]
    assert [row["delivery_id"] for row in document(api.get("delivery?pagelimit=1"))] == newest[:1]
    assert [row["next_try_at"] for row in document(api.get("delivery?state=sent"))] == [None]
    assert [row["delivery_id"] for row in document(api.get("delivery?eventid=1"))] == newest[1:]
    assert document(api.get("delivery?state=left out")) == []
    for bad in ("x", "1", "0" * 32):
        assert refusal(api.get(f"delivery?before={bad}")) == (404, "NO_DELIVERY")
    assert api.delete("event/1").status_code == 200
    assert [row["event_id"] for row in document(api.get("delivery"))] == [None, None]


def test_maintenance(api: Caller, owner: User) -> None:
    starts, ends = timezone.now() + timedelta(days=1), timezone.now() + timedelta(days=2)
    body = {"devices": "roof-*", "starts_at": starts.isoformat(), "ends_at": ends.isoformat(), "note": "x"}
    first = document(api.post("maintenance", body))["maintenance_id"]
    second = document(api.post("maintenance", {"ends_at": ends.timestamp()}))["maintenance_id"]
    rows = document(api.get("maintenance"))
    assert [(row["maintenance_id"], row["devices"], row["note"]) for row in rows] == [
        (second, "*", ""),
        (first, "roof-*", "x"),
    ]
    assert api.delete(f"maintenance/{second}").status_code == 200
    assert refusal(api.delete(f"maintenance/{second}")) == (404, "NO_MAINTENANCE")
    assert MaintenanceWindow.objects.get(pk=second).ends_at <= timezone.now()
    assert api.delete(f"maintenance/{first}").status_code == 200
    assert document(api.get("maintenance")) == []
    for number in ("x", "0", "01"):
        assert refusal(api.delete(f"maintenance/{number}")) == (404, "NO_MAINTENANCE")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("devices", "a/b"),
        ("devices", ""),
        ("starts_at", "2099-01-03"),
        ("starts_at", "now"),
        ("starts_at", None),
        ("ends_at", "2000-01-01"),
        ("ends_at", "2101-01-01"),
        ("ends_at", True),
        ("note", "x" * 201),
    ],
)
def test_bad_maintenance(api: Caller, field: str, value: Any) -> None:
    good = {"starts_at": "2099-01-01", "ends_at": "2099-01-02"}
    response = api.post("maintenance", good | {field: value})
    assert refusal(response) == (400, "BAD_PARAMETER")
    named = "ends_at" if value == "2099-01-03" else field
    assert document(response)["detail"].startswith(f"{named}: ")
    assert refusal(api.post("maintenance", {})) == (400, "BAD_PARAMETER")
    assert refusal(api.post("maintenance")) == (411, "LENGTH_REQUIRED")
    assert not MaintenanceWindow.objects.exists()


def test_an_outsider_sees_none_of_it(api: Caller, outsider: Caller, history: Event) -> None:
    before = [list(model.objects.values()) for model in (Incident, MaintenanceWindow, Delivery)]
    for path in ("incident", "delivery", "maintenance"):
        assert document(outsider.get(path)) == []
    assert refusal(outsider.get("incident/1")) == (404, "NO_INCIDENT")
    assert refusal(outsider.get("incident?before=1")) == (404, "NO_INCIDENT")
    assert refusal(outsider.get(f"delivery?before={Delivery.objects.get().pk}")) == (404, "NO_DELIVERY")
    assert refusal(outsider.put("incident/1", {"acknowledged": True})) == (404, "NO_INCIDENT")
    assert refusal(outsider.delete("maintenance/1")) == (404, "NO_MAINTENANCE")
    assert [list(model.objects.values()) for model in (Incident, MaintenanceWindow, Delivery)] == before


def test_the_state_of_an_event_is_that_of_its_worst_condition(api: Caller, history: Event) -> None:
    def state() -> str:
        text: str = document(api.get("event/1"))[0]["state"]
        assert document(api.get("event"))[0]["state"] == text
        return text

    def condition(device: int, state: str) -> None:
        now = timezone.now()
        Condition.objects.create(event=history, device=device, state=state, since=now, at=now)

    assert state() == "ok"
    condition(1, "ok")
    assert state() == "ok"
    condition(2, "no data")
    assert state() == "no data"
    condition(3, "pending")
    assert state() == "pending"
    condition(4, "firing")
    assert state() == "firing"
    assert api.put("event/1", {"muted_until": "2099-01-01"}).status_code == 200
    assert state() == "muted"
    assert api.put("event/1", {"muted_until": "2000-01-01"}).status_code == 200
    assert state() == "firing"
