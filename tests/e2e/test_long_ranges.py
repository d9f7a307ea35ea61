"""Ranges too long to be held, from a real web process: flat memory, and no reading for who has left."""

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from stack import Stack, wait_until
from support import Account

from thingscale.streams import partitions

pytestmark = pytest.mark.e2e
ROWS = 200_000  # a million, as benchmarks/rest_ranges.py reads, would take the suite half a minute
GROWTH_MB = 50
WHOLE = {"X-STARTTIME": "2000-01-01 00:00", "X-ENDTIME": "2099-12-31 23:59"}
JSON, CSV = "application/json", "text/csv"
TEXT = "jsonb_build_object('text', repeat('x', 400), 'n', n)"
COLUMNS = "(SELECT jsonb_object_agg('key' || k, n + k) FROM generate_series(1, 40) k)"


def fill(account: Account, rows: int, value: str) -> None:
    """`value` is SQL over the number n."""
    account.channel()
    connection.ensure_connection()
    partitions.make(connection.connection, (2026, 1))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO datapoint (channel, at, value)"
            f" SELECT %s, timestamptz '2026-01-01' + n * interval '1 s', {value}"
            " FROM generate_series(1, %s) n",
            [account.channel().pk, rows],
        )
        cursor.execute("ANALYZE datapoint")


@contextmanager
def answer(running: Stack, account: Account, accept: str) -> Iterator[http.client.HTTPResponse]:
    client = http.client.HTTPConnection("127.0.0.1", running.http, timeout=60)
    client.request(
        "GET", "/v2/stream/0", headers={"X-APITOKEN": account.api_token, "Accept": accept, **WHOLE}
    )
    try:
        with client.getresponse() as response:
            assert response.status == 200
            yield response
    finally:
        client.close()


def memory(running: Stack, what: str) -> int:
    """Of the web process, kB: VmRSS or VmHWM, its peak."""
    status = Path(f"/proc/{running.processes['web'].pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0])


@pytest.mark.parametrize("accept", [JSON, CSV])
def test_a_long_range_does_not_fill_the_memory(
    stack: Callable[..., Stack], account: Account, accept: str
) -> None:
    running = stack("web")
    fill(account, ROWS, TEXT)
    with answer(running, account, accept) as response:
        response.read(1_000_000)  # warm
    before = memory(running, "VmRSS")
    Path(f"/proc/{running.processes['web'].pid}/clear_refs").write_text("5")  # the peak begins anew
    with answer(running, account, accept) as response:
        size = sum(map(len, iter(lambda: response.read(65_536), b"")))
    growth = (memory(running, "VmHWM") - before) / 1024
    assert size > ROWS * 400 > 1.5 * GROWTH_MB * 2**20  # so that holding it all would show
    assert growth < GROWTH_MB


def newest_query() -> float:
    """When a thread of the web process last began a query, in seconds since 1970. The connector's own
    connections have a name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM max(query_start)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND application_name = '' AND pid <> pg_backend_pid()"
        )
        return float(cursor.fetchone()[0] or 0)


def test_who_leaves_is_not_read_for(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("web")
    fill(account, ROWS // 2, COLUMNS)
    with answer(running, account, CSV) as response:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert response.read(100_000)
        reading = newest_query()
        assert response.read(5_000_000)
        assert newest_query() > reading  # page after page, as long as somebody reads
    left = time.time()
    wait_until(lambda: time.time() > left + 2.5, what="a while to pass")
    assert newest_query() < left + 1
