"""What the MQTT gateway stores a second, PUBACK after COMMIT, beside raw COPY in the same run.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/ingest_mqtt.py --runs 1 --messages 50000

Load generator, gateway and PostgreSQL share the machine. The ceiling is one connection that COPYs the same
rows, prebuilt and sorted, 1,000 a transaction, into a table like a partition of `datapoint`. Each figure is
the median of --runs; the ratio is that of the medians.
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")

import django  # noqa: E402

django.setup()

import psycopg  # noqa: E402
import uvloop  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from load import PAYLOAD, Load, Result, Target, run, self_test  # noqa: E402

from thingscale.accounts.actions import create_account  # noqa: E402
from thingscale.accounts.credentials import credentials  # noqa: E402
from thingscale.accounts.models import User  # noqa: E402
from thingscale.devices.models import Device  # noqa: E402
from thingscale.lib.clock import now_us  # noqa: E402
from thingscale.streams import partitions, writer  # noqa: E402
from thingscale.streams.models import Channel  # noqa: E402

BATCH = 1000  # rows of a transaction of the ceiling
MAX_DEVICES = 1000
TICKS = os.sysconf("SC_CLK_TCK")
FIXED_RATE = 5000
FIXED_SECONDS = 4


class Measured(NamedTuple):
    load: Result
    gateway_us: float  # of processor time, a message
    database_us: float  # of the backend that the gateway writes through


def loads(messages: int) -> list[Load]:
    return [
        Load(50, 100, messages),
        Load(1000, 1, max(messages // 4, 1000)),
        Load(50, 100, min(messages, FIXED_RATE * FIXED_SECONDS), rate=FIXED_RATE),
        Load(50, 100, messages // 2, qos=2),
    ]


def prepare() -> User:
    """An account with a device and a channel for each connection."""
    call_command("migrate", verbosity=0)
    user = create_account(f"bench-{time.time_ns()}@example.com", "correct horse battery")
    Channel.objects.bulk_create(Channel(user=user, number=number) for number in range(MAX_DEVICES))
    channels = Channel.objects.filter(user=user).order_by("number")
    Device.objects.bulk_create(
        Device(user=user, device_id=f"bench-{channel.number}", mapped_channel=channel) for channel in channels
    )
    return user


# The gateway


@contextmanager
def gateway() -> Iterator[tuple[int, int]]:
    """Its port and process id."""
    port = free_port()
    own = {"THINGSCALE_MQTT_PORT": str(port), "THINGSCALE_MQTT_WS_PORT": "0", "THINGSCALE_INGEST": "gateway"}
    process = subprocess.Popen([sys.executable, "manage.py", "ingest"], cwd=ROOT, env=os.environ | own)
    try:
        wait_for(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("The gateway did not start.")


def processor_seconds(pid: int) -> float:
    """User and system time so far, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def backend() -> int:
    """PostgreSQL's process for the gateway's writer: the one that has worked most."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'thingscale-ingest'")
        pids: list[int] = [pid for (pid,) in cursor.fetchall()]
    return max(pids, key=processor_seconds)


def measure(target: Target, pid: int, load: Load) -> Measured:
    """Empties the table before, and checks afterwards that every message is in it."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE datapoint")
    worker = backend()
    before = processor_seconds(pid), processor_seconds(worker)
    result = uvloop.run(run(target, load))
    used = processor_seconds(pid) - before[0], processor_seconds(worker) - before[1]
    total = load.total // load.clients * load.clients
    stored = count()
    if stored != total:
        raise SystemExit(f"{total:,} messages were acknowledged and {stored:,} are stored.")
    return Measured(result, used[0] / total * 1e6, used[1] / total * 1e6)


def count() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM datapoint")
        return int(cursor.fetchone()[0])


# The ceiling


def ceiling(user: User, channels: int, rows: int) -> float:
    """Rows a second."""
    keys = list(Channel.objects.filter(user=user, number__lt=channels).values_list("pk", flat=True))
    batches = [copy_data(keys, batch) for batch in range(max(rows // BATCH, 1))]
    params = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        params.pop(name, None)
    with psycopg.connect(**params, autocommit=True) as raw:
        partition = partitions.name_of(sorted(partitions.existing(raw))[-1])
        raw.execute("DROP TABLE IF EXISTS ceiling")
        raw.execute(f"CREATE TABLE ceiling (LIKE {partition} INCLUDING DEFAULTS INCLUDING INDEXES)")
        started = time.perf_counter()
        for data in batches:
            with raw.cursor() as cursor, cursor.copy(writer.COPY.replace("datapoint", "ceiling", 1)) as copy:
                copy.write(data)
        seconds = time.perf_counter() - started
        raw.execute("DROP TABLE ceiling")
    return len(batches) * BATCH / seconds


def copy_data(keys: Sequence[int], batch: int) -> bytes:
    """A batch in PostgreSQL's binary form: rows of random channels, a microsecond apart."""
    start = now_us() + batch * BATCH
    rows = sorted(
        writer.Row(random.choice(keys), start + place, place, None, PAYLOAD, random.getrandbits(63))
        for place in range(BATCH)
    )
    header, trailer = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
    return header + b"".join(map(writer.encode, rows)) + trailer


# The table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--messages", type=int, default=200_000, help="of the first load; default: %(default)s"
    )
    options = parser.parse_args()
    user = prepare()
    shown = credentials(user)
    wanted = loads(options.messages)
    with gateway() as (port, pid):
        target = Target("127.0.0.1", port, shown["user_id"], shown["device_token"])
        warm_up = Load(MAX_DEVICES, 1, 2 * MAX_DEVICES)
        uvloop.run(run(target, warm_up))
        runs = [one_run(user, target, pid, wanted) for _ in range(options.runs)]
    report(wanted, runs)


Run = tuple[dict[int, float], list[Measured]]


def one_run(user: User, target: Target, pid: int, wanted: Sequence[Load]) -> Run:
    """The ceiling by the number of channels, and each load."""
    rows = max(load.total for load in wanted)
    ceilings = {
        channels: ceiling(user, channels, rows) for channels in sorted({load.clients for load in wanted})
    }
    return ceilings, [measure(target, pid, load) for load in wanted]


def report(wanted: Sequence[Load], runs: Sequence[Run]) -> None:
    print(f"\n{len(runs)} runs, medians; load generator, gateway and PostgreSQL on {os.cpu_count()} cores\n")
    head = ("load", "stored/s", "of COPY", "p50 ms", "p99 ms", "gateway us", "backend us")
    print("| {:<42} | {:>8} | {:>7} | {:>7} | {:>7} | {:>10} | {:>10} |".format(*head))
    print("|---|---:|---:|---:|---:|---:|---:|")
    ceilings = {channels: statistics.median(run[0][channels] for run in runs) for channels in runs[0][0]}
    for place, load in enumerate(wanted):
        print(row(load, [run[1][place] for run in runs], ceilings[load.clients]))
    for channels, rate in ceilings.items():
        print(f"| {f'COPY, {channels:,} channels':<42} | {rate:>8,.0f} | {'100%':>7} |{' |' * 4}")
    for load, result in zip(wanted[:2], self_test(wanted[:2]), strict=True):
        print(f"\nThe generator against a server that only acknowledges, {name(load)}: {result.rate:,.0f}/s.")


def row(load: Load, measured: Sequence[Measured], most: float) -> str:
    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    rate = median(m.load.rate for m in measured)
    cells = [
        f"{name(load):<42}",
        f"{rate:>8,.0f}",
        f"{'' if load.rate else format(rate / most, '.0%'):>7}",
        f"{median(m.load.p50 for m in measured):>7.1f}",
        f"{median(m.load.p99 for m in measured):>7.1f}",
        f"{median(m.gateway_us for m in measured):>10.1f}",
        f"{median(m.database_us for m in measured):>10.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def name(load: Load) -> str:
    fixed = f", fixed {load.rate:,.0f}/s" if load.rate else ""
    return f"QoS {load.qos}, {load.clients:,} connections x {load.window}{fixed}"


if __name__ == "__main__":
    main()
