"""What is old or left behind is deleted, and nothing else."""

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection as django_connection
from django.utils import timezone
from owing import owe
from pytest_django import Settings
from stack import wait_until
from support import Account, make_account
from watching import ago, hot, saw

from thingscale.devices.models import Device, Published
from thingscale.events import advance, clean_up
from thingscale.events.actions import create_maintenance_window, dismiss_suggestions
from thingscale.events.models import (
    Condition,
    ContactPoint,
    Delivery,
    DismissedSuggestion,
    Event,
    EventContact,
    Incident,
    MaintenanceWindow,
    Observation,
    RuleMemory,
)
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import delete_channel
from thingscale.streams.models import Tag

DAY = 86_400


def rows() -> dict[str, int]:
    tables: list[Any] = [
        Condition,
        ContactPoint,
        Delivery,
        EventContact,
        Incident,
        MaintenanceWindow,
        Observation,
    ]
    return {table.__name__: table.objects.count() for table in tables}


def one_of_each(account: Account, connection: psycopg.Connection) -> Event:
    event = hot(account)
    event.contact_points.add(ContactPoint.objects.create(user=account.user, name="phone", ciphertext=b"x"))
    saw(event)
    advance.advance(connection)
    saw(event)
    now = timezone.now()
    create_maintenance_window(account.user, "*", now, now + timedelta(hours=1))
    return event


def test_what_is_in_use_stays(account: Account, connection: psycopg.Connection) -> None:
    one_of_each(account, connection)
    before = rows()
    assert all(before.values())
    Delivery.objects.update(created_at=ago(400 * DAY))  # they wait
    Condition.objects.update(at=ago(400 * DAY), since=ago(400 * DAY))  # and it fires
    Incident.objects.update(started_at=ago(400 * DAY))
    clean_up.clean_up()
    clean_up.close_left_open()
    assert rows() == before


@pytest.mark.parametrize(
    ("status", "days", "stays"),
    [
        ("sent", 6.9, True),
        ("sent", 7.1, False),
        ("failed", 29.9, True),
        ("failed", 30.1, False),
        ("left out", 29.9, True),
        ("left out", 30.1, False),
    ],
)
def test_deliveries(
    account: Account, connection: psycopg.Connection, status: str, days: float, stays: bool
) -> None:
    one_of_each(account, connection)
    Delivery.objects.update(status=status, done_at=ago(days * DAY))
    clean_up.clean_up()
    assert Delivery.objects.exists() is stays


def test_incidents_are_kept_as_long_as_the_setting_says(
    account: Account, connection: psycopg.Connection, settings: Settings
) -> None:
    settings.INCIDENT_DAYS = 10
    one_of_each(account, connection)
    for days, stays in ((9.9, True), (10.1, False)):
        Incident.objects.update(ended_at=ago(days * DAY))
        MaintenanceWindow.objects.update(ends_at=ago(days * DAY))
        clean_up.clean_up()
        assert Incident.objects.exists() is MaintenanceWindow.objects.exists() is stays


def test_in_batches(
    account: Account, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_up, "BATCH", 2)
    event = hot(account)
    for _ in range(5):
        saw(event)
    advance.advance(connection)
    Delivery.objects.update(status="sent", done_at=ago(8 * DAY))
    clean_up.clean_up()
    assert not Delivery.objects.exists()


@pytest.mark.parametrize("batch", [2, 5_000])
def test_the_newest_deliveries_of_an_account_stay(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    settings.KEPT_DELIVERIES = 10
    monkeypatch.setattr(clean_up, "BATCH", batch)
    event = hot(account)
    of_outsider, of_other = hot(make_account("outsider@example.com")), hot(make_account("other@example.com"))
    done = [*owe(event, 7, status="failed"), *owe(event, 8, status="sent"), *owe(event, 9, status="left out")]
    waiting = owe(event, 20)
    outsiders, few = owe(of_outsider, 10, status="sent"), owe(of_other, 9, status="sent")
    moment = ago(60)
    Delivery.objects.update(created_at=moment, done_at=moment)  # as those of one transaction
    for delivery in done[:11]:
        Delivery.objects.filter(pk=delivery.pk).update(created_at=ago(120))
    clean_up.forget_deliveries()
    left = set(Delivery.objects.values_list("pk", flat=True))
    assert left >= {each.pk for each in (*waiting, *outsiders, *few)}
    assert not left & {each.pk for each in done[:11]}
    assert len(left & {each.pk for each in done}) == 10
    clean_up.forget_deliveries()
    assert len(left) == Delivery.objects.count()


def test_what_a_deleted_event_and_a_closed_account_left_behind(
    account: Account, connection: psycopg.Connection
) -> None:
    outsider = make_account("outsider@example.com")
    event = one_of_each(account, connection)
    one_of_each(outsider, connection)  # which follows what the other one saw
    saw(event)
    outsiders = {name: count // 2 for name, count in rows().items()}
    outsiders["Delivery"] = 2  # to the webhook and the phone
    Event.objects.filter(pk=event.pk)._raw_delete("default")  # as the release before does
    Observation.objects.filter(event=event.pk).update(stored_at=ago(700))
    clean_up.clean_up()
    left = rows()
    gone = ("Condition", "EventContact", "Observation")
    assert {name: left[name] for name in gone} == {name: outsiders[name] for name in gone}
    assert left["Incident"] == 2 * outsiders["Incident"]
    account.user.closed_at = timezone.now()
    account.user.save()
    clean_up.clean_up()
    assert rows() == outsiders


def test_what_is_remembered_of_what_is_deleted(account: Account) -> None:
    outsider = make_account("outsider@example.com")
    device, deleted = account.device("d1").pk, account.device("d2").pk
    tag, deleted_tag = (Tag.objects.create(channel=account.channel(), name=name).pk for name in "ab")
    event = hot(account, kind="change", threshold="")
    for of_device, of_tag in ((device, tag), (0, 0), (deleted, 0), (0, deleted_tag)):
        RuleMemory.objects.create(event=event.pk, device=of_device, tag=of_tag, memory="[]")
    RuleMemory.objects.create(event=event.pk + 1000, memory="[]")
    dismiss_suggestions(account.user, account.channel(1), ["battery"])
    dismiss_suggestions(account.user, account.channel(2), ["battery"])
    dismiss_suggestions(outsider.user, outsider.channel(1), ["battery", ""])
    clean_up.clean_up()
    assert (RuleMemory.objects.count(), DismissedSuggestion.objects.count()) == (4, 4)
    Device.objects.filter(pk=deleted)._raw_delete("default")
    Tag.objects.filter(pk=deleted_tag)._raw_delete("default")
    delete_channel(account.channel(1))
    clean_up.clean_up()
    left = set(RuleMemory.objects.values_list("device", "tag"))
    assert left == {(device, tag), (0, 0)}
    assert DismissedSuggestion.objects.filter(user=account.user).get().channel == account.channel(2).pk
    outsider.user.closed_at = timezone.now()
    outsider.user.save()
    clean_up.clean_up()
    assert DismissedSuggestion.objects.count() == 1


def test_it_waits_for_nobody_while_it_deletes(account: Account, connection: psycopg.Connection) -> None:
    event = hot(account)
    for n in range(3):
        saw(event, device=account.device(f"d{n}").pk)
    advance.advance(connection)
    Condition.objects.update(state="ok", at=ago(31 * DAY))
    with connection.transaction():
        connection.execute("SELECT FROM events_condition ORDER BY id LIMIT 1 FOR UPDATE")
        clean_up.clean_up()
        assert Condition.objects.count() == 1
    clean_up.clean_up()
    assert not Condition.objects.exists()


def test_it_locks_an_event_before_its_conditions(account: Account, connection: psycopg.Connection) -> None:
    device = account.device("d1")
    event = hot(account)
    saw(event, device=device.pk)
    advance.advance(connection)
    device.delete()

    def close() -> None:
        clean_up.close_left_open()
        django_connection.close()

    closing = threading.Thread(target=close)
    with connection.transaction():
        connection.execute("SELECT FROM events_event WHERE id = %s FOR UPDATE", [event.pk])
        closing.start()
        wait_until(
            lambda: connection.execute(
                "SELECT FROM pg_locks WHERE NOT granted AND %s = ANY (pg_blocking_pids(pid))",
                [connection.info.backend_pid],
            ).fetchall(),
            30,
            "it to wait for the event",
        )
        connection.execute("SELECT FROM events_condition FOR UPDATE NOWAIT")
    closing.join(60)
    assert not Condition.objects.exists()
    assert Incident.objects.get().over == "changed"


def test_what_nothing_can_clear_is_closed(account: Account, connection: psycopg.Connection) -> None:
    moved, deleted, well = (account.device(name) for name in ("moved", "deleted", "well"))
    event, other = hot(account), hot(account, mapped_channel=account.channel(1))
    for device in (moved, deleted, well):
        saw(event, device=device.pk)
    saw(other)
    advance.advance(connection)
    Published.objects.all().delete()
    configure_device(moved, {"mapped_channel": account.channel(2)})
    deleted.delete()
    clean_up.close_left_open()
    assert Incident.objects.get(ended_at=None, event=event).device_id == "well"
    assert Condition.objects.get(event=event).device == well.pk
    assert [each.topic for each in Published.objects.all()] == ["events/1"]
    delete_channel(account.channel(1))
    clean_up.close_left_open()
    assert not Condition.objects.filter(event=other).exists()
    assert Incident.objects.get(event=other).over == "changed"
