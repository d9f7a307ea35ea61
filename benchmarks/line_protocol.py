"""InfluxDB's line protocol: what POST /write stores a second in batches of 1,000 lines, beside InfluxDB 1
with the same requests, and beside raw COPY, in the same run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/line_protocol.py --runs 1 --batches 100

The lines are those of Telegraf: ten hosts with ten series each, three fields, and times of their own, so that
ours looks whether they are there already. InfluxDB is skipped where `influxd` is not installed.
"""

import argparse
import statistics
import time
from contextlib import ExitStack

from common import at_least, note, record_loads
from database import ceiling, empty, prepare
from http_load import Load, request, self_test
from influxdb import INFLUXD, influxdb
from web import Measured, Web, web

from thingscale.accounts.credentials import credentials
from thingscale.intakes.formats import influx
from thingscale.lib.clock import now_us

CLIENTS, LINES, HOSTS, SERIES = 4, 1000, 10, 10
RATE, RATIO = 100_000, 0.5
PROCESSES = 2
STEP_NS = 10**6  # between two points of a series, so that each load is newer than the one before


def batch(client: int, newest: int) -> bytes:
    lines = [
        f"datapoint,cpu=cpu{series},host=bench-{client * HOSTS + host}"
        f" temp=9{step}.{series}2,humidity={step}.5{host},uptime={1000 + step}i {newest - step * STEP_NS}"
        for step in reversed(range(LINES // HOSTS // SERIES))
        for host in range(HOSTS)
        for series in range(SERIES)
    ]
    return "\n".join(lines).encode()


def load(headers: dict[str, str], batches: int) -> Load:
    """Of times that no load before had."""
    each = max(batches // CLIENTS, 1)
    now, span = now_us() * 1000, LINES // HOSTS // SERIES * STEP_NS
    first = now - span * each
    path = "/write?db=bench"
    own = [
        [request(path, headers, batch(client, first + span * number)) for number in range(each)]
        for client in range(CLIENTS)
    ]
    return Load(own, each, status=204, size=LINES)


def measure_empty(server: Web, load: Load) -> Measured:
    empty()
    return server.measure_stored(load)


def note_decoding() -> None:
    body = batch(0, now_us() * 1000)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        influx.decode(body, now_us())
        seconds.append(time.perf_counter() - started)
    note(f"To read a line takes {min(seconds) / LINES * 1e6:.2f} us.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batches", type=int, default=400)
    options = parser.parse_args()
    note_decoding()
    user = prepare()
    headers = {"Authorization": f"Token {credentials(user)['device_token']}"}
    settings = {"WEB_CONCURRENCY": str(PROCESSES), "THINGSCALE_INTAKE_RATE": "0"}
    ours, theirs, copied = [], [], []
    with ExitStack() as stack:
        server = stack.enter_context(web(**settings))
        other = stack.enter_context(influxdb()) if INFLUXD else None
        server.measure_stored(load(headers, 5 * CLIENTS))
        for _ in range(options.runs):
            copied.append(ceiling(user, CLIENTS, options.batches * LINES))
            if other:
                theirs.append(other.measure(load({}, options.batches)))
            ours.append(measure_empty(server, load(headers, options.batches)))
    what = f"line protocol, {CLIENTS} connections, batches of {LINES:,}"
    reached = [each.load.rate for each in theirs]
    if theirs:
        record_loads(f"InfluxDB, {what}", theirs)
        record_loads(f"ThingScale, {what}", ours, at_least(RATE), ceiling=reached, of="InfluxDB")
    else:
        note("InfluxDB is left out: influxd is not installed.")
    record_loads(f"ThingScale, {what}, beside COPY", ours, at_least(RATIO, "ratio"), ceiling=copied)
    note(f"COPY, {CLIENTS} channels: {statistics.median(copied):,.0f}/s.")
    note(f"The generator against a server that only answers: {self_test(load({}, 40)).rate:,.0f}/s.")


if __name__ == "__main__":
    main()
