"""Datapoints of a range of time go, and all that was made of them is right again."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from series import count, fill, totals

from thingscale.accounts.models import User
from thingscale.lib.clock import to_us
from thingscale.lib.points import Points
from thingscale.streams import charts, range_deletion, rollups
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Channel, Latest, RolledUntil, Rollup, StaleHour, Tag
from thingscale.streams.queries import Selection
from thingscale.streams.rollups import HOUR

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def channel(user: User) -> Channel:
    with connection.cursor() as cursor:  # what tests with real commits have left
        cursor.execute("DELETE FROM datapoint")
    return create_channel(user, 0)


def newest(channel: Channel) -> dict[int, tuple[datetime, object]]:
    rows = Latest.objects.filter(channel=channel).values_list("tag", "at", "value")
    return {tag: (at, value) for tag, at, value in rows}


def test_a_range_goes_with_both_ends_and_nothing_else(user: User, channel: Channel) -> None:
    other = create_channel(user, 1)
    for each in (channel, other):
        for hours in range(5):
            fill(each, 1, JANUARY + hours * HOUR)
    found = range_deletion.count_range(channel.id, JANUARY + HOUR, JANUARY + 3 * HOUR)
    assert found == (3, JANUARY + HOUR, JANUARY + 3 * HOUR)
    assert range_deletion.delete_range(channel.id, JANUARY + HOUR, JANUARY + 3 * HOUR) == 3
    assert count(channel.pk) == 2
    assert count(other.pk) == 5
    assert range_deletion.delete_range(channel.id, JANUARY + HOUR, JANUARY + 3 * HOUR) == 0


def test_totals_and_newest_values_follow_each_batch(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_deletion, "BATCH_ROWS", 3)
    for tag in (None, "a", "b"):
        fill(channel, 4, JANUARY, tag)
        if tag != "b":
            fill(channel, 5, JANUARY + HOUR, tag)
    keys = dict(Tag.objects.values_list("name", "pk"))
    assert range_deletion.delete_range(channel.id, JANUARY + HOUR, JANUARY + 2 * HOUR) == 10
    last = (JANUARY + timedelta(microseconds=3), 3)
    assert newest(channel) == {0: last, keys["a"]: last, keys["b"]: last}
    assert totals(channel) == {0: 4, keys["a"]: 4, keys["b"]: 4}
    assert set(Latest.objects.values_list("bytes", flat=True)) == {4}
    assert range_deletion.delete_range(channel.id, JANUARY, JANUARY + 2 * HOUR) == 12
    assert newest(channel) == {}


def test_charts_are_those_of_what_is_left(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "ROWS_WITHOUT_ROLLUPS", 0)
    begin = rollups.hour_of(timezone.now() - rollups.ROLL_UP_AFTER) - 24 * HOUR
    points = [(None, b"%d" % n, to_us(begin + n * timedelta(minutes=10))) for n in range(24 * 6)]
    store_points(channel, Points.of(points))
    rollups.roll_up(10)
    assert Rollup.objects.count() == 24
    start, end = begin + 5 * HOUR + 1800 * SECOND, begin + 9 * HOUR + 1800 * SECOND

    def drawn() -> list[float | None]:
        (series,) = charts.chart(Selection(channel.id, "UTC", begin, timezone.now()), 50).series
        return list(series.v)

    assert range_deletion.delete_range(channel.id, start, end) == 25
    assert {hour for (hour,) in StaleHour.objects.values_list("hour")} == {begin + 5 * HOUR, begin + 9 * HOUR}
    before = drawn()
    assert rollups.roll_up(10) == 2
    assert drawn() == before
    known = list(RolledUntil.objects.all())
    RolledUntil.objects.all().delete()
    assert drawn() == before, "as without rollups"
    RolledUntil.objects.bulk_create(known)
    assert not Rollup.objects.filter(hour__gt=begin + 5 * HOUR, hour__lt=begin + 9 * HOUR).exists()


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("delete_datapoints", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_counts_first(user: User, channel: Channel) -> None:
    fill(channel, 3, JANUARY)
    words = (user.user_id, "0", "2026-01-01", "2026-01-01")
    assert run(*words) == (
        "3 datapoints, from 2026-01-01 00:00:00 to 2026-01-01 00:00:00 UTC. Nothing is deleted without"
        " --delete.\n"
    )
    assert count(channel.pk) == 3
    assert run(*words, "--delete") == "3 datapoints were deleted.\n"
    assert run(*words) == "0 datapoints. Nothing is deleted without --delete.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("U999999", "0", "2026-01-01", "2026-01-01"), "There is no account U999999"),
        (("{}", "7", "2026-01-01", "2026-01-01"), "The account has no channel 7"),
        (("{}", "0", "yesterday", "2026-01-01"), "A time must look like"),
        (("{}", "0", "2026-01-02", "2026-01-01"), "The first moment is after the last one"),
    ],
)
def test_what_the_command_refuses(
    user: User, outsider: User, channel: Channel, arguments: tuple[str, ...], sentence: str
) -> None:
    create_channel(outsider, 7)
    with pytest.raises(CommandError, match=sentence):
        run(*(word.format(user.user_id) for word in arguments))
