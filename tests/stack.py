"""Our own processes, started for real on the test database and free ports."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from django.conf import settings
from django.db import connection

from thingscale.local import ports
from thingscale.local.app_processes import celery_command

ROOT = Path(__file__).parent.parent
START_SECONDS = 60
WEB = ["-m", "uvicorn", "thingscale.asgi:application", "--http", "thingscale.web.http_protocol:HttpProtocol"]
WSGI = [str(ROOT / "tests" / "wsgi_server.py")]  # in its place, where no ASGI server is to be had


_given_ports: set[int] = set()


def free_port() -> int:
    """Not one of those that a client which dials in vain can end up connected to itself on, and none twice:
    what asked for it may listen there much later."""
    port = ports.free_port(frozenset(_given_ports))
    _given_ports.add(port)
    return port


def wait_until(condition: Callable[[], object], seconds: float = 60, what: str = "the condition") -> None:
    """Polls; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Stack:
    """Processes `web`, `ingest` and `celery`; `environment`, and the release that runs, may be changed
    before `ensure`."""

    code: Path = ROOT
    web: Sequence[str] = WEB

    def __init__(self, **environment: str) -> None:
        self.http, self.https, self.mqtt, self.ws, self.tls, self.wss = (free_port() for _ in range(6))
        self.logs = Path(tempfile.mkdtemp(prefix="thingscale-logs-"))
        self.environment = environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def another(self, **environment: str) -> "Stack":
        """On the same servers, with ports of its own."""
        return Stack(**self.environment | environment)

    def ensure(self, *names: str) -> None:
        for name in names:
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.start(name)

    def start(self, name: str) -> None:
        command = {
            "web": [*self.web, "--port", str(self.http)],
            "ingest": ["manage.py", "ingest"],
            "celery": celery_command()[1:],
        }[name]
        before = len(self.log(name)) if name in self.processes else 0
        process = self.launch(name, command)

        def ready() -> bool:
            if name == "celery":
                return " ready." in self.log(name)[before:]
            if name == "web":
                return answers(self.http)
            chosen = self._environment()
            ports = [chosen[f"THINGSCALE_MQTT_{kind}PORT"] for kind in ("", "WS_")]
            return all(answers(int(port)) for port in ports if port != "0")

        wait_until(lambda: ready() or process.poll() is not None, START_SECONDS, f"{name} to be ready")
        assert process.poll() is None, self.log(name)

    def launch(self, name: str, command: list[str]) -> "subprocess.Popen[bytes]":
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.code,
                env=self._environment(),
                stdout=log,
                stderr=log,
                process_group=0,
            )
        return self.processes[name]

    def manage(self, *arguments: str) -> "subprocess.Popen[str]":
        """A management command on the same database, its output in pipes."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=self.code,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """As by the supervisor: what a process has started ends with it."""
        process = self.processes[name]
        process.send_signal(number)
        process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is None:
                self.kill(name, signal.SIGTERM)

    def cpu_seconds(self, name: str) -> float:
        """That the process and its children have computed so far. Between a question and its answer it is
        what was done for others first, and does not depend on what else the machine has to do."""
        pid = self.processes[name].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ticks = 0
        for each in (pid, *children):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # in the user's code, and in the system's
        return ticks / os.sysconf("SC_CLK_TCK")

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http}{path}"

    def _environment(self) -> dict[str, str]:
        """The broker of the tests is for broker mode."""
        database = connection.settings_dict
        return {
            **{name: text for name, text in os.environ.items() if name not in {"MQTT_URL", "MQTT5_URL"}},
            "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
            "THINGSCALE_SECRET_KEY": settings.SECRET_KEY,
            "THINGSCALE_HTTP_RATE": "0",
            "THINGSCALE_HTTPS_PORT": str(self.https),
            "THINGSCALE_MQTT_PORT": str(self.mqtt),
            "THINGSCALE_MQTT_WS_PORT": str(self.ws),
            "THINGSCALE_MQTT_TLS_PORT": str(self.tls),
            "THINGSCALE_MQTT_WSS_PORT": str(self.wss),
            **self.environment,
        }


def hasty_stack(**environment: str) -> Stack:
    """With tests/e2e/hasty_settings.py."""
    path = os.pathsep.join([str(Path(__file__).parent / "e2e"), os.environ.get("PYTHONPATH", "")])
    return Stack(DJANGO_SETTINGS_MODULE="hasty_settings", PYTHONPATH=path, **environment)
