"""Rollups are true whatever happens to the datapoints, or they are not used."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Thread

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone
from series import fill

from thingscale.accounts.models import User
from thingscale.background import maintenance
from thingscale.lib.clock import now_us, to_us
from thingscale.lib.ids import TagPk
from thingscale.lib.points import Points
from thingscale.streams import charts, retention, rollup_invalidation, rollups, writer
from thingscale.streams.actions.channels import create_channel, delete_channel
from thingscale.streams.actions.datapoints import store_points, store_rows
from thingscale.streams.actions.tags import delete_tag
from thingscale.streams.models import Channel, RolledUntil, Rollup, StaleHour, Tag
from thingscale.streams.queries import Selection
from thingscale.streams.rollups import HOUR, RolledHours

pytestmark = pytest.mark.slow
HOURS = 48
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def begin() -> datetime:
    """Of the first of HOURS hours that are over."""
    return rollups.hour_of(timezone.now() - rollups.ROLL_UP_AFTER) - HOURS * HOUR


@pytest.fixture
def channel(user: User) -> Channel:
    with connection.cursor() as cursor:  # what tests with real commits have left
        cursor.execute("DELETE FROM datapoint")
    return create_channel(user, 0)


@pytest.fixture(autouse=True)
def _always_rolled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "ROWS_WITHOUT_ROLLUPS", 0)


def store(channel: Channel, *points: tuple[datetime, float], tag: str | None = None) -> None:
    store_points(channel, Points.of([(tag, str(value).encode(), to_us(at)) for at, value in points]))


def sine(begin: datetime, hours: int = HOURS) -> list[tuple[datetime, float]]:
    """A number every ten minutes, each another."""
    return [(begin + timedelta(minutes=10 * n, seconds=n), (n * 7919) % 10007 / 10) for n in range(6 * hours)]


def drawn(channel: Channel, start: datetime, end: datetime | None = None) -> list[tuple[int, float | None]]:
    """The first series over the range, or nothing."""
    chart = charts.chart(Selection(channel.id, "UTC", start, end or timezone.now()), 100)
    assert len(chart.series) < 2
    return [point for each in chart.series for point in zip(each.t, each.v, strict=True)]


def from_datapoints(channel: Channel, start: datetime) -> list[tuple[int, float | None]]:
    """What would be drawn if there were no rollups."""
    known = list(RolledUntil.objects.all())
    RolledUntil.objects.all().delete()
    found = drawn(channel, start)
    RolledUntil.objects.bulk_create(known)
    return found


def roll_up() -> int:
    """Of how many hours; nothing is left."""
    rolled = rollups.roll_up(10)
    assert not StaleHour.objects.filter(hour__lt=RolledUntil.objects.get().hour).exists()
    return rolled


def test_a_chart_is_the_same_with_rollups(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin + timedelta(minutes=17), HOURS + 1))
    start = begin + timedelta(minutes=30)
    raw = from_datapoints(channel, start)
    assert roll_up() == HOURS
    assert Rollup.objects.count() == HOURS
    assert drawn(channel, start) == raw
    assert len(raw) > HOURS


def test_rollups_are_read_and_datapoints_are_not(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin))
    roll_up()
    Rollup.objects.filter(hour=begin).update(high=12345)
    assert 12345 in [value for _, value in drawn(channel, begin)]


def test_an_hour_waits_until_its_last_batches_are_in(channel: Channel) -> None:
    store(channel, (timezone.now(), 1))
    assert roll_up() == 0
    assert RolledUntil.objects.get().hour <= timezone.now() - rollups.ROLL_UP_AFTER
    assert not Rollup.objects.exists()


def test_the_first_time_takes_what_is_there_and_then_only_what_is_new(
    channel: Channel, begin: datetime
) -> None:
    store(channel, *sine(begin))
    StaleHour.objects.all().delete()
    assert roll_up() == HOURS
    assert roll_up() == 0
    RolledUntil.objects.update(hour=begin + 46 * HOUR)
    assert roll_up() == 2


def test_late_datapoints_mark_their_hour_in_the_same_transaction(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin))
    roll_up()
    late = begin + timedelta(hours=5, minutes=1)
    store(channel, (late, 7777), (late + HOUR, 7778), (timezone.now(), 1))
    assert [hour for (hour,) in StaleHour.objects.order_by("hour").values_list("hour")] == [
        begin + 5 * HOUR,
        begin + 6 * HOUR,
    ]
    assert {7777, 7778} < {value for _, value in drawn(channel, begin)}
    raw = from_datapoints(channel, begin)
    assert roll_up() == 2
    assert drawn(channel, begin) == raw


def test_datapoints_of_the_last_minutes_mark_nothing(channel: Channel) -> None:
    rows = [writer.Row(channel.id, now_us() - age * 1_000_000, None, None, b"1", None) for age in (0, 290)]
    store_rows(rows)
    assert not StaleHour.objects.exists()
    store_rows([rows[0]._replace(at=now_us() - 301_000_000)])
    assert StaleHour.objects.count() == 1


def while_read(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object], times: int = 1) -> None:
    """Does it so often, between the reading of datapoints and the putting of their rollups."""
    original, left = rollups._save, [action] * times

    def act_and_save(*arguments: object) -> int:
        if left:
            left.pop()()
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rollups, "_save", act_and_save)


def test_what_comes_while_an_hour_is_rolled_up_is_not_overlooked(
    channel: Channel, begin: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(channel, *sine(begin))
    late = (begin + timedelta(hours=3, minutes=2), 999.5)
    while_read(monkeypatch, lambda: store(channel, late))
    rollups.mark_hours_that_are_over()
    assert rollups._roll_up_batch() == HOURS - 1
    assert StaleHour.objects.get().hour == begin + 3 * HOUR
    assert 999.5 in [value for _, value in drawn(channel, begin)]
    assert roll_up() == 1
    assert 999.5 in [value for _, value in drawn(channel, begin)]


@pytest.mark.django_db(transaction=True)
def test_late_datapoints_that_are_not_committed_yet_keep_their_mark(
    channel: Channel, begin: datetime
) -> None:
    store(channel, *sine(begin, 3))
    rollups.mark_hours_that_are_over()
    late = writer.Row(channel.id, to_us(begin) + 1_000_000, None, None, b"-5", None)
    with psycopg.connect(**connection.get_connection_params()) as other, other.cursor() as cursor:
        writer.write(cursor, [late])
        rolling = _in_thread(rollups._roll_up_batch)
        rolling.start()
        rolling.join(0.5)
        assert rolling.is_alive()  # unmarking waits
    rolling.join(60)
    assert [hour for (hour,) in StaleHour.objects.values_list("hour")] == [begin]
    assert drawn(channel, begin)[1] == (to_us(begin) // 1000 + 1000, -5)
    roll_up()
    assert Rollup.objects.get(hour=begin).low == -5


def _in_thread(action: Callable[[], object]) -> Thread:
    def act() -> None:
        action()
        connection.close()

    return Thread(target=act)


def test_rolling_up_stops_between_pieces_and_is_gone_on_with(
    channel: Channel, begin: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(channel, *sine(begin))
    monkeypatch.setattr(maintenance, "_stopping", True)
    with pytest.raises(maintenance.Interrupted):
        rollups.roll_up(10)
    assert not Rollup.objects.exists()
    monkeypatch.undo()
    assert roll_up() == HOURS


@pytest.mark.django_db(transaction=True)
def test_one_process_at_a_time_rolls_up(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin))
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [rollups.ROLLING])
        assert rollups.roll_up(10) == 0
        other.execute("SELECT pg_advisory_unlock_all()")  # a closed connection's locks end a moment later
    assert roll_up() == HOURS


@pytest.mark.parametrize("minutes", [60, 5 * 60 + 25, 48 * 60])
def test_what_goes_while_it_is_rolled_up_leaves_no_rollup(
    channel: Channel, begin: datetime, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    store(channel, *sine(begin))
    store(channel, (begin + 47 * HOUR, 5000), tag="kitchen")

    def delete() -> None:
        retention.delete_before(channel.id, begin + timedelta(minutes=minutes))
        delete_tag(Tag.objects.get())

    while_read(monkeypatch, delete)
    rollups.mark_hours_that_are_over()
    rollups._roll_up_batch()
    assert not Rollup.objects.exists()
    assert drawn(channel, begin) == from_datapoints(channel, begin)
    roll_up()
    assert drawn(channel, begin) == from_datapoints(channel, begin)
    assert Rollup.objects.count() == HOURS - minutes // 60


@pytest.mark.django_db(transaction=True)
def test_a_deletion_that_is_not_committed_yet_is_waited_for(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin, 3))
    store(channel, (begin, 5000), tag="kitchen")
    rollups.mark_hours_that_are_over()
    rolling = _in_thread(rollups._roll_up_batch)
    with transaction.atomic():
        delete_tag(Tag.objects.get())
        rolling.start()
        rolling.join(0.5)
        assert rolling.is_alive()
    rolling.join(60)
    assert set(Rollup.objects.values_list("tag", flat=True)) == {0}
    assert not StaleHour.objects.exists()


@pytest.mark.parametrize("rows", [1, 7, 6 * HOURS, 6 * HOURS + 1])
def test_busy_hours_are_read_in_pieces(
    channel: Channel, begin: datetime, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Many datapoints at one time are in one piece."""
    monkeypatch.setattr(rollups, "PIECE_ROWS", rows)
    store(channel, *sine(begin), *((begin + 30 * HOUR, 1000 + n) for n in range(20)))
    store(channel, *((at, -value) for at, value in sine(begin, 3)), tag="kitchen")
    roll_up()
    found = dict(Rollup.objects.filter(tag=0).values_list("hour", "numbers"))
    assert found == {begin + n * HOUR: 26 if n == 30 else 6 for n in range(HOURS)}
    selection = Selection(channel.id, "UTC", begin, timezone.now())
    rolled = charts.chart(selection, 100).series
    RolledUntil.objects.all().delete()
    assert rolled == charts.chart(selection, 100).series
    assert len(rolled) == 2


@pytest.mark.parametrize("limit", ["BATCH_SECONDS", "BATCH_ROLLUPS"])
def test_a_batch_that_takes_much_is_put_in_parts(
    channel: Channel, begin: datetime, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """A busy hour is read alone; those beside it are not put off with it."""
    store(channel, *sine(begin, 3), *((begin + HOUR, 1000 + n) for n in range(30)))
    monkeypatch.setattr(rollups, limit, 0)
    monkeypatch.setattr(rollups, "PIECE_ROWS", 20)
    rollups.mark_hours_that_are_over()
    for put in (1, 2, 3):
        assert rollups._roll_up_batch() == 1
        assert Rollup.objects.count() == put
    assert rollups._roll_up_batch() == 0
    assert set(Rollup.objects.values_list("numbers", flat=True)) == {6, 36}


def test_an_hour_that_always_changes_keeps_no_other_from_its_rollup(
    channel: Channel, user: User, begin: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = create_channel(user, 1)
    for each in (channel, other):
        store(each, (begin, 1))
    while_read(monkeypatch, lambda: store(channel, (begin, 1)), times=3)
    monkeypatch.setattr(rollups, "BATCH_SECONDS", 0)
    assert [rollups.roll_up(10), rollups.roll_up(10)] == [0, 1]
    assert Rollup.objects.get().channel == other.pk
    assert StaleHour.objects.get().channel == channel.pk


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("marked", "deleted"), [(0, 1.5), (1, 0.5)])
def test_retention_and_late_datapoints_do_not_lock_each_other_out(
    channel: Channel, begin: datetime, marked: int, deleted: float
) -> None:
    """Both mark the hour in which what is deleted ends, and one beside it that is marked already."""
    store(channel, *sine(begin, 2))
    rollups.roll_up(10)
    store(channel, (begin + marked * HOUR, 5))
    late = [writer.Row(channel.id, to_us(begin + n * HOUR) + 1, None, TagPk(7), b"-5", None) for n in (0, 1)]
    deleting = _in_thread(lambda: retention.delete_before(channel.id, begin + deleted * HOUR))
    with psycopg.connect(**connection.get_connection_params()) as other, other.cursor() as cursor:
        rollup_invalidation.invalidate_late(cursor, late[:1])
        deleting.start()
        deleting.join(0.5)
        rollup_invalidation.invalidate_late(cursor, late[1:])
        other.commit()
    deleting.join(60)
    assert not deleting.is_alive()
    assert set(StaleHour.objects.values_list("hour", flat=True)) == {begin, begin + HOUR}


@pytest.mark.parametrize("minutes", [0, 1, 60, 5 * 60 + 25, 48 * 60])
def test_retention_takes_the_rollups_along(channel: Channel, begin: datetime, minutes: int) -> None:
    store(channel, *sine(begin))
    roll_up()
    retention.delete_before(channel.id, begin + timedelta(minutes=minutes))
    raw = from_datapoints(channel, begin)
    assert drawn(channel, begin) == raw
    roll_up()
    assert drawn(channel, begin) == raw
    assert Rollup.objects.count() == HOURS - minutes // 60


def test_a_deleted_tag_takes_its_rollups_along(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin))
    store(channel, (begin, 5), tag="kitchen")
    roll_up()
    tag = Tag.objects.get()
    assert Rollup.objects.filter(tag=tag.pk).count() == 1
    delete_tag(tag)
    assert not Rollup.objects.filter(tag=tag.pk).exists()
    assert drawn(channel, begin) == from_datapoints(channel, begin)


def test_a_purged_channel_leaves_nothing(channel: Channel, user: User, begin: datetime) -> None:
    other = create_channel(user, 1)
    for each in (channel, other):
        store(each, *sine(begin))
    roll_up()
    delete_channel(channel)
    retention.purge_deleted_channels()
    roll_up()
    assert set(Rollup.objects.values_list("channel", flat=True)) == {other.pk}


def test_a_tag_alone_is_drawn_from_its_rollups(channel: Channel, begin: datetime) -> None:
    store(channel, *sine(begin))
    store(channel, *((at, -value) for at, value in sine(begin)), tag="kitchen")
    roll_up()
    selection = Selection(channel.id, "UTC", begin, timezone.now(), Tag.objects.get().id)
    (series,) = charts.chart(selection, 100).series
    assert series.tag == "kitchen"
    assert max(value for value in series.v if value is not None) <= 0


def test_endless_new_keys_do_not_fill_the_rollups(channel: Channel, begin: datetime) -> None:
    value = "{" + ",".join(f'"k{number}":1' for number in range(500)) + "}"
    store_points(channel, Points.of([(None, value.encode(), to_us(begin))]))
    roll_up()
    assert Rollup.objects.count() == rollups.MAX_PATHS


def test_the_same_paths_are_kept_of_all_pieces(
    channel: Channel, begin: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "PIECE_ROWS", 1)
    monkeypatch.setattr(rollups, "MAX_PATHS", 2)
    keys = ("bcd", "abé", "bcé")
    values = ["{" + ",".join(f'"{key}":{n}' for key in some) + "}" for n, some in enumerate(keys)]
    points = [(None, value.encode(), to_us(begin) + n) for n, value in enumerate(values)]
    store_points(channel, Points.of(points))
    roll_up()
    found = Rollup.objects.order_by("path").values_list("path", "numbers", "low", "high")
    assert list(found) == [("a", 1, 1, 1), ("b", 3, 0, 2)]


def test_many_datapoints_in_one_hour(channel: Channel, begin: datetime) -> None:
    fill(channel, 5000, at=begin)
    assert roll_up() == 1
    rollup = Rollup.objects.get()
    assert (rollup.numbers, rollup.low, rollup.high) == (5000, 0, 4999)


def test_what_is_read_besides_rollups() -> None:
    def others(first: int, until: int, *stale: int) -> list[tuple[float, float]]:
        """From 11:30 until before 17:30; hours after noon."""
        hours = RolledHours(NOON + first * HOUR, NOON + until * HOUR, [NOON + each * HOUR for each in stale])
        found = hours.ranges_without_rollups(NOON - HOUR / 2, NOON + 5.5 * HOUR - timedelta(microseconds=1))
        return [(round((a - NOON) / HOUR, 6), round((b - NOON) / HOUR, 6)) for a, b in found]

    assert others(0, 5) == [(-0.5, 0), (5, 5.5)]
    assert others(0, 5, 0) == [(-0.5, 1), (5, 5.5)]
    assert others(0, 5, 2, 3) == [(-0.5, 0), (2, 4), (5, 5.5)]
    assert others(0, 5, 0, 1, 2, 3, 4) == [(-0.5, 5.5)]
