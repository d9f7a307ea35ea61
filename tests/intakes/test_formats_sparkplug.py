"""Sparkplug B as bytes: what each field becomes, and payloads that want to be more than they are.

What the encoder of Eclipse Tahu makes is in payloads/sparkplug/.
"""

import struct
import time
from typing import Any

import pytest

from thingscale.intakes.formats import sparkplug
from thingscale.intakes.formats.readings import BadBody
from thingscale.lib.reasons import Reason


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def metric(*fields: bytes) -> bytes:
    return text(2, text(1, b"m") + b"".join(fields))


def value(*fields: bytes) -> Any:
    return sparkplug.decode(metric(*fields))["metrics"][0].get("value")


@pytest.mark.parametrize(
    ("datatype", "field", "expected"),
    [
        (1, number(10, 0xFD), -3),
        (1, number(10, 0xFFFFFFFD), -3),
        (3, number(10, 0xFFFFFFF9), -7),
        (4, number(11, 2**64 - 8), -8),
        (7, number(10, 2**32 - 1), 2**32 - 1),
        (8, number(11, 2**64 - 1), 2**64 - 1),
        (9, b"\x65" + struct.pack("<f", 21.3), 21.3),
        (9, b"\x65" + struct.pack("<f", 16777217), 16777216.0),
        (9, b"\x65" + struct.pack("<f", 3.4028234e38), 3.4028234663852886e38),
        (9, b"\x65" + struct.pack("<f", float("nan")), None),
        (10, b"\x69" + struct.pack("<d", 0.1), 0.1),
        (10, b"\x69" + struct.pack("<d", float("inf")), None),
        (11, number(14, 1), True),
        (12, text(15, "Brötchen".encode()), "Brötchen"),
        (13, number(11, 1769867130123), 1769867130123),
        (17, text(16, b"\x01\xff"), "01ff"),
        (23, text(16, struct.pack("<2h", -1, 300)), [-1, 300]),
        (30, text(16, struct.pack("<2f", 0.1, float("nan"))), [0.1, None]),
        (32, text(16, struct.pack("<I", 12) + b"\x80\x10"), [True, *[False] * 10, True]),
        (33, text(16, b"a\0\0"), ["a", ""]),
        (7, number(7, 1) + number(10, 5), None),
    ],
)
def test_values(datatype: int, field: bytes, expected: Any) -> None:
    assert value(number(4, datatype), field) == expected


def test_what_is_unknown_is_passed_over() -> None:
    assert value(text(9, b"properties"), text(19, b"x"), text(11, b"x"), number(10, 5), number(100, 1)) == 5


@pytest.mark.parametrize(
    "body",
    [
        b"\x12",
        b"\x12\xff",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x12\x05abc",
        b"\x0b",
        b"\xff" * 20,
        metric(text(15, b"\xff")),
        metric(number(4, 23), text(16, b"\x01")),
        metric(number(4, 32), text(16, b"\xff\xff\xff\xff\x01")),
        metric(number(4, 32), text(16, b"\x01")),
    ],
)
def test_what_is_no_payload_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody, match=r"^metrics\[0\] or what follows is no Sparkplug B payload") as raised:
        sparkplug.decode(body)
    assert raised.value.reason is Reason.BAD_JSON_FORMAT


def nested(depth: int) -> bytes:
    made = number(10, 1)
    for _ in range(depth):
        made = text(18, text(2, text(1, b"m") + made))
    return metric(made)


def test_templates_are_nested_only_so_deep() -> None:
    found = sparkplug.decode(nested(8))["metrics"][0]["value"]
    for _ in range(7):
        found = found["m"]
    assert found == {"m": 1}
    for depth in (9, 1000):
        with pytest.raises(BadBody):
            sparkplug.decode(nested(depth))


BIG = 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\x12\x00" * 20_001, "20000 metrics"),
        (b"\x12\x00" * (BIG // 2), "20000 metrics"),
        (text(2, b"\x50\x01" * (BIG // 2)), "500000 fields"),
        (b"\x08\x01" * (BIG // 2), "500000 fields"),
        (metric(number(4, 32), text(16, struct.pack("<I", BIG) + b"\0" * BIG)), "200000 elements"),
        (metric(number(4, 22), text(16, b"\0" * BIG)), "200000 elements"),
        (metric(number(4, 33), text(16, b"\0" * BIG)), "200000 elements"),
        (metric(text(17, b"\x22\x00" * (BIG // 2))), "200000 elements"),
        (metric(text(17, text(4, b"\x0a\x00" * (BIG // 2)))), "200000 elements"),
        (metric(text(18, b"\x12\x00" * (BIG // 2))), "20000 metrics"),
    ],
)
def test_a_payload_can_not_be_more_than_it_says(body: bytes, what: str) -> None:
    started = time.process_time()
    with pytest.raises(BadBody, match=what) as raised:
        sparkplug.decode(body)
    assert raised.value.reason is Reason.TOO_LARGE
    assert time.process_time() - started < 3
