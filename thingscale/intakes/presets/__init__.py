"""Mappings for well-known programs, a JSON file each: what the program sends, and what to paste into it.

In what is to be pasted the console fills in `HOST`, `URL` and `PATH` of an intake, `USER_ID` and
`DEVICE_TOKEN`; `DEVICE_ID` and `NAME` are for whoever pastes it.
"""

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from thingscale.intakes.formats.mapped import compile
from thingscale.intakes.formats.mapping import Mapping

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Paste:
    """A text for a field or a file of the program."""

    label: str  # where it belongs
    text: str


@dataclass(frozen=True)
class Sample:
    """A message as the program sends it, to be tried in the console."""

    topic: str | None
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Preset:
    name: str
    title: str
    description: str
    ways: tuple[str, ...]  # "http", "mqtt", or both, the usual one first
    # MQTT topic filters of what it publishes: first with what is pasted, then as it comes. None: HTTP only
    topics: tuple[str, ...]
    commands: str  # the topic that it listens to, with DEVICE_ID in it; empty: none
    paste: tuple[Paste, ...]
    answer: str  # the body of 200, for programs that read it; empty: they don't
    recipe: str  # below docs/recipes/
    sample: Sample
    mapping: dict[str, Any]  # as an account could have written it, to be copied and changed

    @property
    def compiled(self) -> Mapping:
        return _compiled(self.name)


@cache
def presets() -> MappingOf[str, Preset]:
    """By name, in the order of their titles."""
    found = [_read(path) for path in _FOLDER.glob("*.json")]
    return {preset.name: preset for preset in sorted(found, key=lambda preset: preset.title.casefold())}


@cache
def _compiled(name: str) -> Mapping:
    return compile(presets()[name].mapping)


def _read(path: Path) -> Preset:
    written = orjson.loads(path.read_bytes())
    return Preset(
        name=path.stem,
        title=written["title"],
        description=written["description"],
        ways=tuple(written["ways"]),
        topics=tuple(written.get("topics", ())),
        commands=written.get("commands", ""),
        paste=tuple(Paste(**paste) for paste in written["paste"]),
        answer=written.get("answer", ""),
        recipe=written.get("recipe", f"{path.stem}.md"),
        sample=sample_of(written["sample"]),
        mapping=written["mapping"],
    )


def sample_of(written: dict[str, Any]) -> Sample:
    """Its body is JSON or text in `body`, or hexadecimal in `hex`."""
    body = written.get("body")
    if "hex" in written:
        payload = bytes.fromhex(written["hex"])
    else:
        payload = body.encode() if isinstance(body, str) else orjson.dumps(body, option=orjson.OPT_INDENT_2)
    return Sample(written.get("topic"), written.get("headers", {}), payload)
