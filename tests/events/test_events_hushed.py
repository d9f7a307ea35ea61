"""A mute, a maintenance window, quiet hours: nothing is sent, the log says why, and afterwards receivers are
told how it stands."""

from datetime import timedelta

import psycopg
from django.utils import timezone
from support import Account
from watching import CLEARED, ago, hot, owed, saw

from thingscale.events import advance
from thingscale.events.actions import (
    create_maintenance_window,
    end_maintenance_window,
    mute,
    update_event,
)
from thingscale.events.models import Condition, Delivery

HOUR = timedelta(hours=1)


def reasons() -> list[str]:
    return sorted(each.answer for each in Delivery.objects.filter(status="left out"))


def test_an_event_is_muted_and_unmuted(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account, repeat="crossing")
    update_event(event, {"muted_until": timezone.now() + HOUR})
    saw(event)
    advance.advance(connection)
    assert owed() == []
    (reason,) = reasons()
    assert reason.startswith("Muted until ")
    due_at = Condition.objects.get().due_at
    assert due_at
    assert due_at > timezone.now()
    update_event(event, {"muted_until": None})
    assert advance.look_at_due(connection) == 1
    (delivery,) = owed()
    assert (delivery.about, delivery.body["left_out"]) == ("firing", 1)


def test_one_device_is_muted_and_the_others_are_not(account: Account, connection: psycopg.Connection) -> None:
    first, second = (account.device(f"d{n}").pk for n in range(2))
    event = hot(account)
    saw(event, device=first)
    saw(event, device=second)
    advance.advance(connection)
    Delivery.objects.all().delete()
    mute(Condition.objects.get(device=first), timezone.now() + HOUR)
    for _ in range(3):
        saw(event, device=first)
        saw(event, device=second)
    advance.advance(connection)
    assert [each.body["device_id"] for each in owed()] == ["d1"] * 3
    assert len(reasons()) == 1  # one says that they are left out
    mute(Condition.objects.get(device=first), None)
    advance.look_at_due(connection)
    (delivery,) = [each for each in owed() if each.body["device_id"] == "d0"]
    assert (delivery.about, delivery.body["left_out"]) == ("match", 2)


def test_maintenance_is_of_the_devices_that_it_names_and_ends(
    account: Account, connection: psycopg.Connection
) -> None:
    pump, door = (account.device(name).pk for name in ("pump1", "door1"))
    event = hot(account, repeat="crossing")
    window = create_maintenance_window(account.user, "pump*", ago(10), timezone.now() + HOUR)
    saw(event, device=pump)
    saw(event, device=door)
    advance.advance(connection)
    assert [each.body["device_id"] for each in owed()] == ["door1"]
    assert reasons()[0].startswith("Maintenance of pump* until ")
    end_maintenance_window(window)
    advance.look_at_due(connection)
    assert sorted(each.body["device_id"] for each in owed()) == ["door1", "pump1"]


def test_what_is_over_by_the_end_of_quiet_hours_is_told_to_nobody(
    account: Account, connection: psycopg.Connection
) -> None:
    now = timezone.now()
    hours = f"{now - HOUR:%H:%M}-{now + HOUR:%H:%M}"
    event = hot(account, repeat="crossing", quiet_hours=hours)
    saw(event, at=ago(20))
    saw(event, CLEARED, 20, at=ago(10))
    advance.advance(connection)
    (reason,) = reasons()
    assert reason.startswith("Quiet hours until ")
    update_event(event, {"quiet_hours": ""})
    advance.look_at_due(connection)
    assert owed() == []
    assert Condition.objects.get().due_at is None
