"""How often devices usually send: what a form for silence proposes."""

from collections.abc import Iterable
from typing import NamedTuple

from django.db import connection

from thingscale.devices.querysets import DeviceQuerySet
from thingscale.events.validation import MIN_PERIOD
from thingscale.streams import charts

MAX_DEVICES = 1_000  # that are looked at
MAX_CHANNELS = 20
LOOK_AT = 2_000  # newest datapoints of a channel
FEWEST = 4  # datapoints of a device that tell something
MOST_DEVICES = 0.9  # of them send at least as often as it is proposed
UNITS = (86_400, 3_600, 60, 10, 5)  # seconds
ROUNDING = 0.05
HALF_AN_HOUR = 1_800

_NEWEST = """SELECT n.device, array_agg((extract(epoch FROM n.at) * 1000)::bigint ORDER BY n.at)
FROM unnest(%s::bigint[]) AS c (channel) CROSS JOIN LATERAL (
    SELECT d.device, d.at FROM datapoint d WHERE d.channel = c.channel AND d.at <= now()
    ORDER BY d.at DESC LIMIT %s
) AS n WHERE n.device = ANY (%s) GROUP BY n.device"""


class Rhythm(NamedTuple):
    """In seconds, as an event for silence has them."""

    period: int
    grace: int


def rhythm(devices: DeviceQuerySet) -> Rhythm | None:
    """Of one device or of several, from the newest datapoints of their channels. None if these tell
    nothing."""
    mapped = list(devices.exclude(mapped_channel=None).values_list("pk", "mapped_channel")[:MAX_DEVICES])
    channels = list(dict.fromkeys(channel for _, channel in mapped))[:MAX_CHANNELS]
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, [channels, LOOK_AT, [device for device, _ in mapped]])
        found = [charts.rhythm(times) for _, times in cursor.fetchall() if len(times) >= FEWEST]
    return _proposed(found) if found else None


def _proposed(milliseconds: Iterable[float]) -> Rhythm:
    distances = sorted(milliseconds)
    seconds = distances[round(MOST_DEVICES * (len(distances) - 1))] / 1000
    period = max(round(seconds), MIN_PERIOD)
    for unit in UNITS:
        whole = unit * round(seconds / unit)
        if whole >= MIN_PERIOD and abs(whole - seconds) <= ROUNDING * seconds:
            period = whole
            break
    return Rhythm(period, min(3 * period, max(HALF_AN_HOUR, period // 2)))
