"""What charts show of events: which thresholds, which incidents, and how many."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from support import Account

from thingscale.events import chart_marks as module
from thingscale.events.actions import create_event
from thingscale.events.chart_marks import ChartMarks, chart_marks, heights
from thingscale.events.models import Event, Incident

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LASTS = math.inf


def event(account: Account, **fields: Any) -> Event:
    plain = {"mapped_channel_id": account.channel(7).pk, "source": "temp", "operator": ">", "threshold": "30"}
    return create_event(account.user, plain | fields)


def fired(of: Event, start: float, end: float | None, **fields: Any) -> None:
    """Hours after START."""
    Incident.objects.create(
        user_id=of.user_id,
        event=of,
        number=of.number,
        title="Fires",
        severity=of.severity,
        channel=of.mapped_channel_id,
        started_at=START + start * HOUR,
        ended_at=None if end is None else START + end * HOUR,
        **fields,
    )


def marks(account: Account, tag: str | None = None) -> ChartMarks:
    """From one to ten hours after START."""
    return chart_marks(account.user, account.channel(7).id, START + HOUR, START + 10 * HOUR, tag)


def spans(account: Account, tag: str | None = None) -> list[tuple[float, float]]:
    """The oldest first."""
    hours = [
        (hours_after_start(each.start), LASTS if each.end is None else hours_after_start(each.end))
        for each in marks(account, tag).incidents
    ]
    return sorted(hours)


def hours_after_start(ms: int) -> float:
    return (ms - START.timestamp() * 1000) / 3_600_000


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        ("30", [30]),
        (" -1.5e3 ", [-1500]),
        ("18..24", [18, 24]),
        ("-5 .. -1.5", [-5, -1.5]),
        *((text, []) for text in ("", "open", "nan", "inf", "1..x", "..3", "3..1", "1e999")),
    ],
)
def test_the_heights_of_a_threshold(threshold: str, expected: list[float]) -> None:
    assert heights(threshold) == expected


def test_thresholds_are_of_what_is_enabled_and_compares_with_numbers(account: Account) -> None:
    event(account, clear="28")
    event(account, kind="range", threshold="18..24")
    event(account, kind="change", threshold="5")
    event(account, kind="rate", threshold="5", window=60)
    event(account, kind="silence", source="", threshold="", period=60)
    event(account, operator="=", threshold="open")
    event(account, enabled=False)
    event(account, mapped_channel_id=account.channel(8).pk)
    found = [(each.event.number, each.key, each.lines, each.clear) for each in marks(account).events]
    assert found == [
        (1, "temp", [30], [28]),
        (2, "temp", [18, 24], []),
        (3, "temp", [], []),
        (4, "temp", [], []),
        (5, "", [], []),
        (6, "temp", [], []),
        (7, "temp", [], []),
    ]


def test_incidents_are_those_that_touch_the_range(account: Account) -> None:
    one = event(account)
    for start, end in (
        (0.2, 0.8),
        (0.5, 1),
        (0.5, None),
        (1, 2),
        (3, None),
        (9, 20),
        (10, 11),
        (11, 12),
        (12, None),
    ):
        fired(one, start, end)
    fired(event(account, mapped_channel_id=account.channel(8).pk), 3, 4)
    assert spans(account) == [(0.5, 1), (0.5, LASTS), (1, 2), (3, LASTS), (9, 20), (10, 11)]


def test_incidents_of_a_tag(account: Account) -> None:
    one = event(account)
    fired(one, 2, 3, tag="kitchen")
    fired(one, 4, 5, tag="attic")
    fired(one, 6, 7)
    assert spans(account, "kitchen") == [(2, 3)]
    assert len(spans(account)) == 3


def test_what_lasts_for_long_is_seen_behind_many_others(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_INCIDENTS", 3)
    one = event(account)
    fired(one, -100, None)
    for number in range(5):
        fired(one, -number - 2, -number - 1)
    assert spans(account) == [(-100, LASTS)]


def test_the_newest_of_too_many(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INCIDENTS", 3)
    monkeypatch.setattr(module, "MAX_EVENTS", 2)
    off = event(account, enabled=False)
    for number in (2, 3, 4):
        one = event(account)
        fired(one, number, number + 0.5)
        fired(one, number + 0.6, number + 0.7)
    fired(off, 5, 6)
    assert [each.event.number for each in marks(account).events] == [2, 3]
    assert spans(account) == [(2.6, 2.7), (3, 3.5), (3.6, 3.7)]


def test_two_queries_whatever_there_is(account: Account) -> None:
    for _ in range(3):
        one = event(account)
        fired(one, 2, 3)
    account.channel(7)
    with CaptureQueriesContext(connection) as queries:
        chart_marks(account.user, account.channel(7).id, START, START + HOUR)
    assert len([each for each in queries if "events_" in each["sql"]]) == 2


def test_an_outsider_sees_nothing(account: Account, outsider: Account) -> None:
    fired(event(account), 2, 3)
    assert chart_marks(outsider.user, account.channel(7).id, START, START + 10 * HOUR) == ChartMarks([], [])
