"""What reading datapoints over REST costs, beside PostgreSQL alone in the same run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/rest_ranges.py --runs 1 --rows 100000

A web process on its own port answers ranges of --rows datapoints: the time to the first byte, and how far its
memory grows, at most in all runs. 10,000 rows are compared with the json_agg that makes the same JSON.
Client, web process and PostgreSQL share the machine.
"""

import argparse
import http.client
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from common import at_most, record
from django.core.management import call_command
from django.db import connection
from processes import running, wait_for

from thingscale.accounts.actions import create_account
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.local import ports
from thingscale.streams import partitions
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel

COMPARED = 10_000  # rows
FIRST_BYTE_MS, GROWTH_MB, RATIO = 300, 50, 2.5
START = "2026-01-01 00:00:00"
JSON, CSV = "application/json", "text/csv"
JSON_AGG = """
SELECT json_agg(json_build_object(
    '_id', lpad(to_hex(floor(date_part('epoch', at))::bigint), 8, '0') || lpad(to_hex(id), 16, '0'),
    'tag', (SELECT name FROM streams_tag WHERE id = tag), 'value', value,
    'at', to_char(at, 'YYYY-MM-DD"T"HH24:MI:SSTZHTZM')
) ORDER BY at, id)::text
FROM datapoint WHERE channel = %s AND at BETWEEN %s AND %s
"""


class Range(NamedTuple):
    first_byte_ms: float
    seconds: float
    growth_mb: float


class Web:
    """A web process of our own, and a client of it."""

    def __init__(self, port: int, pid: int, token: str) -> None:
        self._port, self._token = port, token
        self._process = Path(f"/proc/{pid}")

    def read(self, accept: str, end: str) -> Range:
        before = self._memory("VmRSS")
        (self._process / "clear_refs").write_text("5")  # VmHWM, the peak, begins anew
        with self._get({"Accept": accept, "X-STARTTIME": START, "X-ENDTIME": end}) as (client, begin):
            response = client.getresponse()
            if response.status != 200:
                raise SystemExit(response.read().decode())
            response.read(1)
            first = time.perf_counter() - begin
            for _ in iter(lambda: response.read(2**18), b""):
                pass
            seconds = time.perf_counter() - begin
        return Range(first * 1e3, seconds, (self._memory("VmHWM") - before) / 1024)

    @contextmanager
    def _get(self, headers: dict[str, str]) -> Iterator[tuple[http.client.HTTPConnection, float]]:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        client.connect()
        begin = time.perf_counter()
        client.request("GET", "/v2/stream/0", headers={"X-APITOKEN": self._token, **headers})
        yield client, begin
        client.close()

    def _memory(self, what: str) -> int:
        return int((self._process / "status").read_text().split(f"{what}:")[1].split()[0])


@contextmanager
def web(token: str) -> Iterator[Web]:
    port = ports.free_port()
    command = ["-m", "uvicorn", "thingscale.asgi:application", "--no-access-log", "--port", str(port)]
    with running([sys.executable, *command, "--log-level", "warning"]) as process:
        wait_for(port, process)
        yield Web(port, process.pid, token)


def prepare(rows: int) -> tuple[User, Channel]:
    call_command("migrate", verbosity=0)
    user = create_account(f"bench-{time.time_ns()}@example.com", "correct horse battery")
    User.objects.filter(pk=user.pk).update(rest_rate=1_000_000)
    channel = create_channel(user, 0)
    connection.ensure_connection()
    partitions.make(connection.connection, (2026, 1))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO datapoint (channel, at, value)"
            """ SELECT %s, timestamptz %s + n * interval '1 s', '{"temp": 21.5, "humid": 50}'"""
            " FROM generate_series(0, %s - 1) n",
            [channel.pk, START, rows],
        )
        cursor.execute("VACUUM ANALYZE datapoint")
    return user, channel


def end_of(rows: int) -> str:
    """Of the range with so many rows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT (timestamp %s + %s * interval '1 s')::text", [START, rows - 1])
        return str(cursor.fetchone()[0])


def json_agg(channel: Channel) -> float:
    """Seconds that PostgreSQL needs for the compared rows."""
    end = end_of(COMPARED)
    with connection.cursor() as cursor:
        begin = time.perf_counter()
        cursor.execute(JSON_AGG, [channel.pk, START, end])
        (text,) = cursor.fetchone()
        seconds = time.perf_counter() - begin
    if text.count('"_id"') != COMPARED:
        raise SystemExit("json_agg did not make the rows that are compared.")
    return seconds


def ranges(server: Web, rows: int, runs: int) -> None:
    for name, accept in (("JSON", JSON), ("CSV", CSV)):
        found = [server.read(accept, end_of(rows)) for _ in range(runs)]
        what = f"GET of {rows:,} rows as {name}"
        record(f"{what}: first byte", [each.first_byte_ms for each in found], "ms", at_most(FIRST_BYTE_MS))
        record(f"{what}: memory", [max(each.growth_mb for each in found)], "MB more", at_most(GROWTH_MB))
        record(f"{what}: all", [each.seconds for each in found], "s")


def compared(server: Web, channel: Channel, runs: int) -> None:
    over_http = [server.read(JSON, end_of(COMPARED)).seconds * 1e3 for _ in range(runs)]
    in_database = [json_agg(channel) * 1e3 for _ in range(runs)]
    record(
        f"GET of {COMPARED:,} rows as JSON",
        over_http,
        "ms",
        at_most(RATIO, "ratio"),
        ceiling=in_database,
        of="json_agg",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    user, channel = prepare(options.rows)
    with web(credentials(user)["api_token"]) as server:
        server.read(JSON, end_of(COMPARED))
        server.read(CSV, end_of(COMPARED))
        ranges(server, options.rows, options.runs)
        compared(server, channel, options.runs)


if __name__ == "__main__":
    main()
