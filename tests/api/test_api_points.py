"""Datapoints of an array, read all at once or one by one: the same come of it."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.parsers import ExactJSONParser
from thingscale.lib import clock, points
from thingscale.lib.clock import now_us
from thingscale.lib.errors import ContractError

ZONE = ZoneInfo("Europe/Berlin")
ORDINARY = [
    b'{"value": 12.5}',
    b'{"value": -0.0, "tag": null, "at": null}',
    b'{"value": {"temp": 25.1, "humidity": 50}}',
    b'{"value": {"a": {"b": [1, "x", true, null]}}, "tag": "t1"}',
    b'{"value": "text \xc3\xa9", "tag": "\xc3\xa9"}',
    b'{"value": 1, "at": "2026-01-31 13:45:30"}',
    b'{"value": 1, "at": "2026-01-31T13:45:30.123456+09:00", "other": []}',
    b'{"value": {}}',
    b'{"value": true}',
    b'{"value": 1, "tag": "sensor/temp/state"}',
    b'{"value": ",\\",\\",\\"x\\","}',
    b'{"value": 1, "at": 1769834730}',
    b'{"value": 1, "at": 1769834730123}',
    b'{"value": 1, "at": 1769834730.5}',
    b'{"value": 1, "at": "2026-01-31T13:45:30.1234567Z"}',
    b'{"value": 1, "at": "2026-01-31"}',
]
UNUSUAL = [
    b'{"value": 1, "at": 1.769834730e9}',
    b'{"value": "text \\u00e9 \\ud83d\\ude00"}',
    b'{"value": {"%s": 1}}' % (b"[" * 100),
    b'{"value": 23.40}',  # as it is written
    b'{"value": 1e400}',
    b'{"value": "\\\\u0000"}',  # no NUL
    b'{"value": ",\\"\\\\u0000\\","}',
    b'{"value": {"a": %s1%s}}' % (b"[" * 31, b"]" * 31),
    b'{"value": [%s]}' % b",".join([b"{}"] * 40),
]
FAULTS = [
    b"1",
    b'"value"',
    b"[]",
    b"{}",
    b'{"value": null}',
    b'{"value": []}',
    b'{"value": "\\u0000"}',
    b'{"value": {"\\u0000": 1}}',
    b'{"value": {"a": [1, "\\u0000", 2]}}',
    b'{"value": {"a": %s1%s}}' % (b"[" * 32, b"]" * 32),
    b'{"value": "%s"}' % (b"x" * points.MAX_VALUE),
    b'{"value": 1, "tag": 5}',
    b'{"value": 1, "tag": {}}',
    b'{"value": 1, "tag": ""}',
    b'{"value": 1, "tag": "a//b"}',
    b'{"value": 1e309}',
    b'{"value": {"a": [%s]}}' % b",".join([b"1e308"] * 5000),
    b'{"value": 1, "at": 5}',
    b'{"value": 1, "at": []}',
    b'{"value": 1, "at": true}',
    b'{"value": 1, "at": 1e300}',
    b'{"value": 1, "at": "2016-12-31T23:59:60Z"}',
    b'{"value": 1, "at": "yesterday"}',
    b'{"value": 1, "at": "1999-12-31T23:59:59Z"}',
    b'{"value": 1, "at": "2999-12-31T23:59:59Z"}',
    b'{"value": "\\ud800"}',
]

TIMES = [  # with their offset, as the bodies of loggers have them, and what is no such time
    "2026-01-31T13:45:30Z",
    "2026-01-31 13:45+0900",
    "2026-01-31T13:45:30.123456-05:30",
    " 2026-01-31T13:45:30Z",
    "2026-01-31T13:45:30",
    "2026-01-31T13:45:30Z\n",
    "20260131T134530Z",
    "2026-W05-6T13:45:30Z",
    "2026-01-31T13:45:30,5Z",
    "2026-02-30T13:45:30Z",
    "2026-01-31T\u0661\u0663:45:30Z",
    "0001-01-01T00:00:00+09:00",
    "2000-01-01T00:00:00+09:00",
    "2999-01-01T00:00:00Z",
    "",
]


def read(*items: bytes) -> Any:
    return ExactJSONParser().loads(b"[" + b",".join(items) + b"]")


def outcome(parse: Any) -> Any:
    try:
        return parse()
    except ContractError as error:
        return error.code, error.detail


def one_by_one(body: list[Any], now: int) -> list[list[Any]]:
    """By field."""
    each = [points._point(item, ZONE, now, index) for index, item in enumerate(body)]
    return [list(field) for field in zip(*each, strict=True)]


def at_once(body: list[Any], now: int) -> list[list[Any]] | None:
    found = points._parse_together(body, ZONE, now)
    return found and [list(field) for field in found]


def either_way(body: list[Any]) -> list[list[Any]]:
    return [list(field) for field in points.parse(body, ZONE, clock.now_us())]


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> int:
    moment = now_us()
    monkeypatch.setattr("thingscale.lib.clock.now_us", lambda: moment)
    return moment


@pytest.mark.parametrize("item", ORDINARY)
def test_the_ordinary_are_read_at_once(item: bytes, now: int) -> None:
    body = read(ORDINARY[0], item)
    assert at_once(body, now) == one_by_one(body, now) == either_way(body)


@pytest.mark.parametrize("item", UNUSUAL)
def test_the_unusual_are_read_as_before(item: bytes, now: int) -> None:
    body = read(ORDINARY[0], item)
    assert outcome(lambda: either_way(body)) == outcome(lambda: one_by_one(body, now))


@pytest.mark.parametrize("item", FAULTS)
def test_a_fault_is_named_with_its_place(item: bytes, now: int) -> None:
    body = read(*ORDINARY, item, item)
    assert at_once(body, now) is None
    code, detail = outcome(lambda: either_way(body))
    assert (code, detail) == outcome(lambda: one_by_one(body, now))
    assert f"[{len(ORDINARY)}]" in detail


@pytest.mark.parametrize("time", TIMES)
def test_times_are_read_the_same_way_all_at_once(time: str, now: int) -> None:
    body = [{"value": 1, "at": at} for at in (TIMES[0], time)]
    assert outcome(lambda: either_way(body)) == outcome(lambda: one_by_one(body, now))


def test_an_empty_array_has_no_points() -> None:
    assert either_way([]) == [[], [], []]
