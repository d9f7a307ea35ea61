"""Random messages, and random mappings: there come readings that can be stored, or one sentence.

THINGSCALE_FUZZ_INPUTS=1000000 tries that many, other ones each time.
"""

import os
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from thingscale.intakes.formats.mapped import BadMapping, compile
from thingscale.intakes.formats.mapping import Mapping
from thingscale.intakes.formats.readings import MAX_READINGS, BadBody, Reading
from thingscale.intakes.presets import presets, sample_of
from thingscale.lib import clock, json_rules
from thingscale.lib.names import bad_device_id, bad_tag

FEW = 20_000
INPUTS = int(os.environ.get("THINGSCALE_FUZZ_INPUTS", FEW))
NOW = 1_796_000_000_000_000
PAYLOADS = Path(__file__).parent / "payloads"
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 2**63, 1e308, 5e-324, -0.0, 1769867130, 1769867130123, "1769867130"),
    *("", "0", " ", "x" * 200, "a/b", "#+/", "\u0000", "\u200b", "é" * 70, "2026-01-31T13:45:30Z", "nan"),
    *([], {}, [[]], {"": {}}, [None], {"key": 1, "value": 2}, "9" * 500, "1e309", "{body}", "AA=="),
]
HEADERS = {"x-limit-u": "jane", "x-limit-d": "phone", "content-type": "application/json"}
TOPIC_LEVELS = [
    "",
    "a",
    "set",
    "status",
    "state",
    "bridge",
    "NBIRTH",
    "DDATA",
    "events",
    "rpc",
    "\u0000",
    "é",
]


def strange(value: Any, chance: random.Random, depth: int = 0) -> Any:
    """The value, with something in it changed."""
    if depth > 6 or chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return chance.choice(STRANGE)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        changed = [*value[:place], strange(value[place], chance, depth + 1), *value[place + 1 :]]
        return changed * chance.choice((1, 1, 1, 2)) if chance.random() < 0.9 else changed[:place]
    key = chance.choice(list(value))
    if chance.random() < 0.15:
        return {name: item for name, item in value.items() if name != key}
    name = str(chance.choice(STRANGE)) if chance.random() < 0.05 else key
    return {**value, name: strange(value[key], chance, depth + 1)}


def mutilated(body: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(body) + 1)
    match chance.randrange(5):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + chance.randbytes(chance.randrange(1, 9)) + body[at:]
        case 2:
            return body[:at] + chance.randbytes(1) + body[at + 1 :]
        case 3:
            return body[at:] + body[:at]
        case _:
            return chance.randbytes(chance.randrange(64))


def check(mapping: Mapping, topic: str | None, body: bytes) -> bool:
    """Whether it made readings."""
    try:
        found = mapping.decode(topic, HEADERS, body, NOW)
    except BadBody as bad:
        sentence = bad.detail
    else:
        check_readings(found)
        return True
    assert 0 < len(sentence) < 2000
    return False


def check_readings(found: list[Reading]) -> None:
    assert len(found) <= MAX_READINGS
    for device_id, tag, value, at in found:
        assert bad_device_id(device_id) is None
        assert tag is None or not bad_tag(tag)
        parsed = orjson.loads(value)
        assert parsed is not None
        assert not isinstance(parsed, list)
        assert len(value) <= json_rules.MAX_BYTES
        json_rules.check(value, parsed)
        assert at is None or clock.OLDEST_DATAPOINT <= at <= NOW + clock.MAX_AHEAD


@pytest.fixture(scope="module")
def chance() -> random.Random:
    return random.Random(7 if INPUTS == FEW else None)


@pytest.mark.timeout(3600)
def test_random_messages(chance: random.Random) -> None:
    messages = [
        (presets()[path.parent.name].compiled, sample_of(orjson.loads(path.read_bytes())))
        for path in sorted(PAYLOADS.glob("*/*.json"))
    ]
    made = 0
    for _ in range(INPUTS):
        mapping, message = chance.choice(messages)
        topic, body = message.topic, message.body
        if chance.random() < 0.1:
            topic = "/".join(chance.choices(TOPIC_LEVELS, k=chance.randrange(1, 7)))
        try:
            parsed = orjson.loads(body)
        except ValueError:
            parsed = None
        if parsed is not None and chance.random() < 0.7:
            for _ in range(chance.randrange(1, 4)):
                parsed = strange(parsed, chance)
            body = orjson.dumps(parsed)
        else:
            body = mutilated(body, chance)
        made += check(mapping, topic, body)
    assert 0.2 < made / INPUTS < 0.95


@pytest.mark.timeout(3600)
def test_random_mappings(chance: random.Random) -> None:
    mappings = [preset.mapping for preset in presets().values()]
    messages = [sample_of(orjson.loads(path.read_bytes())) for path in sorted(PAYLOADS.glob("*/*.json"))]
    compiled = 0
    for _ in range(INPUTS // 10):
        mapping = chance.choice(mappings)
        for _ in range(chance.randrange(1, 4)):
            mapping = strange(mapping, chance)
        try:
            usable = compile(mapping)
        except BadMapping:
            continue
        compiled += 1
        message = chance.choice(messages)
        check(usable, message.topic, message.body)
    assert compiled > INPUTS // 10 * 0.05
