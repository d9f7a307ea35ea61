"""What an intake may be (docs/contract.md, Intakes)."""

from typing import Any

import orjson
from django.utils.translation import gettext as _

from thingscale.intakes.decoding import mapping_of
from thingscale.intakes.formats.influx import PRECISIONS
from thingscale.intakes.formats.mapped import BadMapping
from thingscale.intakes.guides import GUIDES
from thingscale.intakes.models import Intake
from thingscale.intakes.presets import presets
from thingscale.lib import json_rules, names, tokens
from thingscale.lib.errors import ContractError

MAX_NAME = 100  # characters
MAX_RATE = 1_000_000  # datapoints a second
MAX_DEVICE_TAGS, MAX_DEVICE_TAG = 8, 128  # tags, characters
MAX_TOPICS = 10


def check_intake(intake: Intake) -> None:
    """Looks at the intake as a whole. Raises ContractError BAD_PARAMETER, with the field's name in front."""
    if not 0 < len(intake.name) <= MAX_NAME or not intake.name.isprintable():
        raise bad("name", _("Give one of 1 to %(max_name)s characters.") % {"max_name": MAX_NAME})
    if intake.format not in Intake.Format.values:
        raise bad("format", _("Must be one of %(value)s.") % {"value": ", ".join(Intake.Format.values)})
    _check_preset(intake)
    _check_mapping(intake)
    _check_options(intake)
    _check_topics(intake)
    if intake.rate is not None and not 1 <= intake.rate <= MAX_RATE:
        raise bad(
            "rate",
            _("Must be 1 to %(max_rate)s datapoints a second, or null for what the account may.")
            % {"max_rate": MAX_RATE},
        )


def _check_preset(intake: Intake) -> None:
    of_format = [*presets()] if intake.format == Intake.Format.MAPPED else []
    of_format += [guide.name for guide in GUIDES.values() if guide.format == intake.format]
    if intake.preset and intake.preset not in of_format:
        raise bad(
            "preset",
            _("Of the format %(format)s there are %(value)s.")
            % {"format": intake.format, "value": ", ".join(of_format)},
        )


def _check_mapping(intake: Intake) -> None:
    if intake.format != Intake.Format.MAPPED:
        if intake.mapping is not None:
            raise bad("mapping", _("Goes with the format mapped only."))
        return
    if intake.mapping is None and not intake.preset:
        raise bad("mapping", _("Give one, or a preset."))
    try:
        mapping_of(intake.preset, intake.mapping)
    except BadMapping as wrong:
        raise bad("mapping", f"{wrong}") from None
    if intake.mapping is not None:
        _check_storable("mapping", intake.mapping)


def _check_options(intake: Intake) -> None:
    options = intake.options
    if not isinstance(options, dict):
        raise bad("options", _("Must be a JSON object."))
    known = {"device_tags", "precision"} if intake.format == Intake.Format.INFLUX else set()
    if unknown := options.keys() - known:
        there = _("there are %(names)s") % {"names": ", ".join(sorted(known))} if known else _("it has none")
        raise bad(
            "options",
            _("The format %(format)s has no %(value)s: %(there)s.")
            % {"format": intake.format, "value": repr(min(unknown)[:40]), "there": there},
        )
    if "precision" in options and options["precision"] not in PRECISIONS:
        raise bad("options", _("The precision must be one of %(value)s.") % {"value": ", ".join(PRECISIONS)})
    tags = options.get("device_tags", ["host"])
    fits = isinstance(tags, list) and 0 < len(tags) <= MAX_DEVICE_TAGS
    if not fits or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_DEVICE_TAG for tag in tags):
        raise bad(
            "options",
            _("The device_tags must be 1 to %(max_device_tags)s names of tags in an array.")
            % {"max_device_tags": MAX_DEVICE_TAGS},
        )
    _check_storable("options", options)


def _check_storable(field: str, value: Any) -> None:
    """Refuses what the database can't take, such as NUL characters."""
    try:
        json_rules.check(orjson.dumps(value), value)
    except json_rules.BadValue as error:
        raise bad(field, _("It %(rule)s.") % {"rule": error.rule}) from None
    except TypeError:
        raise bad(field, _("It has text that is not UTF-8.")) from None


def _check_topics(intake: Intake) -> None:
    if not intake.topics:
        return
    if intake.format != Intake.Format.MAPPED:
        raise bad("topic", _("Goes with the format mapped only."))
    if len(intake.topics) > MAX_TOPICS:
        raise bad(
            "topics",
            _("There may be %(max_topics)s: let + and # stand for levels.") % {"max_topics": MAX_TOPICS},
        )
    for topic in intake.topics:
        if broken := _broken_rule(topic):
            if intake.more_topics:
                raise bad("topics", f"{topic[:100]!r}: {broken}")
            raise bad("topic", broken)


def _broken_rule(topic: str) -> str:
    """By a filter of topics; empty: it is fine."""
    levels = topic.split("/")
    whole = all(level in {"+", "#"} or not {"+", "#"} & set(level) for level in levels)
    plain = topic.translate({ord("+"): "x", ord("#"): "x"})
    if not whole or "#" in levels[:-1] or not names.valid_topic(plain):
        return _(
            "Must be a topic, in which + stands for one level and # for all that follow,"
            " such as tele/+/SENSOR; at most %(max_topic)s characters."
        ) % {
            "max_topic": names.MAX_TOPIC,
        }
    if levels[0].startswith("$"):
        return _("Topics that begin with $ are the platform's own.")
    if tokens.well_formed(levels[0].upper()):
        return _("Topics that begin with a token need no intake.")
    return ""


def bad(field: str, sentence: str) -> ContractError:
    return ContractError("BAD_PARAMETER", f"{field}: {sentence}")
