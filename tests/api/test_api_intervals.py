"""GET /v2/stream/{channel} with X-INTERVAL: buckets of the user's calendar."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store
from django.db import connection, transaction

from thingscale.accounts.models import User
from thingscale.streams import queries, time_buckets
from thingscale.streams.models import Channel

WHOLE = {"X_STARTTIME": "2000-01-01 00:00", "X_ENDTIME": "2099-12-31 23:59"}
EACH_MINUTE = range(72 * 60)


def buckets(api: Caller, interval: str, function: str, **options: str) -> list[tuple[str, Any]]:
    body = document(
        api.get("stream/0", **WHOLE | {"X_INTERVAL": interval, "X_AGGREGATE": function} | options)
    )
    assert (body["interval"], body["aggr_type"]) == (interval, function)
    assert all(row["_id"] is None for row in body["result"])
    return [(row["at"], row["value"]) for row in body["result"]]


def in_zone(make_user: Callable[..., User], zone: str) -> tuple[Caller, Channel]:
    api = Caller(make_user("zone@example.com", zone))
    api.post("channel/0")
    return api, Channel.objects.get(user=api.user)


@pytest.mark.parametrize(
    ("function", "values"),
    [
        ("count", [3, 2]),
        ("first", [{"t": 1}, "text"]),
        ("last", [5, {"t": 9, "s": "x"}]),
        ("avg", [{"t": 2, "value": 5}, {"t": 9}]),
        ("sum", [{"t": 4, "value": 5}, {"t": 9}]),
        ("min", [{"t": 1, "value": 5}, {"t": 9}]),
        ("max", [{"t": 3, "value": 5}, {"t": 9}]),
    ],
)
def test_each_function(api: Caller, channel: Channel, function: str, values: list[Any]) -> None:
    rows = [("00:00", '{"t": 1}'), ("00:20", '{"t": 3}'), ("00:59", "5"), ("01:00", '"text"')]
    store(channel, [(at(f"2026-01-31 {time}:00"), value) for time, value in rows])
    store(channel, [(at("2026-01-31 01:59:59.9"), '{"t": 9, "s": "x"}')])
    times = ["2026-01-31T09:00:00+0900", "2026-01-31T10:00:00+0900"]
    assert buckets(api, "1h", function) == list(zip(times, values, strict=True))
    assert buckets(api, "1h", function, X_PAGESORT="desc") == list(zip(times, values, strict=True))[::-1]


def test_the_first_of_one_moment_came_first(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), str(n)) for n in range(5)])
    assert [buckets(api, "1m", function)[0][1] for function in ("first", "last")] == [0, 4]


def test_the_shape_and_the_default(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), "1"), (at("2026-01-31 00:14:00"), "2")])
    body = document(api.get("stream/0?interval=15M", **WHOLE))
    assert body == {
        "channel": 0,
        "channel_name": "sensor_1",
        "last_update": "2026-01-31T09:14:00+0900",
        "aggr_type": "avg",
        "interval": "15m",
        "result": [{"_id": None, "value": 1.5, "at": "2026-01-31T09:00:00+0900"}],
    }


def test_only_what_is_asked_for(api: Caller, channel: Channel) -> None:
    rows = [(at("2026-01-31 00:00:00") + timedelta(minutes=n), "1", "ab"[n % 2]) for n in range(30)]
    store(channel, rows)
    assert [count for _, count in buckets(api, "10m", "count", X_TAGNAME="a")] == [5, 5, 5]
    assert [n for _, n in buckets(api, "10m", "count", X_STARTTIME="2026-01-31 09:05")] == [5, 10, 10]
    assert buckets(api, "10m", "sum", X_TAGNAME="none") == []
    assert "interval" not in document(api.get("stream/0", X_ENDTIME="last", X_INTERVAL="1h"))


@pytest.mark.parametrize("interval", ["1m", "5m", "10m", "15m", "30m", "1h"])
def test_clock_intervals_in_a_half_hour_zone(make_user: Callable[..., User], interval: str) -> None:
    api, channel = in_zone(make_user, "Asia/Kolkata")
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(minutes=n), "1") for n in range(180)])
    minutes = int(interval[:-1]) * (60 if interval.endswith("h") else 1)
    found = buckets(api, interval, "count")
    assert all(int(time[14:16]) % minutes == 0 for time, _ in found)
    assert [count for _, count in found[1:-1]] == [minutes] * (len(found) - 2)
    assert found[0][0] == ("2026-01-31T05:30:00+0530" if minutes < 60 else "2026-01-31T05:00:00+0530")


CLOCK_CHANGES = {
    # autumn: a day of 25 hours, and the hour that comes twice is two buckets
    "America/New_York 2026-11-01 1d": {"00:00:00-0400": 25 * 60},
    "America/New_York 2026-11-01 1h": {"01:00:00-0400": 60, "01:00:00-0500": 60, "02:00:00-0500": 60},
    "Europe/Berlin 2026-10-25 1d": {"00:00:00+0200": 25 * 60},
    "Europe/Berlin 2026-10-25 2h": {"02:00:00+0200": 180},
    "Europe/Berlin 2026-10-25 30m": {"02:30:00+0200": 30, "02:30:00+0100": 30},
    "Europe/Berlin 2026-10-25 12h": {"00:00:00+0200": 780, "12:00:00+0100": 720},
    # spring: a day of 23 hours, and an hour that is left out
    "America/New_York 2026-03-08 1d": {"00:00:00-0500": 23 * 60},
    "America/New_York 2026-03-08 1h": {"01:00:00-0500": 60, "03:00:00-0400": 60},
    "America/New_York 2026-03-08 2h": {"00:00:00-0500": 120, "03:00:00-0400": 60},
    "Europe/Berlin 2026-03-29 6h": {"00:00:00+0100": 300, "06:00:00+0200": 360},
    # a day that begins twice, and one that begins at one o'clock
    "America/Havana 2026-11-01 1d": {"00:00:00-0400": 25 * 60},
    "America/Havana 2026-03-08 1d": {"01:00:00-0400": 23 * 60},
    "Asia/Tokyo 2026-11-01 1d": {"00:00:00+0900": 24 * 60},
    "Asia/Kolkata 2026-11-01 3h": {"03:00:00+0530": 180},
}


@pytest.mark.parametrize(("case", "times"), CLOCK_CHANGES.items())
def test_a_clock_change(make_user: Callable[..., User], case: str, times: dict[str, int]) -> None:
    zone, day, interval = case.split()
    api, channel = in_zone(make_user, zone)
    start = at(f"{day} 00:00:00") - timedelta(hours=24)
    store(channel, [(start + timedelta(minutes=n), "1") for n in EACH_MINUTE])
    found = buckets(api, interval, "count")
    assert dict(found).items() >= {f"{day}T{time}": count for time, count in times.items()}.items()
    assert len(dict(found)) == len(found)
    assert sum(count for _, count in found) == len(EACH_MINUTE)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("1w", ["2026-01-26", "2026-02-02", "2026-02-23"]),  # Mondays
        ("1mo", ["2026-01-01", "2026-02-01", "2026-03-01"]),
    ],
)
def test_weeks_and_months(api: Caller, channel: Channel, interval: str, expected: list[str]) -> None:
    times = ["2026-01-31 14:59:59", "2026-02-02 12:00:00", "2026-02-28 15:00:00"]  # the last is in March
    store(channel, [(at(time), "1") for time in times])
    assert [time for time, _ in buckets(api, interval, "count")] == [
        f"{day}T00:00:00+0900" for day in expected
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"X_INTERVAL": "7m"}, "X-INTERVAL"),
        ({"X_INTERVAL": "0h"}, "X-INTERVAL"),
        ({"X_INTERVAL": "1 day"}, "X-INTERVAL"),
        ({"X_INTERVAL": "1h", "X_AGGREGATE": "median"}, "X-AGGREGATE"),
        ({"X_AGGREGATE": "count"}, "X-AGGREGATE"),
    ],
)
def test_a_bad_option_is_named(api: Caller, channel: Channel, options: dict[str, str], named: str) -> None:
    response = api.get("stream/0", **WHOLE | options)
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith(f"{named}: ")


@pytest.mark.parametrize("function", ["avg", "count", "first"])
def test_too_many_to_hold(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(minutes=n), "1") for n in range(5)])
    monkeypatch.setattr(queries, "MAX_LEAVES", 4)
    response = api.get("stream/0", X_INTERVAL="1m", X_AGGREGATE=function, **WHOLE)
    assert refusal(response) == (400, "RANGE_TOO_LARGE")
    assert len(buckets(api, "5m", function)) == 1


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Australia/Lord_Howe", "2026-04-04 12:00:00", [  # half an hour back at 02:00
            "2026-04-04T23:00:00+1100", "2026-04-05T00:00:00+1100", "2026-04-05T01:00:00+1100",
            "2026-04-05T01:30:00+1030", "2026-04-05T02:00:00+1030", "2026-04-05T03:00:00+1030",
        ]),
        ("Australia/Lord_Howe", "2026-10-03 12:30:00", [  # half an hour forward at 02:00
            "2026-10-03T23:00:00+1030", "2026-10-04T00:00:00+1030", "2026-10-04T01:00:00+1030",
            "2026-10-04T02:30:00+1100", "2026-10-04T03:00:00+1100", "2026-10-04T04:00:00+1100",
        ]),
        ("Asia/Pyongyang", "2018-05-04 12:30:00", [  # half an hour forward at 23:30
            "2018-05-04T21:00:00+0830", "2018-05-04T22:00:00+0830", "2018-05-04T23:00:00+0830",
            "2018-05-05T00:00:00+0900", "2018-05-05T01:00:00+0900", "2018-05-05T02:00:00+0900",
        ]),
        ("Europe/Berlin", "2026-10-24 23:00:00", [  # an hour back at 03:00
            "2026-10-25T01:00:00+0200", "2026-10-25T02:00:00+0200", "2026-10-25T02:00:00+0100",
            "2026-10-25T03:00:00+0100", "2026-10-25T04:00:00+0100",
        ]),
    ],
)  # fmt: skip
def test_r10_a_bucket_begins_in_itself(
    make_user: Callable[..., User], zone: str, first: str, hours: list[str]
) -> None:
    """Also where the clock is set by less than the bucket's width."""
    api, channel = in_zone(make_user, zone)
    begin = at(first)
    store(channel, [(begin + timedelta(minutes=5 * n), "1") for n in range(12 * 5)])
    found = [when for when, _ in buckets(api, "1h", "count")]
    assert found == hours[: len(found)]
    assert len(found) >= 5
    assert sum(value for _, value in buckets(api, "1h", "count")) == 60


def test_r9_bare_numbers_and_objects_have_one_shape_in_all_buckets(api: Caller, channel: Channel) -> None:
    rows = [("00:00", "4"), ("01:00", '{"a": 1}'), ("02:00", '{"value": 1, "value2": 2}'), ("02:30", "3")]
    store(channel, [(at(f"2026-01-31 {time}:00"), value) for time, value in rows])
    assert [value for _, value in buckets(api, "1h", "avg")] == [
        {"value": 4},
        {"a": 1},
        {"value": 2, "value2": 2},
    ]


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_d7_ends_of_buckets_with_values_of_all_sizes_come_once_and_in_order(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(queries, "MAX_PAGE_BYTES", 50_000)
    texts = [f'"{n:04d}{"xyz" * (n % 7 * 3000)}"' for n in range(300)]
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(minutes=n), text) for n, text in enumerate(texts)])
    store(channel, [(at("2026-01-31 00:00:01") + timedelta(minutes=n), '"later"') for n in range(300)])
    found = buckets(api, "1m", "first", X_PAGESORT=sort)
    wanted = [text.strip('"') for text in texts]
    assert [value for _, value in found] == (wanted if sort == "asc" else wanted[::-1])
    assert len({time for time, _ in found}) == 300


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"[{','.join(['1e308'] * 150)}]", id="numbers that are short until written out"),
        pytest.param(f'"{"é" * 900}"', id="small text"),
    ],
)
def test_d7_pages_of_small_values_are_bounded_too(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(queries, "MAX_PAGE_BYTES", 500_000)
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(minutes=n), value) for n in range(900)])
    selection = queries.Selection(channel.id, "UTC")
    sizes = [len(page.encode()) for page in queries.pages(selection)]
    assert max(sizes) <= 500_000 < sum(sizes)
    assert sum(page.count("_id") for page in queries.pages(selection)) == 900
    ends = queries.ends_of_buckets(selection, time_buckets.INTERVALS["1m"], "ASC")
    assert ends
    pages = [sum(len(text.encode()) for *_, text in page) for page in queries.values_of_ends(selection, ends)]
    assert max(pages) <= 500_000 < sum(pages)


def test_d7_what_is_deleted_while_the_ends_are_read_is_left_out(channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(minutes=n), str(n)) for n in range(3)])
    selection = queries.Selection(channel.id, "UTC")
    ends = queries.ends_of_buckets(selection, time_buckets.INTERVALS["1m"], "DESC")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM datapoint WHERE channel = %s AND value = '1'", [channel.pk])
    assert ends
    (page,) = queries.values_of_ends(selection, ends)
    assert [text for *_, text in page] == ["0", "2"]


@pytest.mark.parametrize("interval", ["", "1h"])
def test_d7_an_aggregate_is_bounded_in_bytes(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, interval: str
) -> None:
    """Few numbers, but their keys are long."""
    monkeypatch.setattr(queries, "MAX_LEAF_BYTES", 100_000)
    store(channel, [(at("2026-01-31 00:00:00"), '{"%s": 1}' % (f"{n}" * 30_000)) for n in range(4)])
    options = WHOLE | {"X_AGGREGATE": "max"} | ({"X_INTERVAL": interval} if interval else {})
    assert refusal(api.get("stream/0", **options)) == (400, "RANGE_TOO_LARGE")
    monkeypatch.setattr(queries, "MAX_LEAF_BYTES", 130_000)
    assert len(document(api.get("stream/0", **options))["result"][0]["value"]) == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("interval", ["", "1h"])
def test_r9_an_aggregate_is_of_one_moment(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, interval: str
) -> None:
    """Bare numbers and objects in one range take two queries; what is stored between them is in neither."""
    moment = at("2026-01-31 00:00:00")
    before, after = ["1", '{"t": 1}'], ['{"t": 1000}', "1000"]
    first_query = queries._leaves
    asked = []

    def put(values: list[str]) -> None:
        with transaction.atomic():
            store(channel, [(moment, value) for value in values])

    def put_and_close() -> None:
        put(after)
        connection.close()

    def leaves(*arguments: Any) -> Any:
        asked.append(1)
        found = first_query(*arguments)
        elsewhere = threading.Thread(target=put_and_close)
        elsewhere.start()
        elsewhere.join()
        return found

    put(before)
    monkeypatch.setattr(queries, "_leaves", leaves)
    options = WHOLE | {"X_AGGREGATE": "max"} | ({"X_INTERVAL": interval} if interval else {})
    (row,) = document(api.get("stream/0", **options))["result"]
    assert len(asked) == 2
    assert row["value"] == {"t": 1, "value": 1}
