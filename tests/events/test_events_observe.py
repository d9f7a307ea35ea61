"""A batch is looked at by columns; the same comes of it as of each datapoint by itself."""

from collections.abc import Sequence
from typing import Any, cast

import orjson
import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from thingscale.events.channel_rules import MAX_COLUMNS, MAX_KEYS, ChannelRules, suspicious
from thingscale.events.evaluate import Rule
from thingscale.events.models import Observation
from thingscale.events.observe import observe
from thingscale.events.rules import WatchedChannel
from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk, UserPk
from thingscale.streams.writer import Row

MATCHED, CLEARED = Observation.What.MATCHED, Observation.What.CLEARED
LEAVES = (
    st.none() | st.booleans() | st.integers(-20, 20) | st.floats(-20, 20) | st.sampled_from(["on", "7", ""])
)
KEYS = st.sampled_from(["a", "b", "value", "value1", "a:b"])
VALUES = LEAVES.filter(lambda value: value is not None) | st.dictionaries(
    KEYS, LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(KEYS, LEAVES, max_size=2), max_size=4
)
FIELDS = st.tuples(
    st.sampled_from(["threshold", "threshold", "threshold", "range"]),
    st.sampled_from(["a", "b", "a", "value1", "a:b", ""]),
    st.sampled_from(["<", ">", "<", ">", "<=", ">=", "=", "!="]),
    st.integers(-20, 20),
    st.integers(0, 40),
)


def written(value: Any, escaped: bool) -> bytes:
    """As JSON; a key may be written in more than one way."""
    text = orjson.dumps(value)
    return text.replace(b'"a"', b'"\\u0061"').replace(b'"value', b'"valu\\u0065') if escaped else text


class NoCursor:
    def execute(self, *_: Any) -> "NoCursor":
        return self

    def fetchall(self) -> list[tuple[int, int]]:
        return [(0, 0)]  # wait


@given(
    st.lists(st.lists(FIELDS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), VALUES, st.booleans()), max_size=40),
)
@settings(max_examples=400, deadline=None)
def test_columns_are_as_one_by_one(
    fields: list[list[tuple[str, str, str, int, int]]], points: list[tuple[int, int, Any, bool]]
) -> None:
    rules = {
        channel: [
            Rule.of(
                10 * channel + number,
                kind,
                source,
                operator,
                f"{low}..{low + width}" if kind == "range" else f"{low}",
            )
            for number, (kind, source, operator, low, width) in enumerate(of_channel)
        ]
        for channel, of_channel in enumerate(fields)
    }
    watched = {
        ChannelPk(channel): WatchedChannel(UserPk(1), ChannelRules(each)) for channel, each in rules.items()
    }
    now = now_us()
    rows = [
        Row(ChannelPk(channel), now + place, None, cast(Any, tag), written(value, escaped), None)
        for place, (channel, tag, value, escaped) in enumerate(points)
    ]
    expected: list[tuple[int, int, int, int]] = []
    still_open: set[tuple[int, int]] = set()
    for row in rows:
        for rule in rules.get(row.channel, ()):
            seen, key = rule.sees(row.value), (rule.event, row.tag or 0)
            if seen and seen.matched:
                still_open.add(key)
                expected.append((*key, MATCHED, row.at))
            elif seen and key in still_open:
                still_open.discard(key)
                expected.append((*key, CLEARED, row.at))
    found = observe(cast(psycopg.Cursor, NoCursor()), rows, watched, {})
    assert sorted((row.event, row.tag, row.what, row.at) for row in found.rows) == sorted(expected)


def rules_of(*fields: tuple[str, str, str]) -> ChannelRules:
    return ChannelRules([Rule.of(number, "threshold", *each) for number, each in enumerate(fields)])


def suspects(texts: Sequence[bytes], *rules: ChannelRules) -> set[int] | None:
    return suspicious([orjson.loads(text) for text in texts], b",".join(texts), rules)


def test_columns_find_what_is_not_between_the_limits_of_all_channels() -> None:
    first, second = rules_of(("t", ">", "30"), ("h", "<", "5")), rules_of(("t", "<", "-10"))
    calm = [b'{"t":20.5,"h":50}', b'{"t":20}', b'{"other":99}'] * 4
    assert suspects(calm, first, second) == set()
    loud = [b'{"t":30.5}', b'{"t":-11}', b'{"h":4}', b'{"\\u0074":31}']
    assert suspects([*calm, *loud], first, second) == {12, 13, 14, 15}


def test_bare_values_are_looked_at_where_a_source_is_the_value_itself() -> None:
    texts = [b"31", b'"on"', b'{"t":1}', b"true"]
    assert suspects(texts, rules_of(("t", ">", "30"))) is None  # not all are objects
    assert suspects(texts[:2] + texts[3:] * 2, rules_of(("t", ">", "30"))) == set()
    assert suspects([b'{"t":31}', b'{"value":1}', b"1", b"1"], rules_of(("value", ">", "30"))) is None
    assert suspects([b"31", b'"on"', b"1", b"true"], rules_of(("value", ">", "30"))) == {0, 1, 2, 3}


def test_many_keys_and_few_datapoints_are_not_compared_by_columns() -> None:
    texts = [b'{"k1":1}'] * 8
    assert suspects(texts, *[rules_of(("k1", ">", "5"))] * 2) == set()
    assert suspects(texts[:7], *[rules_of(("k1", ">", "5"))] * 2) is None
    many = rules_of(*((f"k{number}", ">", "5") for number in range(MAX_KEYS + 1)))
    assert suspects(texts, many) is None
    some = rules_of(*((f"k{number}", ">", "5") for number in range(MAX_COLUMNS + 1)))
    assert suspects(texts, some) == set()
    of_all = orjson.dumps({f"k{number}": 1 for number in range(MAX_COLUMNS + 1)})
    assert suspects([of_all] * 8, some) is None
