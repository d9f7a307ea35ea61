"""Spans of time as people write them: `90 s`, `5 min`, `1 h 30 min`, `2 d`."""

import re
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator
from django.utils.translation import gettext, gettext_lazy

UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
YEAR = 366 * 86_400
UNIT_WORDS = {  # as they are shown; both are understood
    "d": gettext_lazy("d"),
    "h": gettext_lazy("h"),
    "min": gettext_lazy("min"),
    "s": gettext_lazy("s"),
}
_PART = re.compile(r"(\d{1,9})\s*([^\W\d]+)")


def in_words(seconds: int) -> str:
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {UNIT_WORDS[unit]}")
    return " ".join(parts) or f"0 {UNIT_WORDS['s']}"


def seconds_of(text: str) -> int | None:
    """A number alone is in seconds; None for what is no span."""
    text = text.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    sizes = UNITS | {"m": UNITS["min"]} | {str(word): UNITS[unit] for unit, word in UNIT_WORDS.items()}
    parts = [(int(count), unit.lower()) for count, unit in _PART.findall(text)]
    if not parts or _PART.sub("", text).strip() or any(unit not in sizes for _, unit in parts):
        return None
    return sum(count * sizes[unit] for count, unit in parts)


class SpanField(forms.CharField):
    """Seconds, shown and typed as a span; 0 is an empty field."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"autocomplete": "off", "class": "short", "placeholder": kwargs.pop("placeholder", "")}
        super().__init__(widget=forms.TextInput(attrs=attrs), required=False, max_length=40, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        seconds = value if isinstance(value, int) else seconds_of(str(value or ""))
        return value if seconds is None else in_words(seconds) if seconds else ""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return 0
        seconds = seconds_of(text)
        if seconds is None:
            raise forms.ValidationError(gettext("Write a span such as 90 s, 5 min, 1 h 30 min or 2 d."))
        MaxValueValidator(YEAR, gettext("Give at most 366 d."))(seconds)
        return seconds
