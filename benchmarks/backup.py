"""A backup while devices send 20,000 messages a second, and its restore into another database: how long
they take, what they cost the senders, and that every datapoint that was acknowledged before the backup began
is in it, once.

    make bench ONLY=backup                            (or, shorter:)
    python manage.py with_servers --only postgres,valkey -- python benchmarks/backup.py --stored 100000
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

import psycopg
from common import ROOT, at_least, note, record
from database import checkpoint, connect, prepare, target
from load import Client, Load, drive, percentiles, run
from load import connect as connect_clients
from processes import gateway

RATE = 20_000
BEFORE = 5.0  # seconds of load until the backup begins
COPY = "restored"
LONGEST = 15 * 60  # seconds


def manage(*arguments: str, **environment: str) -> tuple[str, float]:
    """What it says, and how long it takes."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, time.perf_counter() - began


def acknowledged(clients: Sequence[Client]) -> int:
    return sum(client.answered for client in clients)


def back_up(clients: Sequence[Client], load: Load, folder: str) -> tuple[int, float, float]:
    """How many of the load were acknowledged when it began, its seconds, and the rate of acknowledgements
    meanwhile."""
    sending = threading.Thread(target=drive, args=(clients, load, time.perf_counter()))
    sending.start()
    time.sleep(BEFORE)
    before, began = acknowledged(clients), time.perf_counter()
    _, seconds = manage("backup", folder)
    if not sending.is_alive():
        raise SystemExit(f"The load was over before the backup was, after {seconds:.0f} s.")
    rate = (acknowledged(clients) - before) / (time.perf_counter() - began)
    sending.join()
    return before, seconds, rate


def check(stored: psycopg.Connection, restored: psycopg.Connection, at_least_stored: int) -> int:
    """The restored datapoints are some of the stored ones, each once, and enough. Returns how many."""
    ids = {id_ for (id_,) in stored.execute("SELECT id FROM datapoint")}
    ((count, distinct),) = restored.execute("SELECT count(*), count(DISTINCT id) FROM datapoint").fetchall()
    kept = {id_ for (id_,) in restored.execute("SELECT id FROM datapoint")}
    if count != distinct:
        raise SystemExit(f"{count - distinct:,} datapoints are there twice.")
    if not kept <= ids:
        raise SystemExit(f"{len(kept - ids):,} datapoints are there that were never stored.")
    if count < at_least_stored:
        raise SystemExit(f"{at_least_stored - count:,} acknowledged datapoints are missing.")
    return int(count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stored", type=int, default=2_000_000, help="datapoints that are there already")
    parser.add_argument("--seconds", type=int, default=60, help="of load")
    options = parser.parse_args()
    user = prepare()
    load = Load(50, 100, RATE * options.seconds, rate=RATE)
    url = os.environ["DATABASE_URL"]
    copy_url = url.replace("/thingscale?", f"/{COPY}?")
    with gateway() as (port, _), tempfile.TemporaryDirectory(prefix="thingscale-backup-") as folder:
        filled = Load(50, 100, options.stored)
        run(target(user, port), filled)
        checkpoint()
        clients = connect_clients(target(user, port), load)
        before, seconds, rate = back_up(clients, load, folder)
        [(p99,)] = [percentiles([pair for client in clients for pair in client.latencies], (0.99,))]
        with connect() as raw:
            raw.execute(f"CREATE DATABASE {COPY}")
            try:
                _, restoring = manage("restore", folder, DATABASE_URL=copy_url)
                with psycopg.connect(copy_url) as restored:
                    count = check(raw, restored, filled.sent + before)
            finally:
                raw.execute(f"DROP DATABASE {COPY} WITH (FORCE)")
    record(f"Acknowledged during a backup, {load.name}", [rate], "/s", at_least(0.95 * RATE), p99=[p99 * 1e3])
    record("Backup, read back", [count / seconds], " datapoints/s")
    record("Restore", [count / restoring], " datapoints/s")
    note(
        f"{count:,} datapoints: a backup of {seconds:.1f} s, a restore of {restoring:.1f} s. It has all"
        f" {filled.sent + before:,} that were acknowledged before it began, none twice."
    )


if __name__ == "__main__":
    main()
