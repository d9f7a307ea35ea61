"""Charts: what is drawn is true, at most two numbers a pixel, and pauses are pauses."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from thingscale.accounts.models import User
from thingscale.lib.clock import to_us
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import TagPk
from thingscale.lib.points import Points
from thingscale.streams import charts, retention
from thingscale.streams.actions.channels import create_channel, update_channel
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.actions.tags import delete_tag, rename_tag
from thingscale.streams.charts import Series, chart, with_pauses
from thingscale.streams.models import Channel, Tag
from thingscale.streams.queries import Selection

pytestmark = pytest.mark.slow
START = datetime(2026, 3, 1, tzinfo=UTC)  # the month has a change to summer time in most of Europe
MONTH = timedelta(days=30)
START_MS = to_us(START) // 1000


@pytest.fixture
def channel(user: User) -> Channel:
    streams = [{"key": "temp", "label": "Temperature", "unit": "°C"}, {"key": "zone:humid", "unit": "%"}]
    return create_channel(user, 7, streams=streams)


def store(
    channel: Channel, *values: Any, step: float = 60, first: datetime = START, tag: str | None = None
) -> None:
    """Values, or JSON texts in bytes, `step` seconds apart."""
    texts = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    at = (to_us(first + number * timedelta(seconds=step)) for number in range(len(values)))
    store_points(channel, Points.of([(tag, *point) for point in zip(texts, at, strict=False)]))


def store_many(channel: Channel, rows: int, value: str, days: int = 30) -> None:
    """An expression over i, from 0, spread evenly over the days."""
    store(channel, 0)  # makes the partition
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM datapoint")
        cursor.execute(
            f"""INSERT INTO datapoint (channel, at, value)
            SELECT %s, %s + interval '1 day' * %s * i / %s, {value} FROM generate_series(0, %s - 1) AS i""",
            [channel.pk, START, days, rows, rows],
        )


def over(channel: Channel, length: timedelta = timedelta(days=1), tag: TagPk | None = None) -> Selection:
    return Selection(channel.id, "UTC", START, START + length, tag)


def minutes(series: Series) -> list[tuple[float, float | None]]:
    return [((at - START_MS) / 60_000, value) for at, value in zip(series.t, series.v, strict=True)]


def numbers(series: Series) -> list[float]:
    return [value for value in series.v if value is not None]


def test_few_datapoints_are_shown_as_they_are(channel: Channel) -> None:
    store(channel, {"temp": 20.5}, {"temp": 21}, {"temp": 20.5})
    shown = chart(over(channel), 100)
    (series,) = shown.series
    assert (series.key, series.tag, series.label, series.unit) == ("temp", None, "Temperature", "°C")
    assert minutes(series) == [(0, 20.5), (1, 21), (2, 20.5)]
    assert (shown.reduced, shown.points, shown.left_out) == (False, 3, 0)
    assert (shown.start, shown.end) == (START_MS, START_MS + 86_400_000)


def test_the_json_is_what_the_browser_reads(channel: Channel) -> None:
    store(channel, {"temp": 20.5}, tag="kitchen")
    assert json.loads(chart(over(channel), 100).json()) == {
        "start": START_MS,
        "end": START_MS + 86_400_000,
        "reduced": False,
        "points": 1,
        "left_out": 0,
        "series": [
            {
                "key": "temp",
                "tag": "kitchen",
                "label": "Temperature",
                "unit": "°C",
                "t": [START_MS],
                "v": [20.5],
            }
        ],
    }


def test_each_number_inside_the_values_is_a_series(channel: Channel) -> None:
    store(
        channel, {"temp": 1, "zone": {"humid": 2, "deep": {"er": 3}}, "list": [4], "text": "5", "on": True}, 6
    )
    store(channel, "7", None, [8], {}, {"value": 9}, first=START + timedelta(minutes=2))
    found = {each.key: (each.label, each.unit, numbers(each)) for each in chart(over(channel), 100).series}
    assert found == {
        "temp": ("Temperature", "°C", [1]),
        "zone:humid": ("zone:humid", "%", [2]),
        "value": ("value", "", [6, 9]),
        "zone:deep:er": ("zone:deep:er", "", [3]),
        "on": ("on", "", [1]),
    }
    assert list(found) == ["temp", "zone:humid", "on", "value", "zone:deep:er"]  # named ones first


def test_a_text_now_and_then_is_left_out(channel: Channel) -> None:
    store(
        channel,
        {"temp": 1},
        {"temp": "n/a"},
        {"temp": None},
        {"temp": {"x": "y"}},
        {"temp": 2},
    )
    (series,) = chart(over(channel), 100).series
    assert numbers(series) == [1, 2]


def test_numbers_beyond_a_double(channel: Channel) -> None:
    store(channel, 2**53 + 1, 10**30, -(10**299), b"1e400", b"-1e400", b"1e-400", 0, b"1" * 400)
    (series,) = chart(over(channel), 100).series
    assert numbers(series) == [float(2**53), 1e30, -1e299, 0.0]


def test_a_channel_without_datapoints(channel: Channel) -> None:
    shown = chart(Selection(channel.id, "UTC"), 1000)
    assert (shown.series, shown.points, shown.reduced) == ([], 0, False)
    assert shown.start == shown.end
    assert chart(over(channel), 1000).series == []


def test_one_datapoint(channel: Channel) -> None:
    store(channel, 5)
    assert minutes(chart(over(channel), 1000).series[0]) == [(0, 5)]


@pytest.mark.parametrize("pixels", [-1, 0, 1, 10**9])
def test_odd_widths(channel: Channel, pixels: int) -> None:
    store(channel, *range(10))
    values = numbers(chart(over(channel), pixels).series[0])
    if pixels > 1:
        assert values == list(range(10))
    else:  # a day that begins elsewhere is in two buckets
        assert (values[0], values[-1]) == (0, 9)
        assert len(values) <= 4


def test_c14_datapoints_of_one_millisecond_are_told_apart_in_order_of_arrival(channel: Channel) -> None:
    store(channel, 5, 9, 7, 1, step=0)
    store(channel, 3, 2, step=0.0001, first=START + timedelta(seconds=1))
    store(channel, 4, first=START)
    (series,) = chart(over(channel), 100).series
    assert series.v == [5, 9, 7, 1, 4, 3, 2]
    assert series.t == [*range(START_MS, START_MS + 5), START_MS + 1000, START_MS + 1001]


def test_r11_a_colon_in_a_key_is_not_a_level(channel: Channel) -> None:
    """Nor is a backslash; and what a channel calls `zone:humid` is the nested one, if there are both."""
    store(channel, {"a:b": 1, "a": {"b": 100}, "a\\": {"b": 3}, "x\\": 4})
    found = {each.key: (each.label, *each.v) for each in chart(over(channel), 100).series}
    assert found == {
        "a:b": ("a:b", 100),
        r"a\:b": (r"a\:b", 1),
        r"a\\:b": (r"a\\:b", 3),
        "x\\\\": ("x\\", 4),
    }
    store(channel, {"zone:humid": 5}, first=START + timedelta(days=2))
    (alone,) = chart(over(channel)._replace(start=START + timedelta(days=1), end=START + MONTH), 100).series
    assert (alone.label, alone.unit, alone.v) == ("zone:humid", "%", [5])


def test_r11_true_and_false_are_one_and_zero(channel: Channel) -> None:
    store(channel, {"on": True, "room": {"door": False}}, {"on": False}, True, {"on": [True]})
    found = {each.key: each.v for each in chart(over(channel), 100).series}
    assert found == {"on": [1, 0], "room:door": [0], "value": [1]}
    store_many(channel, 60_000, "jsonb_build_object('on', i %% 2 = 0)")
    (series,) = chart(over(channel, MONTH), 100).series
    assert set(series.v) == {0, 1}


def test_an_open_range_is_from_the_first_datapoint_until_now(channel: Channel) -> None:
    store(channel, 1, 2)
    shown = chart(Selection(channel.id, "UTC"), 100)
    assert shown.start == START_MS
    assert abs(shown.end - to_us(timezone.now()) // 1000) < 10_000
    store(channel, 3, first=timezone.now() + timedelta(days=1))
    assert numbers(chart(Selection(channel.id, "UTC"), 100).series[0]) == [1, 2, 3]


def test_tags_are_series_of_their_own(channel: Channel) -> None:
    store(channel, {"temp": 1})
    store(channel, {"temp": 2}, tag="kitchen")
    store(channel, {"temp": 3}, tag="bath")
    assert {(each.key, each.tag, *each.v) for each in chart(over(channel), 100).series} == {
        ("temp", None, 1),
        ("temp", "kitchen", 2),
        ("temp", "bath", 3),
    }
    bath = Tag.objects.get(name="bath")
    assert [(each.tag, each.v) for each in chart(over(channel, tag=bath.id), 100).series] == [("bath", [3])]


def test_other_channels_are_not_shown(channel: Channel, outsider: User) -> None:
    store(create_channel(outsider, 7), 1)
    assert chart(over(channel), 100).series == []


def test_series_past_the_limit_are_counted(channel: Channel) -> None:
    store(channel, {"temp": 1, **{f"a{number:03}": number for number in range(80)}})
    shown = chart(over(channel), 100)
    assert [each.key for each in shown.series] == ["temp", *(f"a{number:03}" for number in range(49))]
    assert (shown.left_out, shown.points) == (31, 50)


def test_one_spike_among_half_a_million(channel: Channel) -> None:
    store_many(
        channel, 500_000, "jsonb_build_object('temp', CASE i WHEN 312345 THEN 99 ELSE 20 + i %% 10 END)"
    )
    shown = chart(over(channel, MONTH), 1000)
    (series,) = shown.series
    assert (shown.reduced, shown.points) == (True, 500_000)
    assert len(series.t) <= 2002
    assert [at for at, value in zip(series.t, series.v, strict=True) if value == 99] == [
        START_MS + round(312345 * 30 * 86_400_000 / 500_000)
    ]
    assert set(numbers(series)) == {20, 29, 99}
    assert series.t == sorted(series.t)


def test_a_reduced_series_keeps_both_ends_of_its_line(channel: Channel) -> None:
    store_many(channel, 10_000, "to_jsonb(i)")
    (series,) = chart(over(channel, MONTH), 100).series
    assert (series.v[0], series.v[-1]) == (0, 9999)
    assert 200 <= len(series.v) <= 202
    assert numbers(series) == sorted(numbers(series))


def test_equal_values_stay_a_line_from_end_to_end(channel: Channel) -> None:
    store_many(channel, 10_000, "'20'")
    (series,) = chart(over(channel, MONTH), 100).series
    assert set(series.v) == {20}
    assert series.t[0] == START_MS
    assert series.t[-1] == START_MS + 9999 * 259_200


def test_a_pause_breaks_the_line(channel: Channel) -> None:
    store(channel, *range(60))
    store(channel, *range(60), first=START + timedelta(hours=5))
    (series,) = chart(over(channel), 1000).series
    assert [at for at, value in minutes(series) if value is None] == [(59 + 300) / 2]


def test_a_pause_in_a_reduced_series(channel: Channel) -> None:
    store_many(channel, 50_000, "CASE WHEN i BETWEEN 20000 AND 29999 THEN '\"-\"' ELSE '1' END::jsonb")
    (series,) = chart(over(channel, MONTH), 1000).series
    breaks = [at for at, value in minutes(series) if value is None]
    assert breaks == [pytest.approx(25_000 * 30 * 1440 / 50_000, abs=1)]


def test_a_rare_series_beside_a_frequent_one_has_no_breaks(channel: Channel) -> None:
    store_many(
        channel,
        20_000,
        "jsonb_build_object('temp', i, CASE i %% 1000 WHEN 0 THEN 'daily' ELSE 'temp' END, i)",
    )
    daily, temp = sorted(chart(over(channel, MONTH), 500).series, key=lambda each: each.key)
    assert (len(daily.v), daily.v.count(None), temp.v.count(None)) == (20, 0, 0)


def breaks(*times: float, shortest: float = 0) -> int:
    return sum(value is None for _, value in with_pauses([(round(at), 1.0) for at in times], shortest))


def test_pauses_are_measured_by_what_is_usual() -> None:
    assert breaks() == breaks(1) == breaks(1, shortest=10**9) == 0
    assert breaks(0, 10, 20, 30, 80) == 0
    assert breaks(0, 10, 20, 30, 81) == 1
    assert breaks(0, 10, 20, 30, 81, shortest=51) == 0
    assert breaks(0, 1, 2, 3, 1000, 1001, 1002, 1003, 5000) == 2


def every(step: float, count: int, first: float = 0) -> list[float]:
    return [first + number * step for number in range(count)]


def bursts(step: float, count: int, *within: float, first: float = 0) -> list[float]:
    return [at + more for at in every(step, count, first) for more in within]


@pytest.mark.parametrize(
    ("times", "pauses"),
    [
        (bursts(60_000, 60, 0, 90, 190), 0),  # three numbers within 200 ms, each minute
        (bursts(60_000, 60, 0, 90, 190) + bursts(60_000, 60, 0, 90, 190, first=7_200_000), 1),
        (bursts(60_000, 4, 0, 90, 190), 0),
        (bursts(60_000, 60, *every(20, 100)), 0),  # a hundred within 2 s
        (bursts(60_000, 60, 0, 500), 0),  # a pair
        (bursts(3_600_000, 48, *bursts(10_000, 6, 0, 100, 200)), 0),  # bursts of bursts, each hour
        (every(60_000, 720) + every(600_000, 72, 43_200_000), 0),  # by day each minute, at night each ten
        ([at + 10_000 * (at % 7 == 0) for at in every(60_001, 300)], 0),  # jitter
        (every(60_000, 120) + every(60_000, 120, 79_200_000), 1),  # a pause of most of the time
        ([at for day in range(7) for at in every(60_000, 480, day * 86_400_000)], 6),  # on by day only
        ([at for day in range(5) for at in every(1000, 7200, day * 86_400_000)], 4),  # two hours a day
        (sorted({*every(60_000, 600)} - {*every(60_000, 30, 6_000_000), *every(60_000, 10, 24_000_000)}), 2),
    ],
)
def test_c3_a_pause_is_told_from_the_rhythm(times: list[float], pauses: int) -> None:
    """Of bursts and their distance; not by the median, which bursts make short, nor by the mean, which a long
    pause makes long."""
    assert breaks(*times) == pauses


def test_c1_the_buckets_of_a_range_that_moves_on_stay(channel: Channel) -> None:
    """What two charts of the same width have in common they show alike, whenever they were made."""
    store_many(channel, 20_000, "to_jsonb(i * 7919 %% 1000)")
    week = over(channel, timedelta(days=7))
    shown = [
        chart(week._replace(start=START + later, end=START + later + timedelta(days=7)), 500)
        for later in (timedelta(), timedelta(seconds=90), timedelta(hours=3))
    ]
    margin = 2 * 7 * 86_400_000 / 500
    begin, end = shown[-1].start + margin, shown[0].end - margin
    parts = [
        [point for point in zip(one.series[0].t, one.series[0].v, strict=True) if begin < point[0] < end]
        for one in shown
    ]
    assert all(one.reduced for one in shown)
    assert parts[0] == parts[1] == parts[2] != []


def test_c1_whatever_changes_a_chart_changes_its_version(channel: Channel) -> None:
    now = timezone.now()
    day = Selection(channel.id, "UTC", now - timedelta(days=1), now)

    known = [charts.version(day, 100)]

    def changes() -> bool:
        known.append(charts.version(day, 100))
        return known[-1] != known[-2]

    assert not changes()
    store(channel, 1, first=now)
    assert changes()
    store(channel, 2, first=now - timedelta(hours=5), tag="old")  # late
    assert changes()
    rename_tag(Tag.objects.get(name="old"), "new")
    assert changes()
    update_channel(channel, {"streams": [{"key": "value", "label": "X", "unit": ""}]})
    assert changes()
    assert not changes()
    retention.delete_before(channel.id, now - timedelta(hours=1))
    assert changes()
    delete_tag(Tag.objects.get(name="new"))
    store(channel, 1, first=now)
    assert changes()
    assert not changes()
    day = day._replace(start=day.start + timedelta(minutes=20), end=now + timedelta(minutes=20))  # type: ignore[operator]
    assert changes()


def test_what_takes_too_long_is_refused(channel: Channel, settings: Settings) -> None:
    store_many(channel, 50_000, "to_jsonb(i)")
    settings.READ_SECONDS = 0.001
    with pytest.raises(ContractError, match=r"took longer than 0\.001 seconds") as caught:
        chart(over(channel, MONTH), 100)
    assert caught.value.code == "RANGE_TOO_LARGE"
    settings.READ_SECONDS = 30
    assert chart(over(channel, MONTH), 100).series


def test_the_settings_of_the_session_come_back(channel: Channel) -> None:
    def settings() -> Iterator[str]:
        with connection.cursor() as cursor:
            for name in ("jit", "enable_sort", "statement_timeout"):
                cursor.execute(f"SHOW {name}")
                yield cursor.fetchone()[0]

    before = list(settings())
    chart(over(channel), 100)
    assert list(settings()) == before
