"""D7: a read is bounded in bytes, through every door that reads datapoints, also of values that are larger
than what is taken today: an older release took them, so they must come out again."""

import http.client
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from stack import Stack
from support import Account

from thingscale.streams import partitions

pytestmark = pytest.mark.e2e
SMALL, LARGE = 600, 110
GROWTH_MB = 100  # two pages at once, each as PostgreSQL sent it, as text and as bytes
# 2.5 kB each first, which let later pages have more values; then 1 MiB each.
FILL = """
INSERT INTO datapoint (channel, at, value)
SELECT %s, timestamptz '2026-01-01' + n * interval '1 min',
    jsonb_build_object('n', n, 'text', repeat('x', CASE WHEN n <= %s THEN 2500 ELSE 1048576 END))
FROM generate_series(1, %s) n
"""
WHOLE = "starttime=2026-01-01&endtime=2099-12-31"
DOORS = {
    "console page": ("/streams/0/?start=2026-01-01&end=2026-01-03 text/html", 0),
    "v2": (f"/v2/stream/0?{WHOLE}", LARGE),
    "v2 with device": (f"/v2/stream/0?{WHOLE}&withdevice=true", LARGE),
    "v1": (f"/v1/stream/0?{WHOLE}", LARGE),
    "newest": ("/v2/stream/0?endtime=last&pagelimit=900", LARGE),
    "csv": (f"/v2/stream/0?{WHOLE} text/csv", LARGE),
    "lines": (f"/v2/stream/0?{WHOLE} application/x-ndjson", LARGE),
    "first": (f"/v2/stream/0?{WHOLE}&interval=1m&aggregate=first", LARGE),
    "last, newest first": (f"/v2/stream/0?{WHOLE}&interval=1m&aggregate=last&pagesort=desc", LARGE),
    "first of five": (f"/v2/stream/0?{WHOLE}&interval=5m&aggregate=first", LARGE // 5),
    "avg": (f"/v2/stream/0?{WHOLE}&aggregate=avg", 0),
    "avg of buckets": (f"/v2/stream/0?{WHOLE}&interval=1m&aggregate=avg", 0),
    "count": (f"/v2/stream/0?{WHOLE}&interval=1h&aggregate=count", 0),
    "console file": ("/streams/0/data.csv?start=2026-01-01&end=2026-01-03", LARGE),
    "console chart": ("/streams/0/chart.json?start=2026-01-01&end=2026-01-03&pixels=300", 0),
}


def memory(running: Stack, what: str) -> float:
    """Of the web process, MB: VmRSS or VmHWM, its peak."""
    status = Path(f"/proc/{running.processes['web'].pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def test_d7_many_mebibytes_through_every_door(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("web")
    connection.ensure_connection()
    partitions.make(connection.connection, (2026, 1))
    with connection.cursor() as cursor:
        cursor.execute(FILL, [account.channel().pk, SMALL, SMALL + LARGE])
        cursor.execute("ANALYZE datapoint")
    client = Client()
    client.force_login(account.user)
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    for door, (target, large) in DOORS.items():
        path, _, accept = target.partition(" ")
        named = {"Accept": accept or "*/*"}
        named |= {"Cookie": cookie} if door.startswith("console") else {"X-APITOKEN": account.api_token}
        reading = http.client.HTTPConnection("127.0.0.1", running.http, timeout=60)
        before = memory(running, "VmRSS")
        Path(f"/proc/{running.processes['web'].pid}/clear_refs").write_text("5")  # the peak begins anew
        reading.request("GET", path, headers=named)
        with reading.getresponse() as response:
            start = response.read(300)
            size = len(start) + sum(map(len, iter(lambda: response.read(262_144), b"")))
        reading.close()
        assert response.status == 200, (door, start)
        assert size > large * 2**20, door
        growth = memory(running, "VmHWM") - before
        assert growth < GROWTH_MB, door
