"""What the charts of a channel show of its events: thresholds as lines, incidents as spans of time.

Both are bounded in number, and cost two queries, whatever the account has.
"""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from django.db import connection

from thingscale.accounts.models import Account
from thingscale.events.evaluate import read_range, read_threshold
from thingscale.events.models import Event
from thingscale.lib.clock import to_us
from thingscale.lib.ids import ChannelPk

MAX_EVENTS = 20  # of a channel, those that are enabled first
MAX_INCIDENTS = 200  # the newest
_INCIDENTS = (Path(__file__).parent / "sql" / "incidents_of_chart.sql").read_text()


class EventMarks(NamedTuple):
    event: Event
    lines: list[float]  # a range has two; what is no number has none, nor what is disabled
    clear: list[float]

    @property
    def key(self) -> str:
        """Of the series that it watches; "": all of them, since it watches whether anything comes."""
        return "" if self.event.kind == Event.Kind.SILENCE else self.event.source


class Span(NamedTuple):
    number: int  # of the event
    tag: str  # "": none
    severity: str
    start: int  # milliseconds since 1970 UTC
    end: int | None  # None: it still lasts


class ChartMarks(NamedTuple):
    events: list[EventMarks]
    incidents: list[Span]  # newest first


def chart_marks(
    account: Account, channel: ChannelPk, start: datetime, end: datetime, tag: str | None = None
) -> ChartMarks:
    """Of the events of this channel; with `tag`, only its incidents."""
    of_channel = Event.objects.for_account(account).filter(mapped_channel=channel)
    events = {event.pk: event for event in of_channel.order_by("-enabled", "number")[:MAX_EVENTS]}
    spans: list[Span] = []
    if events:
        with connection.cursor() as cursor:
            cursor.execute(
                _INCIDENTS,
                {
                    "events": list(events),
                    "user": account.pk,
                    "start": start,
                    "end": end,
                    "tag": tag,
                    "most": MAX_INCIDENTS,
                },
            )
            spans = [
                Span(events[event].number, of_tag, severity, _ms(began), None if over is None else _ms(over))
                for event, of_tag, severity, began, over in cursor.fetchall()
            ]
    return ChartMarks([_marks(event) for event in events.values()], spans)


def _marks(event: Event) -> EventMarks:
    lines: list[float] = []
    clear: list[float] = []
    if event.enabled and event.kind in {Event.Kind.THRESHOLD, Event.Kind.RANGE, Event.Kind.TREND}:
        lines, clear = heights(event.threshold), heights(event.clear)
    return EventMarks(event, lines, clear)


def heights(threshold: str) -> list[float]:
    """Where a threshold is in a chart: one number, or the two of LOW..HIGH; none for a text."""
    try:
        return list(read_range(threshold) if ".." in threshold else [read_threshold(threshold)])
    except ValueError:
        return []


def _ms(moment: datetime) -> int:
    return to_us(moment) // 1000
