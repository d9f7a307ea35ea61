"""What a mapping makes of a message, and what it may not be."""

from typing import Any

import orjson
import pytest

from thingscale.intakes.formats.mapped import BadMapping, compile
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.lib.reasons import Reason

NOW = 1_770_000_000_000_000  # 2026-02-02


def decode(
    mapping: dict[str, Any], body: Any, topic: str | None = None, headers: dict[str, str] | None = None
) -> list[Reading]:
    written = body if isinstance(body, bytes) else orjson.dumps(body)
    return compile(mapping).decode(topic, headers or {}, written, NOW)


def one(**rule: Any) -> dict[str, Any]:
    return {"rules": [{"device": "d", "value": "{body}", **rule}]}


def test_device_tag_value_and_time_of_one_message() -> None:
    rule = {
        "device": "{header.x-place}-{body.id}",
        "tag": "{topic[1]|lower}",
        "value": "{body.measured}",
        "time": "{body.at|s}",
    }
    body = {"id": 7, "at": 1769999999.5, "measured": {"t": 21.5}}
    found = decode({"rules": [rule]}, body, "site/ROOM", {"x-place": "cellar"})
    assert found == [Reading("cellar-7", "room", b'{"t":21.5}', 1769999999500000)]


def test_steps_through_arrays_and_objects() -> None:
    mapping = one(
        device="{each.gateway}",
        each=["body", "each.tags"],
        when=[{"field": "each2.value.rssi", "exists": True}],
        tag="{each2.key}",
        value="{each2.value.rssi}",
        time="{each2.value.ts|ms}",
    )
    body = [
        {"gateway": "g1", "tags": {"A": {"rssi": -70, "ts": NOW // 1000}, "B": {"other": 1}}},
        {"gateway": "g2", "tags": {"A": {"rssi": -60}}},
    ]
    assert decode(mapping, body) == [Reading("g1", "A", b"-70", NOW), Reading("g2", "A", b"-60", None)]


@pytest.mark.parametrize(
    "field", ["authorization", "Cookie", "X-DEVICETOKEN", "x-apitoken", "x-forwarded-for"]
)
def test_what_senders_sign_in_with_is_out_of_reach(field: str) -> None:
    with pytest.raises(BadMapping, match="out of reach"):
        compile(one(device=f"{{header.{field}}}"))


def test_no_rule_fits() -> None:
    mapping = one(topic="a/+", when=[{"field": "body.x", "is": 1}])
    with pytest.raises(BadBody, match="No rule fits the topic 'a/b'") as raised:
        decode(mapping, {"x": 2}, "a/b")
    assert raised.value.reason is Reason.UNKNOWN_TOPIC


def test_the_first_bad_element_is_named() -> None:
    mapping = one(each="body.list", device="{each.d}", value="{each.v}")
    with pytest.raises(BadBody, match=r"^body\.list\[1\]: there is no device id in it"):
        decode(mapping, {"list": [{"d": "a", "v": 1}, {"v": 2}]})
