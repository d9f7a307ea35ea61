"""The memory that processes take, and the gateway's own figures."""

import contextlib
import os
import re
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from stack import Stack


def resident(stack: Stack, name: str) -> int:
    """Bytes, with those of what it has started, as Celery its clock."""
    group = stack.processes[name].pid
    return sum(_resident(int(pid)) for pid in os.listdir("/proc") if pid.isdigit() and _in(group, int(pid)))


def _in(group: int, pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid) == group
    return False


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


def figure(port: int, name: str) -> int:
    """Of the metrics page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        match = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert match, name
    return int(float(match[1]))


class Watch:
    """Asserts that processes grow by a tenth at most once they have warmed up."""

    MARGIN = 1.1

    def __init__(self, stack: Stack, *names: str) -> None:
        self._stack = stack
        self._warm = {name: resident(stack, name) for name in names}
        self.most = dict(self._warm)

    def look(self) -> None:
        for name in self.most:
            self.most[name] = max(self.most[name], resident(self._stack, name))

    def check(self) -> None:
        for name, warm in self._warm.items():
            most = self.most[name]
            assert most < warm * self.MARGIN, f"{name} grew from {warm:,} to {most:,} bytes"

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {warm >> 20} -> {self.most[name] >> 20} MiB" for name, warm in self._warm.items()
        )


class Brake:
    """While it is on, nothing can be stored. The lock is one that every batch needs."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    def on(self) -> None:
        self._connection.execute("LOCK TABLE streams_latest IN EXCLUSIVE MODE")

    def off(self) -> None:
        self._connection.commit()

    def pulse(self, seconds: float, free: float) -> None:
        """On for so long, then off for so long."""
        self.on()
        time.sleep(seconds)
        self.off()
        time.sleep(free)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
