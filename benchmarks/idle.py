"""What memory the whole platform takes while nothing happens.

    make bench                                        (or, shorter:)
    python benchmarks/idle.py --seconds 3

`manage.py up` in a new home, --seconds after it is ready. RSS, resident memory, is summed over all processes,
so what several share (PostgreSQL's buffers, the code of Python) counts once for each. PSS shares such a page
out among them, so their sum is what the machine gives.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from common import ROOT, at_most, record
from processes import wait_until

from thingscale.local import ports

READY_SECONDS = 120
PARTS = {
    "postgres": "PostgreSQL",
    "valkey-server": "Valkey",
    "uvicorn": "web",
    "celery": "celery",
    "manage.py ingest": "ingest",
    "thingscale.local up": "manage.py up",
}
SERVERS = ("DATABASE_URL", "REDIS_URL", "MQTT_URL", "MQTT5_URL", "THINGSCALE_SECRET_KEY")


class Memory(NamedTuple):
    """Megabytes."""

    name: str
    rss: float
    pss: float


@contextmanager
def platform() -> Iterator[int]:
    """The process id of `manage.py up`."""
    with tempfile.TemporaryDirectory(prefix="thingscale-idle-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user, who must pass through
        environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
        for name in ("HTTP", "MQTT", "MQTT_WS"):
            environment[f"THINGSCALE_{name}_PORT"] = str(ports.free_port())
        environment["THINGSCALE_HOME"] = str(Path(folder) / "home")
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "up"], cwd=ROOT, env=environment, stdout=file
            )
        try:
            wait_until(lambda: "ready:" in log.read_text() or process.poll() is not None, READY_SECONDS)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def tree(root: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has ended
    found = [root]
    for pid in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def memory(pid: int) -> Memory:
    process = Path(f"/proc/{pid}")
    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    kilobytes = dict(re.findall(r"(?m)^(Rss|Pss): +(\d+) kB", (process / "smaps_rollup").read_text()))
    return Memory(name(command), int(kilobytes["Rss"]) / 1024, int(kilobytes["Pss"]) / 1024)


def name(command: str) -> str:
    """Part of the platform, by its command line."""
    return next((found for word, found in PARTS.items() if word in command), command[:40])


def report(found: Sequence[Memory]) -> None:
    record("all, sum of RSS", [sum(each.rss for each in found)], "MB", at_most(500))
    record("all, sum of PSS", [sum(each.pss for each in found)], "MB", at_most(285))
    for part in dict.fromkeys(each.name for each in found):
        of_part = [each for each in found if each.name == part]
        count = f"{len(of_part)} processes, " if len(of_part) > 1 else ""
        pss = sum(each.pss for each in of_part)
        record(f"{part} ({count}PSS {pss:.0f} MB)", [sum(each.rss for each in of_part)], "MB RSS")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    with platform() as root:
        time.sleep(options.seconds)
        report([memory(pid) for pid in tree(root)])


if __name__ == "__main__":
    main()
