"""Spans of time as people write them: `90 s`, `5 min`, `1 h 30 min`, `2 d`."""

import re
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator

UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
YEAR = 366 * 86_400
_PART = re.compile(r"(\d{1,9})\s*(d|h|min|m|s)(?![a-z])", re.IGNORECASE)


def in_words(seconds: int) -> str:
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def seconds_of(text: str) -> int | None:
    """A number alone is in seconds; None for what is no span."""
    text = text.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    if not text or _PART.sub("", text).strip():
        return None
    return sum(
        int(count) * UNITS["min" if unit.lower() == "m" else unit.lower()]
        for count, unit in _PART.findall(text)
    )


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
            raise forms.ValidationError("Write a span such as 90 s, 5 min, 1 h 30 min or 2 d.")
        MaxValueValidator(YEAR, "Give at most 366 d.")(seconds)
        return seconds
