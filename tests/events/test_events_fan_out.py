"""An account with many receivers and more matches than can be followed: its tables are bounded, it is told
what is left out, and others do not wait for it."""

import contextlib
import itertools
import time
from collections import Counter

import psycopg
import pytest
from owing import contact_point_of
from receivers import Receiver, receiver
from stack import wait_until
from support import Account, make_account
from watching import CLEARED, MATCHED, ago, hot, owed, saw

from thingscale.events import advance, figures, outbox
from thingscale.events.budget import Budget
from thingscale.events.delivery import Deliveries
from thingscale.events.models import Condition, Delivery, Event, Incident, Observation
from thingscale.events.worker import Notifications
from thingscale.processes.wake_up import WAKE_UP

LEFT_OUT = Observation.What.LEFT_OUT
RECEIVERS = 22


def flood(event: Event, count: int, device: int = 0) -> None:
    Observation.objects.bulk_create(
        (
            Observation(account=event.user_id, event=event.pk, device=device, what=1, at=ago(0), value=f"{n}")
            for n in range(count)
        ),
        batch_size=5_000,
    )


def with_contacts(event: Event, count: int, host: str = "json://hooks.example.com") -> Event:
    event.contact_points.set(
        contact_point_of(event.user, f"{host}/{n}", name=f"Phone {event.user_id}-{n}") for n in range(count)
    )
    return event


def left_out_of(event: Event) -> Counter[str]:
    """By receiver, as their messages say."""
    said: Counter[str] = Counter()
    for each in Delivery.objects.filter(user=event.user, about="brake"):
        said[each.receiver] += each.body["left_out"]
    return said


@pytest.fixture
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes back while the test runs."""
    monkeypatch.setattr(outbox, "OWED", Budget(30, 1))
    monkeypatch.setattr(outbox, "KEPT", 10)
    monkeypatch.setattr(Budget, "left", lambda self, account, now: left(self, account))


def left(budget: Budget, account: int) -> int:
    first: float = budget.__dict__.setdefault("first", time.monotonic())
    missing = (budget._full_at.get(account, first) - first) * budget._rate
    return max(budget._burst - round(missing), 0)


@pytest.mark.timeout(300)
def test_another_account_is_told_within_two_seconds(account: Account, deliveries: Deliveries) -> None:
    other = make_account("other@example.com")
    with receiver() as there, receiver() as others:
        flooding = with_contacts(
            hot(account, post_url=there.url), RECEIVERS - 1, f"json://127.0.0.1:{there.port}"
        )
        of_other = hot(other, post_url=others.url)
        flood(flooding, 20_000)
        worker = Notifications()
        worker.start()
        try:
            wait_until(lambda: Delivery.objects.filter(event=flooding).exists(), 30, "the flood to begin")
            took = [seconds_until_told(of_other, others) for _ in range(3)]
            print("told after", *(f"{each:.2f} s" for each in took))  # noqa: T201
            assert Observation.objects.filter(account=account.user.pk).exists()  # it was in the midst of it
            assert max(took) < 2
            wait_until(lambda: not Observation.objects.exists(), 120, "the flood to end")
        finally:
            worker.stop(30)
        found = Delivery.objects.filter(user=account.user.pk).exclude(about="brake").count()
        assert found <= 31_000
        said = left_out_of(flooding)
        assert len(said) == RECEIVERS
        assert found + said.total() == 20_000 * RECEIVERS


def seconds_until_told(event: Event, there: Receiver) -> float:
    before = len(there.requests)
    saw(event)
    began = time.monotonic()
    WAKE_UP.events()
    wait_until(lambda: len(there.requests) > before, 60, "the other account's webhook")
    return time.monotonic() - began


def test_what_is_over_the_budget_is_a_count_that_each_receiver_is_told(
    account: Account, connection: psycopg.Connection, no_budget: None
) -> None:
    outsider = make_account("outsider@example.com")
    event, of_outsider = with_contacts(hot(account), 3), hot(outsider)
    flood(event, 25)
    flood(of_outsider, 5)
    while advance.advance(connection):
        pass
    matches = [each for each in owed(user=account.user.pk) if each.about == "match"]
    assert len(matches) == 20
    assert len(owed(user=outsider.user.pk, about="match")) == 5
    said = left_out_of(event)
    assert len(said) == 4
    assert said.total() == 4 * 25 - 20
    assert not left_out_of(of_outsider)
    first = owed(about="brake")[0]
    assert 25 < (first.due_at - first.created_at).total_seconds() < 35
    assert first.body["status"].startswith("Matches are left out")
    assert first.body["current"] is None
    assert figures.read(connection).counted["deliveries", "http:left out"] > 0


def test_they_are_counted_until_that_is_said_and_said_once_an_hour(
    account: Account, connection: psycopg.Connection, no_budget: None
) -> None:
    event = hot(account)
    for _ in range(3):
        flood(event, 25)
        advance.advance(connection)
    (first,) = owed(about="brake")
    assert first.body["left_out"] == 55
    Delivery.objects.filter(pk=first.pk).update(claimed_until=ago(-60))  # it is being sent
    flood(event, 2)
    advance.advance(connection)
    Delivery.objects.filter(pk=first.pk).update(status="sent", claimed_until=None, done_at=ago(0))
    flood(event, 3)
    advance.advance(connection)
    (second,) = owed(about="brake")
    assert second.body["left_out"] == 5
    assert round((second.due_at - first.due_at).total_seconds()) == 3600


def test_what_begins_and_ends_has_a_share_that_matches_do_not_take(
    account: Account, connection: psycopg.Connection, no_budget: None
) -> None:
    event, crossing = hot(account), hot(account, repeat="crossing")
    flood(event, 50)
    advance.advance(connection)
    for n in range(15):
        saw(crossing, device=account.device(f"d{n}").pk)
    advance.advance(connection)
    assert len(owed(about="firing")) == 10
    assert left_out_of(event) == {"example.com": 30 + 5}
    assert Incident.objects.filter(event=crossing).count() == 15


def test_a_transaction_is_not_longer_than_so_many_deliveries(
    account: Account, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "MAX_OWED", 10)
    event = with_contacts(hot(account), 3)
    flood(event, 9)
    assert [advance.advance(connection) for _ in range(5)] == [3, 3, 3, 0, 0]
    assert sorted(each.body["current"] for each in owed(transport="http")) == list(range(9))


def test_accounts_take_turns_and_not_their_events(account: Account, connection: psycopg.Connection) -> None:
    floods = [hot(account) for _ in range(5)]
    of_other = hot(make_account("other@example.com"))
    for event in floods:
        flood(event, advance.BATCH)
    for _ in range(3):
        saw(of_other)
    advance.advance(connection)
    assert len(owed(event=of_other)) == 3


def test_the_oldest_matches_that_change_nothing_become_a_count(
    account: Account, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "MAX_WAITING", 21)
    outsider = make_account("outsider@example.com")
    event, crossing, of_outsider = hot(account), hot(account, repeat="crossing"), hot(outsider)
    first, second = account.device("d1").pk, account.device("d2").pk
    flood(of_outsider, 20)
    Observation.objects.create(account=account.user.pk, event=event.pk, what=LEFT_OUT, at=ago(0), count=4)
    values = itertools.count()
    for device, each in itertools.product((first, second), (event, crossing)):
        for what, count in ((MATCHED, 5), (CLEARED, 1), (MATCHED, 4)):
            for _ in range(count):
                saw(each, what, next(values), device)
    advance.leave_out(connection)
    waiting = Observation.objects.filter(account=account.user.pk)
    assert waiting.filter(what=CLEARED).count() == 4
    assert waiting.filter(what=LEFT_OUT).count() == 1
    left = waiting.get(what=LEFT_OUT)
    # Those of the other event would have told nobody anything.
    assert (left.event, left.count) == (event.pk, 4 + 2 * (3 + 2))
    assert waiting.exclude(what=LEFT_OUT).count() == 20
    assert Observation.objects.filter(event=of_outsider.pk).count() == 20
    while advance.advance(connection):
        pass
    assert Incident.objects.filter(event__in=[event, crossing]).count() == 8
    assert Incident.objects.filter(ended_at=None).exclude(event=of_outsider).count() == 4
    assert {each.value for each in Condition.objects.filter(event=event)} == {"9", "29"}
    assert left_out_of(event) == {"example.com": 14}


def test_of_too_many_changes_the_state_comes_out_right(
    account: Account, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "MAX_WAITING", 10)
    event = hot(account, repeat="crossing")
    fires, is_well = account.device("d1").pk, account.device("d2").pk
    for _ in range(50):
        saw(event, MATCHED, device=is_well)
        saw(event, CLEARED, device=fires)
        saw(event, CLEARED, device=is_well)
        saw(event, MATCHED, device=fires)
    advance.leave_out(connection)
    assert Observation.objects.exclude(what=LEFT_OUT).count() == 10
    while advance.advance(connection):
        pass
    states = dict(Condition.objects.values_list("device", "state"))
    assert states == {fires: "firing", is_well: "ok"}
    assert left_out_of(event).total() == 95


def test_what_waits_stays_bounded_while_the_worker_does_not_follow(
    account: Account, connection: psycopg.Connection
) -> None:
    event = hot(account)
    flood(event, 1_000)
    Observation.objects.all().delete()
    connection.execute("ANALYZE events_observation")  # as if it were always empty
    with contextlib.closing(connection):
        for _ in range(3):
            flood(event, 30_000)
            began = time.monotonic()
            advance.leave_out(connection)
            print(f"{time.monotonic() - began:.2f} s")  # noqa: T201
    waiting = Observation.objects.exclude(what=LEFT_OUT).count()
    assert waiting <= advance.MAX_WAITING
    assert Observation.objects.get(what=LEFT_OUT).count == 90_000 - waiting
