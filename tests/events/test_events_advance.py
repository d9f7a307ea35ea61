"""Observations become conditions, incidents and deliveries, all at once or not at all."""

import time

import psycopg
from support import Account
from watching import CLEARED, ago, hot, owed, saw

from thingscale.events import advance
from thingscale.events.models import Condition, Delivery, Event, Incident, Observation


def test_each_match_is_owed_to_the_webhook_as_the_contract_says(
    account: Account, connection: psycopg.Connection
) -> None:
    device = account.device("d1")
    event = hot(account, description="Too hot", operator="=", threshold="13", source="value1")
    for _ in range(3):
        saw(event, value=13, device=device.pk)
    assert advance.advance(connection) == 3
    assert not Observation.objects.exists()
    first, *others = owed()
    assert len(others) == 2
    assert {each.about for each in (first, *others)} == {"match"}
    assert (first.transport, first.receiver) == ("http", "example.com")
    incident = Incident.objects.get()
    assert first.body == {
        "event_id": 1,
        "description": "Too hot",
        "mapped_ch": 0,
        "channel_name": "",
        "source": "value1",
        "status": "value1 was consistent with the threshold. Current:13 = Threshold:13",
        "current": 13,
        "threshold": "13",
        "tag": None,
        "device_id": "d1",
        "at": first.body["at"],
        "delivery_id": str(first.pk),
        "state": "firing",
        "severity": "warning",
        "incident": incident.pk,
    }
    assert len({each.body["delivery_id"] for each in (first, *others)}) == 3
    assert (incident.device_id, incident.number, incident.value) == ("d1", 1, "13")
    assert Condition.objects.get().state == "firing"


def test_a_clear_ends_the_incident_and_tells_no_webhook(
    account: Account, connection: psycopg.Connection
) -> None:
    event = hot(account)
    saw(event, at=ago(20))
    advance.advance(connection)
    saw(event, CLEARED, 29, at=ago(10))
    advance.advance(connection)
    assert Condition.objects.get().state == "ok"
    incident = Incident.objects.get()
    assert incident.over == "cleared"
    assert incident.ended_at
    assert round((incident.ended_at - incident.started_at).total_seconds()) == 10
    assert len(owed()) == 1


def test_one_that_began_and_ended_in_one_batch(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account)
    for what in (CLEARED, Observation.What.MATCHED, CLEARED, Observation.What.MATCHED):
        saw(event, what)
    advance.advance(connection)
    first, second = Incident.objects.order_by("pk")
    assert first.over == "cleared"
    assert second.ended_at is None
    assert Condition.objects.get().incident == second


def test_emails_go_to_both_addresses_or_the_log_says_why_not(
    account: Account, connection: psycopg.Connection
) -> None:
    account.user.email1 = ""
    account.user.save()
    event = hot(account, notify_type="email")
    saw(event)
    advance.advance(connection)
    missing = Delivery.objects.get()
    assert (missing.status, missing.answer) == ("left out", "The account has no email1 and no email2.")
    account.user.email1, account.user.email2 = "a@example.com", "b@example.com"
    account.user.save()
    saw(event)
    advance.advance(connection)
    assert sorted(each.receiver for each in owed()) == ["a@example.com", "b@example.com"]


def test_events_that_are_gone_or_disabled_are_forgotten(
    account: Account, connection: psycopg.Connection
) -> None:
    event, disabled = hot(account), hot(account, enabled=False)
    saw(event)
    saw(disabled)
    Event.objects.filter(pk=event.pk).delete()
    assert advance.advance(connection) == 2
    assert not Delivery.objects.exists()
    assert not Condition.objects.exists()


def test_ten_thousand_matches_take_seconds(account: Account, connection: psycopg.Connection) -> None:
    devices = [account.device(f"d{n}").pk for n in range(20)]
    events = [hot(account, description=f"{n}") for n in range(5)]
    Observation.objects.bulk_create(
        Observation(event=events[n % 5].pk, device=devices[n % 20], what=1, at=ago(0), value="31")
        for n in range(10_000)
    )
    began = time.monotonic()
    while advance.advance(connection):
        pass
    seconds = time.monotonic() - began
    print(f"{10_000 / seconds:.0f} matches/s")  # noqa: T201
    assert Delivery.objects.count() == 10_000
    assert Incident.objects.count() == 20
    assert seconds < 30
