"""Observations become conditions, incidents and deliveries, all at once or not at all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from django.db import connections
from stack import wait_until
from support import Account, make_account
from watching import CLEARED, ago, hot, owed, saw

from thingscale.devices.models import Published
from thingscale.events import advance
from thingscale.events.actions import delete_event, update_event
from thingscale.events.models import Condition, Delivery, Event, Incident, Observation
from thingscale.events.reset import look_again
from thingscale.processes import own_connection


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


def test_what_is_cut_off_before_the_commit_is_done_again_as_a_whole(
    account: Account, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = hot(account)
    for _ in range(3):
        saw(event)
    announce = advance.Batch._announce

    def cut_off(self: advance.Batch) -> None:
        announce(self)
        with own_connection.connect("another") as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])

    with monkeypatch.context() as patch:
        patch.setattr(advance.Batch, "_announce", cut_off)
        with pytest.raises(psycopg.OperationalError):
            advance.advance(connection)
    assert Observation.objects.count() == 3
    assert not any(table.objects.exists() for table in (Condition, Delivery, Incident, Published))
    with own_connection.connect("thingscale-events") as again:
        assert advance.advance(again) == 3
    assert len(owed()) == 3
    assert Incident.objects.count() == Published.objects.count() == 1


def test_an_account_that_floods_is_not_in_the_way(account: Account, connection: psycopg.Connection) -> None:
    flooding, other = hot(account), hot(make_account("other@example.com"))
    Observation.objects.bulk_create(
        Observation(event=flooding.pk, what=1, at=ago(0), value=f"{n}") for n in range(2000)
    )
    saw(other)
    assert advance.advance(connection) == advance.BATCH
    assert Incident.objects.filter(event=other).exists()
    while advance.advance(connection):
        pass
    told = Delivery.objects.filter(event=flooding).order_by("created_at")
    assert [each.body["current"] for each in told.only("body")] == list(range(2000))


def test_changes_of_an_event_and_its_states_do_not_lock_each_other_out(
    account: Account, connection: psycopg.Connection
) -> None:
    devices = [account.device(f"d{n}").pk for n in range(20)]
    events = [hot(account, repeat="crossing", min_interval=60) for _ in range(3)]
    ended = threading.Event()
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            while not ended.is_set():
                advance.advance(connection)
                advance.look_at_due(connection)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for n in range(40):
            for event in events:
                for device in devices:
                    saw(event, CLEARED if n % 3 == 2 else Observation.What.MATCHED, device=device)
            update_event(events[n % 3], {"threshold": f"{n}"} if n % 2 else {"description": f"{n}"})
            look_again(Condition.objects.filter(event__user=account.user.pk))
    finally:
        ended.set()
        thread.join(60)
    assert failures == []


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


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e999", '"\\u0000"', '"\\ud800"', '"plain"', "9" * 1000]
)
def test_texts_that_read_as_json(account: Account, connection: psycopg.Connection, text: str) -> None:
    """A device may send any text: none of them is in the way."""
    event = hot(account, operator="=", threshold=text)
    saw(event, value=text)
    advance.advance(connection)
    (delivery,) = owed()
    assert str(delivery.body["current"]) == text.strip('"' if "plain" in text else "")
    assert Condition.objects.get().value == text


@pytest.mark.parametrize("change", [delete_event, partial(update_event, changes={"threshold": "31"})])
@pytest.mark.parametrize("of_time", [False, True])
def test_a_change_and_the_worker_lock_in_the_same_order(
    account: Account,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Event], None],
    of_time: bool,
) -> None:
    event = hot(account, no_data_after=10)
    saw(event)
    advance.advance(connection)
    if of_time:
        Condition.objects.update(due_at=ago(1))
    else:
        saw(event)
    locked, go_on = threading.Event(), threading.Event()

    def slow(name: str) -> None:
        """The worker has its first locks, and waits before this."""
        original = getattr(advance.Batch, name)

        def wait(batch: advance.Batch, *arguments: object) -> None:
            locked.set()
            go_on.wait(10)
            original(batch, *arguments)

        monkeypatch.setattr(advance.Batch, name, wait)

    slow("load_events" if of_time else "load_conditions")

    def work() -> None:
        with own_connection.connect("another worker") as another:
            (advance.look_at_due if of_time else advance.advance)(another)

    def let_go() -> None:
        """Once the change waits for a lock, or is done."""
        try:
            wait_until(lambda: waits(connection) or not Condition.objects.exists(), 5)
        finally:
            connections.close_all()  # Django's of this thread
            go_on.set()

    with ThreadPoolExecutor(2) as threads:
        worker = threads.submit(work)
        assert locked.wait(5)
        going = threads.submit(let_go)
        change(event)
        going.result(10)
        worker.result(10)


def waits(connection: psycopg.Connection) -> bool:
    """Whether a transaction waits for another one."""
    found = connection.execute("SELECT FROM pg_locks WHERE NOT granted LIMIT 1")
    return found.fetchone() is not None
