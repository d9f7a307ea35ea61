"""Writing over HTTP beside InfluxDB 1, in turn and with the same load: one datapoint a request, and arrays.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/influxdb.py --runs 1 --requests 6400 --arrays 60

InfluxDB writes what it has acknowledged to disk first, as it does by default, and counts at the end. In its
arrays each datapoint is of another channel, since they all get the time when they come in; ours are of one
channel. Skipped where `influxd` is not installed (on Debian: influxdb).
"""

import argparse
import json
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import http_connector
import rest_arrays
from common import note, record_loads
from database import prepare
from http_load import Load, drive, request
from processes import HOST, Used, running, wait_for
from web import Measured, web

from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.local import ports

INFLUXD = shutil.which("influxd")
CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
wal-fsync-delay = "0s"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[logging]
level = "error"
"""
POINT = "datapoint,channel={} temp=25.1,humidity=50"
WRITE = "/write?db=bench"


class Influx:
    def __init__(self, port: int, pid: int) -> None:
        self._port, self._pid = port, pid
        self._ask("CREATE DATABASE bench", "POST")

    def measure(self, load: Load) -> Measured:
        """And checks that every datapoint is stored."""
        before, used = self._count(), Used(influxd=[self._pid])
        result = drive(self._port, load)
        cpu_us = used.us(load.messages) | {"generator": result.generator_us}
        stored = self._count() - before
        if stored != load.messages:
            raise SystemExit(f"{load.messages:,} datapoints were acknowledged and {stored:,} are stored.")
        return Measured(result, cpu_us)

    def _count(self) -> int:
        series = json.loads(self._ask("SELECT count(temp) FROM datapoint"))["results"][0].get("series")
        return int(series[0]["values"][0][1]) if series else 0

    def _ask(self, query: str, method: str = "GET") -> bytes:
        words = urllib.parse.urlencode({"db": "bench", "q": query})
        asked = urllib.request.Request(f"http://{HOST}:{self._port}/query?{words}", method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            body: bytes = answer.read()
        return body


@contextmanager
def influxdb() -> Iterator[Influx]:
    assert INFLUXD
    port, rpc = ports.free_port(), ports.free_port()
    with tempfile.TemporaryDirectory(prefix="thingscale-influxdb-") as folder:
        config = Path(folder) / "influxdb.conf"
        config.write_text(CONFIG.format(port=port, rpc=rpc, folder=folder))
        with running([INFLUXD, "run", "-config", str(config)]) as process:
            wait_for(port, process)
            yield Influx(port, process.pid)


def influx_loads(requests: int, arrays: int) -> tuple[Load, Load]:
    single, many = http_connector.CLIENTS, rest_arrays.CLIENTS
    points = "\n".join(POINT.format(number) for number in range(rest_arrays.ARRAY)).encode()
    return (
        Load(
            [request(WRITE, {}, POINT.format(number).encode()) for number in range(single)],
            max(requests // single, 1),
            status=204,
        ),
        Load([request(WRITE, {}, points)] * many, max(arrays // many, 1), status=204, size=rest_arrays.ARRAY),
    )


def our_loads(user: User, requests: int, arrays: int) -> tuple[Load, Load]:
    shown = credentials(user)
    return (
        http_connector.load(shown["device_token"], requests),
        rest_arrays.load(shown["api_token"], arrays, rest_arrays.value),
    )


def report(what: str, theirs: Sequence[Measured], ours: Sequence[Measured]) -> None:
    reached = [each.load.rate for each in theirs]
    for name, found, ceiling in (("InfluxDB", theirs, ()), ("ThingScale", ours, reached)):
        record_loads(f"{name}, {what}", found, ceiling=ceiling, of="InfluxDB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--arrays", type=int, default=500)
    options = parser.parse_args()
    if not INFLUXD:
        note("Skipped: influxd is not installed.")
        return
    user = prepare()
    User.objects.filter(pk=user.pk).update(rest_rate=1_000_000)
    pairs = zip(
        ("a datapoint a request", f"arrays of {rest_arrays.ARRAY:,}"),
        influx_loads(options.requests, options.arrays),
        our_loads(user, options.requests, options.arrays),
        strict=True,
    )
    with influxdb() as influx, web(THINGSCALE_HTTP_RATE="0") as ours:
        for what, theirs, own in pairs:
            ours.measure_stored(own._replace(times=5))
            runs = [(influx.measure(theirs), ours.measure_stored(own)) for _ in range(options.runs)]
            report(f"{len(own.requests)} connections, {what}", *zip(*runs, strict=True))


if __name__ == "__main__":
    main()
