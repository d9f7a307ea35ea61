"""Events that make sense for a key, by its name, its unit and the numbers it has had. Pure.

A threshold is a usual one that the numbers have not passed yet, so that what is suggested does not fire at
once: 30 °C for a room, 8 °C for a fridge, -15 °C for a freezer.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from django.utils.translation import gettext as _

MOST = 3
ON = "on"  # in place of an operator: of what is on or off
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class Stream(NamedTuple):
    """What is known of a key."""

    source: str
    label: str
    unit: str
    low: float
    high: float
    is_switch: bool = False  # its newest value is true or false


class Suggestion(NamedTuple):
    """`fields` are those of the event's form."""

    title: str
    fields: dict[str, str]


class _Usual(NamedTuple):
    """`words`: one of them is in the key's name or label. `units`: of these, or of none if "" is among
    them; the numbers then have to be in `plausible`."""

    words: str
    units: str
    operator: str
    thresholds: Sequence[float]  # in the order in which they are tried
    margin: float = 0  # from the threshold to where it is over
    plausible: tuple[float, float] = (float("-inf"), float("inf"))
    hold: str = ""
    severity: str = "warning"
    not_words: str = ""
    near: float = 0  # no threshold is lower than this part of the lowest number


_USUAL = (
    _Usual("leak flood smoke fire intrusion", " ", ON, (), severity="critical"),
    _Usual("battery bat batt soc", "% ", "<", (20, 10, 5), 5, (0, 100)),
    _Usual("battery bat batt vbat vbatt", "V ", "<", (46, 23, 11.5, 3.3, 2.7), 0.1, (1, 60), near=0.7),
    _Usual("battery bat batt vbat vbatt", "mV ", "<", (3300, 2700), 100, (1500, 5000)),
    _Usual(
        "temperature temp t temper",
        "°c c ℃ celsius ",
        ">",
        (-15, 8, 30, 40, 50, 60, 70, 80, 90, 100),
        1,
        (-60, 150),
    ),
    _Usual("temperature temp t temper", "°f f ℉ fahrenheit", ">", (5, 46, 86, 104, 122, 140, 176, 212), 2),
    _Usual("moisture soil", "% ", "<", (30, 20, 10), 5, (0, 100)),
    _Usual("humidity humid hum rh", "% %rh ", ">", (60, 70, 80, 90), 5, (0, 100)),
    _Usual("co2 eco2", "ppm ", ">", (1000, 1400, 2000, 5000), 100, (200, 20_000)),
    _Usual("pm25 pm2 pm10", "µg/m³ μg/m³ ug/m3 µg/m3 ", ">", (25, 50, 100, 250), 5, (0, 1000)),
    _Usual("tvoc voc", "ppb ", ">", (500, 1000, 2200), 50, (0, 10_000)),
    _Usual("disk storage hdd ssd fs", "% ", "<", (20, 10, 5), 2, (0, 100), not_words="used usage use"),
    _Usual("disk storage hdd ssd fs", "% ", ">", (80, 90, 95), 2, (0, 100), not_words="free available"),
    _Usual("memory mem ram", "% ", ">", (80, 90, 95), 5, (0, 100), not_words="free available"),
    _Usual("cpu", "% ", ">", (80, 90, 95), 0, (0, 100), hold="5 min"),
    _Usual("rssi signal", "dbm db ", "<", (-80, -90, -100, -110, -120), 3, (-140, -1)),
    _Usual("tank fill level", "%", "<", (20, 10), 5, (0, 100)),
    _Usual("voltage volt vcc vin mains", "V", "<", (210, 105, 46, 23, 11.5, 4.7, 3.1), 0.1, near=0.8),
)


def suggest(streams: Iterable[Stream]) -> list[Suggestion]:
    """At most MOST, in the order of the table: what is urgent first."""
    found = []
    for stream in streams:
        words = set(_words(stream.source.rpartition(":")[2])) | set(_words(stream.label))
        for place, usual in enumerate(_USUAL):
            suggestion = _of(stream, words, usual)
            if suggestion:
                found.append((place, suggestion))
                break
    return [suggestion for _, suggestion in sorted(found, key=lambda each: each[0])[:MOST]]


def _words(text: str) -> list[str]:
    """`batteryLevel`, `battery_level` and `Battery level` are battery and level; `pm2.5` is pm, 2, 5 and
    pm25."""
    words = [word.lower() for word in _WORD.findall(text)]
    with_numbers = [left + right for left, right in pairwise(words) if right.isdecimal()]
    return [*words, *with_numbers, "".join(words)]


def _of(stream: Stream, words: set[str], usual: _Usual) -> Suggestion | None:
    unit = stream.unit.strip().lower()
    units = usual.units.lower().split(" ")
    is_named = words & set(usual.words.split()) and not words & set(usual.not_words.split())
    low, high = usual.plausible
    if not is_named or unit not in units or stream.low < low or stream.high > high:
        return None
    name = stream.label or stream.source.rpartition(":")[2]
    fields = {"kind": "threshold", "source": stream.source, "severity": usual.severity}
    if usual.operator == ON:
        if stream.is_switch:
            fields |= {"operator": "=", "threshold": "true"}
        elif {stream.low, stream.high} <= {0, 1}:
            fields |= {"operator": ">", "threshold": "0"}
        else:
            return None
        return _suggestion(_("%(name)s is on") % {"name": _capital(name)}, fields)
    if usual.operator == ">":
        threshold = next((each for each in usual.thresholds if each > stream.high), None)
    else:
        threshold = next((each for each in usual.thresholds if each < stream.low), None)
    if threshold is None or stream.is_switch or (usual.near and threshold < usual.near * stream.low):
        return None
    fields |= {"operator": usual.operator, "threshold": f"{threshold:g}"}
    if usual.margin:
        over_at = threshold - usual.margin if usual.operator == ">" else threshold + usual.margin
        fields["clear"] = f"{over_at:g}"
    if usual.hold:
        fields["hold"] = usual.hold
    sentence = _("%(name)s above %(number)s") if usual.operator == ">" else _("%(name)s below %(number)s")
    title = sentence % {"name": _capital(name), "number": f"{threshold:g} {stream.unit}".strip()}
    if usual.hold:
        title = _("%(condition)s for %(span)s") % {"condition": title, "span": usual.hold}
    return _suggestion(title, fields)


def _suggestion(title: str, fields: dict[str, str]) -> Suggestion:
    return Suggestion(title, fields | {"description": title})


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
