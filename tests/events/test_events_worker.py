"""The threads of a Celery worker: one process works at a time, and another takes over."""

import threading
import time

import psycopg
import pytest
from django.db import connection as django_connection
from stack import wait_until
from support import Account
from watching import ago, hot, owed, saw

from thingscale.events import advance, aside, figures
from thingscale.events import worker as worker_module
from thingscale.events.models import Condition, Delivery, Observation
from thingscale.events.worker import Notifications
from thingscale.processes.wake_up import WAKE_UP


def test_it_follows_within_a_second_and_at_once_if_woken(account: Account) -> None:
    event = hot(account)
    worker = Notifications()
    worker.start()
    try:
        wait_until(lambda: worker.active, what="the worker to begin")
        saw(event)
        wait_until(owed, 10, "a delivery without a signal")
        waits = []
        for _ in range(5):
            saw(event)
            began = time.monotonic()
            WAKE_UP.events()
            wait_until(lambda: not Observation.objects.exists(), 10, "a delivery")
            waits.append(time.monotonic() - began)
        assert min(waits) < 0.5
    finally:
        worker.stop(30)


def test_one_works_and_another_takes_over(account: Account) -> None:
    event = hot(account)
    first, second = Notifications(), Notifications()
    first.start()
    wait_until(lambda: first.active)
    second.start()
    try:
        for _ in range(20):
            saw(event)
        wait_until(lambda: len(owed()) == 20)
        assert not second.active
        first.stop(30)
        wait_until(lambda: second.active, 10, "the second worker to take over")
        saw(event)
        wait_until(lambda: len(owed()) == 21)
    finally:
        first.stop(30)
        second.stop(30)


def test_what_is_due_and_who_is_to_send_do_not_wait_for_a_flood(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always something new to follow."""
    monkeypatch.setattr(worker_module, "LATEST_SECONDS", 0.2)
    monkeypatch.setattr(advance, "BATCH", 5)
    flooded, held = hot(account), hot(account, hold=1, repeat="crossing")
    saw(held)
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            Observation.objects.bulk_create(
                Observation(event=flooded.pk, what=1, at=ago(0), value="31") for _ in range(100)
            )
        django_connection.close()

    flooding = threading.Thread(target=flood)
    flooding.start()
    worker = Notifications()
    signals: list[int] = []
    monkeypatch.setattr(WAKE_UP, "deliveries", lambda: signals.append(1))
    worker.start()
    try:
        wait_until(lambda: owed(about="firing"), 30, "what held to fire")
        assert len(signals) > 1
    finally:
        ended.set()
        flooding.join(60)
        worker.stop(30)


def test_its_connection_ends_and_it_begins_again(account: Account) -> None:
    event = hot(account)
    worker = Notifications()
    worker.start()
    try:
        wait_until(lambda: worker.active)
        with django_connection.cursor() as cursor:
            cursor.execute(
                """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE application_name = 'thingscale-events' AND datname = current_database()"""
            )
            assert cursor.fetchall() == [(True,)]
        saw(event)
        wait_until(owed, 30, "a delivery")
    finally:
        worker.stop(30)


def test_what_fails_is_dropped_and_the_others_go_on(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    event, broken = hot(account), hot(account)
    follow = advance.Batch.follow

    def fail(self: advance.Batch, seen: advance.WaitingObservation) -> None:
        follow(self, seen)
        if seen.event == broken.pk:
            raise psycopg.DataError

    monkeypatch.setattr(advance.Batch, "follow", fail)
    for each in (event, broken, event, broken, event):
        saw(each)
    worker = Notifications()
    worker.start()
    try:
        wait_until(lambda: not Observation.objects.exists())
    finally:
        worker.stop(30)
    assert {(each.event_id, each.status) for each in Delivery.objects.all()} == {(event.pk, "waiting")}
    assert len(owed()) == 3
    assert caplog.text.count("is dropped") == 2


def test_a_locked_event_waits_and_the_others_go_on(
    account: Account,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(worker_module, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(aside, "FIRST_SECONDS", 1.0)
    monkeypatch.setattr(advance, "BATCH", 8)
    event, locked = hot(account), hot(account, hold=1, repeat="crossing")
    worker = Notifications()
    with connection.transaction():
        connection.execute("SELECT FROM events_event WHERE id = %s FOR UPDATE", [locked.pk])
        for n in range(10):
            saw(locked, value=n)
            saw(event, value=n)
        worker.start()
        try:
            wait_until(lambda: len(owed(event=event)) == 10, 30, "the other event to be followed")
            assert Observation.objects.filter(event=locked.pk).count() == 10
            saw(event)
            wait_until(lambda: len(owed(event=event)) == 11, 30, "it to go on")
        except BaseException:
            worker.stop(30)
            raise
    try:
        wait_until(lambda: owed(event=locked, about="firing"), 30, "it to be followed in the end")
    finally:
        worker.stop(30)
    assert Condition.objects.get(event=locked).value == "9"
    assert f"Event {locked.pk} can't be followed for a while: LockNotAvailable" in caplog.text
    assert "away" not in caplog.text
    counted = figures.read(connection).counted
    assert counted["set aside", ""] >= 1
    assert counted["dropped", ""] == 0


def test_what_takes_too_long_again_and_again_is_dropped(
    account: Account,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(aside, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(aside, "TRIES", 3)
    event, slow = hot(account), hot(account)
    follow = advance.Batch.follow

    def fail(self: advance.Batch, seen: advance.WaitingObservation) -> None:
        follow(self, seen)
        if seen.event == slow.pk:
            self._connection.execute("SET LOCAL statement_timeout = 1")
            self._connection.execute("SELECT pg_sleep(10)")

    monkeypatch.setattr(advance.Batch, "follow", fail)
    for each in (event, slow, event):
        saw(each)
    worker = Notifications()
    worker.start()
    try:
        wait_until(lambda: len(owed()) == 2, 30, "the others")
        wait_until(lambda: not Observation.objects.exists(), 30, "it to be dropped")
    finally:
        worker.stop(30)
    assert {each.event_id for each in Delivery.objects.all()} == {event.pk}
    assert caplog.text.count("is dropped") == 1
    counted = figures.read(connection).counted
    assert (counted["set aside", ""], counted["dropped", ""]) == (3, 1)
