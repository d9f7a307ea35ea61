"""What keeps receivers from being told. Pure."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from thingscale.events.noise import ActiveWindow, Quiet, quiet_until
from thingscale.lib.names import matches

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        ("22:00-06:00", "2026-03-01 21:59:59", None),
        ("22:00-06:00", "2026-03-01 22:00", "2026-03-02 06:00"),
        ("22:00-06:00", "2026-03-02 05:59:59", "2026-03-02 06:00"),
        ("22:00-06:00", "2026-03-02 06:00", None),
        ("12:00-13:30", "2026-03-01 13:00", "2026-03-01 13:30"),
        ("12:00-13:30", "2026-03-01 13:30", None),
        ("12:00-12:00", "2026-03-01 12:00", None),
        ("", "2026-03-01 12:00", None),
        ("22:00-06:00", "2026-03-28 23:00", "2026-03-29 06:00"),  # an hour is left out in that night
        ("22:00-02:30", "2026-03-28 23:00", "2026-03-29 03:30"),  # and with it this end
        ("22:00-02:30", "2026-10-24 23:00", "2026-10-25 02:30"),  # there are two, the first ends it
    ],
)
def test_quiet_hours_are_of_the_zone(hours: str, now: str, until: str | None) -> None:
    assert quiet_until(hours, BERLIN, berlin(now)) == (berlin(until) if until else None)


def test_quiet_hours_end_once_in_an_hour_that_is_repeated() -> None:
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 for the second time
    assert quiet_until("22:00-02:30", BERLIN, second) is None


@pytest.mark.parametrize(
    ("device_id", "pattern", "expected"),
    [
        ("pump1", "pump*", True),
        ("pump1", "pump?", True),
        ("pump12", "pump?", False),
        ("Pump1", "pump*", False),
        ("a[1]", "a[1]", True),
        ("a1", "a[1]", False),
        ("", "*", True),
        ("", "pump*", False),
    ],
)
def test_patterns(device_id: str, pattern: str, expected: bool) -> None:
    assert matches(device_id, pattern) is expected


def test_of_several_the_one_that_ends_last_counts_and_says_why() -> None:
    hour = timedelta(hours=1)
    quiet = Quiet(NOON + hour, [ActiveWindow("pump*", NOON + 2 * hour)], "12:00-20:00", BERLIN)
    found = quiet.hush("pump1", NOON + 3 * hour, NOON)
    assert found is not None
    assert (found.until, found.why) == (berlin("2026-03-01 20:00"), "Quiet hours until 2026-03-01 20:00.")
    found = quiet._replace(hours="").hush("pump1", None, NOON)
    assert found is not None
    assert found.why == "Maintenance of pump* until 2026-03-01 15:00."
    found = quiet._replace(hours="").hush("door", NOON, NOON)
    assert found is not None
    assert found.why == "Muted until 2026-03-01 14:00."
    assert Quiet(NOON, [ActiveWindow("*", NOON)], "", BERLIN).hush("", NOON, NOON) is None
