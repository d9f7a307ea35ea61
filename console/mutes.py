"""How long a button mutes."""

from datetime import datetime, time, timedelta

from django.utils import timezone

from thingscale.lib import clock

MORNING = time(8)  # when a mute "until tomorrow" ends
TOMORROW = "tomorrow"
MUTES = {"1h": timedelta(hours=1), "8h": timedelta(hours=8), TOMORROW: None, "over": None}


def mute_end(until: str) -> datetime | None:
    """When a mute ends that is asked for in one of the words of MUTES; None ends one now."""
    now = timezone.localtime(clock.now())
    if until == TOMORROW:
        return datetime.combine(now.date() + timedelta(days=1), MORNING, now.tzinfo)
    span = MUTES[until]
    return None if span is None else now + span
