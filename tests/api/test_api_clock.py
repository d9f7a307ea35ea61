"""Local times of a range, in both directions of a clock change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from thingscale.lib.clock import (
    all_to_us,
    datapoint_time,
    now_us,
    parse_end,
    parse_sharp_end,
    parse_start,
    restore_plus,
    to_us,
    with_colon,
    without_colon,
)

NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")
KOLKATA, TOKYO = ZoneInfo("Asia/Kolkata"), ZoneInfo("Asia/Tokyo")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "start", "end"),
    [
        ("2026-01-31 13:45", TOKYO, "2026-01-31 04:45:00", "2026-01-31 04:45:59.999999"),
        ("2026-01-31 13:45:30", TOKYO, "2026-01-31 04:45:30", "2026-01-31 04:45:30.999999"),
        ("2026-01-31T13:45:30", KOLKATA, "2026-01-31 08:15:30", "2026-01-31 08:15:30.999999"),
        ("2026-01-31 13:45:30.25", TOKYO, "2026-01-31 04:45:30.25", "2026-01-31 04:45:30.25"),
        ("2026-01-31T13:45:30+09:00", BERLIN, "2026-01-31 04:45:30", "2026-01-31 04:45:30.999999"),
        ("2026-01-31T13:45:30+0900", BERLIN, "2026-01-31 04:45:30", "2026-01-31 04:45:30.999999"),
        ("2026-01-31 13:45Z", BERLIN, "2026-01-31 13:45:00", "2026-01-31 13:45:59.999999"),
        # double: the first as a start, the second as an end
        ("2026-11-01 01:30", NEW_YORK, "2026-11-01 05:30:00", "2026-11-01 06:30:59.999999"),
        ("2026-10-25 02:00", BERLIN, "2026-10-25 00:00:00", "2026-10-25 01:00:59.999999"),
        ("2026-10-25 03:00", BERLIN, "2026-10-25 02:00:00", "2026-10-25 02:00:59.999999"),
        # not there: moved forward, 02:30 is 03:30
        ("2026-03-08 02:30", NEW_YORK, "2026-03-08 07:30:00", "2026-03-08 07:30:59.999999"),
        ("2026-03-29 02:30", BERLIN, "2026-03-29 01:30:00", "2026-03-29 01:30:59.999999"),
        ("2026-03-29 03:00", BERLIN, "2026-03-29 01:00:00", "2026-03-29 01:00:59.999999"),
        # the ends of the calendar
        ("0001-01-01 00:00", TOKYO, "0001-01-01 00:00:00", "0001-01-01 00:00:59.999999"),
        ("9999-12-31 23:59", NEW_YORK, "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
        ("9999-12-31 23:59:59", TOKYO, "9999-12-31 14:59:59", "9999-12-31 14:59:59.999999"),
        ("9999-12-31T23:59:59-05:00", TOKYO, "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
    ],
)
def test_a_local_time_as_start_and_as_end(text: str, zone: ZoneInfo, start: str, end: str) -> None:
    assert parse_start(text, zone) == utc(start)
    assert parse_end(text, zone) == utc(end)


@pytest.mark.parametrize(
    "text", ["", "last week", "2026-01", "2026-02-30 10:00", "2026-01-31 25:00", "26-1-31 1:00", "12:00"]
)
def test_what_is_no_time(text: str) -> None:
    for parse in (parse_start, parse_end):
        with pytest.raises(ValueError, match=r"."):
            parse(text, TOKYO)


def test_the_two_spellings_of_an_offset() -> None:
    moment = utc("2015-02-05 23:26:29.987654")
    assert without_colon(moment, TOKYO) == "2015-02-06T08:26:29+0900"
    assert with_colon(moment, TOKYO) == "2015-02-06T08:26:29+09:00"
    assert without_colon(moment, KOLKATA) == "2015-02-06T04:56:29+0530"
    assert with_colon(moment, UTC) == "2015-02-05T23:26:29+00:00"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-01-31T13:45:30.1234567Z", "2026-01-31 13:45:30.123456", "2026-01-31 13:45:30.123456"),
        ("2026-01-31T13:45:30.123456789+09:00", "2026-01-31 04:45:30.123456", "2026-01-31 04:45:30.123456"),
        ("2026-01-31T13:45:30.999999999999999", "2026-01-31 12:45:30.999999", "2026-01-31 12:45:30.999999"),
        ("2026-01-31T13:45:30,5Z", "2026-01-31 13:45:30.5", "2026-01-31 13:45:30.5"),
        ("2026-01-31t13:45:30z", "2026-01-31 13:45:30", "2026-01-31 13:45:30.999999"),
        ("2026-01-31T13:45z", "2026-01-31 13:45", "2026-01-31 13:45:59.999999"),
        ("2026-01-31 13:45:30+09", "2026-01-31 04:45:30", "2026-01-31 04:45:30.999999"),
        ("2026-01-31 13:45:30 -0330", "2026-01-31 17:15:30", "2026-01-31 17:15:30.999999"),
        # a day of the account's zone, which has 23 or 25 hours twice a year
        ("2026-01-31", "2026-01-30 23:00", "2026-01-31 22:59:59.999999"),
        ("2026-03-29", "2026-03-28 23:00", "2026-03-29 21:59:59.999999"),
        ("2026-10-25", "2026-10-24 22:00", "2026-10-25 22:59:59.999999"),
        ("0001-01-01", "0001-01-01 00:00", "0001-01-01 23:06:31.999999"),
        ("9999-12-31", "9999-12-30 23:00", "9999-12-31 23:59:59.999999"),
        # Unix seconds, then milliseconds
        ("0", "1970-01-01 00:00", "1970-01-01 00:00:00.999999"),
        ("946684800", "2000-01-01 00:00", "2000-01-01 00:00:00.999999"),
        ("1769834730", "2026-01-31 04:45:30", "2026-01-31 04:45:30.999999"),
        ("1769834730.25", "2026-01-31 04:45:30.25", "2026-01-31 04:45:30.25"),
        ("1.769834730e9", "2026-01-31 04:45:30", "2026-01-31 04:45:30.999999"),
        ("946684800000", "2000-01-01 00:00", "2000-01-01 00:00"),
        ("1769834730123", "2026-01-31 04:45:30.123", "2026-01-31 04:45:30.123"),
        ("1769834730123.75", "2026-01-31 04:45:30.12375", "2026-01-31 04:45:30.12375"),
    ],
)
def test_r12_times_as_other_programs_write_them(text: str, start: str, end: str) -> None:
    assert parse_start(text, BERLIN) == utc(start)
    assert parse_end(text, BERLIN) == utc(end)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2016-12-31T23:59:60Z", "leap second"),
        ("2016-12-31 23:59:60.5", "leap second"),
        ("2026-01-31 24:00", "write 00:00 of the next day"),
        ("2026-01-31T24:00:00+09:00", "write 00:00 of the next day"),
        ("2026-01-31T23:60", "minute must be"),
        ("20260131", "no Unix time"),  # a date without its dashes
        ("202601311345", "no Unix time"),
        ("1769834730123456", "no Unix time"),  # microseconds, nanoseconds
        ("1769834730123456789", "no Unix time"),
        ("-1769834730", "must look like"),
        ("2026-01-31T13:45+09:75", "must look like"),
        ("2026-01-31Z", "must look like"),
        ("\u0662\u0660\u0662\u0666-01-31", "must look like"),
    ],
)
def test_r12_a_time_that_is_refused_says_what_to_do(text: str, sentence: str) -> None:
    for parse in (parse_start, parse_end, parse_sharp_end):
        with pytest.raises(ValueError, match=sentence):
            parse(text, BERLIN)


@pytest.mark.parametrize("fraction", ["", ".5", ".123456", ".1234567", ".123456789"])
@pytest.mark.parametrize("offset", ["Z", "+09:00", "-0330"])
def test_r12_many_times_are_read_as_one_is(fraction: str, offset: str) -> None:
    text = f"2026-01-31T13:45:30{fraction}{offset}"
    assert all_to_us([text, text]) == [to_us(parse_start(text, TOKYO))] * 2


@pytest.mark.parametrize(
    ("arrived", "written"),
    [
        ("2026-11-20T10:00:00 09:00", "2026-11-20T10:00:00+09:00"),
        ("2026-11-20 10:00 0530", "2026-11-20 10:00+0530"),
        (" 2026-11-20T10:00:00.123 02 ", "2026-11-20T10:00:00.123+02"),
        ("2026-11-20 10:00", "2026-11-20 10:00"),
        ("2026-11-20T10:00:00 -09:00", "2026-11-20T10:00:00 -09:00"),
        ("2026-11-20 09:00:00 PM", "2026-11-20 09:00:00 PM"),
    ],
)
def test_h15_a_raw_plus_of_a_query_is_told_from_a_space(arrived: str, written: str) -> None:
    assert restore_plus(arrived) == written


def test_r12_the_time_of_a_datapoint_is_text_or_a_number() -> None:
    now = now_us()
    moment = to_us(utc("2026-01-31 04:45:30.25"))
    for good in ("2026-01-31T13:45:30.25", 1769834730.25, 1769834730250, "1769834730.25"):
        assert datapoint_time(good, TOKYO, now) == moment
    assert datapoint_time(None, TOKYO, now) == now
    tomorrow = now // 1_000_000 + 86_402
    wrong: list[object] = [True, [], {}, 5, "5", 1e300, float("inf"), "946684799", tomorrow]
    for at in wrong:
        with pytest.raises(ValueError, match=r"."):
            datapoint_time(at, TOKYO, now)
