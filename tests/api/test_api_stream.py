"""GET /v2/stream/{channel}."""

import re
from collections.abc import Callable
from datetime import timedelta
from string import Template
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store
from django.db import OperationalError, connection
from pytest_django import Settings

from thingscale.accounts.models import User
from thingscale.lib.clock import to_us
from thingscale.streams import queries, time_buckets
from thingscale.streams.models import Channel

pytestmark = pytest.mark.slow
WHOLE = {"X_STARTTIME": "2000-01-01 00:00", "X_ENDTIME": "2099-12-31 23:59"}


def values(response: Any) -> list[Any]:
    return [row["value"] for row in document(response)["stream"]]


def every_second(channel: Channel, count: int, start: str = "2026-01-31 00:00:00") -> None:
    store(channel, [(at(start) + timedelta(seconds=n), str(n)) for n in range(count)])


def test_the_shape(api: Caller, channel: Channel) -> None:
    store(
        channel,
        [(at("2015-02-05 23:26:29.987654"), '{"temp":23.40}'), (at("2015-02-05 23:26:30"), '"é"', "t\"a'g")],
    )
    body = document(api.get("stream/0", **WHOLE))
    first, second = body.pop("stream")
    assert body == {"channel": 0, "channel_name": "sensor_1", "last_update": "2015-02-06T08:26:30+0900"}
    moment = to_us(at("2015-02-05 23:26:29")) // 1_000_000
    assert re.fullmatch(r"[0-9a-f]{24}", first["_id"])
    assert int(first.pop("_id")[:8], 16) == moment
    assert int(second.pop("_id")[:8], 16) == moment + 1
    assert first == {"tag": None, "value": {"temp": 23.4}, "at": "2015-02-06T08:26:29+0900"}
    assert second == {"tag": "t\"a'g", "value": "é", "at": "2015-02-06T08:26:30+0900"}


def test_an_id_is_unique_and_sorts(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), str(n)) for n in range(50)])
    ids = [row["_id"] for row in document(api.get("stream/0", **WHOLE))["stream"]]
    assert sorted(set(ids)) == ids


@pytest.mark.parametrize("text", ["23.40", "-0.0", "1e5", "123456789012345678901234567890.5", '{"a": 0.10}'])
def test_values_come_out_untouched(api: Caller, channel: Channel, text: str) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), text)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [text])
        (expected,) = cursor.fetchone()
    assert f'"value":{expected},"at"'.encode() in api.get("stream/0", X_ENDTIME="last").getvalue()


@pytest.mark.parametrize(
    "options",
    [{"X_ENDTIME": "last"}, WHOLE, {"X_ENDTIME": "2026-01-01 00:00"}, WHOLE | {"X_PAGESORT": "desc"}],
)
def test_an_empty_channel(api: Caller, channel: Channel, options: dict[str, str]) -> None:
    empty = {"channel": 0, "channel_name": "sensor_1", "last_update": None, "stream": []}
    assert document(api.get("stream/0", **options)) == empty


def test_no_such_channel(api: Caller) -> None:
    assert refusal(api.get("stream/0", X_ENDTIME="last")) == (404, "NO_CHANNEL")


def test_both_bounds_are_inclusive(api: Caller, channel: Channel) -> None:
    every_second(channel, 180)
    bounds = {"X_STARTTIME": "2026-01-31 09:00:30", "X_ENDTIME": "2026-01-31 09:01:10"}
    assert values(api.get("stream/0", **bounds)) == list(range(30, 71))
    bounds = {"X_STARTTIME": "2026-01-31 09:01", "X_ENDTIME": "2026-01-31 09:01"}
    assert values(api.get("stream/0", **bounds)) == list(range(60, 120))
    assert values(api.get("stream/0", X_ENDTIME="2026-01-31T00:00:01Z")) == [0, 1]
    assert values(api.get("stream/0?starttime=2026-01-31 09:02:58&endtime=2026-01-31 09:05")) == [178, 179]


def test_a_fraction_of_the_last_second_is_in_the_range(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:59.999999"), "1"), (at("2026-01-31 00:01:00"), "2")])
    assert values(api.get("stream/0", X_ENDTIME="2026-01-31 09:00:59")) == [1]
    assert values(api.get("stream/0", X_ENDTIME="2026-01-31 09:00")) == [1]
    assert values(api.get("stream/0", X_STARTTIME="2026-01-31 09:01", X_ENDTIME="2026-01-31 09:01")) == [2]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_h15_a_raw_plus_in_a_query(owner: User, channel: Channel, version: str) -> None:
    every_second(channel, 5)
    api = Caller(owner, version=version)
    for end in ("2026-01-31T09:00:01+09:00", "2026-01-31T09:00:01%2B09:00", "2026-01-30 20:00:01-0400"):
        assert values(api.get(f"stream/0?endtime={end}")) == [0, 1]
    assert values(api.get("stream/0?starttime=2026-01-31T02:00:03+02&endtime=2026-02-01")) == [3, 4]
    answer = api.get("stream/0?endtime=2026-01-31T09:00:01+JST")
    assert refusal(answer) == (400, "BAD_PARAMETER")
    assert "%2B" in document(answer)["detail"]
    assert refusal(api.get("stream/0", X_ENDTIME="2026-01-31T09:00:01 09:00")) == (400, "BAD_PARAMETER")


def test_r8_the_start_is_a_time(api: Caller, channel: Channel) -> None:
    every_second(channel, 3)
    answer = api.get("stream/0", X_STARTTIME="last", X_ENDTIME="2026-01-31 09:05")
    assert refusal(answer) == (400, "BAD_PARAMETER")
    assert "X-ENDTIME: last" in document(answer)["detail"]
    assert values(api.get("stream/0", X_STARTTIME="last", X_ENDTIME="last")) == [2]


def test_r12_a_range_in_unix_time(api: Caller, channel: Channel) -> None:
    every_second(channel, 5)
    second = to_us(at("2026-01-31 00:00:00")) // 1_000_000
    assert values(api.get(f"stream/0?starttime={second + 1}&endtime={second + 2}")) == [1, 2]
    assert values(api.get("stream/0", X_STARTTIME=f"{second}001", X_ENDTIME=f"{second + 3}000")) == [1, 2, 3]
    assert values(api.get("stream/0", X_STARTTIME="2026-01-31", X_ENDTIME="2026-01-31")) == list(range(5))


def test_a_header_goes_before_the_parameter(api: Caller, channel: Channel) -> None:
    every_second(channel, 5)
    assert values(api.get("stream/0?endtime=2026-01-31 09:00:00", X_ENDTIME="last")) == [4]
    assert values(api.get("stream/0?endtime=last&pagelimit=2", X_ENDTIME="")) == [3, 4]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10_000])
def test_last_is_the_newest(
    api: Caller, channel: Channel, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    every_second(channel, 6)
    newest = list(range(6))[-limit:]
    options = {
        "X_ENDTIME": "last",
        "X_PAGELIMIT": str(limit),
        "X_STARTTIME": "nonsense",
        "X_AGGREGATE": "avg",
    }
    assert values(api.get("stream/0", **options)) == newest
    assert values(api.get("stream/0", X_PAGESORT="asc", **options)) == newest
    assert values(api.get("stream/0", X_PAGESORT="desc", **options)) == newest[::-1]


def test_last_is_one_row_by_default(api: Caller, channel: Channel) -> None:
    every_second(channel, 3)
    assert values(api.get("stream/0", X_ENDTIME="last")) == [2]
    assert values(api.get("stream/0", X_ENDTIME="LAST")) == [2]


def test_a_page_limit_counts_only_with_last(api: Caller, channel: Channel) -> None:
    every_second(channel, 3)
    assert values(api.get("stream/0", X_PAGELIMIT="1", **WHOLE)) == [0, 1, 2]


def test_sort(api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    every_second(channel, 7)
    assert values(api.get("stream/0", X_PAGESORT="asc", **WHOLE)) == list(range(7))
    monkeypatch.setattr(queries, "PAGE", 3)
    assert values(api.get("stream/0", X_PAGESORT="DESC", **WHOLE)) == list(range(7))[::-1]


@pytest.mark.parametrize("page", [1, 2, 5, 6, 7])
def test_datapoints_of_one_moment_keep_their_order_over_pages(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), str(n)) for n in range(6)])
    monkeypatch.setattr(queries, "PAGE", page)
    assert values(api.get("stream/0", **WHOLE)) == list(range(6))
    assert values(api.get("stream/0", X_PAGESORT="desc", **WHOLE)) == list(range(6))[::-1]
    assert values(api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT="4")) == [2, 3, 4, 5]


def test_only_one_tag(api: Caller, channel: Channel) -> None:
    rows = [(at("2026-01-31 00:00:00") + timedelta(days=40 * n), str(n), "aé"[n % 2]) for n in range(6)]
    store(channel, [*rows, (at("2026-01-31 00:00:00"), "9")])
    utf8 = "é".encode().decode("latin-1")
    for options in ({"X_TAGNAME": utf8}, {}):
        path = "stream/0" if options else "stream/0?tagname=é"
        assert values(api.get(path, **WHOLE, **options)) == [1, 3, 5]
        assert values(api.get(path, X_ENDTIME="last", X_PAGELIMIT="2", **options)) == [3, 5]
    assert values(api.get("stream/0", X_TAGNAME="unknown", **WHOLE)) == []
    assert values(api.get("stream/0", X_TAGNAME="unknown", X_ENDTIME="last")) == []
    assert document(api.get("stream/0", X_TAGNAME="a", X_AGGREGATE="sum", **WHOLE))["result"][0]["value"] == 6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "X-ENDTIME"),
        ({"X_STARTTIME": "2026-01-01 00:00"}, "X-ENDTIME"),
        ({"X_ENDTIME": "yesterday"}, "X-ENDTIME"),
        ({"X_ENDTIME": "2026-02-30 00:00"}, "X-ENDTIME"),
        ({"X_ENDTIME": "2026-01-01 00:00", "X_STARTTIME": "x"}, "X-STARTTIME"),
        ({"X_ENDTIME": "2026-01-01 00:00", "X_STARTTIME": "2026-01-01 00:01"}, "X-STARTTIME"),
        ({"X_ENDTIME": "last", "X_PAGELIMIT": "0"}, "X-PAGELIMIT"),
        ({"X_ENDTIME": "last", "X_PAGELIMIT": "10001"}, "X-PAGELIMIT"),
        ({"X_ENDTIME": "last", "X_PAGELIMIT": "-1"}, "X-PAGELIMIT"),
        ({"X_ENDTIME": "last", "X_PAGELIMIT": "9" * 30}, "X-PAGELIMIT"),
        ({"X_ENDTIME": "last", "X_PAGELIMIT": "1.0"}, "X-PAGELIMIT"),
        ({"X_ENDTIME": "last", "X_PAGESORT": "up"}, "X-PAGESORT"),
        ({"X_ENDTIME": "last", "X_TAGNAME": "a//b"}, "X-TAGNAME"),
        ({"X_ENDTIME": "2026-01-01 00:00", "X_AGGREGATE": "median"}, "X-AGGREGATE"),
    ],
)
def test_a_bad_option_is_named(api: Caller, channel: Channel, options: dict[str, str], named: str) -> None:
    every_second(channel, 1)
    response = api.get("stream/0", **options)
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith(f"{named}: ")
    query = "&".join(f"{name[2:].lower()}={text}" for name, text in options.items())
    assert refusal(api.get(f"stream/0?{query}")) == (400, "BAD_PARAMETER")


@pytest.mark.parametrize(
    ("zone", "start", "end", "first", "rows"),
    [
        # autumn: the hour that comes twice is read from its first beginning to its second end
        ("America/New_York", "2026-11-01 01:00", "2026-11-01 01:59", "2026-11-01T01:00:00-0400", 120),
        ("America/New_York", "2026-11-01 00:00", "2026-11-01 23:59", "2026-11-01T00:00:00-0400", 25 * 60),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 02:30", "2026-10-25T02:30:00+0200", 61),
        # spring: the hour that is left out
        ("America/New_York", "2026-03-08 00:00", "2026-03-08 23:59", "2026-03-08T00:00:00-0500", 23 * 60),
        ("Europe/Berlin", "2026-03-29 01:59", "2026-03-29 03:00", "2026-03-29T01:59:00+0100", 2),
        ("Europe/Berlin", "2026-03-29 02:10", "2026-03-29 02:20", "2026-03-29T03:10:00+0200", 11),
        ("Asia/Kolkata", "2026-11-01 00:00", "2026-11-01 00:59", "2026-11-01T00:00:00+0530", 60),
        ("Asia/Tokyo", "2026-11-01 00:00", "2026-11-01 23:59", "2026-11-01T00:00:00+0900", 24 * 60),
    ],
)
def test_a_range_over_a_clock_change(
    make_user: Callable[..., User], zone: str, start: str, end: str, first: str, rows: int
) -> None:
    api = Caller(make_user("zone@example.com", zone))
    api.post("channel/0")
    begin = at(start) - timedelta(hours=30)
    minutes = [(begin + timedelta(minutes=n), str(n)) for n in range(72 * 60)]
    store(Channel.objects.get(user=api.user), minutes)
    stream = document(api.get("stream/0", X_STARTTIME=start, X_ENDTIME=end))["stream"]
    assert (stream[0]["at"], len(stream)) == (first, rows)
    assert [row["value"] for row in stream] == list(range(stream[0]["value"], stream[0]["value"] + rows))


def test_offsets_follow_the_clock_change(make_user: Callable[..., User]) -> None:
    api = Caller(make_user("zone@example.com", "America/New_York"))
    api.post("channel/0")
    hours = [(at("2026-11-01 04:30:00") + timedelta(hours=n), str(n)) for n in range(4)]
    store(Channel.objects.get(user=api.user), hours)
    body = document(api.get("stream/0", **WHOLE))
    assert [row["at"] for row in body["stream"]] == [
        "2026-11-01T00:30:00-0400",
        "2026-11-01T01:30:00-0400",
        "2026-11-01T01:30:00-0500",
        "2026-11-01T02:30:00-0500",
    ]
    assert body["last_update"] == "2026-11-01T02:30:00-0500"


def test_the_newest_is_so_in_time_not_by_the_clock_on_the_wall(make_user: Callable[..., User]) -> None:
    api = Caller(make_user("zone@example.com", "America/New_York"))
    api.post("channel/0")
    rows = [(at("2026-11-01 05:30:00"), "1"), (at("2026-11-01 06:10:00"), "2")]
    store(Channel.objects.get(user=api.user), rows)
    (row,) = document(api.get("stream/0", X_ENDTIME="last"))["stream"]
    assert (row["value"], row["at"]) == (2, "2026-11-01T01:10:00-0500")


def aggregate(api: Caller, function: str) -> Any:
    body = document(api.get("stream/0", X_AGGREGATE=function, **WHOLE))
    assert (body["channel"], body["channel_name"], body["aggr_type"]) == (0, "sensor_1", function)
    assert "stream" not in body
    (row,) = body["result"]
    assert (row["_id"], row["at"]) == (None, None)
    return row["value"]


def test_r9_numbers_inside_arrays_are_left_out(api: Caller, channel: Channel) -> None:
    """At any depth, and also where nothing is left then: a place in an array names nothing."""
    store(
        channel,
        [(at("2026-01-31 00:00:00"), text) for text in ('{"a": [1, {"b": 2}], "c": {"d": [3]}}', "[4]")],
    )
    for version in ("v1", "v2"):
        api.version = version
        body = document(api.get("stream/0", X_AGGREGATE="sum", **WHOLE))
        assert body["result"] == []
    store(channel, [(at("2026-01-31 00:00:00"), '{"a": {"0": 5}, "c": [6]}')])  # 0 is a key here
    assert aggregate(api, "sum") == {"a": {"0": 5}}


def test_aggregates_of_plain_numbers(api: Caller, channel: Channel) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), text) for text in ("1", "2.5", "-4", '"text"', "[9]")])
    found = [aggregate(api, function) for function in ("avg", "sum", "min", "max")]
    assert found == [pytest.approx(-1 / 6), -0.5, -4, 2.5]
    assert isinstance(found[2], int)


def test_aggregates_keep_the_shape(api: Caller, channel: Channel) -> None:
    rows = [
        '{"temp": 20.0, "humid": 40, "s": "x", "gps": {"lat": 1, "deep": {"n": 10}}, "list": [1], "": 1}',
        '{"temp": 20.2, "humid": 60, "on": true, "gps": {"lat": 4, "name": "x"}, "none": null}',
        '{"humid": "high"}',
    ]
    store(channel, [(at("2026-01-31 00:00:00"), text) for text in rows])
    avg = {"temp": 20.1, "humid": 50, "gps": {"lat": 2.5, "deep": {"n": 10}}, "": 1}
    assert aggregate(api, "avg") == avg
    assert isinstance(aggregate(api, "avg")["humid"], int)
    assert aggregate(api, "max") == {"temp": 20.2, "humid": 60, "gps": {"lat": 4, "deep": {"n": 10}}, "": 1}


def test_r9_no_number_is_left_out_where_shapes_differ(api: Caller, channel: Channel) -> None:
    for text in ('{"a": 1}', '{"a": {"b": 2}}', "7"):
        store(channel, [(at("2026-01-31 00:00:00"), text)])
    assert aggregate(api, "sum") == {"a": {"b": 2, "value": 1}, "value": 7}
    store(channel, [(at("2026-01-31 00:00:00"), '{"value": 5, "value2": 6}')])
    assert aggregate(api, "sum") == {"a": {"b": 2, "value": 1}, "value": 12, "value2": 6}
    store(channel, [(at("2026-01-31 00:00:00"), '{"a": {"value": 3}}')])
    assert aggregate(api, "max")["a"] == {"b": 2, "value": 3, "": 1}


@pytest.mark.parametrize("rows", [[], ['"text"', '{"a": "x", "b": {"c": "y"}}']])
def test_no_numbers_no_result(api: Caller, channel: Channel, rows: list[str]) -> None:
    store(channel, [(at("2026-01-31 00:00:00"), text) for text in rows])
    assert document(api.get("stream/0", X_AGGREGATE="avg", **WHOLE))["result"] == []


def test_20_000_rows_are_streamed(api: Caller, channel: Channel) -> None:
    every_second(channel, 20_000)
    response = api.get("stream/0", **WHOLE)
    assert response.streaming
    chunks = list(response.streaming_content)
    assert len(chunks) == 2 + 20_000 // queries.PAGE
    response.streaming_content = iter(chunks)
    assert values(response) == list(range(20_000))


def test_a_range_too_large(api: Caller, channel: Channel, settings: Settings) -> None:
    every_second(channel, 6)
    settings.STREAM_MAX_ROWS = 5
    response = api.get("stream/0", **WHOLE)
    assert refusal(response) == (400, "RANGE_TOO_LARGE")
    assert "5 rows" in document(response)["detail"]
    assert (
        len(values(api.get("stream/0", X_STARTTIME="2026-01-31 09:00:01", X_ENDTIME="2026-01-31 10:00"))) == 5
    )
    assert len(values(api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT="9"))) == 6
    assert aggregate(api, "max") == 5


def test_a_failure_before_the_first_row_has_its_status(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_PAGE", Template("SELECT 1/0, NULL, NULL, NULL, NULL"))
    assert refusal(api.get("stream/0", **WHOLE)) == (400, "BAD_PARAMETER")  # a DataError, 22012


@pytest.mark.parametrize(
    "options", [{}, {"X_AGGREGATE": "avg"}, {"X_AGGREGATE": "count", "X_INTERVAL": "1d"}]
)
def test_reading_takes_no_longer_than_the_limit(
    api: Caller,
    channel: Channel,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
) -> None:
    every_second(channel, 3)
    settings.READ_SECONDS = 1
    for module, name in ((queries, "_PAGE_ROWS"), (queries, "_AGGREGATE"), (time_buckets, "_COUNT")):
        slow = getattr(module, name).template.replace("AND at", "AND pg_sleep(60) IS NOT NULL AND at")
        monkeypatch.setattr(module, name, Template(slow))
    response = api.get("stream/0", **WHOLE, **options)
    assert refusal(response) == (400, "RANGE_TOO_LARGE")
    assert "1 second:" in document(response)["detail"]
    monkeypatch.undo()
    assert len(values(api.get("stream/0", **WHOLE))) == 3


def test_a_failure_in_mid_stream_breaks_the_answer(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_second(channel, 5)
    monkeypatch.setattr(queries, "PAGE", 2)
    response = api.get("stream/0", **WHOLE)
    content = iter(response.streaming_content)
    assert next(content).endswith(b'"stream":[')
    next(content)

    def away(zone: str) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(queries, "reading", away)
    with pytest.raises(OperationalError):
        next(content)


def test_nothing_is_open_between_pages(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    every_second(channel, 5)
    monkeypatch.setattr(queries, "PAGE", 2)
    before = list(connection.savepoint_ids)
    pages = queries.pages(queries.Selection(channel.id, "Asia/Tokyo"))
    assert next(pages).count("_id") == 2
    assert connection.savepoint_ids == before
    with connection.cursor() as cursor:
        cursor.execute("SHOW TimeZone")
        assert cursor.fetchone() == ("UTC",)


def test_few_queries(
    api: Caller, channel: Channel, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    every_second(channel, 500)
    in_test = 3  # savepoints, where production begins and ends a transaction
    with django_assert_max_num_queries(5 + in_test):  # token, channel, newest, time zone, rows
        assert len(values(api.get("stream/0", **WHOLE))) == 500
    with django_assert_max_num_queries(5 + in_test):
        aggregate(api, "avg")


HUGE = "SELECT jsonb_build_object('a', (SELECT jsonb_agg(1e308::numeric) FROM generate_series(1, 10800)))"


def written_before_the_limit(channel: Channel, count: int) -> None:
    """Datapoints as the platform once took them: 64 kB as sent, 3.4 MB as they are read back."""
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(seconds=n), str(n)) for n in range(count)])
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE datapoint SET value = ({HUGE}) WHERE channel = %s", [channel.pk])


@pytest.mark.parametrize("options", [WHOLE, {"X_ENDTIME": "last", "X_PAGELIMIT": "1000"}])
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
def test_d7_a_channel_of_huge_values_is_read_in_pages_of_bounded_size(
    api: Caller, channel: Channel, options: dict[str, str], accept: str
) -> None:
    written_before_the_limit(channel, 45)
    response = api.get("stream/0", Accept=accept, **options)
    assert response.streaming
    sizes = [len(part) for part in response.streaming_content]
    assert sum(sizes) > 45 * 3_300_000
    assert max(sizes) < (queries.LARGE_VALUES + 1) * 3_500_000


def test_d7_large_and_small_values_in_any_order_come_once(api: Caller, channel: Channel) -> None:
    texts = [f'"{n:05d}{"xyz" * (n % 7 * 700)}"' for n in range(2500)]
    store(channel, [(at("2026-01-31 00:00:00") + timedelta(seconds=n), text) for n, text in enumerate(texts)])
    for options in (WHOLE, WHOLE | {"X_PAGESORT": "desc"}, {"X_ENDTIME": "last", "X_PAGELIMIT": "2222"}):
        found = [int(value[:5]) for value in values(api.get("stream/0", **options))]
        wanted = list(range(2500))[-2222 if "X_PAGELIMIT" in options else 0 :]
        assert found == (wanted[::-1] if "X_PAGESORT" in options else wanted)


def test_d7_whatever_is_acknowledged_can_be_read(api: Caller, channel: Channel) -> None:
    """As many great numbers as the limit lets pass, in one datapoint, 40 times."""
    value = b'{"a": [%s]}' % b",".join([b"1e308"] * 840)
    point = b'{"value": %s}' % value
    assert api.post("stream/0", b"[%s]" % b",".join([point] * 40)).status_code == 201
    assert len(values(api.get("stream/0", **WHOLE))) == 40
    more = point.replace(b"[", b"[%s," % b",".join([b"1e308"] * 10))
    assert refusal(api.post("stream/0", more)) == (413, "TOO_LARGE")
