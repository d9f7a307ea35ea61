"""What an event would have done with the past, against cases that were worked out by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from thingscale.events.evaluate import Rule
from thingscale.events.replay import Firing, Point, replay, replay_silence
from thingscale.events.states import Policy
from thingscale.lib.clock import to_us

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return START + minutes * MINUTE


def points(*values: Any, device_id: str = "boiler-1", tag: str = "", first: float = 0) -> list[Point]:
    """One a minute."""
    return [
        Point(to_us(at(first + number)), device_id, tag, value)
        for number, value in enumerate(values)
        if value is not None
    ]


def rule(
    kind: str = "threshold", operator: str = ">", threshold: str = "30", source: str = "value", **more: Any
) -> Rule:
    return Rule.of(0, kind, source, operator, threshold, **more)


def minutes(firings: list[Firing]) -> list[tuple[float, float | None]]:
    return [
        ((each.start - START) / MINUTE, None if each.end is None else (each.end - START) / MINUTE)
        for each in firings
    ]


STATES = Policy()
EACH = Policy(of_datapoints=True)


def test_it_fires_from_crossing_to_crossing() -> None:
    done = replay(rule(), STATES, points(20, 31, 32, 20, 33, 30, 40), at(10))
    assert minutes(done.firings) == [(1, 3), (4, 5), (6, None)]
    assert done.messages == 3
    assert done.found == 7
    assert [firing.value for firing in done.firings] == ["31", "33", "40"]


def test_each_datapoint_is_a_message() -> None:
    done = replay(rule(), EACH, points(20, 31, 32, 20, 33), at(10))
    assert minutes(done.firings) == [(1, 3), (4, None)]
    assert done.messages == 3


def test_no_more_messages_than_the_interval_allows() -> None:
    """At 0, at 5 and, as the last one that was held back, at 10."""
    done = replay(rule(), Policy(of_datapoints=True, min_interval=300), points(*[31] * 9), at(20))
    assert done.messages == 3


def test_a_short_peak_does_not_fire_if_it_must_hold() -> None:
    done = replay(rule(), Policy(hold=150), points(31, 31, 20, 31, 31, 31, 31, 20), at(20))
    assert minutes(done.firings) == [(5.5, 7)]


def test_it_fires_by_time_alone_while_nothing_comes() -> None:
    assert minutes(replay(rule(), Policy(hold=300), points(31), at(20)).firings) == [(5, None)]
    assert minutes(replay(rule(), Policy(hold=300), points(31), at(4)).firings) == []
    assert minutes(replay(rule(), Policy(hold=300), points(31, *[None] * 9, 20), at(20)).firings) == [(5, 10)]


def test_it_ends_only_past_the_second_threshold() -> None:
    done = replay(rule(clear="28"), STATES, points(31, 29, 31, 28, 29, 31), at(10))
    assert minutes(done.firings) == [(0, 3), (5, None)]


def test_each_device_and_tag_for_itself() -> None:
    given = points(31, 20) + points(31, tag="hall", first=0.5) + points(31, device_id="pump", first=0.6)
    done = replay(rule(devices="boiler*"), STATES, sorted(given), at(5))
    assert [(firing.device_id, firing.tag) for firing in done.firings] == [
        ("boiler-1", ""),
        ("boiler-1", "hall"),
    ]
    assert minutes(done.firings) == [(0, 1), (0.5, None)]
    assert done.found == 3


def test_a_range_and_a_change() -> None:
    assert minutes(
        replay(rule("range", threshold="18..24"), STATES, points(20, 17, 20, 25), at(4)).firings
    ) == [
        (1, 2),
        (3, None),
    ]
    change = rule("change", threshold="", source="a")
    done = replay(change, EACH, points({"a": "on"}, {"a": "on"}, {"a": "off"}, {"b": 1}, {"a": "off"}), at(5))
    assert minutes(done.firings) == [(2, 4)]
    assert (done.messages, done.found) == (1, 4)


def test_a_rate() -> None:
    rate = rule("rate", threshold="5", window=120)
    assert minutes(replay(rate, STATES, points(20, 22, 24, 26, 24), at(5)).firings) == []
    assert minutes(replay(rate, STATES, points(20, 23, 26, 26, 26), at(5)).firings) == [(2, 3)]


def test_without_data_an_incident_is_over() -> None:
    done = replay(rule(), Policy(no_data_after=180), points(31, *[None] * 9, 31), at(12))
    assert minutes(done.firings) == [(0, 3), (10, None)]


def test_it_is_heard_by_another_tag() -> None:
    """A device that sends anything has data, for all of its tags."""
    others = points(1, 1, 1, 1, tag="other", first=0.5)
    done = replay(rule(), Policy(no_data_after=180), sorted(points(31) + others), at(5))
    assert minutes(done.firings) == [(0, None)]


def test_what_wavers_is_told_as_flapping() -> None:
    """More changes than FLAP_CHANGES in ten minutes are one message, not one each."""
    done = replay(rule(), STATES, points(*[31, 20] * 10), at(60))
    assert len(done.firings) == 10
    assert done.messages < 6


def test_numbers_for_the_chart() -> None:
    done = replay(rule(source="a"), STATES, points({"a": 1}, {"a": "x"}, {"a": ["2.5", 3]}, {}), at(5))
    assert [height.number for height in done.heights] == [1, 2.5]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2, 4, 6], []),
        ([0, 1, 5, 6], [(3, 5)]),
        ([0], [(2, None)]),
        ([0, 2, 4.5, 5.5, 6], [(4, 4.5)]),
    ],
)
def test_silence_is_a_gap(times: list[float], expected: list[tuple[float, float | None]]) -> None:
    heard = {"boiler-1": [at(each) for each in times]}
    assert minutes(replay_silence(heard, 2 * MINUTE, at(7))) == expected


def test_the_silence_of_several() -> None:
    found = replay_silence({"a": [at(0), at(9)], "b": [at(1)]}, 2 * MINUTE, at(10))
    assert [(firing.device_id, firing.end is None) for firing in found] == [("a", False), ("b", True)]
