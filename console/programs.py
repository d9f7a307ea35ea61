"""The programs that an intake can be made for: what they are called, and what to paste into them."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from console.snippets import BrokerAddress
from thingscale.intakes.formats.mapping import topic_fits
from thingscale.intakes.guides import GUIDES
from thingscale.intakes.models import Intake
from thingscale.intakes.presets import Paste, presets
from thingscale.lib.excerpts import excerpt

OTHER = "other"  # a program that nobody has made a preset for
WORDS = re.compile(r"\b(HOST|1883|URL|PATH|USER_ID|DEVICE_TOKEN)\b")
# What a mapping is written in, in an order that reads well: the database keeps none.
KEYS = (
    *("note", "topic", "body", "when", "ignore", "each", "device", "tag", "value", "time", "readings"),
    *("may_be_empty", "rules", "field", "is"),
)


class Program(NamedTuple):
    name: str
    title: Any
    description: Any  # in English, or as it is translated
    format: Intake.Format
    ways: tuple[str, ...] = ("http",)
    topics: tuple[str, ...] = ()
    commands: str = ""
    paste: tuple[Paste, ...] = ()
    sample_topic: str = ""
    sample_headers: str = ""
    sample: str = ""
    sample_form: str = "text"  # or "hex"


@cache
def programs() -> Mapping[str, Program]:
    """By name, in the order of their titles; the unknown one last."""
    found = [
        Program(
            guide.name, guide.title, guide.description, guide.format, paste=guide.paste, sample=guide.sample
        )
        for guide in GUIDES.values()
    ]
    for preset in presets().values():
        body = excerpt(preset.sample.body)
        found.append(
            Program(
                preset.name,
                preset.title,
                preset.description,
                Intake.Format.MAPPED,
                preset.ways,
                preset.topics,
                preset.commands,
                preset.paste,
                preset.sample.topic or "",
                "\n".join(f"{name}: {text}" for name, text in preset.sample.headers.items()),
                body,
                "text" if body.encode() == preset.sample.body else "hex",
            )
        )
    found.sort(key=lambda program: program.title.casefold())
    other = _("You say where in its messages device, tag, value and time are.")
    shell = 'curl -d \'{"device": "roof", "temp": 21.5}\' \'URL\''
    paste = (Paste("URL", "URL"), Paste(gettext_noop("Try it in a shell"), shell))
    sample = '{"device": "roof", "temp": 21.5}'
    found.append(
        Program(
            OTHER,
            _("Another program"),
            other,
            Intake.Format.MAPPED,
            ("http", "mqtt"),
            paste=paste,
            sample=sample,
        )
    )
    return {program.name: program for program in found}


def program_of(intake: Intake) -> Program:
    """The first one of its format, if it names none."""
    known = programs()
    if intake.preset in known:
        return known[intake.preset]
    if intake.format == Intake.Format.MAPPED:
        return known[OTHER]
    return next(program for program in known.values() if program.format == intake.format)


def for_topic(topic: str) -> str:
    """The name of the program that publishes there: of several, the one that names the most of its levels."""
    levels = topic.split("/")
    fitting = [
        (pattern, program.name)
        for program in programs().values()
        for pattern in (each.split("/") for each in program.topics)
        if topic_fits(pattern, levels)
    ]
    _, name = max(
        fitting,
        key=lambda each: (sum(level not in {"+", "#"} for level in each[0]), each[0][0] != "+"),
        default=([], OTHER),
    )
    return name


def filled(pastes: Iterable[Paste], url: str, path: str, broker: BrokerAddress, user: dict[str, Any]) -> Any:
    words = {
        "HOST": broker.host,
        "1883": str(broker.port or 1883),
        "URL": url,
        "PATH": path,
        "USER_ID": user["user_id"],
        "DEVICE_TOKEN": user["device_token"],
    }
    return [Paste(paste.label, WORDS.sub(lambda match: words[match[0]], paste.text)) for paste in pastes]


def first_mapping(topic: str) -> dict[str, Any]:
    """Of a program that nobody knows yet, to begin with."""
    if not topic:
        return {"rules": [{"device": "{body.device}", "value": "{body}"}]}
    rule = {"device": "{topic[1]}", "tag": ["{topic[2]}", ""], "value": "{body}"}
    return {"body": "bare", "rules": [rule]}


def in_order(mapping: Any) -> Any:
    if isinstance(mapping, list):
        return [in_order(each) for each in mapping]
    if not isinstance(mapping, dict):
        return mapping
    place = {key: number for number, key in enumerate(KEYS)}
    ordered = sorted(mapping, key=lambda key: (place.get(key, len(KEYS)), key))
    return {key: in_order(mapping[key]) for key in ordered}
