"""Who was heard, and messages a minute: written apart from the messages, and never at their cost."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.utils import timezone
from feeding import STORED, Feed, another_transaction, message, terminate, values
from stack import wait_until
from support import Account

from ingest import activity, listening_mark
from ingest.activity import ActivityLog as Noted
from ingest.batch import Batch, prepare
from ingest.device_cache import DeviceCache, DeviceRoute
from ingest.message import Kind, Outcome, Status
from ingest.quotas import Quotas
from ingest.service import connect
from ingest.writer import QueueLimits, Writer
from thingscale.devices import writer
from thingscale.devices.actions import delete_device
from thingscale.devices.listening import Door
from thingscale.devices.models import Activity, Device, Listening, ListeningGap, MinuteCount
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.ids import ChannelPk, DevicePk


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(activity, "SHARE", 1)


def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first flush, the next only when the writer stops."""
    monkeypatch.setattr(activity, "FLUSH_SECONDS", 1000.0)


def heard() -> dict[str, int]:
    """Messages by device id."""
    return dict(Activity.objects.values_list("device__device_id", "messages"))


def heard_of(account: Account) -> dict[str, int]:
    found = Activity.objects.filter(device__user=account.user)
    return dict(found.values_list("device__device_id", "messages"))


def counts(account: Account) -> Counter[str]:
    """Of all minutes."""
    total: Counter[str] = Counter()
    for row in MinuteCount.objects.for_account(account.user):
        total.update(stored=row.stored, held=row.held, rejected=row.rejected)
    return +total


def test_every_message_of_a_known_device_counts_as_heard(
    feed: Feed, account: Account, outsider: Account
) -> None:
    for name in ("d1", "off"):
        account.device(name)
    Device.objects.filter(device_id="off").update(enabled=False)
    again: dict[str, Any] = {"dedupe": 7, "repeated": True}
    feed(
        *(message(account, "1", **again), message(account, "1", **again)),
        message(account, "{"),
        message(account, "a=1", kind=Kind.STATE),
        *(message(account, "1", "new"), message(account, "2", "new")),
        message(account, "1", "off"),
        message(account, "{", "unknown"),
        message(outsider, "1", "else"),
    )
    feed.stop()
    assert heard() == {"d1": 4, "new": 2, "off": 1, "else": 1}
    assert counts(account) == {"stored": 2, "held": 2, "rejected": 3}
    assert counts(outsider) == {"held": 1}


def test_the_same_device_id_is_another_users_device(feed: Feed, account: Account, outsider: Account) -> None:
    for owner, times in ((account, 1), (outsider, 2)):
        owner.device("d1")
        feed(*(message(owner) for _ in range(times)))
    feed.stop()
    found = Activity.objects.order_by("messages").values_list("device__user", flat=True)
    assert list(found) == [account.user.pk, outsider.user.pk]


def test_last_seen_is_the_receive_time_of_the_newest(feed: Feed, account: Account) -> None:
    device, now = account.device("d1"), now_us()
    feed(message(account, received_at=now - 5), message(account, received_at=now))
    wait_until(lambda: heard() == {"d1": 2}, what="the first flush")
    feed(message(account, received_at=now - 60_000_000))  # another process may be behind
    wait_until(lambda: heard() == {"d1": 3}, what="the second flush")
    assert Activity.objects.get(device=device).last_seen == from_us(now)


def test_it_is_written_while_nothing_comes(feed: Feed, account: Account) -> None:
    account.device("d1")
    feed(message(account))
    wait_until(lambda: heard() == {"d1": 1}, what="a flush")
    feed(message(account))
    wait_until(lambda: heard() == {"d1": 2}, what="a flush")
    assert counts(account) == {"stored": 2}
    (minute,) = MinuteCount.objects.order_by("-minute").values_list("minute", flat=True)[:1]
    assert timedelta() <= timezone.now() - minute < timedelta(minutes=2)
    assert (minute.second, minute.microsecond) == (0, 0)


def test_it_is_not_written_with_every_batch(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom(monkeypatch)
    account.device("d1")
    flushed: list[int] = []
    count_minutes = writer.count_minutes

    def counted(cursor: psycopg.Cursor, rows: list[writer.MinuteRow]) -> None:
        flushed.append(len(rows))
        count_minutes(cursor, rows)

    monkeypatch.setattr(writer, "count_minutes", counted)
    for _ in range(50):
        feed(message(account))
    assert len(flushed) == 1
    assert feed.stop()
    assert len(flushed) == 2
    assert heard() == {"d1": 50}


def test_a_device_that_is_gone_is_left_out(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom(monkeypatch)
    account.device("d1")
    feed(message(account))
    wait_until(heard, what="the first flush")
    gone = account.device("d2")
    feed(message(account, device_id="d2"), message(account))
    delete_device(gone)
    feed.stop()
    assert heard() == {"d1": 2}


def test_two_processes_hear_the_same_devices(
    make_feed: Callable[..., Feed], account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"d{number}" for number in range(50)]
    for name in names:
        account.device(name)
    feeds = [make_feed(), make_feed()]

    def keep_sending(feed: Feed, order: list[str]) -> None:
        for _ in range(40):
            feed(*(message(account, device_id=name) for name in order))

    threads = [
        threading.Thread(target=keep_sending, args=[feed, names[::way]])
        for feed, way in zip(feeds, (1, -1), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(feed.stop() for feed in feeds)
    assert heard() == dict.fromkeys(names, 80)
    assert counts(account) == {"stored": 4000}
    assert "activity" not in caplog.text


def test_a_flush_that_must_wait_gives_up_soon_and_harms_no_message(
    feed: Feed, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.device("d1")
    feed(message(account))
    wait_until(heard, what="the first flush")
    with another_transaction("SELECT FROM devices_activity FOR UPDATE"):
        for number in range(3):
            assert feed(message(account, str(number))) == [STORED]
            wait_until(lambda: "The activity of devices waits" in caplog.text, what="a failure")
    wait_until(lambda: heard() == {"d1": 4}, what="a flush")
    assert caplog.text.count("The activity of devices") == 1
    assert counts(account) == {"stored": 4}


def test_a_connection_that_breaks_between_messages(feed: Feed, account: Account) -> None:
    account.device("d1")
    feed(message(account))
    wait_until(heard, what="the first flush")
    terminate(feed.process)
    assert feed(message(account)) == [STORED]
    terminate(feed.process)
    wait_until(lambda: heard() == {"d1": 2}, what="a flush")
    assert len(values(account)) == 2


@pytest.mark.parametrize("error", [ValueError("no"), psycopg.DataError("no")])
def test_what_can_not_be_written_is_forgotten(
    feed: Feed,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    account.device("d1")

    def refuse(cursor: psycopg.Cursor, rows: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(writer, "count_minutes", refuse)
        assert feed(message(account)) == [STORED]
        wait_until(lambda: "is lost" in caplog.text, what="the failure")
    assert feed(message(account)) == [STORED]
    feed.stop()
    assert heard() == {"d1": 1}
    assert len(values(account)) == 2


def test_a_failure_after_the_commit_stores_nothing_twice(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.device("d1")

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(activity, "Counter", broken)
    assert feed(message(account)) == [STORED]
    assert feed(message(account)) == [STORED]
    feed.stop()
    assert len(values(account)) == 2


def test_it_is_bounded_while_it_can_not_be_written(
    monkeypatch: pytest.MonkeyPatch, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(activity, "MAX_NOTED", 20)
    noted = Noted()
    assert noted.wait_seconds is None

    def away() -> psycopg.Connection:
        raise psycopg.OperationalError

    router = DeviceCache()
    for number in range(60):
        device = account.device(f"d{number}", 0)
        if number % 2:
            router.devices.update(account.user.pk, {f"d{number}": DeviceRoute(device.id, ChannelPk(1))})
        noted.note(Batch([prepare(message(account, device_id=f"d{number}"))], router, Quotas()))
        assert not noted.flush(away)
        sizes = [len(each) for heard in (noted._known, noted._named) for each in (heard.seen, heard.messages)]
        assert max(sizes) <= 20
    assert caplog.text.count("OperationalError") == 1
    with connect() as opened:
        assert noted.flush(lambda: opened)
    found = set(heard())
    assert found >= {f"d{number}" for number in range(42, 60)}
    assert len(found) <= 40
    assert noted.wait_seconds is None


def test_b4_an_account_with_many_devices_pushes_out_its_own_figures(
    monkeypatch: pytest.MonkeyPatch, account: Account, outsider: Account
) -> None:
    """Known devices, new ones and made-up ones."""
    monkeypatch.setattr(activity, "MAX_NOTED", 20)
    noted, router = Noted(), DeviceCache()
    for owner in (account, outsider):
        router.devices.update(owner.user.pk, {"known": DeviceRoute(owner.device("known").id, ChannelPk(1))})
        owner.device("new")
    many = {f"d{number}": DeviceRoute(DevicePk(10**9 + number), ChannelPk(1)) for number in range(50)}
    newest = DeviceRoute(outsider.device("newest").id, ChannelPk(1))
    router.devices.update(outsider.user.pk, many | {"newest": newest})

    def hear(owner: Account, *names: str) -> None:
        noted.note(Batch([prepare(message(owner, device_id=name)) for name in names], router, Quotas()))

    hear(account, "known", "new", "known")
    for name in many:
        hear(outsider, name, f"made up {name}")
    hear(outsider, "newest", "new")
    hear(account, "known", "new")
    with connect() as opened:
        assert noted.flush(lambda: opened)
    assert heard_of(account) == {"known": 3, "new": 2}
    assert heard_of(outsider) == {"newest": 1, "new": 1}
    assert counts(account) == {"stored": 5}


def test_b4_a_device_that_the_router_has_forgotten_has_a_share_too(
    monkeypatch: pytest.MonkeyPatch, account: Account, outsider: Account
) -> None:
    """It was heard, and then its account has changed all of its devices."""
    monkeypatch.setattr(activity, "MAX_NOTED", 20)
    noted, router = Noted(), DeviceCache()
    router.devices.update(account.user.pk, {"known": DeviceRoute(account.device("known").id, ChannelPk(1))})
    noted.note(Batch([prepare(message(account, device_id="known"))], router, Quotas()))
    router.on_change(("devices", account.user.pk, ""))
    many = {f"d{number}": DeviceRoute(DevicePk(10**9 + number), ChannelPk(1)) for number in range(50)}
    router.devices.update(outsider.user.pk, many)
    for name in many:
        noted.note(Batch([prepare(message(outsider, device_id=name))], router, Quotas()))
    with connect() as opened:
        assert noted.flush(lambda: opened)
    assert heard_of(account) == {"known": 1}


def test_many_users_and_outcomes_in_a_batch(account: Account, outsider: Account) -> None:
    noted, router = Noted(), DeviceCache()
    for owner in (account, outsider):
        router.devices.update(owner.user.pk, {"known": DeviceRoute(owner.device("known").id, ChannelPk(1))})
    items = [
        prepare(message(owner, device_id=name))
        for owner in (account, outsider)
        for name in ("d1", "d2", "d3", "d4", "known", "known")
    ]
    batch = Batch(items, router, Quotas())
    batch.outcomes = [
        *(Outcome(status) for status in Status if status is not Status.FAILED),
        STORED,
        STORED,
    ] * 2
    noted.note(batch)
    with connect() as opened:
        noted.flush(lambda: opened)
    assert heard_of(outsider) == heard_of(account) == {"known": 2}
    for owner in (account, outsider):
        assert counts(owner) == {"stored": 3, "held": 1, "rejected": 1}


def marks() -> list[tuple[int, float]]:
    """Of each process that listens: its door, and how many seconds of what it heard are not written."""
    now = timezone.now()
    return [(row.door, (now - row.until).total_seconds()) for row in Listening.objects.all()]


def test_the_writer_marks_until_when_all_is_written(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening_mark, "SECONDS", 0.05)
    wait_until(marks, what="a mark before the first message")
    account.device("d1")
    with another_transaction("SELECT FROM devices_activity FOR UPDATE"):
        feed(message(account))
        wait_until(lambda: heard() == {"d1": 1}, what="a flush")
    wait_until(lambda: marks()[0][1] < 1, what="a mark after it")
    with another_transaction("SELECT FROM devices_activity FOR UPDATE"):
        feed(message(account))
        wait_until(lambda: marks()[0][1] > 2, what="marks that stand still")
    wait_until(lambda: marks()[0][1] < 1, what="a mark after the flush")
    assert heard() == {"d1": 2}
    ((door, _),) = marks()
    assert door == Door.HTTP == Activity.objects.get().door
    assert feed.stop()
    assert not marks()
    assert ListeningGap.objects.get().ended_at is None


def test_what_waits_for_the_writer_is_not_written(account: Account) -> None:
    waits = Writer(connect, DeviceCache(), limits=QueueLimits(10, 10_000))
    assert waits._behind() == listening_mark.UNDERWAY
    waits.accept([message(account, received_at=now_us() - 5_000_000)], lambda outcomes: None)
    waits.accept([message(account)], lambda outcomes: None)
    assert 5 < waits._behind() < 15


def test_what_came_before_all_that_is_not_written_is(account: Account) -> None:
    """So marks go on while messages come all the time, and at no mark all of them are written."""
    account.device("d1")
    waits = Writer(connect, DeviceCache(), limits=QueueLimits(10, 10_000))
    for ago in (5_000_000, 1_000_000):
        sent = prepare(message(account, received_at=now_us() - ago))
        waits._activity.note(Batch([sent], DeviceCache(), Quotas()))
        assert 5 < waits._behind() < 15
    with connect() as opened:
        assert waits._activity.flush(lambda: opened)
    assert waits._behind() == listening_mark.UNDERWAY


def test_a_time_in_the_future_does_not_stay(account: Account) -> None:
    """The database's clock was set back."""
    device = account.device("d1")
    Activity.objects.create(device=device, last_seen=timezone.now() + timedelta(hours=1), messages=1)
    noted = Noted()
    noted.note(Batch([prepare(message(account))], DeviceCache(), Quotas()))
    with connect() as opened:
        assert noted.flush(lambda: opened)
    assert Activity.objects.get(device=device).last_seen <= timezone.now()
