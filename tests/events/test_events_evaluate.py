"""What an event sees in a datapoint."""

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thingscale.events.channel_rules import ChannelRules
from thingscale.events.evaluate import MAX_SAMPLES, MAX_TEXT, Memory, Path, Rule, Verdict

SECOND = 1_000_000


def threshold(source: str, operator: str, limit: str, **others: Any) -> Rule:
    return Rule.of(1, "threshold", source, operator, limit, **others)


def seen(rule: Rule, value: Any) -> bool | None:
    """True: it matches; False: it clears."""
    found = rule.sees(orjson.dumps(value))
    return found and found.matched if found else None


def run(rule: Rule, *values: Any, step: int = 1) -> list[bool | None]:
    """One after the other, `step` seconds apart."""
    memory = Memory()
    answers = []
    for number, value in enumerate(values):
        found = rule.sees(value, number * step * SECOND, memory)
        memory = Memory.load(memory.dump())  # as it is between two batches
        answers.append(found.matched if found else None)
    return answers


# Sources


@pytest.mark.parametrize(
    ("source", "value", "found"),
    [
        ("temp", {"temp": 1}, [1]),
        ("temp", {"Temp": 1}, []),
        ("temp", 1, []),
        ("data:value", {"data": {"value": 2}}, [2]),
        ("data:value", {"data": [{"value": 1}, {"value": 2}, {"other": 3}, 4]}, [1, 2]),
        ("data:value", {"data": [[{"value": 1}], [{"value": [2, 3]}]]}, [1, 2, 3]),
        ("data", {"data": [1, [2, [3]], "x", None, {}]}, [1, 2, 3, "x"]),
        ("data:1", {"data": [1, 2, 3]}, [2]),
        ("data:1:value", {"data": [{"value": 1}, {"value": 2}]}, [2]),
        ("data:7", {"data": [1, 2, 3]}, []),
        ("data:01", {"data": [1, 2, 3]}, []),
        ("data:-1", {"data": [1, 2, 3]}, []),
        ("data:9999999999999999999", {"data": [1]}, []),
        ("data:0", {"data": {"0": 5}}, [5]),
        ("0", {"0": 5}, [5]),
        ("a:b", {"a:b": 1, "a": {"b": 2}}, [1]),
        ("a:b:c", {"a": {"b:c": 3, "b": {"c": 4}}}, [3]),
        ("a:", {"a": {"": 1}}, [1]),
        (":", {"": {"": 1}}, [1]),
        ("温度:値", {"温度": {"値": 1}}, [1]),
        ("a\u0301", {"a\u0301": 1}, [1]),
        ("temp", {"temp": None}, []),
        ("temp", {"temp": {}}, []),
        ("temp", {"temp": []}, []),
        ("temp", {"temp": False}, [False]),
        # The value as a whole
        ("", 5, [5]),
        ("value", "on", ["on"]),
        ("value1", True, [True]),
        ("value2", 5, []),
        ("", {"": 1, "value": 2}, []),
        ("value", {"value": 1}, [1]),
        ("value", {"temp": 1}, []),
        # v1: the key of this name goes before v1's `value`
        ("value1", {"value": 1, "value2": 2}, [1]),
        ("value1", {"value": 1, "value1": 3}, [3]),
        ("value1:x", {"value": {"x": 1}}, [1]),
        ("value1:x", {"value1": {"y": 1}, "value": {"x": 1}}, []),
        ("value1:x", {"value1:x": 1, "value": {"x": 2}}, [1]),
        ("value2", {"value": 1, "value2": 2}, [2]),
    ],
)
def test_a_source_is_a_path(source: str, value: Any, found: list[Any]) -> None:
    assert list(Path(source).values(value)) == found


@pytest.mark.parametrize("source", [":" * 999, "a:" * 499, "0:" * 499, "x" * 1000, "\ud7ff:\U0001f600"])
def test_any_source_ends_soon_on_any_value(source: str) -> None:
    nested: Any = 1
    for _ in range(31):
        nested = {"a": nested} if _ % 2 else [nested]
    values = [nested, {"a": nested}, {"": nested}, {"a": [[]] * 21_000}, {"a": list(range(11_000))}]
    started = time.monotonic()
    for value in values:
        assert len(orjson.dumps(value)) <= 64 * 1024
        threshold(source, ">", "5").sees(value)
        ChannelRules([threshold(source, ">", "5")]).quiet(value)
    assert time.monotonic() - started < 5


# Operators, numbers and text


@pytest.mark.parametrize(
    ("operator", "below", "same", "above"),
    [
        ("=", False, True, False),
        ("!=", True, False, True),
        ("<", True, False, False),
        (">", False, False, True),
        ("<=", True, True, False),
        (">=", False, True, True),
    ],
)
def test_six_operators(operator: str, below: bool, same: bool, above: bool) -> None:
    rule = threshold("t", operator, "13")
    assert [seen(rule, {"t": value}) for value in (12.9, 13, 13.0, 14)] == [below, same, same, above]


@pytest.mark.parametrize(
    ("value", "operator", "limit", "answer"),
    [
        ("ON", "=", "ON", True),
        ("on", "=", "ON", False),
        ("ON", "!=", "OFF", True),
        ("ON", ">", "5", None),
        ("ON", "=", "5", False),
        ("ON", "!=", "5", True),
        ("23.40", "=", "23.4", True),
        (" 23.40", ">", "23", True),
        (23.4, "=", "23.40", True),
        ("7e-06", "<", "1", True),
        # 007 and 12E4 are identities, not numbers
        ("007", "=", "007", True),
        ("007", "=", "7", False),
        (7, "=", "007", False),
        ("12E4", "=", "12E4", True),
        (120_000, "=", "12E4", False),
        ("007", ">", "5", None),
        # where only a number makes sense, it may be written freely
        (8, ">", "007", True),
        (120_001, ">", "12E4", True),
        (True, "=", "true", True),
        (True, "=", "True", False),
        (True, "=", "1", False),
        (True, ">", "0", None),
        (False, "!=", "true", True),
        ("nan", "=", "nan", True),
        ("NaN", ">", "1", None),
        ("Infinity", ">", "1", None),
        ("", "=", "x", False),
        (None, "!=", "5", None),
        (1e308, ">", "1e307", True),
        (1e308, "=", "1e+308", True),
        (-1e308, "<", "0", True),
        (2**63, "=", str(2**63), True),
        (2**63 - 1, "=", str(2**63), False),
        (2**53 + 1, "=", str(2**53), False),
        (5e-324, ">", "0", True),
        (-0.0, "=", "0", True),
        ("1" * 2000, ">", "1", None),
        ("1" + "0" * 400, ">", "1", None),
        ("温度", "=", "温度", True),
        ("½", "=", "½", True),
        ("٣", ">", "1", None),
    ],
)
def test_numbers_and_text(value: Any, operator: str, limit: str, answer: bool | None) -> None:
    assert seen(threshold("t", operator, limit), {"t": value}) is answer
    assert seen(threshold("", operator, limit), value) is answer


def test_a_number_as_postgresql_writes_it_out() -> None:
    assert threshold("", ">", "1e307").sees(b"1" + b"0" * 308) == Verdict(True, "1e+308")
    assert threshold("", "=", "1" + "0" * 300).sees(b"1" + b"0" * 300) == Verdict(True, "1e+300")


def test_of_an_array_any_element_that_matches() -> None:
    rule = threshold("t", ">", "5")
    assert rule.sees({"t": [1, 6, 7]}) == Verdict(True, "6")
    assert rule.sees({"t": [1, "x", 2]}) == Verdict(False, "1")
    assert rule.sees({"t": ["x", None]}) is None
    assert seen(threshold("t", "!=", "1"), {"t": [1, 1]}) is False
    assert seen(threshold("t", "!=", "1"), {"t": [1, 2]}) is True


def test_what_is_compared_is_told_as_text() -> None:
    rule = threshold("t", "!=", "x")
    for value, text in (
        (13, "13"),
        (13.5, "13.5"),
        ("13", "13"),
        ('"ä', '"ä'),
        (True, "true"),
        (1e300, "1e+300"),
    ):
        assert rule.sees({"t": value}) == Verdict(True, text)
    assert rule.sees({"t": "é" * 30_000}) == Verdict(True, "é" * MAX_TEXT)


@pytest.mark.parametrize(
    ("kind", "operator", "limit", "others"),
    [
        ("threshold", "=", "", {}),
        ("threshold", "=", "  ", {}),
        ("threshold", ">", "", {}),
        ("threshold", ">", "ON", {}),
        ("threshold", ">", "1e999", {}),
        ("threshold", ">", "nan", {}),
        ("threshold", ">", "5", {"clear": "x"}),
        ("range", "=", "", {}),
        ("range", "=", "5", {}),
        ("range", "=", "5..", {}),
        ("range", "=", "..5", {}),
        ("range", "=", "9..5", {}),
        ("range", "=", "1..2..3", {}),
        ("change", "=", "x", {}),
        ("rate", "=", "5", {}),
        ("rate", "=", "", {"window": 5}),
        ("trend", "=", "5", {"window": 5, "period": 60}),
        ("trend", ">", "", {"window": 5, "period": 60}),
        ("trend", ">", "5", {"window": 5}),
        ("trend", ">", "5", {"period": 60}),
        ("silence", "=", "5", {}),
        ("", "=", "5", {}),
    ],
)
def test_an_event_that_lacks_something_is_no_rule(
    kind: str, operator: str, limit: str, others: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rule.of(1, kind, "t", operator, limit, **others)


# Kinds


def test_hysteresis_ends_only_past_the_second_threshold() -> None:
    above, below = threshold("", ">", "30", clear="28"), threshold("", "<=", "10", clear="12")
    assert [seen(above, value) for value in (31, 30, 28.1, 28, 5)] == [True, None, None, False, False]
    assert [seen(below, value) for value in (10, 11, 12, 12.1)] == [True, None, None, False]
    assert above.sees({"a": 1}) is None
    deep = threshold("t", ">", "30", clear="28")
    assert seen(deep, {"t": [29, 5]}) is None  # all of them have to be past it


def test_a_range_matches_outside() -> None:
    rule = Rule.of(1, "range", "", "=", "-5 .. 10.5")
    assert [seen(rule, value) for value in (-5.1, -5, 0, 10.5, 11, "x", True)] == [
        *(True, False, False, False, True),
        *(None, None),
    ]
    inner = Rule.of(1, "range", "", "=", "0..10", clear="2..8")
    assert [seen(inner, value) for value in (11, 9, 8, 2, 1, -1)] == [True, None, False, False, None, True]


def test_any_change() -> None:
    rule = Rule.of(1, "change", "t", "=", "")
    values = [{"t": "a"}, {"t": "a"}, {"t": "b"}, {"other": 1}, {"t": "b"}, {"t": "a"}]
    assert run(rule, *values) == [None, False, True, None, False, True]
    values = [{"t": 1}, {"t": 1.0}, {"t": "1"}, {"t": "01"}, {"t": True}, {"t": "true"}, {"t": [1, 2]}]
    assert run(rule, *values) == [None, False, False, True, True, True, True]
    assert run(rule, {"t": [1, 2]}, {"t": [1, 2]}, {"t": [1, 3]}) == [None, False, True]
    long = "x" * 60_000
    assert run(rule, {"t": long}, {"t": long}, {"t": long + "y"}) == [None, False, True]


def test_a_change_by_more_than() -> None:
    rule = Rule.of(1, "change", "t", "=", "2", clear="1")
    values = [{"t": value} for value in (1, 3, 5.5, 7, 8, "x", 11)]
    assert run(rule, *values) == [None, None, True, None, False, None, True]


def test_a_rate_is_of_its_window() -> None:
    rule = Rule.of(1, "rate", "", "=", "10", window=60)
    assert run(rule, 0, 5, 10, 15, 20, step=20) == [None, False, False, True, True]
    assert run(rule, 0, 9, 18, 27, step=60) == [None, False, False, False]
    assert run(rule, 0, 11, step=61) == [None, None]
    assert run(rule, 50, 39, 39, 39, 39, 39, step=20) == [None, True, True, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-100, 100)), max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_rate_is_that_of_a_plain_comparison(steps: list[tuple[int, int]]) -> None:
    rule = Rule.of(1, "rate", "", "=", "50", window=100)
    memory, at = Memory(), 0
    before: list[tuple[int, int]] = []
    for wait, value in steps:
        at += wait
        found = rule.sees(value, at * SECOND, memory)
        window = [each for moment, each in before if moment >= at - 100]
        assert len(memory.highest) <= MAX_SAMPLES
        if len(window) < MAX_SAMPLES:
            assert (found is None) == (not window)
            assert bool(found and found.matched) == any(abs(value - each) > 50 for each in window)
        elif found and found.matched:  # with very many, it may miss some, and makes up none
            assert any(abs(value - each) > 50 for each in window)
        before.append((at, value))


def test_the_memory_of_a_rate_is_bounded_and_sees_a_long_climb() -> None:
    rule = Rule.of(1, "rate", "", "=", "5000", window=86_400)
    memory = Memory()
    answers = [rule.sees(value, value * SECOND, memory) for value in range(20_000)]
    first = next(number for number, found in enumerate(answers) if found and found.matched)
    assert first == 5001
    assert len(memory.dump()) < 4096


def trend(operator: str, threshold: str, window: int = 600, period: int = 3600) -> Rule:
    return Rule.of(1, "trend", "", operator, threshold, window=window, period=period)


def test_a_trend_looks_ahead() -> None:
    rising = [50 + minute / 2 for minute in range(11)]  # a percent in two minutes, 30 an hour
    assert run(trend(">=", "85"), *rising, step=60) == [None] * 5 + [False] * 5 + [True]
    assert run(trend(">=", "60"), *rising, step=60) == [None] * 5 + [True] * 6
    assert run(trend("<", "10"), *[100 - each for each in rising], step=60)[5:] == [False] * 6
    assert run(trend("<", "20"), *[100 - each for each in rising], step=60)[5:] == [True] * 6
    assert run(trend(">=", "90"), *[50] * 11, step=60)[5:] == [False] * 6
    assert run(trend(">=", "90"), *[95] * 11, step=60)[5:] == [True] * 6  # it is there already


def test_a_trend_is_not_that_of_one_spike() -> None:
    values = [50.0] * 20
    values[12] = 60.0
    assert not any(run(trend(">=", "100", period=600), *values, step=60))


def test_a_trend_forgets_what_is_older_than_its_window() -> None:
    assert run(trend(">=", "85"), *range(10, 80, 10), *[70] * 30, step=60)[-1] is False
    assert run(trend(">=", "85"), 10, 20, 30, step=3600) == [None, None, None]


def test_the_memory_of_a_trend_is_bounded() -> None:
    rule, memory = trend(">=", "1e9", window=86_400, period=86_400), Memory()
    for second in range(0, 100_000, 10):
        rule.sees(second, second * SECOND, memory)
        assert len(memory.highest) <= MAX_SAMPLES + 1
    assert len(memory.dump()) < 2048


def test_what_comes_late_is_not_compared_with_what_is_newer() -> None:
    rule = Rule.of(1, "change", "", "=", "")
    memory = Memory()
    assert rule.sees("a", 10, memory) is None
    assert rule.sees("b", 9, memory) is None
    assert rule.sees("a", 10, memory) == Verdict(False, "a")


def test_a_changed_event_forgets() -> None:
    memory = Memory()
    Rule.of(1, "change", "a", "=", "").sees({"a": 1, "b": 2}, 10, memory)
    assert Rule.of(1, "change", "b", "=", "").sees({"a": 1, "b": 2}, 5, memory) is None
    assert Rule.of(1, "change", "b", "=", "").sees({"a": 1, "b": 3}, 6, memory) == Verdict(True, "3")


def test_devices_are_a_pattern() -> None:
    def watches(pattern: str, device_id: str) -> bool:
        return threshold("", ">", "1", devices=pattern).watches(device_id)

    assert watches("", "")
    assert watches("", "any")
    assert not watches("*", "")
    assert watches("*", "any")
    assert watches("room-?", "room-1")
    assert not watches("room-?", "room-12")
    assert not watches("room", "ROOM")
    assert watches("a[1]*", "a[1]b")
    assert not watches("a[1]*", "a1b")
    started = time.monotonic()
    assert not watches("*a" * 31 + "*b", "a" * 64)
    assert time.monotonic() - started < 1


# Against a plain evaluator

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(["", "a", "5", "-3.5", "007", "1e5", "nan", "ON", " 7"])
)
KEYS = st.sampled_from(["a", "b", "value", "value1", "value2", "0", "1", "a:b", "", "b:0"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
).filter(lambda value: not isinstance(value, list))
SOURCES = st.lists(KEYS, max_size=3).map(":".join)
LIMITS = st.sampled_from(["5", "-3.5", "0", "1e+5", "20", "007", "ON", "true", "9223372036854775807"])


def plain_values(value: Any, steps: list[str]) -> list[Any]:
    if isinstance(value, list):
        if steps and steps[0] in {"0", "1"}:
            return plain_values(value[int(steps[0])], steps[1:]) if len(value) > int(steps[0]) else []
        return [found for each in value for found in plain_values(each, steps)]
    if not steps:
        return [] if value is None or isinstance(value, dict) else [value]
    if not isinstance(value, dict):
        return []
    if ":".join(steps) in value:
        return plain_values(value[":".join(steps)], [])
    return plain_values(value[steps[0]], steps[1:]) if steps[0] in value else []


def plain(value: Any, source: str, operator: str, limit: str) -> bool | None:
    if not isinstance(value, dict):
        found = [value] if source in {"", "value", "value1"} and value is not None else []
    elif not source:
        found = []
    else:
        steps = source.split(":")
        if steps[0] == "value1" and "value1" not in value and source not in value:
            found = plain_values(value["value"], steps[1:]) if "value" in value else []
        else:
            found = plain_values(value, steps)
    answers = [answer for each in found if (answer := plain_compare(each, operator, limit)) is not None]
    return any(answers) if answers else None


def plain_compare(value: Any, operator: str, limit: str) -> bool | None:
    def number(each: Any) -> float | int | None:
        if isinstance(each, bool) or each in ("", "a", "007", "1e5", "nan", "ON", "true"):
            return None
        return each if isinstance(each, int | float) else json.loads(each)

    left, right = number(value), number(limit)
    if left is None or right is None:
        text = value if isinstance(value, str) else json.dumps(value)
        return {"=": text == limit, "!=": text != limit}.get(operator)
    return {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        ">": left > right,
        "<=": left <= right,
        ">=": left >= right,
    }[operator]


@given(VALUES, SOURCES, st.sampled_from(["=", "!=", "<", ">", "<=", ">="]), LIMITS)
@settings(max_examples=1000, deadline=None)
def test_a_threshold_is_that_of_a_plain_evaluator(value: Any, source: str, operator: str, limit: str) -> None:
    value = orjson.loads(orjson.dumps(value))
    if operator not in {"=", "!="} and limit in {"007", "ON", "true"}:
        limit = "7"
    assert seen(threshold(source, operator, limit), value) is plain(value, source, operator, limit)


@given(
    VALUES,
    st.lists(
        st.tuples(
            st.sampled_from(["threshold", "range", "change"]),
            SOURCES,
            st.sampled_from(["=", "<", ">", "<=", ">="]),
            st.floats(-30, 30),
            st.floats(0, 30),
        ),
        max_size=5,
    ),
)
@settings(max_examples=1000, deadline=None)
def test_what_is_quiet_matches_nothing(value: Any, fields: list[tuple[str, str, str, float, float]]) -> None:
    value = orjson.loads(orjson.dumps(value))
    rules = [
        Rule.of(1, kind, source, operator, f"{low}..{low + width}" if kind == "range" else f"{low}")
        for kind, source, operator, low, width in fields
    ]
    if ChannelRules(rules).quiet(value):
        assert not any(rule.remembers or seen(rule, value) for rule in rules)


def test_the_usual_datapoint_is_quiet() -> None:
    rules = ChannelRules(
        [
            threshold("temp", ">", "30", clear="28"),
            threshold("temp", "<", "-10"),
            threshold("temp", "=", "13"),
            threshold("state", "=", "error"),
            threshold("cpu:idle", "<", "5"),
            Rule.of(1, "range", "hum", "=", "20..80"),
            threshold("value1", ">", "7"),
        ]
    )
    assert rules.quiet({"temp": 21.5, "hum": 50, "cpu": {"idle": 93.1}, "other": "x"})
    assert rules.quiet({})
    assert rules.quiet(5)
    for value in (
        {"temp": 30.1},
        {"temp": 13},
        {"temp": "20"},
        {"hum": 80.5},
        {"cpu": {"idle": 4}},
        {"cpu": [{"idle": 4}]},
        {"cpu:idle": 4},
        {"state": "error"},
        {"value": 8},
        {"value1": 8},
        8,
        "on",
        True,
    ):
        assert not rules.quiet(value), value
    assert not ChannelRules([Rule.of(1, "change", "t", "=", "")]).quiet({"t": 1})
    assert not ChannelRules([threshold("t", "!=", "5")]).quiet({"t": 5})


def test_a_limit_at_the_end_of_a_double() -> None:
    assert seen(threshold("", "<", "1e308"), 1e308) is False
    rule = Rule.of(1, "change", "", "=", "1")
    assert run(rule, -1e308, 1e308) == [None, True]
