"""What a mapping makes of a message, and what it may not be."""

import re
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from thingscale.intakes.formats.mapped import BadMapping, compile
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.intakes.formats.ruuvi import advertised
from thingscale.lib.reasons import Reason

NOW = 1_770_000_000_000_000  # 2026-02-02
AT = 1_769_867_130_000_000  # 2026-01-31T13:45:30Z


def decode(
    mapping: dict[str, Any], body: Any, topic: str | None = None, headers: dict[str, str] | None = None
) -> list[Reading]:
    written = body if isinstance(body, bytes) else orjson.dumps(body)
    return compile(mapping).decode(topic, headers or {}, written, NOW)


def one(**rule: Any) -> dict[str, Any]:
    return {"rules": [{"device": "d", "value": "{body}", **rule}]}


def value(body: Any, form: Any) -> Any:
    found = decode(one(value=form), body)
    return orjson.loads(found[0].value)


def refused(mapping: dict[str, Any], body: Any, topic: str | None = None) -> BadBody:
    with pytest.raises(BadBody) as raised:
        decode(mapping, body, topic)
    return raised.value


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


def test_the_first_rule_that_fits_takes_the_message() -> None:
    mapping = {
        "rules": [
            {"topic": "a/+/set", "ignore": True},
            {"topic": "a/#", "when": [{"field": "body.kind", "is": "x"}], "device": "x", "value": 1},
            {"topic": "a/#", "device": "{topic[1]}", "tag": "{topic[2:]}", "value": "{body.v}"},
        ]
    }
    assert decode(mapping, b"not JSON", "a/b/set") == []
    assert decode(mapping, {"kind": "x"}, "a/b") == [Reading("x", None, b"1", None)]
    assert decode(mapping, {"v": True}, "a/b/c/d") == [Reading("b", "c/d", b"true", None)]


@pytest.mark.parametrize(
    ("condition", "fitting", "other"),
    [
        ({"exists": True}, [0, "", False, {}, []], [None]),
        ({"exists": False}, [None], [0]),
        ({"is": 1}, [1, 1.0], [True, "1", None, [1]]),
        ({"is": True}, [True], [1, "true"]),
        ({"is_not": "a"}, ["b", None, 1], ["a"]),
        ({"in": ["a", 2]}, ["a", 2], [True, "2"]),
        ({"not_in": ["a", 2]}, ["b", None], ["a", 2]),
        ({"kind": "object"}, [{}], [[], None, "x"]),
        ({"kind": "number"}, [1, 1.5], [True, "1"]),
        ({"kind": "text"}, ["x"], [1]),
    ],
)
def test_conditions(condition: dict[str, Any], fitting: list[Any], other: list[Any]) -> None:
    mapping = one(when=[{"field": "body.x", **condition}], value=1)
    for found in fitting:
        assert len(decode(mapping, {"x": found})) == 1
    for found in other:
        assert "No rule fits" in str(refused(mapping, {"x": found}))


@pytest.mark.parametrize(
    ("body", "form", "expected"),
    [
        ({"a": [1, {"b": 2}]}, "{body.a[1].b}", 2),
        ({"a": [1, 2]}, "{body.a[-1]}", 2),
        ({"a.b": {"c[0]": 3}}, '{body["a.b"]["c[0]"]}', 3),
        ({"a": 1, "b": "x"}, "{body.a}-{body.b}", "1-x"),
        ({"a": 1}, "{{{body.a}}}", "{1}"),
        ({"a": "", "b": None}, "{body.a}!", "!"),
        ({"a": " X "}, "{body.a|trim|lower}", "x"),
        ({"a": "23.40"}, "{body.a|number}", 23.4),
        ({"a": "007"}, "{body.a|bare}", "007"),
        ({"a": "true"}, "{body.a|bare}", True),
        ({"a": "gkHe"}, "{body.a|base64_hex}", "8241de"),
        ({"a": "_-8"}, "{body.a|base64_hex}", "ffef"),
        ({"a": "0A:1b"}, "{body.a|hex}", "0a1b"),
        ({"a": "x/y/z"}, "{body.a|level:1}", "y"),
        ({"a": "1;2"}, "{body.a|split:;|at:1|number}", 2),
        ({"a": {"z": 1, "b": "x", "host": "h"}}, "{body.a|pairs:host}", "b=x/z=1"),
        ({"a": 1}, {"x": "{body.a}", "y": "{body.none}", "z": {"w": 5}}, {"x": 1, "z": {"w": 5}}),
        ({"n": ["a", "b", "c"], "v": [1, None, 2]}, {"$zip": ["body.n", "body.v"]}, {"a": 1, "c": 2}),
        ({"a": 1, "b": 2}, {"$without": ["b"], "of": "body"}, {"a": 1}),
        ({"a": {"x": 1}, "b": {"y": 2}}, {"$merge": ["{body.a}", "{body.b}", "{body.c}"]}, {"x": 1, "y": 2}),
        ({"a": [1, 2]}, "{body.a}", {"value": [1, 2]}),
        ([1, 2], "{body}", {"value": [1, 2]}),
        ({}, 7, 7),
    ],
)
def test_values(body: Any, form: Any, expected: Any) -> None:
    assert value(body, form) == expected


def test_the_whole_body_keeps_each_digit() -> None:
    assert decode(one(), b'{"a": 1.10}\n')[0].value == b'{"a": 1.10}'
    assert decode(one(), b"12345678901234567890123")[0].value == b"12345678901234567890123"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("bare", b"21.50", b"21.50"),
        ("bare", b"ON\r\n", b'"ON"'),
        ("bare", b"12E4", b'"12E4"'),
        ("bare", b"04A1B2", b'"04A1B2"'),
        ("bare", b"true", b"true"),
        ("bare", b'{"a":1}', b'{"a":1}'),
        ("bare", b"[1]", b'{"value":[1]}'),
        ("text", b"21.50", b'"21.50"'),
        ("hex", b"\x00\xff", b'"00ff"'),
        ("bare", b"", None),
        ("bare", b"null", None),
        ("json", b"null", None),
        ("hex", b"", None),
    ],
)
def test_kinds_of_bodies(kind: str, body: bytes, expected: bytes | None) -> None:
    found = decode(one(body=kind, may_be_empty=True), body)
    assert [reading.value for reading in found] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("form", "written", "at"),
    [
        ("{body.t|s}", 1769867130, AT),
        ("{body.t|s}", "1769867130", AT),
        ("{body.t|s}", 1769867130.123456, AT + 123456),
        ("{body.t|ms}", 1769867130123, AT + 123000),
        ("{body.t|us}", AT + 1, AT + 1),
        ("{body.t|ns}", AT * 1000 + 1999, AT + 1),
        ("{body.t|iso}", "2026-01-31T13:45:30.123456789Z", AT + 123456),
        ("{body.t|iso}", "2026-01-31T14:45:30+0100", AT),
        ("{body.t}", 1769867130, AT),
        ("{body.t}", 1769867130123, AT + 123000),
        ("{body.t}", AT, AT),
        ("{body.t}", AT * 1000, AT),
        ("{body.t}", "2026-01-31 13:45:30Z", AT),
        ("{body.t|s}", None, None),
        (["{body.none|ms}", "{body.t|s}"], 1769867130, AT),
    ],
)
def test_times(form: Any, written: Any, at: int | None) -> None:
    assert decode(one(time=form, value=1), {"t": written}) == [Reading("d", None, b"1", at)]


@pytest.mark.parametrize(
    "written",
    [
        0,
        -1,
        915148800,
        2e9,
        1e400 if False else 9e18,
        "yesterday",
        True,
        {},
        "2026-01-31T13:45:30",
        "x" * 100,
    ],
)
def test_times_that_are_refused(written: Any) -> None:
    bad = refused(one(time="{body.t}", value=1), {"t": written})
    assert bad.reason is Reason.BAD_JSON_FORMAT
    assert str(bad).startswith("The time ")


def test_alternatives_of_a_name() -> None:
    mapping = one(device=["{body.a}", "{body.b}-{body.c}", "x"], tag=["{body.tag}", ""], value=1)
    assert decode(mapping, {"a": "A"})[0][:2] == ("A", None)
    assert decode(mapping, {"a": "", "b": "B", "c": 3, "tag": "t"})[0][:2] == ("B-3", "t")
    assert decode(mapping, {"b": "B"})[0].device_id == "x"


def test_names_of_any_program_become_names_of_ours() -> None:
    found = decode(one(device="{body.d}", tag="{body.t}", value=1), {"d": "a/b", "t": "/x#"})
    assert found[0][:2] == ("a%2Fb", "%2Fx%23")


@pytest.mark.parametrize(
    ("rule", "body", "reason", "detail"),
    [
        ({}, b"{", Reason.BAD_JSON_FORMAT, "The body is not whole JSON: "),
        ({}, b"\xff", Reason.BAD_JSON_FORMAT, "The body is not whole JSON: "),
        ({"body": "bare"}, b"{", Reason.BAD_JSON_FORMAT, "The body is not whole JSON."),
        ({"body": "text"}, b"\xff", Reason.BAD_JSON_FORMAT, "The body is not UTF-8: send text."),
        ({"body": "sparkplug"}, b"x", Reason.BAD_JSON_FORMAT, "metrics[0] or what follows"),
        ({"device": "{body.d}"}, b"{}", Reason.DEVICE_ID_ZERO, "There is no device id in it: "),
        ({"tag": "{body.t}"}, b"{}", Reason.BAD_PARAMETER, "There is no tag in it: "),
        (
            {"value": "{body.v}"},
            b"{}",
            Reason.BAD_JSON_FORMAT,
            'There is no value in it: looked for "{body.v}".',
        ),
        ({"value": "{body.v}"}, b'{"v":"\\u0000"}', Reason.NUL_CHARACTER, "The value has a NUL character."),
        ({"value": "{body.v|hex}"}, b'{"v":"x"}', Reason.BAD_JSON_FORMAT, "What the mapping reads is no hex"),
        (
            {"each": "body.v"},
            b'{"v":1}',
            Reason.BAD_JSON_FORMAT,
            "body.v: there is no array and no object to step",
        ),
        (
            {"device": "{body.d}"},
            b'{"d":"%s"}' % (b"x" * 1025),
            Reason.BAD_PARAMETER,
            "The device id has more",
        ),
        ({}, b"[" * 40 + b"]" * 40, Reason.BAD_JSON_FORMAT, "The value is nested deeper than 32 levels."),
        ({}, b'"%s"' % (b"x" * 65536), Reason.TOO_LARGE, "The value is larger than 64 KiB."),
    ],
)
def test_what_is_wrong_with_a_message(rule: Any, body: bytes, reason: Reason, detail: str) -> None:
    bad = refused(one(**rule), body)
    assert bad.reason is reason
    assert str(bad).startswith(detail)
    assert str(bad).endswith(".") or "?" in str(bad)


def test_the_first_bad_element_is_named() -> None:
    mapping = one(each="body.list", device="{each.d}", value="{each.v}")
    bad = refused(mapping, {"list": [{"d": "a", "v": 1}, {"v": 2}, {"v": 3}]})
    assert str(bad) == "body.list[1]: there is no device id in it: see the mapping's device."
    mapping = one(each=["body", "each.value.x"], value="{each2|number}", time="{each2|s}")
    bad = refused(mapping, {"k": {"x": [1769867130, 5]}})
    assert str(bad).startswith('body["k"].value.x[1]: the time 5 is not from 2000-01-01')


def test_no_rule_fits() -> None:
    mapping = one(topic="a/+", when=[{"field": "body.x", "is": 1}])
    bad = refused(mapping, {"x": 2}, "a/b")
    assert bad.reason is Reason.UNKNOWN_TOPIC
    assert str(bad).startswith("No rule fits the topic 'a/b'")
    assert refused(mapping, {"x": 2}).reason is Reason.BAD_JSON_FORMAT


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Cookie",
        "set-cookie",
        "proxy-authorization",
        "X-DEVICETOKEN",
        "x-apitoken",
        "x-api-key",
        "x-downlink-apikey",
        "x-forwarded-for",
        "forwarded",
        "x-hub-signature",
    ],
)
@pytest.mark.parametrize("form", ["header.{}", 'header["{}"]'])
def test_what_senders_sign_in_with_is_out_of_reach(name: str, form: str) -> None:
    for mapping in (
        one(device="{" + form.format(name) + "}"),
        one(value={"a": "{" + form.format(name) + "}"}),
        one(when=[{"field": form.format(name), "exists": True}]),
        one(each=form.format(name)),
    ):
        with pytest.raises(BadMapping, match="out of reach"):
            compile(mapping)


DEEP: Any = []
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        (None, "The mapping has to be a JSON object."),
        ([], "The mapping has to be a JSON object."),
        ({"rules": DEEP}, "The mapping is no JSON object: "),
        ({"rules": object()}, "The mapping is no JSON object: "),
        ({1: 2}, "The mapping is no JSON object: "),
        ({"rules": ["\ud800"]}, "The mapping is no JSON object: "),
        ({}, "rules has to be an array."),
        ({"rules": []}, "rules is empty: "),
        ({"rules": [{}] * 33}, "rules has more than 32 elements."),
        ({"rules": [{"note": "x" * 20_000}]}, "The mapping has more than 16 KiB: "),
        ({"rules": [1]}, "rules[0] has to be a JSON object."),
        ({"rules": [{}], "x": 1}, "x is not known here: there are body, rules."),
        (one(code="import os"), "rules[0].code is not known here: there are "),
        (one(regex="(a+)+$"), "rules[0].regex is not known here: "),
        (one(body="xml"), "rules[0].body has to be one of json, bare, text, hex, sparkplug."),
        (one(topic="a#"), "rules[0].topic has a + or # that is no whole level"),
        (one(topic="#/a"), "rules[0].topic has a + or # "),
        (one(topic=1), "rules[0].topic has to be an MQTT topic filter"),
        (one(ignore=True), "rules[0].device is not known here: "),
        (one(may_be_empty=1), "rules[0].may_be_empty has to be true or false."),
        ({"rules": [{"device": "x"}]}, "rules[0].value is missing: "),
        ({"rules": [{"value": 1}]}, "rules[0].device is missing: "),
        (one(readings=[{}]), "rules[0].value stands beside readings: "),
        (one(device=1), 'rules[0].device has to be text such as "{body.name}".'),
        (one(device=[]), "rules[0].device is empty: "),
        (one(device="{bdy.x}"), "rules[0].device has 'bdy': a path begins with topic, header, body or each."),
        (one(device="{body.x"), "rules[0].device has a { without its }"),
        (one(device="body.x}"), "rules[0].device has a } without its {"),
        (one(device="{}"), "rules[0].device has '': a path begins with "),
        (one(device="{body..x}"), "rules[0].device has a dot with no name behind it."),
        (one(device="{body[x]}"), "rules[0].device has '[x]': in brackets stands "),
        (one(device="{body[1:2]}"), "rules[0].device has [from:to], which only a topic has."),
        (one(device='{body["x}'), 'rules[0].device has [" without its "].'),
        (one(device="{body[1]x}"), "rules[0].device can't be read from 'x' on."),
        (one(device="{topic.x}"), "rules[0].device has a path behind topic: "),
        (one(device="{header}"), "rules[0].device has to name one header, as in header.x-name."),
        (one(device="{body.x|exec}"), "rules[0].device has the filter 'exec': there are "),
        (one(device="{body.x|lower:1}"), "rules[0].device has lower:, and that filter takes nothing"),
        (one(device="{body.x|level}"), "rules[0].device has level without what belongs behind it"),
        (one(device="{body.x|level:a}"), "rules[0].device has level:a, where a number belongs"),
        (one(device="{body.x|lower|lower|lower|lower|lower}"), "rules[0].device has more than 4 filters."),
        (one(device="{body.x|s}"), "rules[0].device has the filter s, which only a time has."),
        (one(device="{body%s}" % (".x" * 16)), "rules[0].device goes deeper than 16 levels."),
        (one(device="{body.x}" * 17), "rules[0].device has more than 16 paths in braces."),
        (one(device="x" * 513), "rules[0].device is longer than 512 characters."),
        (one(device="{each.x}"), "rules[0].device reads each, but there are 0 steps in each."),
        (one(each=["body", "each2.x"]), "rules[0].each reads each2 in step 2, where it is not known yet."),
        (one(each=["body"] * 4), "rules[0].each has more than 3 elements."),
        (one(time="{body.x|s|trim}"), "rules[0].time has a filter behind the one that says"),
        (one(time="x"), "rules[0].time has to be one path in braces"),
        (one(time="{body.x}{body.y}"), "rules[0].time has to be one path in braces"),
        (one(value=None), "rules[0].value has to be a JSON object."),
        (one(value={}), "rules[0].value has to have 1 to 64 keys."),
        (one(value={"a": {"a": {"a": {"a": {"a": 1}}}}}), "rules[0].value.a.a.a.a is nested deeper than 4"),
        (one(value={str(n): "{body|trim}" for n in range(64)}), "rules[0].value has more than 64 paths"),
        (one(value={"$zip": ["body"]}), "rules[0].value.$zip has to be two paths"),
        (one(value={"$zip": 1, "x": 1}), "rules[0].value.x is not known here: there are $zip."),
        (one(value={"$without": [1], "of": "body"}), "rules[0].value.$without has to be an array of texts."),
        (one(when={}), "rules[0].when has to be an array."),
        (one(when=[{"field": "body.x"}]), "rules[0].when[0] has to have one of exists, in, is, "),
        (one(when=[{"field": "body.x", "is": {}}]), "rules[0].when[0].is compares with text, "),
        (one(when=[{"field": "body.x", "matches": ".*"}]), "rules[0].when[0].matches is not known here"),
        (one(when=[{"field": "body.x", "kind": "x"}]), "rules[0].when[0].kind has to be one of array, "),
        (one(when=[{"is": 1}]), 'rules[0].when[0].field has to be a path such as "body.name".'),
    ],
)
def test_mappings_that_are_refused(mapping: Any, sentence: str) -> None:
    with pytest.raises(BadMapping, match="^" + re.escape(sentence)):
        compile(mapping)


BIG = 4 * 1024 * 1024
MANY = b"[" + b",".join([b"1"] * 20_001) + b"]"


@pytest.mark.parametrize(
    ("rule", "body", "detail"),
    [
        ({}, b" " * (BIG + 1), "The body has more than"),
        ({"each": "body", "value": "{each}"}, MANY, "there are more than 20000 readings"),
        # Elements that make nothing, three steps deep, for each of 16 readings.
        (
            {
                "readings": [{"value": "{each2}"}] * 16,
                "each": ["body", "each"],
                "value": None,
            },
            b"[" + b",".join([b"[]"] * 1_000_000) + b"]",
            "makes too much work",
        ),
        # The body in each of its elements, and many times over in one value.
        (
            {"each": "body", "value": {"a": "{body}", "b": "{each}"}},
            MANY,
            "all values together have more than",
        ),
        (
            {"value": {str(n): "{body.x}" for n in range(60)}},
            b'{"x":"%s"}' % (b"x" * 60_000),
            "is larger than 64 KiB",
        ),
        (
            {"value": {str(n): "{body}" for n in range(60)}},
            b"[%s]" % b",".join([b"[[[[]]]]"] * 400_000),
            "is larger than 64 KiB",
        ),
        # A long text in each of many elements: in values, in names, in conditions and in filters.
        (
            {"each": "body.e", "value": "{body.x}"},
            b'{"x":"%s","e":[%s]}' % (b"x" * 60_000, b",".join([b"1"] * 19_000)),
            "all values together have more than",
        ),
        (
            {"each": "body.e", "value": "{each}", "tag": "{body.x}"},
            b'{"x":"%s","e":[1,1]}' % (b"x" * 60_000),
            "the tag has more than 1024 characters",
        ),
        (
            {"each": "body.e", "value": "{each}", "when": [{"field": "body.x|split:x|at:1", "is": "y"}] * 16},
            b'{"x":"%s","e":[%s]}' % (b"x" * 65_000, b",".join([b"1"] * 19_000)),
            "No rule fits",
        ),
        (
            {"each": "body.e", "value": "{each}", "when": [{"field": "each.a", "exists": True}] * 16},
            b'{"e":[%s]}' % b",".join([b"{}"] * 1_000_000),
            "makes too much work",
        ),
        (
            {
                "each": ["body.e", "body.e"],
                "value": "{each2|split:x|at:99999|lower}{body.x|upper}",
            },
            b'{"x":"%s","e":[%s]}' % (b"x" * 65_000, b",".join([b'"xxx"'] * 5_000)),
            "makes too much work",
        ),
        ({"value": "{body.x}" * 16}, b'{"x":"%s"}' % (b"x" * 65_000), "makes more than 65536 characters"),
        ({"value": "{body.x|lower}"}, b'{"x":"%s"}' % (b"x" * 70_000), "has more than 65536 characters"),
        ({"value": "{body|pairs:}"}, b'{"a":"%s"}' % (b"x" * 60_000), "in its pairs"),
        ({"value": "{body}"}, b"[" * 100_000, "not whole JSON"),
    ],
)
def test_hostile_messages_end_soon(rule: dict[str, Any], body: bytes, detail: str) -> None:
    mapping = one(**rule)
    if rule.get("value", "") is None:
        del mapping["rules"][0]["value"]
    compiled = compile(mapping)
    started = time.process_time()
    with pytest.raises(BadBody, match=detail):
        compiled.decode("t", {}, body, NOW)
    assert time.process_time() - started < 3


def test_a_topic_has_an_end() -> None:
    assert refused(one(device="{topic[0]}"), b"1", "a/" * 3000).reason is Reason.UNKNOWN_TOPIC


def test_ruuvi_format_5() -> None:
    """The test vectors of its documentation: usual, greatest, least and no values."""
    head = "02011A1BFF9904"
    assert advertised(head + "0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F") == {
        "temperature": 24.3,
        "humidity": 53.49,
        "pressure": 100044,
        "accelX": 0.004,
        "accelY": -0.004,
        "accelZ": 1.036,
        "voltage": 2.977,
        "txPower": 4,
        "movementCounter": 66,
        "measurementSequenceNumber": 205,
    }
    greatest = advertised(head + "057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F")
    assert greatest
    assert (greatest["temperature"], greatest["humidity"], greatest["voltage"]) == (163.835, 163.835, 3.646)
    least = advertised(head + "058001000000008001800180010000000000CBB8334C884F")
    assert least
    assert (least["temperature"], least["pressure"], least["txPower"]) == (-163.835, 50000, -40)
    assert advertised(head + "058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF") == {}
    for other in ("", "xyz", "02011A0303AAFE", head + "03", "05", "ff" * 2000):
        assert advertised(other) is None


def test_the_example_of_the_guide() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mappings.md").read_text()
    mapping = orjson.loads(page.partition("```json\n")[2].partition("```")[0])
    body = page.partition('`{"kind"')[2].partition("`")[0]
    found = decode(mapping, b'{"kind"' + body.encode(), "site/7/report")
    assert found == [
        Reading("7-roof", "wind", b"3.2", AT),
        Reading("7-roof", "rain", b"0", AT),
        Reading("7-roof", "status", b'{"battery":87}', AT),
    ]
    assert decode(mapping, b"anything", "site/7/set") == []
