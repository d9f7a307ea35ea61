"""Our own small parts beside the libraries that could take their place: what docs/decisions/0035-libraries.md
has figures of. Of one process, in CPU time; paging in the time of the database.

    python -m pip install --target /tmp/libraries --no-deps limits deprecated wrapt tablib
    PYTHONPATH=/tmp/libraries python manage.py with_servers -- python benchmarks/libraries.py
"""

import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import common  # noqa: F401  (Django)
from database import prepare
from django.core.paginator import Paginator
from django.test import RequestFactory
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram

from console.paging import PAGE_SIZE, page
from ingest.metrics import TIMES, Histogram
from thingscale.devices.models import Device
from thingscale.lib import csv_file
from thingscale.lib.clock import now_us
from thingscale.lib.rate_limiter import RateLimiter
from thingscale.provisioning import device_csv
from thingscale.web.shared_counter import count_in_second

ROUNDS = 5
DEVICES = 10_000
BATCH = 500


def measured(what: str, action: Callable[[], object], of: int, clock: Callable[[], float]) -> None:
    """The median of some rounds, each of which does `of` things."""
    action()
    seconds = []
    for _ in range(ROUNDS):
        begin = clock()
        action()
        seconds.append(clock() - begin)
    each = statistics.median(seconds) / of * 1e6
    print(f"{what:<60}{each:>12,.3f} us", flush=True)


def rate_limits() -> None:
    """Who may send: a device at the HTTP connector, an account at REST."""
    devices = [f"device-{number}" for number in range(1000)]
    ours = RateLimiter(1_000_000)

    def gcra() -> None:
        for device in devices:
            ours.wait(1, device, time.monotonic())

    measured("rate_limiter.RateLimiter, a message", gcra, len(devices), time.process_time)
    limits: Any = importlib.import_module("limits")
    storages: Any = importlib.import_module("limits.storage")
    strategies: Any = importlib.import_module("limits.strategies")
    theirs = strategies.SlidingWindowCounterRateLimiter(storages.MemoryStorage())
    once = limits.parse("1000000/second")

    def sliding() -> None:
        for device in devices:
            theirs.hit(once, "1", device)

    measured("limits in memory, a message", sliding, len(devices), time.process_time)
    request = RequestFactory().get("/")

    def in_valkey() -> None:
        for device in devices:
            count_in_second(request, "benchmark", device, 1_000_000)

    measured("django-ratelimit in Valkey (wall clock)", in_valkey, len(devices), time.perf_counter)


def histograms() -> None:
    now = now_us()
    received = [now - 9_000 - 20 * place for place in range(BATCH)][::-1]
    ours = Histogram(TIMES)
    measured(
        f"metrics.Histogram, a message, in batches of {BATCH}",
        lambda: ours.observe_ages(received, now),
        BATCH,
        time.process_time,
    )
    registry = CollectorRegistry()
    theirs = TheirHistogram("t", "t", buckets=[bound / 1e6 for bound in TIMES], registry=registry)

    def each() -> None:
        for at in received:
            theirs.observe((now - at) / 1e6)

    measured("prometheus_client.Histogram, a message", each, BATCH, time.process_time)


def tables() -> None:
    lines = [",".join(device_csv.COLUMNS)]
    lines += [f"d{number},Some words,true,,meter,Hall {number},Acme" for number in range(DEVICES)]
    text = "\n".join(lines)
    measured(
        "csv_file.read, a row",
        lambda: csv_file.read(text.encode(), device_csv.COLUMNS, device_csv.KEY),
        DEVICES,
        time.process_time,
    )
    tablib: Any = importlib.import_module("tablib")
    measured(
        "tablib.Dataset.load, a row",
        lambda: tablib.Dataset().load(text, format="csv"),
        DEVICES,
        time.process_time,
    )


def paging() -> None:
    user = prepare()
    Device.objects.bulk_create(Device(user=user, device_id=f"d{number:05}") for number in range(DEVICES))
    devices = Device.objects.for_account(user)
    last = Paginator(devices.order_by("device_id", "pk"), PAGE_SIZE).num_pages - 1
    cursor = ""
    for _ in range(last - 1):
        cursor = page(devices, "device_id", PAGE_SIZE, cursor).next or ""
    measured(
        f"console.paging.page, page {last}",
        lambda: page(devices, "device_id", PAGE_SIZE, cursor),
        1,
        time.perf_counter,
    )
    measured(
        f"django's Paginator, page {last}",
        lambda: list(Paginator(devices.order_by("device_id", "pk"), PAGE_SIZE).page(last)),
        1,
        time.perf_counter,
    )


def main() -> None:
    rate_limits()
    histograms()
    tables()
    paging()


if __name__ == "__main__":
    main()
