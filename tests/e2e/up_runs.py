"""`manage.py up`, as somebody runs it in a terminal."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LAST_LINE = "Ctrl-C stops everything."
OURS = ("DATABASE_URL", "REDIS_URL", "MQTT_URL", "MQTT5_URL", "DJANGO_SETTINGS_MODULE")


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


class Up:
    """One run of `manage.py up` in a terminal session of its own."""

    def __init__(self, home: Path, chosen: dict[str, str], *options: str) -> None:
        kept = {k: v for k, v in os.environ.items() if k not in OURS and not k.startswith("THINGSCALE_")}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", *options],
            cwd=PROJECT,
            env=kept | chosen | {"THINGSCALE_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def read_until(self, pattern: str, seconds: float = 120) -> str:
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                pytest.fail(f"no {pattern!r} in time; it said:\n{self.text}")
            if line is None:
                pytest.fail(f"it ended; it said:\n{self.text}")
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def pasteable(self, start: str) -> str:
        return next(line.strip() for line in self.lines if line.strip().startswith(start))

    def ctrl_c(self) -> int:
        """To the whole foreground group, as a terminal does. Returns the exit code, all output read."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(90)
        self._reader.join()
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(90)
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
