"""Runs the benchmarks one after the other, and writes docs/benchmarks.md of all their results.

    make bench                                    all; some 25 minutes on two cores
    make bench ONLY="idle broker_mode"            these; the page is printed, and the file stays as it is
    python benchmarks/suite.py --short            all with little work, to try the programs

A part that misses a bar, or fails, stops no other. Ends with 1 if there was one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import report
from common import RECORDS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
LIMIT_SECONDS = 1800
STOP_SECONDS = 120


class Part(NamedTuple):
    name: str  # of its script
    short: str  # arguments for little work
    servers: str | None = "postgres,valkey"  # that it needs; None: it starts its own


PARTS = [
    Part("machine", "--runs 1", "postgres"),
    Part("ingest_mqtt", "--runs 1 --messages 20000"),
    Part("events", "--runs 1 --messages 20000 --accounts 50"),
    Part("gateway", "--runs 1 --share 0.02", "postgres,valkey"),
    Part("several_gateways", "--runs 1 --messages 20000"),
    Part("batches", "--runs 1 --batches 20", "postgres"),
    Part("http_connector", "--runs 1 --requests 6400"),
    Part("rest_arrays", "--runs 1 --arrays 24"),
    Part("influxdb", "--runs 1 --requests 6400 --arrays 60"),
    Part("line_protocol", "--runs 1 --batches 40"),
    Part("metrics_formats", "--runs 1", None),
    Part("broker_mode", "--runs 1 --messages 20000"),
    Part("side_by_side", "--runs 1 --messages 20000 --fewer 1000"),
    Part("stored_rows", "--runs 1 --messages 20000 --rows 100000"),
    Part("idle", "--seconds 2", None),
    Part("notify_latency", "--runs 1 --messages 200"),
    Part("rest_ranges", "--runs 1 --rows 20000"),
    Part("pages", "--runs 1 --datapoints 50000"),
    Part("hosts", "--hosts 200 --seconds 20"),
    Part("backup", "--stored 20000 --seconds 20"),
    Part("charts", "--runs 1 --datapoints 50000", "postgres"),
]


def run(part: Part, short: bool, records: Path) -> bool:
    """Whether it came to its end."""
    print(f"\n== {part.name}", flush=True)
    command = [sys.executable, f"benchmarks/{part.name}.py", *(part.short.split() if short else [])]
    if part.servers is not None:
        command = [sys.executable, "manage.py", "with_servers", "--only", part.servers, "--", *command]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {RECORDS: str(records)})
    try:
        return process.wait(LIMIT_SECONDS) == 0
    except subprocess.TimeoutExpired:
        process.terminate()  # with_servers passes it on, and stops the servers
        stop(process)
        return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def replace(path: Path, text: str) -> None:
    """The whole file or nothing."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def arguments() -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all ({', '.join(names)})")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = arguments()
    chosen = [part for part in PARTS if not options.parts or part.name in options.parts]
    with tempfile.TemporaryDirectory(prefix="thingscale-bench-") as folder:
        path = Path(folder) / "records"
        path.touch()
        failed = [part.name for part in chosen if not run(part, options.short, path)]
        records = report.read(path)
    text = report.page(records, [part.name for part in chosen], failed, options.short)
    if options.parts:
        print(f"\n{text}")
    else:
        replace(PAGE, text)
        print(f"\n{report.summary(records, failed)} See {PAGE.relative_to(ROOT)}.")
    sys.exit(bool(failed or records.missed))


if __name__ == "__main__":
    main()
