"""What fires, what did; acknowledging and muting; whose it is."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from support import Account

from thingscale.events import waiting
from thingscale.events.actions import create_event
from thingscale.events.models import Condition, Event, Incident, Observation
from thingscale.streams.models import Tag

State = Condition.State


def fires(
    account: Account, name: str = "Hall too warm", state: str = State.FIRING, **fields: Any
) -> Condition:
    """A condition of an event of its own, for the device boiler and the tag hall."""
    plain = {"mapped_channel": account.channel(7), "source": "temp", "operator": ">", "threshold": "30"}
    event = create_event(account.user, plain | {"description": name} | fields)
    device = account.user.devices.filter(device_id="boiler").first() or account.device("boiler", 7)
    tag, _ = Tag.objects.get_or_create(channel=account.channel(7), name="hall")
    now = timezone.now()
    incident = incident_of(event, ended_at=None) if state == State.FIRING else None
    return Condition.objects.create(
        event=event,
        device=device.pk,
        tag=tag.pk,
        state=state,
        since=now - timedelta(minutes=3),
        at=now,
        value="31.5",
        incident=incident,
    )


def incident_of(event: Event, **fields: Any) -> Incident:
    now = timezone.now()
    plain = {
        "user_id": event.user_id,
        "event": event,
        "number": event.number,
        "title": event.description,
        "severity": event.severity,
        "device_id": "boiler",
        "tag": "hall",
        "value": "31.5",
        "started_at": now - timedelta(minutes=5),
        "ended_at": now,
        "over": Incident.Over.CLEARED,
    }
    return Incident.objects.create(**plain | fields)


def test_before_there_is_an_event(account: Account, signed_in: Any) -> None:
    page = signed_in(account).get("/alerts/").text
    assert "No event yet" in page
    assert "Firing" not in page


def test_what_fires_is_shown_with_where_and_since(account: Account, signed_in: Any) -> None:
    condition = fires(account)
    fires(account, "Hall humid", State.PENDING)
    fires(account, "Hall dark", State.NO_DATA)
    fires(account, "Hall calm", State.OK)
    page = signed_in(account).get("/alerts/").text
    for text in ("Hall too warm", "temp &gt; 30", "31.5", "boiler", "tag hall", "3 min ago"):
        assert text in page
    assert page.index("Hall too warm") < page.index("Hall humid") < page.index("Hall dark")
    assert ">Hall calm<" not in page
    assert "Acknowledge" in page
    account.user.devices.all().delete()
    Tag.objects.all().delete()
    assert "a device that is gone" in signed_in(account).get("/alerts/").text
    condition.event.delete()
    assert "Hall too warm" in Incident.objects.get().title


def test_the_severest_is_first(account: Account, signed_in: Any) -> None:
    fires(account, "is-critical", severity="critical")
    fires(account, "is-warning")
    fires(account, "is-info", severity="info")
    fires(account, "newer-warning")
    page = signed_in(account).get("/alerts/").text
    places = [page.index(f">{name}<") for name in ("is-critical", "newer-warning", "is-warning", "is-info")]
    assert places == sorted(places)


def test_acknowledging_names_who_was_first(account: Account, signed_in: Any) -> None:
    condition = fires(account)
    client = signed_in(account)
    assert condition.incident
    path = f"/alerts/incidents/{condition.incident.pk}/acknowledge/"
    page = client.post(path, {"next": "/alerts/?severity=info"}, follow=True)
    assert page.redirect_chain == [("/alerts/?severity=info", 302)]
    assert f"Acknowledged by {account.user.email}" in page.text
    first = Incident.objects.get().acknowledged_at
    client.post(path)
    assert Incident.objects.get().acknowledged_at == first
    assert client.get(path).status_code == 405


@pytest.mark.parametrize(("until", "hours"), [("1h", (0.99, 1)), ("8h", (7.99, 8)), ("tomorrow", (8, 32))])
def test_muting(account: Account, signed_in: Any, until: str, hours: tuple[float, float]) -> None:
    condition = fires(account)
    client = signed_in(account)
    page = client.post(f"/alerts/conditions/{condition.pk}/mute/", {"until": until}, follow=True).text
    assert "Muted until" in page
    condition.refresh_from_db()
    assert condition.muted_until
    ahead = (condition.muted_until - timezone.now()) / timedelta(hours=1)
    assert hours[0] <= ahead <= hours[1]
    client.post(f"/alerts/conditions/{condition.pk}/mute/", {"until": "over"})
    assert Condition.objects.get().muted_until is None
    assert client.post(f"/alerts/conditions/{condition.pk}/mute/", {"until": "noon"}).status_code == 400


def test_until_tomorrow_is_eight_in_the_zone_of_who_asks(account: Account, signed_in: Any) -> None:
    account.user.locale = "Asia/Tokyo"
    account.user.save()
    condition = fires(account)
    signed_in(account).post(f"/alerts/conditions/{condition.pk}/mute/", {"until": "tomorrow"})
    condition.refresh_from_db()
    assert condition.muted_until
    local = condition.muted_until.astimezone(account.user.zone)
    assert f"{local:%H:%M}" == "08:00"


def test_the_history_is_filtered_and_paged(account: Account, signed_in: Any) -> None:
    event = fires(account, state=State.OK).event
    for n in range(60):
        incident_of(event, title=f"incident-{n:02}", started_at=timezone.now() - timedelta(hours=n))
    incident_of(event, title="other", device_id="pump", severity="critical", number=9)
    client = signed_in(account)
    page = client.get("/alerts/")
    assert "incident-48" in page.text
    assert "incident-55" not in page.text
    assert "incident-55" in client.get("/alerts/", {"page": page.context["history"].next}).text
    for query in ("device=PUM", "severity=critical", "event=9", "event=9 · other"):
        found = client.get(f"/alerts/?{query}").text
        assert ">other<" in found
        assert "incident-01" not in found
    for query in ("device=none", "event=x", "event=99999999999", "device=%00x"):
        assert "Nothing in the history is like that" in client.get(f"/alerts/?{query}").text


def test_an_open_page_asks_for_what_has_changed(account: Account, signed_in: Any) -> None:
    condition = fires(account)
    client = signed_in(account)
    page = client.get("/alerts/")
    asks = {"HX-Request": "true", "X-Shown": page.context["version"]}
    assert client.get("/alerts/", headers=asks).status_code == 204
    Condition.objects.filter(pk=condition.pk).update(value="32.25")
    answer = client.get("/alerts/", headers=asks)
    assert "32.25" in answer.text
    assert "<html" not in answer.text
    client.post(f"/alerts/conditions/{condition.pk}/mute/", {"until": "1h"})
    asks["X-Shown"] = answer.context["version"]
    assert "Muted" in client.get("/alerts/", headers=asks).text


def test_the_menu_has_the_number(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    badge = 'id="nav-count"><span class="badge badge-bad">'
    assert badge not in client.get("/devices/").text
    fires(account)
    assert f"{badge}1<" in client.get("/devices/").text
    event = Event.objects.get()
    Incident.objects.bulk_create(
        Incident(
            user=account.user, number=1, title="x", severity="info", started_at=timezone.now(), event=event
        )
        for _ in range(120)
    )
    assert f"{badge}99+<" in client.get("/devices/").text


def test_an_outsider_sees_and_changes_nothing(account: Account, outsider: Account, signed_in: Any) -> None:
    condition = fires(account)
    incident_of(condition.event)
    client = signed_in(outsider)
    page = client.get("/alerts/").text
    assert "Hall too warm" not in page
    assert 'id="nav-count"></span>' in page
    assert condition.incident
    for path in (f"incidents/{condition.incident.pk}/acknowledge/", f"conditions/{condition.pk}/mute/"):
        assert client.post(f"/alerts/{path}", {"until": "1h"}).status_code == 404
    condition.refresh_from_db()
    assert condition.muted_until is None
    assert not Incident.objects.exclude(acknowledged_at=None).exists()


def test_that_too_much_waits_is_said(
    account: Account, outsider: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST", 2)
    for each in (account, outsider):
        fires(each)
    for _ in range(2):
        Observation.objects.create(account=account.user.pk, event=1, what=1, at=timezone.now(), value="1")
    said = "too much waits"
    assert said in signed_in(account).get("/alerts/").text
    assert said not in signed_in(outsider).get("/alerts/").text
