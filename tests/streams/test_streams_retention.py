"""What goes: datapoints past a channel's retention, and months that are empty."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from series import count, fill, totals
from support import Account

from thingscale.accounts.models import User
from thingscale.background import maintenance
from thingscale.lib.points import Points
from thingscale.provisioning import account_purge
from thingscale.streams import partitions, retention, tasks
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.actions.tags import delete_tag
from thingscale.streams.models import Channel, Latest, Tag

DAY = timedelta(days=1)


@pytest.fixture
def channel(user: User) -> Channel:
    return create_channel(user, 0, retention_days=30)


def raw() -> psycopg.Connection:
    connection.ensure_connection()
    found: psycopg.Connection = connection.connection
    return found


def test_each_channel_has_its_own_retention(user: User, channel: Channel) -> None:
    short = create_channel(user, 1, retention_days=1)
    unlimited = create_channel(user, 2)
    for each in (channel, short, unlimited):
        for days in (0.5, 10, 29.9, 30.1, 400):
            fill(each, 2, timezone.now() - days * DAY)
    assert retention.drop_expired() == 4 + 8
    assert [count(each.pk) for each in (channel, short, unlimited)] == [6, 2, 10]
    assert retention.drop_expired() == 0


def test_counters_follow(channel: Channel) -> None:
    old = timezone.now() - 60 * DAY
    for tag, gone, kept in ((None, 5, 3), ("a", 4, 0), ("b", 0, 2)):
        fill(channel, gone, old, tag)
        fill(channel, kept, tag=tag)
    retention.drop_expired()
    keys = dict(Tag.objects.values_list("name", "pk"))
    assert totals(channel) == {Latest.UNTAGGED: 3, keys["b"]: 2}
    sizes = dict(Latest.objects.values_list("tag", "bytes"))
    assert sizes == {Latest.UNTAGGED: 3, keys["b"]: 2}  # every value is one digit


def newest(channel: Channel) -> object:
    found: Any = Channel.objects.with_totals().get(pk=channel.pk)
    return found.last_update


def test_d9_nothing_is_newest_where_nothing_is_left(user: User, channel: Channel) -> None:
    """Whichever way the points went: retention, the deletion of a tag; also what an earlier release left."""
    other = create_channel(user, 1, retention_days=1)
    for each in (channel, other):
        fill(each, 3, timezone.now() - 60 * DAY)
        fill(each, 2, timezone.now() - 50 * DAY, "a")
    retention.drop_expired()
    assert not Latest.objects.exists()
    assert newest(channel) is newest(other) is None
    fill(channel, 1, tag="b")
    assert newest(channel) is not None
    delete_tag(Tag.objects.get(name="b"))
    assert newest(channel) is None
    Latest.objects.create(channel=other, tag=0, at=timezone.now() - 60 * DAY, value=1, count=7, bytes=7)
    assert retention.drop_expired() == 0
    assert newest(other) is None


def test_d9_what_is_left_is_newest(channel: Channel) -> None:
    fill(channel, 3, timezone.now() - 60 * DAY)
    fill(channel, 1, timezone.now() - 2 * DAY)
    retention.drop_expired()
    assert totals(channel) == {Latest.UNTAGGED: 1}
    assert newest(channel) is not None


def test_it_goes_slice_by_slice(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    fill(channel, 50, timezone.now() - 60 * DAY)
    fill(channel, 1)
    assert retention.drop_expired() == 50
    assert totals(channel) == {Latest.UNTAGGED: 1}


def test_equal_times_may_exceed_a_slice(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    store_points(channel, Points.of([(None, b"1", 1_500_000_000_000_000)] * 10))
    assert retention.drop_expired() == 10


def test_deleting_before_a_moment_keeps_the_moment(channel: Channel) -> None:
    moment = timezone.now()
    fill(channel, 3, moment - timedelta(microseconds=1))
    assert retention.delete_before(channel.id, moment) == 1
    assert count(channel.pk) == 2


def test_empty_months_go_and_others_stay(channel: Channel) -> None:
    for year in (2001, 2002):
        fill(channel, 1, datetime(year, 5, 5, tzinfo=UTC))
    retention.make_coming_partitions()
    before = partitions.existing(raw())
    retention.delete_before(channel.id, datetime(2002, 1, 1, tzinfo=UTC))
    assert retention.drop_empty_partitions() >= 1
    left = partitions.existing(raw())
    assert (2001, 5) in before - left
    assert (2002, 5) in left
    now = partitions.month_of(timezone.now())
    assert {month for month in before if month >= now} <= left


def test_what_is_stored_by_hand_meanwhile_stays(account: Account) -> None:
    """Into a month whose partition, empty each time, is being dropped."""
    channel, stop = account.channel(), threading.Event()

    def keep_dropping() -> None:
        while not stop.is_set():
            retention.drop_empty_partitions()
        connection.close()

    dropping = threading.Thread(target=keep_dropping)
    dropping.start()
    try:
        for number in range(30):
            fill(channel, 1, datetime(2001, 9 + number % 3, 5, tzinfo=UTC))
            if number % 5 == 4:
                assert retention.delete_before(channel.id, timezone.now()) == 5
    finally:
        stop.set()
        dropping.join(60)
    assert not dropping.is_alive()


def test_the_task_drops_expired_datapoints_and_then_their_month(channel: Channel) -> None:
    fill(channel, 3, datetime(2001, 8, 5, tzinfo=UTC))
    tasks.drop_expired()
    assert count(channel.pk) == 0
    assert (2001, 8) not in partitions.existing(raw())


def test_partitions_are_made_ahead(db: None) -> None:
    month = partitions.month_of(timezone.now())
    for _ in range(2):
        tasks.make_partitions()
        for _ in range(3):
            assert month in partitions.existing(raw())
            month = partitions.following(month)
        month = partitions.month_of(timezone.now())


@pytest.mark.parametrize(
    ("month", "following"), [((2025, 12), (2026, 1)), ((2026, 1), (2026, 2)), ((9999, 11), (9999, 12))]
)
def test_months_follow_each_other(month: partitions.Month, following: partitions.Month) -> None:
    assert partitions.following(month) == following


def test_a_month_is_utcs() -> None:
    tokyo = timezone.get_fixed_timezone(540)
    assert partitions.month_of(datetime(2026, 2, 1, 8, 59, tzinfo=tokyo)) == (2026, 1)
    assert partitions.month_of(datetime(2026, 2, 1, 9, tzinfo=tokyo)) == (2026, 2)


def test_a_partition_has_the_index_and_its_bounds(channel: Channel) -> None:
    last = datetime(2005, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    fill(channel, 2, last)  # the second is April's first moment
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tableoid::regclass::text FROM datapoint WHERE channel = %s ORDER BY at", [channel.pk]
        )
        assert cursor.fetchall() == [("datapoint_2005_03",), ("datapoint_2005_04",)]
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'datapoint_2005_03'")
        assert "(channel, at)" in cursor.fetchone()[0]


def test_upkeep_stops_between_slices_and_is_gone_on_with(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(channel, 5, timezone.now() - 60 * DAY)
    fill(channel, 5, tag="a")
    delete_tag(Tag.objects.get())
    User.objects.create(email="closed@example.com", closed_at=timezone.now())
    monkeypatch.setattr(maintenance, "_stopping", True)
    for work in (retention.drop_expired, retention.purge_deleted_tags, account_purge.purge_closed_accounts):
        with pytest.raises(maintenance.Interrupted):
            work()
    assert count(channel.pk) == 10
    monkeypatch.undo()
    assert (retention.drop_expired(), retention.purge_deleted_tags()) == (5, 5)
