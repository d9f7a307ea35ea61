"""What each page of the console costs an account of 10,000 devices, 1,000 channels and 5,000,000 datapoints.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/pages.py --datapoints 500000

Server time and queries are those of Django's handler in this process; first contentful paint is Chromium's,
from a web process of its own, on the same machine.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from common import ROOT, record

sys.path.insert(0, str(ROOT / "tests"))

# ruff: isort: split
from browser import chromium
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import Page
from stack import Stack

from thingscale.accounts.actions import create_account
from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.streams import partitions, rollups
from thingscale.streams.models import Channel

DEVICES, CHANNELS = 10_000, 1000
BUSY = 500_000  # datapoints of channel 0, of those in all
PAINTS = 3
PASSWORD = "correct horse battery"
PAGES = {
    "home": "/",
    "start": "/start/",
    "devices": "/devices/",
    "devices, found": "/devices/?q=bench-77",
    "devices, silent": "/devices/?filter=silent",
    "device": "/devices/{device}/",
    "channels": "/channels/",
    "channel": "/channels/0/",
    "stream": "/streams/0/?range=24h",
    "stream, table of 30 days": "/streams/0/?range=30d",
    "publish": "/publish/",
    "inspector": "/inspector/",
    "profile": "/profile/",
}
CHARTS = {
    "chart of 30 days, usual channel": "/streams/5/chart.json?range=30d&pixels=1000",
    "chart of 30 days, busy channel": "/streams/0/chart.json?range=30d&pixels=1000",
    "chart of 24 hours, busy channel": "/streams/0/chart.json?range=24h&pixels=1000",
}

PAINTED = """() => new Promise(done => new PerformanceObserver(list => {
    const found = list.getEntriesByName("first-contentful-paint")[0];
    if (found) done(found.startTime);
}).observe({type: "paint", buffered: true}))"""

_FILL = """
INSERT INTO datapoint (channel, at, device, value)
SELECT c.id, now() - (i + 0.5) * interval '30 days' / %(rows)s, d.id,
    jsonb_build_object('temp', 20 + 5 * sin(i / 500.0) + random(), 'humid', 40 + i %% 30)
FROM streams_channel c
JOIN devices_device d ON d.mapped_channel_id = c.id AND d.device_id LIKE 'bench-%%-0'
CROSS JOIN generate_series(0, %(rows)s - 1) AS i
WHERE c.user_id = %(user)s AND c.number BETWEEN %(first)s AND %(last)s
"""
_TOTALS = """
INSERT INTO streams_latest (channel_id, tag, at, value, count, bytes)
SELECT DISTINCT ON (channel) channel, 0, at, value, count(*) OVER w, 40 * count(*) OVER w
FROM datapoint WINDOW w AS (PARTITION BY channel) ORDER BY channel, at DESC
"""


def main() -> None:
    options = arguments()
    call_command("migrate", verbosity=0)
    user = create_account(f"bench-{time.time_ns()}@example.com", PASSWORD)
    prepare(user, options.datapoints)
    rollups.roll_up(3600)
    device = Device.objects.for_account(user).first()
    assert device is not None
    paths = {name: path.format(device=device.pk) for name, path in PAGES.items()}
    served(user, paths | CHARTS, options.runs)
    painted(user, paths)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--datapoints", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=11)
    return parser.parse_args()


def prepare(user: User, datapoints: int) -> None:
    Channel.objects.bulk_create(
        Channel(user=user, number=number, name=f"Channel {number}") for number in range(CHANNELS)
    )
    channels = list(Channel.objects.filter(user=user).order_by("number"))
    Device.objects.bulk_create(
        [
            Device(
                user=user,
                device_id=f"bench-{n % CHANNELS}-{n // CHANNELS}",
                mapped_channel=channels[n % CHANNELS],
            )
            for n in range(DEVICES)
        ],
        batch_size=2000,
    )
    connection.ensure_connection()
    for days in (30, 0):  # the rows begin in the month before
        partitions.make(connection.connection, partitions.month_of(timezone.now() - timedelta(days=days)))
    busy = min(BUSY, datapoints // 2)
    with connection.cursor() as cursor:
        fill = {"user": user.pk, "rows": busy, "first": 0, "last": 0}
        cursor.execute(_FILL, fill)
        cursor.execute(
            _FILL, fill | {"rows": (datapoints - busy) // (CHANNELS - 1), "first": 1, "last": CHANNELS - 1}
        )
        cursor.execute(_TOTALS)
        cursor.execute("VACUUM ANALYZE")


def served(user: User, paths: dict[str, str], runs: int) -> None:
    client = Client()
    client.force_login(user)
    for name, path in paths.items():
        client.get(path)
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(path)
        count = len(queries)
        assert answer.status_code == 200, (path, answer.status_code)
        times = [_timed(client, path) for _ in range(runs)]
        record(f"{name}: server, {count} queries, {len(answer.content):,} bytes", times, "ms")


def _timed(client: Client, path: str) -> float:
    started = time.perf_counter()
    client.get(path)
    return 1000 * (time.perf_counter() - started)


@contextmanager
def web() -> Iterator[Stack]:
    stack = Stack()
    stack.start("web")
    try:
        yield stack
    finally:
        stack.stop()


def painted(user: User, paths: dict[str, str]) -> None:
    client = Client()
    client.force_login(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    with web() as stack, chromium() as browser:
        context = browser.new_context()
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": stack.url("/")}])
        page = context.new_page()
        for name, path in paths.items():
            page.goto(stack.url(path))
            times = [_paint(page, stack.url(path)) for _ in range(PAINTS)]
            record(f"{name}: first contentful paint", times, "ms")


def _paint(page: Page, url: str) -> float:
    page.goto(url)
    return float(page.evaluate(PAINTED))


if __name__ == "__main__":
    main()
