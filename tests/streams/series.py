"""Datapoints to keep or to lose."""

from datetime import datetime

from django.db import connection
from django.utils import timezone

from thingscale.lib.clock import to_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Channel, Latest


def fill(channel: Channel, points: int, at: datetime | None = None, tag: str | None = None) -> None:
    """Datapoints one microsecond apart, from `at` or now."""
    start = to_us(at or timezone.now())
    store_points(channel, Points.of([(tag, b"%d" % number, start + number) for number in range(points)]))


def count(channel: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM datapoint WHERE channel = %s", [channel])
        return int(cursor.fetchone()[0])


def totals(channel: Channel) -> dict[int, int]:
    """Tag's primary key -> how many datapoints the counters say."""
    return dict(Latest.objects.filter(channel=channel).values_list("tag", "count"))
