"""What an event may be (docs/contract.md, Events).

An original client makes its event field by field, so one that lacks something is kept, and does nothing. What
is ours has to be whole: nobody should wait for an alarm that can't come. Fields that the kind of the event
does not use are not looked at.
"""

import re
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from thingscale.events.evaluate import read_range, read_threshold
from thingscale.events.guard import check_url
from thingscale.events.models import Event
from thingscale.lib import names
from thingscale.lib.errors import ContractError

YEAR = 366 * 86_400  # seconds
MAX_WINDOW = 7 * 86_400  # seconds
MIN_PERIOD = 10  # seconds
LONGEST_WINDOW = timedelta(days=366)
ORDERS = frozenset({"<", ">", "<=", ">="})
SPANS = {  # the model's fields and the contract's
    "hold": "for",
    "window": "window",
    "period": "period",
    "grace": "grace",
    "no_data_after": "no_data_after",
    "min_interval": "min_interval",
}
_QUIET_HOURS = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")


def check_event(event: Event, changed: Collection[str] = ("post_url",)) -> None:
    """Looks at the event as a whole, but not at an address that has not changed: it may have been forbidden
    since, and then nothing is sent there anyway. Raises ContractError BAD_PARAMETER, with the contract's name
    of a field in front."""
    for field, choices in (
        ("kind", Event.Kind),
        ("notify_type", Event.Notify),
        ("operator", Event.Operator),
        ("repeat", Event.Repeat),
        ("severity", Event.Severity),
    ):
        if getattr(event, field) not in choices.values:
            raise bad(field, _("Must be one of %(value)s.") % {"value": ", ".join(choices.values)})
    for field, name in SPANS.items():
        most = MAX_WINDOW if field == "window" else YEAR
        if not 0 <= getattr(event, field) <= most:
            raise bad(name, _("Must be 0 to %(most)s seconds.") % {"most": most})
    _CHECKS[event.kind](event)
    if 0 < event.no_data_after < MIN_PERIOD:
        raise bad(
            "no_data_after",
            _("Must be 0, for never, or at least %(min_period)s seconds.") % {"min_period": MIN_PERIOD},
        )
    if event.devices:
        check_pattern(event.devices)
    if event.quiet_hours:
        begins, _dash, ends = event.quiet_hours.partition("-")
        if not _QUIET_HOURS.fullmatch(event.quiet_hours) or begins == ends:
            raise bad("quiet_hours", _("Must be two times of a day, such as 22:00-06:00."))
    if event.post_url and "post_url" in changed:
        check_url(event.post_url)


def check_window(devices: str, starts_at: datetime, ends_at: datetime) -> None:
    """Of maintenance. Raises ContractError BAD_PARAMETER."""
    check_pattern(devices)
    if ends_at <= timezone.now():
        raise bad("ends_at", _("Is over: give a time to come."))
    if ends_at <= starts_at:
        raise bad("ends_at", _("It has to end after it begins."))
    if ends_at - starts_at > LONGEST_WINDOW:
        raise bad(
            "ends_at",
            _("It lasts at most %(days)s days: disable the event instead.") % {"days": LONGEST_WINDOW.days},
        )


def check_pattern(pattern: str, field: str = "devices") -> None:
    """Of device ids: * stands for any characters, ? for one."""
    plain = pattern.translate({ord("*"): "x", ord("?"): "x"})
    if names.bad_device_id(plain):
        raise bad(
            field,
            _(
                "Must be a device id, in which * stands for any characters and ? for one:"
                " up to %(max_length)s characters, no / + # or control characters."
            )
            % {"max_length": names.MAX_LENGTH},
        )


def bad(field: str, sentence: str) -> ContractError:
    return ContractError("BAD_PARAMETER", f"{field}: {sentence}")


def _check_threshold(event: Event) -> None:
    threshold, clear = event.threshold.strip(), event.clear.strip()
    if event.operator not in ORDERS:
        if clear:
            raise bad("clear", _("Goes with the operators < > <= >= only."))
        return
    limit = (
        _number("threshold", threshold, _(" with the operator %(operator)s") % {"operator": event.operator})
        if threshold
        else None
    )
    if not clear:
        return
    end = _number("clear", clear)
    if limit is None:
        raise bad("clear", _("Needs a threshold."))
    if end > limit if ">" in event.operator else end < limit:
        if ">" in event.operator:
            sentence = _("Must not be above the threshold %(threshold)s, where the event fires.")
        else:
            sentence = _("Must not be below the threshold %(threshold)s, where the event fires.")
        raise bad("clear", sentence % {"threshold": threshold})


def _check_range(event: Event) -> None:
    threshold, clear = event.threshold.strip(), event.clear.strip()
    low, high = _range("threshold", threshold)
    if clear:
        inner = _range("clear", clear)
        if not low <= inner[0] < inner[1] <= high:
            raise bad("clear", _("Must be inside of the range %(threshold)s.") % {"threshold": threshold})


def _check_change(event: Event) -> None:
    threshold, clear = event.threshold.strip(), event.clear.strip()
    if clear and not threshold:
        raise bad("clear", _("Needs a threshold."))
    if threshold:
        _check_distance(threshold, clear)


def _check_rate(event: Event) -> None:
    _check_distance(event.threshold.strip(), event.clear.strip())
    if not event.window:
        raise bad(
            "window",
            _("A rate needs the seconds that it looks back: 1 to %(max_window)s.")
            % {"max_window": MAX_WINDOW},
        )


def _check_trend(event: Event) -> None:
    if event.operator not in ORDERS:
        raise bad("operator", "A trend needs one of < > <= >=.")
    _number("threshold", event.threshold.strip())
    if event.clear.strip():
        raise bad("clear", "A trend has none: it is over once the number does not go there any more.")
    if not event.window:
        raise bad("window", f"A trend needs the seconds that it looks back: 1 to {MAX_WINDOW}.")
    if event.period < MIN_PERIOD:
        raise bad("period", f"Must be at least {MIN_PERIOD} seconds: how far a trend looks ahead.")


def _check_silence(event: Event) -> None:
    if event.period < MIN_PERIOD:
        raise bad(
            "period",
            _("Must be at least %(min_period)s seconds: how often the device is heard.")
            % {"min_period": MIN_PERIOD},
        )


_CHECKS: dict[Any, Callable[[Event], None]] = {
    Event.Kind.THRESHOLD: _check_threshold,
    Event.Kind.RANGE: _check_range,
    Event.Kind.CHANGE: _check_change,
    Event.Kind.RATE: _check_rate,
    Event.Kind.TREND: _check_trend,
    Event.Kind.SILENCE: _check_silence,
}


def _check_distance(threshold: str, clear: str) -> None:
    """Of a number from the one before it."""
    limit = _number("threshold", threshold)
    if limit < 0:
        raise bad("threshold", _("Must not be less than 0: it is compared with how far the value moves."))
    if clear and not 0 <= _number("clear", clear) <= limit:
        raise bad("clear", _("Must be from 0 to the threshold %(threshold)s.") % {"threshold": threshold})


def _number(field: str, text: str, condition: str = "") -> float:
    try:
        return read_threshold(text)
    except ValueError:
        raise bad(field, _("Must be a number%(condition)s.") % {"condition": condition}) from None


def _range(field: str, text: str) -> tuple[float, float]:
    try:
        low, high = read_range(text)
    except ValueError:
        low, high = 1, 0
    if low >= high:
        raise bad(field, _("Must be LOW..HIGH, two numbers of which the first is lower, such as 18..24."))
    return low, high
