"""What is measured, as processes on free ports: the gateway, the worker of broker mode, mosquitto."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common import ROOT

from thingscale.local import ports

HOST = "127.0.0.1"
START_SECONDS = 60
TICKS = os.sysconf("SC_CLK_TCK")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
# Without limits on what is in flight or waits, as docs/configuration.md advises.
MOSQUITTO_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
persistence false
log_type error
"""


@contextmanager
def running(
    command: Sequence[str], stdout: int | None = None, /, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    own = {"THINGSCALE_LOG_LEVEL": "WARNING", **environment}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=stdout)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def gateway() -> Iterator[tuple[int, int]]:
    """Its port and process id."""
    port = ports.free_port()
    own = {"THINGSCALE_MQTT_PORT": str(port), "THINGSCALE_MQTT_WS_PORT": "0", "THINGSCALE_INGEST": "gateway"}
    with running([sys.executable, "manage.py", "ingest"], **own) as process:
        wait_for(port, process)
        yield port, process.pid


@contextmanager
def two_gateways(*, share: bool) -> Iterator[tuple[list[int], list[int]]]:
    """Their ports and process ids; `share`: at one port, as `manage.py up --workers 2` starts them. Each is
    ready when its page of metrics answers."""
    with ExitStack() as ended:
        mqtt = [ports.free_port()] * 2 if share else [ports.free_port(), ports.free_port()]
        pids = []
        for port in mqtt:
            metrics = ports.free_port()
            process = ended.enter_context(
                running(
                    [sys.executable, "manage.py", "ingest"],
                    THINGSCALE_INGEST="gateway",
                    THINGSCALE_MQTT_PORT=str(port),
                    THINGSCALE_MQTT_WS_PORT="0",
                    THINGSCALE_METRICS_PORT=str(metrics),
                    THINGSCALE_SHARE_PORTS="1" if share else "0",
                )
            )
            wait_for(metrics, process)
            wait_for(port, process)
            pids.append(process.pid)
        yield mqtt, pids


@contextmanager
def broker_worker(port: int) -> Iterator[int]:
    """Behind the broker at that port; its process id. It opens its page of metrics when it has subscribed."""
    url, metrics = f"mqtt://{HOST}:{port}", ports.free_port()
    own = {"THINGSCALE_INGEST": "broker", "MQTT_URL": url, "MQTT5_URL": url}
    own["THINGSCALE_METRICS_PORT"] = str(metrics)
    with running([sys.executable, "manage.py", "ingest"], **own) as process:
        wait_for(metrics, process)
        yield process.pid


@contextmanager
def mosquitto() -> Iterator[tuple[int, int]]:
    """Its port and process id."""
    assert MOSQUITTO
    port = ports.free_port()
    with tempfile.TemporaryDirectory(prefix="thingscale-mosquitto-") as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(MOSQUITTO_CONFIG.format(port=port))
        Path(folder).chmod(0o755)  # as root it becomes another user before it reads this
        with running([MOSQUITTO, "-c", str(config)]) as process:
            wait_for(port, process)
            yield port, process.pid


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    wait_until(lambda: ports.answers(HOST, port) or process.poll() is not None, START_SECONDS)
    if process.poll() is not None:
        raise SystemExit(f"{process.args!r} did not start.")


def wait_until(condition: Callable[[], object], seconds: float, pause: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {seconds:.0f} s in vain.")
        time.sleep(pause)


def children(pid: int) -> list[int]:
    """The gateway has its store, several web processes have one in front."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Used:
    """Processor time from now on."""

    def __init__(self, **pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = self._now()

    def us(self, messages: int) -> dict[str, float]:
        """Microseconds a message, by process."""
        return {name: (now - self._before[name]) / messages * 1e6 for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: sum(map(processor_seconds, pids)) for name, pids in self._pids.items()}


def processor_seconds(pid: int) -> float:
    """User and system time so far, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
