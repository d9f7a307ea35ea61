"""Agents as processes, and what the platform has of what they sent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection
from stack import ROOT, Stack, wait_until
from support import Account

HOST_ID = "web-1"
Start = Callable[..., Stack]


class Stored(NamedTuple):
    at: int  # microseconds since 1970
    value: dict[str, Any]
    tag: str | None


class RunningAgent:
    """With the configuration in its environment, as a systemd unit would have it."""

    def __init__(self, account: Account, running: Stack, folder: Path, **environment: str) -> None:
        self.log_file, self.kept_file = folder / "log", folder / "kept"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "agent"),
            "SERVWATCH_SERVER": "127.0.0.1",
            "SERVWATCH_USER": account.user_id,
            "SERVWATCH_TOKEN": account.device_token,
            "SERVWATCH_HOST_ID": HOST_ID,
            "SERVWATCH_TLS": "no",
            "SERVWATCH_MQTT_PORT": str(running.mqtt),
            "SERVWATCH_HTTP_PORT": str(running.http),
            "SERVWATCH_CONNECTOR": "mqtt",
            "SERVWATCH_BUFFER": str(folder / "buffer"),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(command or ("-m", "servwatch_agent"))],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def start_fast(self, speed: float, start: float) -> None:
        program = str(Path(__file__).parent / "fast_agent.py")
        self.start(program, str(speed), str(start), str(self.kept_file))

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def kept(self) -> list[int]:
        """Times of the samples that were in the buffer. A kill may have cut the last one's line."""
        lines = self.kept_file.read_text().splitlines() if self.kept_file.exists() else []
        return [int(line) for line in lines]


def stored(account: Account) -> list[Stored]:
    """In the order of their times."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT (extract(epoch FROM d.at) * 1000000)::bigint, d.value::text, t.name FROM datapoint d
            JOIN streams_channel c ON c.id = d.channel LEFT JOIN streams_tag t ON t.id = d.tag
            WHERE c.user_id = %s ORDER BY d.at, d.id""",
            [account.user.pk],
        )
        return [Stored(at, json.loads(value), tag) for at, value, tag in cursor.fetchall()]


def samples(account: Account) -> list[Stored]:
    return [each for each in stored(account) if each.tag is None]


def arrival_order(account: Account) -> list[int]:
    """Times of the samples, in the order in which they came."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT (extract(epoch FROM d.at) * 1000000)::bigint FROM datapoint d
            JOIN streams_channel c ON c.id = d.channel
            WHERE c.user_id = %s AND d.tag IS NULL ORDER BY d.id""",
            [account.user.pk],
        )
        return [at for (at,) in cursor.fetchall()]


def wait_for(condition: Callable[[], object], agent: RunningAgent, what: str) -> None:
    try:
        wait_until(condition, 90, what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{agent.log}") from None
