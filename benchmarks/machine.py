"""The machine, PostgreSQL's settings, and how often the disk stores something for good.

    make bench                                        (or:)
    python manage.py with_servers --only postgres -- python benchmarks/machine.py

A write is 8 kB, PostgreSQL's block, and fdatasync, on the file system of PostgreSQL's data: what every COMMIT
waits for.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from common import note, record
from django.db import connection
from django.utils import timezone

BLOCK = bytes(8192)
SECONDS = 2
SETTINGS = (
    *("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "wal_compression"),
    *("data_checksums", "shared_buffers", "max_wal_size", "max_connections"),
)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.0f} GiB"


def setting(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


def writes() -> float:
    """A second."""
    data = Path(setting("data_directory")).parent
    with tempfile.NamedTemporaryFile(dir=data) as file:
        os.posix_fallocate(file.fileno(), 0, len(BLOCK))
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            os.pwrite(file.fileno(), BLOCK, 0)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    note(f"{timezone.now():%Y-%m-%d %H:%M} UTC")
    note(f"{processor()}, {memory()} of memory: for everything, the load generators too")
    note(f"{platform.system()} {platform.release()}, Python {platform.python_version()}")
    chosen = ", ".join(f"{name} = {setting(name)}" for name in SETTINGS)
    note(f"PostgreSQL {setting('server_version')}: {chosen}")
    record("8 kB written and synchronised", [writes() for _ in range(options.runs)])


if __name__ == "__main__":
    main()
