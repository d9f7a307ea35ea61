"""Whom is told what: by datapoint or by state, together or each by itself."""

import psycopg
import pytest
from django.utils import timezone
from support import Account, make_account
from watching import CLEARED, ago, hot, owed, saw

from thingscale.accounts import encryption
from thingscale.events import advance
from thingscale.events.models import (
    Condition,
    ContactPoint,
    Delivery,
    Event,
    Incident,
    Observation,
)


def contact(account: Account, name: str = "phone") -> ContactPoint:
    ciphertext = encryption.encrypt("ntfy://topic", encryption.Purpose.NOTIFICATION)
    return ContactPoint.objects.create(user=account.user, name=name, ciphertext=ciphertext)


def told(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Transport and what about, of what came since the last call."""
    advance.advance(connection)
    advance.look_at_due(connection)
    found = [(each.transport, each.about) for each in owed()]
    Delivery.objects.all().delete()
    return sorted(found)


def test_a_webhook_is_told_the_first_match_only_if_it_is_to_cross(
    account: Account, connection: psycopg.Connection
) -> None:
    event = hot(account, repeat="crossing")
    event.contact_points.add(contact(account))
    saw(event, at=ago(9))
    saw(event, at=ago(8))
    assert told(connection) == [("contact", "firing"), ("http", "firing")]
    saw(event, at=ago(7))
    assert told(connection) == []
    saw(event, CLEARED, 20, at=ago(6))
    assert told(connection) == [("contact", "resolved")]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "range", "threshold": "10..20"},
        {"kind": "rate", "threshold": "5", "window": 60},
        {"kind": "trend", "operator": ">", "threshold": "5", "window": 60, "period": 60},
        {"kind": "silence", "period": 60, "grace": 60},
    ],
)
def test_of_our_kinds_a_webhook_is_told_the_end_too(
    account: Account, connection: psycopg.Connection, fields: dict[str, object]
) -> None:
    event = hot(account, **fields)
    saw(event, at=ago(9))
    advance.advance(connection)
    saw(event, CLEARED, 20, at=ago(8))
    advance.advance(connection)
    assert [(each.about, each.body["state"]) for each in owed()] == [("firing", "firing"), ("resolved", "ok")]


def test_each_change_is_a_message(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account, kind="change", threshold="")
    for n in range(3):
        saw(event, value=f'"v{n}"')
    assert told(connection) == [("http", "match")] * 3


def test_a_condition_that_has_to_hold_fires_by_the_datapoint_or_by_the_clock(
    account: Account, connection: psycopg.Connection
) -> None:
    event = hot(account, hold=60)
    saw(event, at=ago(100))
    saw(event, at=ago(90))
    assert told(connection) == [("http", "firing")]  # by the clock: it held since
    other = hot(account, hold=60)
    saw(other, at=ago(50))
    assert told(connection) == []
    saw(other, CLEARED, at=ago(40))
    saw(other, at=ago(30))
    assert told(connection) == []
    third = hot(account, hold=10)
    saw(third, at=ago(30))
    saw(third, at=ago(19))
    saw(third, CLEARED, at=ago(18))
    assert told(connection) == [("http", "firing")]


def test_many_devices_that_fire_together_are_one_message_for_people(
    account: Account, connection: psycopg.Connection
) -> None:
    devices = [account.device(f"d{n:03}").pk for n in range(130)]
    event = hot(account, repeat="crossing")
    event.contact_points.add(contact(account))
    for device in devices[:10]:
        saw(event, device=device)
    advance.advance(connection)
    for device in devices[10:]:
        saw(event, device=device)
    advance.advance(connection)
    assert len(owed(transport="http")) == 130
    (message,) = owed(transport="contact")
    assert message.due_at > message.created_at
    assert message.body["device_id"] == "d000"
    assert [each["device_id"] for each in message.body["also"]] == [f"d{n:03}" for n in range(1, 101)]
    assert message.body["more"] == 29
    assert message.body["delivery_id"] == str(message.pk)


def test_without_data_it_is_over_unless_it_was_the_platform_that_did_not_listen(
    account: Account, connection: psycopg.Connection
) -> None:
    event = hot(account, kind="range", threshold="10..20", no_data_after=60)
    device = account.device("d1")
    saw(event, device=device.pk, at=ago(100))
    connection.execute(
        "INSERT INTO devices_listeninggap (door, began_at, ended_at) VALUES (1, %s, %s)", [ago(90), ago(30)]
    )
    advance.advance(connection)
    assert advance.look_at_due(connection) == 1
    condition = Condition.objects.get()
    assert condition.state == "firing"
    assert condition.due_at
    assert 100 < (condition.due_at - timezone.now()).total_seconds() < 151
    connection.execute("UPDATE devices_listeninggap SET ended_at = %s", [ago(190)])
    Condition.objects.update(due_at=timezone.now())
    advance.look_at_due(connection)
    assert Condition.objects.get().state == "no data"
    assert Incident.objects.get().over == "no data"
    _, last = owed()
    assert (last.about, last.body["state"]) == ("resolved", "no data")
    assert last.body["status"] == "temp was not received for 60 s. Last:31"


@pytest.mark.parametrize("change", [{"claimed_until": timezone.now()}, {"tries": 1}, {"status": "sent"}])
def test_nothing_is_added_to_what_is_being_sent(
    account: Account, connection: psycopg.Connection, change: dict[str, object]
) -> None:
    first, second = (account.device(f"d{n}").pk for n in range(2))
    event = hot(account, repeat="crossing", notify_type="email")
    saw(event, device=first)
    advance.advance(connection)
    Delivery.objects.update(**change)
    saw(event, device=second)
    advance.advance(connection)
    assert [each.body["device_id"] for each in Delivery.objects.order_by("created_at")] == ["d0", "d1"]


def test_what_is_too_much_is_one_message_an_hour(account: Account, connection: psycopg.Connection) -> None:
    outsider = make_account("outsider@example.com")
    events = [hot(account), hot(account), hot(outsider)]
    for n in (5, 7):
        for event in events:
            Observation.objects.create(event=event.pk, what=2, at=ago(0), count=n)
        Observation.objects.create(event=events[0].pk, what=2, at=ago(0), count=n)
        advance.advance(connection)
    found = owed(about="brake")
    assert {each.user_id: each.body["left_out"] for each in found} == {
        account.user.pk: 36,
        outsider.user.pk: 12,
    }
    assert len(found) == 2
    assert found[0].body["status"].startswith("Matches are left out")
    Delivery.objects.update(status="sent", due_at=ago(3700), done_at=ago(3700))
    Observation.objects.create(event=events[0].pk, what=2, at=ago(0), count=1)
    advance.advance(connection)
    (again,) = owed(about="brake")
    assert (again.user_id, again.body["left_out"]) == (account.user.pk, 1)
    assert (again.due_at - again.created_at).total_seconds() < 31


def test_contact_points_that_are_switched_off_are_told_nothing(
    account: Account, connection: psycopg.Connection
) -> None:
    event = hot(account, notify_type="none")
    off, on = contact(account, "off"), contact(account, "on")
    event.contact_points.set([off, on])
    ContactPoint.objects.filter(pk=off.pk).update(enabled=False)
    saw(event)
    advance.advance(connection)
    (delivery,) = owed()
    assert (delivery.receiver, delivery.contact_point_id) == (f"contact:{on.pk}", on.pk)
    assert Event.objects.get().notify_type == "none"
