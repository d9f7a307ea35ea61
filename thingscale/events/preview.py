"""What an event would have done in the last days, by the datapoints that are stored. Nothing is written.

The newest datapoints are read until there are enough, or enough bytes, or it has taken long enough: who types
a threshold waits for the answer.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from thingscale.devices.models import Device
from thingscale.events.advance import policy_of
from thingscale.events.chart_marks import heights
from thingscale.events.evaluate import Rule
from thingscale.events.models import Event
from thingscale.events.replay import Point, Replay, Replaying, replay_silence
from thingscale.events.rhythm import Rhythm, rhythm
from thingscale.lib.clock import DAY, from_us
from thingscale.lib.ids import ChannelPk
from thingscale.lib.names import matches
from thingscale.streams import queries
from thingscale.streams.queries import RowFormat, Selection

LOOK_BACK = timedelta(days=7)
MAX_DATAPOINTS = 50_000
MAX_BYTES = 24 * 1024 * 1024  # of JSON text
READ_SECONDS = 1.2
SECONDS = 2.0  # for reading and looking at what was read
LOOK_AT_CLOCK = 500  # datapoints
MAX_CHANNELS = 20  # of the devices that a pattern names
MAX_DEVICES = 2000
_ROWS = RowFormat(
    """'[' || round(date_part('epoch', at) * 1000000)::bigint
    || ',' || coalesce(to_json(device_id)::text, '""') || ',' || coalesce(to_json(tag)::text, '""')
    || ',' || value::text || ']'""",
    device="device",
)
_HEARD = """SELECT heard.device, heard.at FROM unnest(%(channels)s::bigint[]) AS channels (id)
CROSS JOIN LATERAL (
    SELECT device, at FROM datapoint
    WHERE channel = channels.id AND at BETWEEN %(start)s AND %(end)s AND device IS NOT NULL
    ORDER BY at DESC LIMIT %(most)s
) AS heard"""


@dataclass
class Preview:
    start: datetime  # of what was looked at
    end: datetime
    is_whole: bool  # nothing of LOOK_BACK was left out
    datapoints: int
    replay: Replay
    lines: Sequence[float] = ()  # where the threshold is in a chart
    clear: Sequence[float] = ()
    is_cut: bool = False  # there was no time for what comes after `end`
    rhythm: Rhythm | None = None  # of the devices, if it is about silence

    @property
    def is_all_days(self) -> bool:
        """Not if there are datapoints of the last hours only."""
        return self.is_whole and self.start - DAY <= self.end - LOOK_BACK


def preview(event: Event, now: datetime) -> Preview:
    """Of an event that need not be saved. Raises ValueError if it compares nothing, because it lacks
    something, and ContractError: RANGE_TOO_LARGE."""
    if event.kind == Event.Kind.SILENCE:
        return _of_silence(event, now)
    rule = Rule.of(
        0,
        event.kind,
        event.source,
        event.operator,
        event.threshold,
        clear=event.clear,
        window=event.window,
        period=event.period,
        devices=event.devices,
    )
    if event.mapped_channel_id is None:
        raise ValueError("The channel is missing")
    until = time.monotonic() + SECONDS
    points, is_whole = _newest(ChannelPk(event.mapped_channel_id), now)
    replaying = Replaying(rule, policy_of(event))
    end, is_cut = now, False
    for number, point in enumerate(points):
        if number % LOOK_AT_CLOCK == 0 and number and time.monotonic() > until:
            points, end, is_cut = points[:number], from_us(points[number - 1].at), True
            break
        replaying.point(point)
    start = from_us(points[0].at) if points else now - LOOK_BACK
    is_at_a_height = event.kind in {Event.Kind.THRESHOLD, Event.Kind.RANGE, Event.Kind.TREND}
    return Preview(
        start,
        end,
        is_whole and not is_cut,
        len(points),
        replaying.end(end),
        heights(event.threshold) if is_at_a_height else (),
        heights(event.clear) if is_at_a_height else (),
        is_cut,
    )


def _newest(channel: ChannelPk, now: datetime) -> tuple[list[Point], bool]:
    """In the order of time; and whether these are all."""
    until = time.monotonic() + READ_SECONDS
    selection = Selection(channel, "UTC", now - LOOK_BACK, now, newest_first=True)
    points: list[Point] = []
    size, is_whole = 0, True
    for text in queries.pages(selection, _ROWS, MAX_DATAPOINTS + 1):
        points += (Point(*row) for row in _parsed(f"[{text}]"))
        size += len(text)
        if len(points) > MAX_DATAPOINTS or size > MAX_BYTES or time.monotonic() > until:
            is_whole = False
            break
    return points[:MAX_DATAPOINTS][::-1], is_whole


def _parsed(text: str) -> list[Any]:
    try:
        found: list[Any] = orjson.loads(text)
    except orjson.JSONDecodeError:  # PostgreSQL has numbers that no double has
        found = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    return found


def _of_silence(event: Event, now: datetime) -> Preview:
    """A device is taken as heard when it sent a datapoint. Of what it does else, no times are kept."""
    if not event.period:
        raise ValueError("The period is missing")
    devices = Device.objects.filter(user=event.user_id, enabled=True).exclude(mapped_channel=None)
    if event.mapped_channel_id is not None:
        devices = devices.filter(mapped_channel=event.mapped_channel_id)
    rows = devices.values_list("pk", "device_id", "mapped_channel").order_by("pk")[: MAX_DEVICES * 10]
    watched = [row for row in rows if not event.devices or matches(row[1], event.devices)][:MAX_DEVICES]
    names = {pk: device_id for pk, device_id, _ in watched}
    channels = sorted({channel for _, _, channel in watched})[:MAX_CHANNELS]
    most = MAX_DATAPOINTS // max(1, len(channels))
    start = now - LOOK_BACK
    with queries.reading() as cursor:
        cursor.execute(_HEARD, {"channels": channels, "start": start, "end": now, "most": most})
        found = sorted(cursor.fetchall(), key=lambda row: row[1])
    is_whole = len(found) < most
    heard: dict[str, list[datetime]] = {}
    for pk, at in found:
        if pk in names:
            heard.setdefault(names[pk], []).append(at)
    firings = replay_silence(heard, timedelta(seconds=event.period + event.grace), now)
    return Preview(
        found[0][1] if found else start,
        now,
        is_whole,
        len(found),
        Replay(firings, len(firings), sum(map(len, heard.values()))),
        rhythm=rhythm(Device.objects.filter(pk__in=names)),
    )
