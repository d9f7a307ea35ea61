"""The range of time that a stream page shows, from its query string."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.vocabulary import counted
from thingscale.lib import clock
from thingscale.lib.clock import parse_sharp_end, parse_start, restore_plus

PRESETS = {
    "15m": (gettext_lazy("15 min"), timedelta(minutes=15)),
    "1h": (gettext_lazy("1 hour"), timedelta(hours=1)),
    "6h": (gettext_lazy("6 hours"), timedelta(hours=6)),
    "24h": (gettext_lazy("24 hours"), timedelta(hours=24)),
    "7d": (gettext_lazy("7 days"), timedelta(days=7)),
    "30d": (gettext_lazy("30 days"), timedelta(days=30)),
    "365d": (gettext_lazy("1 year"), timedelta(days=365)),
}
DEFAULT = "24h"


class TimeRange(NamedTuple):
    """Both ends belong to it. A range with a `preset` ends now, and so moves on."""

    start: datetime
    end: datetime
    preset: str = ""
    errors: dict[str, str] = {}

    @property
    def width(self) -> timedelta:
        return self.end - self.start

    @property
    def width_in_words(self) -> str:
        seconds = round(self.width.total_seconds())
        for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
            if seconds >= size:
                return counted(round(seconds / size), word)
        return counted(1, "minute")

    def shifted(self, widths: int) -> "TimeRange":
        """The range so many widths later. Beyond the last time that Python knows, it stays where it is."""
        try:
            return TimeRange(self.start + widths * self.width, self.end + widths * self.width)
        except OverflowError:
            return self

    @property
    def query(self) -> str:
        """In UTC, since a local time at a clock change may be two moments."""
        if self.preset:
            return urlencode({"range": self.preset})
        return urlencode({"start": _exact(self.start), "end": _exact(self.end)})


def local(moment: datetime, zone: ZoneInfo) -> str:
    """The text that a browser's date and time input takes."""
    with suppress(OverflowError):  # within a day of the first or the last moment there is
        moment = moment.astimezone(zone)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def read(parameters: QueryDict, zone: ZoneInfo, first: datetime | None, newest: datetime | None) -> TimeRange:
    """The range that is asked for. Without one it is the last day, or the last day that has data. For a
    channel whose first data is younger it is the shortest preset that shows all: a new device must not draw
    its first minutes at the edge of an empty day."""
    usual = ending_now(DEFAULT)
    if "start" in parameters or "end" in parameters:
        ends, errors = {"start": usual.start, "end": usual.end}, {}
        for name, parse in (("start", parse_start), ("end", parse_sharp_end)):
            try:
                if text := restore_plus(parameters.get(name, "")):
                    ends[name] = parse(text, zone)
            except ValueError as error:
                errors[name] = _("It %(fault)s.") % {"fault": _(str(error))}
        if not errors and ends["start"] >= ends["end"]:
            errors["end"] = _("The end must come after the start.")
        return usual._replace(errors=errors) if errors else TimeRange(ends["start"], ends["end"])
    preset = parameters.get("range", "")
    if preset in PRESETS:
        return ending_now(preset)
    if preset:
        rule = _("There is no such range: choose one of %(value)s.") % {"value": ", ".join(PRESETS)}
        return usual._replace(errors={"range": rule})
    if first is not None and first > usual.start:
        return next(each for each in map(ending_now, PRESETS) if first >= each.start)
    if newest is None or newest >= usual.start:
        return usual
    return TimeRange(newest - usual.width, newest + timedelta(seconds=1))


def ending_now(name: str) -> TimeRange:
    now = clock.now()
    return TimeRange(now - PRESETS[name][1], now, name)
