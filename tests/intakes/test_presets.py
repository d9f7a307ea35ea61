"""What each preset makes of messages of its program, recorded or as its documentation shows them."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from thingscale.intakes.formats.mapping import topic_fits
from thingscale.intakes.formats.readings import BadBody
from thingscale.intakes.presets import Preset, Sample, presets, sample_of

FOLDER = Path(__file__).parent / "payloads"
MESSAGES = sorted(FOLDER.glob("*/*.json"))
RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
NAMED_BY_USERS = {
    "esphome",
    "home-assistant",
}  # some of their messages are below a level that anything may be
NOW = 1_796_000_000_000_000  # after the recordings, 2026-11-29


def made(preset: Preset, message: Sample) -> list[list[Any]]:
    found = preset.compiled.decode(message.topic, message.headers, message.body, NOW)
    return [[device_id, tag, orjson.loads(value), at] for device_id, tag, value, at in found]


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_message_becomes_its_readings(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    assert made(presets()[path.parent.name], sample_of(written)) == written["readings"]


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_intake_of_it_takes_what_the_program_publishes(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    topic, filters = written.get("topic", ""), presets()[path.parent.name].topics
    if filters and "/" in topic and written["readings"] and path.parent.name not in NAMED_BY_USERS:
        assert any(topic_fits(each.split("/"), topic.split("/")) for each in filters), topic


def test_how_many_messages_of_each_program_are_stored(capsys: pytest.CaptureFixture[str]) -> None:
    """All, but for those that are known to say nothing: commands, logs and the like."""
    stored: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    for path in MESSAGES:
        written = orjson.loads(path.read_bytes())
        name = path.parent.name
        try:
            (stored if made(presets()[name], sample_of(written)) else silent)[name] += 1
        except BadBody as bad:
            raise AssertionError(f"{path}: {bad}") from bad
    lines = [f"{preset.title}: {stored[name]} ({silent[name]})\n" for name, preset in presets().items()]
    with capsys.disabled():
        sys.stdout.write("\nstored messages (and those with nothing to store) of\n" + "".join(lines))
    homes = ("tasmota", "esphome", "home-assistant", "zigbee2mqtt", "shelly", "telegraf")
    assert sum(stored[name] for name in homes) >= 44
    assert stored.keys() == presets().keys()


@pytest.mark.parametrize("preset", presets().values(), ids=lambda preset: preset.name)
def test_a_preset_is_complete(preset: Preset) -> None:
    assert made(preset, preset.sample)
    assert preset.title
    assert preset.description.endswith(".")
    assert set(preset.ways) <= {"http", "mqtt"}
    assert bool(preset.topics) == ("mqtt" in preset.ways)
    pasted = "\n".join(paste.text for paste in preset.paste)
    assert ("DEVICE_TOKEN" in pasted and "USER_ID" in pasted) or "mqtt" not in preset.ways
    page = (RECIPES / preset.recipe).read_text()
    assert all(paste.text in page for paste in preset.paste)
    assert f"({preset.recipe})" in (RECIPES / "README.md").read_text()
