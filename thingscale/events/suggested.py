"""Which events are suggested for a channel, by its newest values and the numbers of its last days."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import connection

from thingscale.accounts.models import Account
from thingscale.devices.models import Device
from thingscale.events import suggestions
from thingscale.events.evaluate import to_number
from thingscale.events.models import DismissedSuggestion, Event
from thingscale.events.rhythm import rhythm
from thingscale.events.suggestions import Stream, Suggestion
from thingscale.lib import clock
from thingscale.streams.models import Channel, Latest

LOOK_AT = 100  # newest values of the channel's tags
LOOK_BACK = timedelta(days=7)
MAX_ROLLUPS = 20_000
SILENCE = ""  # what stands for the suggestion of silence, where others have a source
_RANGES = """SELECT path, min(low), max(high) FROM (
    SELECT path, low, high FROM streams_rollup
    WHERE channel = %s AND hour >= %s ORDER BY hour DESC LIMIT %s
) AS newest WHERE path = ANY (%s) GROUP BY path"""


def suggested(account: Account, channel: Channel) -> list[Suggestion]:
    """What the account has no event for, and has not dismissed."""
    events = Event.objects.for_account(account)
    watched = set(events.filter(mapped_channel=channel).values_list("source", flat=True))
    dismissed = set(
        DismissedSuggestion.objects.for_account(account)
        .filter(channel=channel.pk)
        .values_list("source", flat=True)
    )
    found = suggestions.suggest(_streams(channel, watched | dismissed))
    if SILENCE not in dismissed and not events.filter(kind=Event.Kind.SILENCE).exists():
        usual = rhythm(Device.objects.filter(mapped_channel=channel))
        if usual is not None:
            fields = {"kind": "silence", "period": str(usual.period), "grace": str(usual.grace)}
            found.append(Suggestion("A device goes quiet", fields))
    return found


def source_of(suggestion: Suggestion) -> str:
    return suggestion.fields.get("source", SILENCE)


def _streams(channel: Channel, left_out: set[str]) -> list[Stream]:
    labels = {each["key"]: each for each in channel.streams}
    ranges: dict[str, tuple[float, float]] = {}
    switches: set[str] = set()
    for latest in Latest.objects.shown().filter(channel=channel).order_by("-at")[:LOOK_AT]:
        for source, value in _leaves(latest.value):
            number = float(value) if isinstance(value, bool) else to_number(value)
            if source in left_out or number is None:
                continue
            if isinstance(value, bool):
                switches.add(source)
            low, high = ranges.get(source, (number, number))
            ranges[source] = min(low, number), max(high, number)
    escaped = {source.replace("\\", "\\\\"): source for source in ranges}
    with connection.cursor() as cursor:
        since = clock.now() - LOOK_BACK
        cursor.execute(_RANGES, [channel.pk, since, MAX_ROLLUPS, list(escaped)])
        for path, lowest, highest in cursor.fetchall():
            low, high = ranges[escaped[path]]
            ranges[escaped[path]] = min(low, lowest), max(high, highest)
    return [
        Stream(
            source,
            labels.get(source, {}).get("label", ""),
            labels.get(source, {}).get("unit", ""),
            low,
            high,
            source in switches,
        )
        for source, (low, high) in ranges.items()
    ]


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{above}:{name}" if above else name)
    else:
        yield above or "value", value
