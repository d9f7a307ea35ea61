"""A batch is looked at by columns; the same comes of it as of each datapoint by itself."""

from typing import Any, cast

import orjson
import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from thingscale.events.channel_rules import ChannelRules
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


class NoCursor:
    def execute(self, *_: Any) -> None: ...


@given(
    st.lists(st.lists(FIELDS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), VALUES), max_size=30),
)
@settings(max_examples=400, deadline=None)
def test_columns_are_as_one_by_one(
    fields: list[list[tuple[str, str, str, int, int]]], points: list[tuple[int, int, Any]]
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
        Row(ChannelPk(channel), now + place, None, cast(Any, tag), orjson.dumps(value), None)
        for place, (channel, tag, value) in enumerate(points)
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
