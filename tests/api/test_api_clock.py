"""Local times of a range, in both directions of a clock change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from thingscale.lib.clock import parse_end, parse_start, with_colon, without_colon

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
    "text", ["", "last week", "2026-01-31", "2026-02-30 10:00", "2026-01-31 25:00", "26-1-31 1:00", "12:00"]
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
