"""What the tests of thingscale.local share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SERVER_VARIABLES = ("DATABASE_URL", "REDIS_URL", "MQTT_URL", "MQTT5_URL")


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def clean_environment(**variables: str) -> dict[str, str]:
    """Ours without what names servers or settings of the platform."""
    kept = {k: v for k, v in os.environ.items() if k not in SERVER_VARIABLES and "THINGSCALE" not in k}
    return kept | variables


def local_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "thingscale.local", *arguments]


def run_local(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(local_command(*arguments), clean_environment(**variables))


def run(command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )


def alive(pid: int) -> bool:
    """Also false for one that has ended and waits to be collected."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
