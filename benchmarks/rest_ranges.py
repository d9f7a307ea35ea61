"""What reading and writing datapoints over REST costs, beside PostgreSQL alone in the same run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/rest_ranges.py --runs 1 --rows 100000

A web process on its own port answers ranges of --rows datapoints: the time to the first byte, and how far its
memory grows. 10,000 rows are compared with the json_agg that makes the same JSON, POSTs of 1,000 datapoints
with COPY of the same rows. Client, web process and PostgreSQL share the machine. Each time is the median of
--runs, the growth their largest. Ends with 1 if a bar is missed.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from django.core.management import call_command
from django.db import connection
from ingest_mqtt import ROOT, ceiling, free_port, wait_for

from thingscale.accounts.actions import create_account
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.streams import partitions
from thingscale.streams.actions import create_channel
from thingscale.streams.models import Channel

COMPARED = 10_000  # rows
ARRAY, ARRAYS = 1_000, 20
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
        with self._call("GET", {"Accept": accept, "X-STARTTIME": START, "X-ENDTIME": end}) as (client, begin):
            response = client.getresponse()
            if response.status != 200:
                raise SystemExit(response.read().decode())
            response.read(1)
            first = time.perf_counter() - begin
            for _ in iter(lambda: response.read(2**18), b""):
                pass
            seconds = time.perf_counter() - begin
        return Range(first * 1e3, seconds, (self._memory("VmHWM") - before) / 1024)

    def write(self, body: bytes) -> None:
        with self._call("POST", {}, body) as (client, _):
            response = client.getresponse()
            if response.status != 201:
                raise SystemExit(response.read().decode())

    @contextmanager
    def _call(
        self, method: str, headers: dict[str, str], body: bytes | None = None
    ) -> Iterator[tuple[http.client.HTTPConnection, float]]:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        client.connect()
        begin = time.perf_counter()
        client.request(method, "/v2/stream/0", body, {"X-APITOKEN": self._token, **headers})
        yield client, begin
        client.close()

    def _memory(self, what: str) -> int:
        return int((self._process / "status").read_text().split(f"{what}:")[1].split()[0])


@contextmanager
def web(token: str) -> Iterator[Web]:
    port = free_port()
    command = ["-m", "uvicorn", "thingscale.asgi:application", "--no-access-log", "--port", str(port)]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield Web(port, process.pid, token)
    finally:
        process.terminate()
        process.wait(30)


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


def posts(server: Web) -> float:
    """Datapoints a second."""
    body = json.dumps([{"value": {"temp": 25.1, "humidity": 50}}] * ARRAY).encode()
    begin = time.perf_counter()
    for _ in range(ARRAYS):
        server.write(body)
    return ARRAY * ARRAYS / (time.perf_counter() - begin)


def median(measure: Callable[[], float], runs: int) -> float:
    return statistics.median(measure() for _ in range(runs))


def report(server: Web, user: User, channel: Channel, rows: int, runs: int) -> bool:
    """Whether each bar is kept."""
    kept = True
    print(f"\n{runs} runs, medians; client, web process and PostgreSQL on {os.cpu_count()} cores\n")
    for name, accept in (("JSON", JSON), ("CSV", CSV)):
        found = [server.read(accept, end_of(rows)) for _ in range(runs)]
        first, seconds = (statistics.median(each[place] for each in found) for place in (0, 1))
        growth = max(each.growth_mb for each in found)
        kept &= first < FIRST_BYTE_MS and growth < GROWTH_MB
        print(
            f"{rows:,} rows as {name}: first byte {first:.0f} ms (bar {FIRST_BYTE_MS}),"
            f" memory +{growth:.1f} MB (bar {GROWTH_MB}), all in {seconds:.1f} s"
        )
    over_http = median(lambda: server.read(JSON, end_of(COMPARED)).seconds, runs)
    in_database = median(lambda: json_agg(channel), runs)
    ratio = over_http / in_database
    kept &= ratio <= RATIO
    print(
        f"{COMPARED:,} rows as JSON: {over_http * 1e3:.0f} ms over HTTP,"
        f" {in_database * 1e3:.0f} ms for json_agg: {ratio:.2f} times as long (bar {RATIO})"
    )
    written, copied = median(lambda: posts(server), runs), median(lambda: ceiling(user, 1, ARRAY * 50), runs)
    print(
        f"POST in arrays of {ARRAY:,}: {written:,.0f} datapoints/s,"
        f" {written / copied:.0%} of COPY's {copied:,.0f}"
    )
    return kept


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
        kept = report(server, user, channel, options.rows, options.runs)
    sys.exit(not kept)


if __name__ == "__main__":
    main()
