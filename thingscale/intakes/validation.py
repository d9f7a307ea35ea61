"""What an intake may be (docs/contract.md, Intakes)."""

import re
from typing import Any

import orjson

from thingscale.intakes.models import Intake
from thingscale.lib import json_rules, names, tokens
from thingscale.lib.errors import ContractError

MAX_NAME = 100  # characters
MAX_MAPPING = 16 * 1024  # bytes of JSON
MAX_RATE = 1_000_000  # datapoints a second
_PRESET = re.compile(r"[a-z0-9_.-]{0,40}")


def check_intake(intake: Intake) -> None:
    """Looks at the intake as a whole. Raises ContractError BAD_PARAMETER, with the field's name in front."""
    if not 0 < len(intake.name) <= MAX_NAME or not intake.name.isprintable():
        raise bad("name", f"Give one of 1 to {MAX_NAME} characters.")
    if intake.format not in Intake.Format.values:
        raise bad("format", f"Must be one of {', '.join(Intake.Format.values)}.")
    if not _PRESET.fullmatch(intake.preset):
        raise bad("preset", "There is none of this name.")
    _check_mapping(intake)
    if not isinstance(intake.options, dict):
        raise bad("options", "Must be a JSON object.")
    if intake.topic:
        _check_topic(intake)
    if intake.rate is not None and not 1 <= intake.rate <= MAX_RATE:
        raise bad("rate", f"Must be 1 to {MAX_RATE} datapoints a second, or null for what the account may.")


def _check_mapping(intake: Intake) -> None:
    if intake.mapping is None:
        if intake.format == Intake.Format.MAPPED and not intake.preset:
            raise bad("mapping", "Give one, or a preset.")
        return
    if intake.format != Intake.Format.MAPPED:
        raise bad("mapping", "Goes with the format mapped only.")
    check_json("mapping", intake.mapping)


def check_json(field: str, value: Any) -> None:
    """Of what a person made. Raises ContractError for what the database could not take, too."""
    if not isinstance(value, dict):
        raise bad(field, "Must be a JSON object.")
    try:
        json_rules.check_nesting(value)
        text = orjson.dumps(value)
        json_rules.check(text, value)
    except json_rules.BadValue as error:
        raise bad(field, f"It {error.rule}.") from None
    except TypeError:
        raise bad(field, "It has text that is not UTF-8.") from None
    if len(text) > MAX_MAPPING:
        raise bad(field, f"It has more than {MAX_MAPPING} bytes.")


def _check_topic(intake: Intake) -> None:
    if intake.format != Intake.Format.MAPPED:
        raise bad("topic", "Goes with the format mapped only.")
    levels = intake.topic.split("/")
    whole = all(level in {"+", "#"} or not {"+", "#"} & set(level) for level in levels)
    plain = intake.topic.translate({ord("+"): "x", ord("#"): "x"})
    if not whole or "#" in levels[:-1] or not names.valid_topic(plain):
        rule = "Must be a topic, in which + stands for one level and # for all that follow"
        raise bad("topic", f"{rule}, such as tele/+/SENSOR; at most {names.MAX_TOPIC} characters.")
    if levels[0].startswith("$"):
        raise bad("topic", "Topics that begin with $ are the platform's own.")
    if tokens.well_formed(levels[0].upper()):
        raise bad("topic", "Topics that begin with a token need no intake.")


def bad(field: str, sentence: str) -> ContractError:
    return ContractError("BAD_PARAMETER", f"{field}: {sentence}")
