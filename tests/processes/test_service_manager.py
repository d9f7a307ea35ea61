"""What systemd is told, by a socket like its own."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack, free_port, wait_until

from thingscale.processes.service_manager import ServiceManager

SECONDS = 60
MICROSECONDS = "300000"


class Systemd:
    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": MICROSECONDS}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self._socket.setblocking(False)
        self._told: list[str] = []

    def told(self) -> list[str]:
        """All lines until now."""
        while True:
            try:
                self._told += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self._told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    with tempfile.TemporaryDirectory() as folder:
        there = Systemd(str(Path(folder) / "notify"))
        yield there
        there.close()


def test_the_life_of_a_service(systemd: Systemd) -> None:
    environment = {**systemd.environment, "WATCHDOG_PID": str(os.getpid()), "OTHER": "stays"}
    manager = ServiceManager(environment)
    assert environment == {"OTHER": "stays"}, "its children must not talk to systemd"
    assert manager.interval == pytest.approx(0.1)
    manager.alive()
    manager.alive()  # too early
    assert systemd.told() == ["STATUS=starting", "EXTEND_TIMEOUT_USEC=60000000", "WATCHDOG=1"]
    manager.ready()
    manager.interval = 0
    manager.alive()
    manager.alive(["writer", "peers"])
    manager.alive(["writer", "peers"])
    manager.alive()
    manager.stopping()
    assert systemd.told()[3:] == [
        "READY=1",
        "STATUS=ready",
        "STATUS=ready",
        "WATCHDOG=1",
        "STATUS=failing: writer, peers",
        "STATUS=ready",
        "WATCHDOG=1",
        "STOPPING=1",
        "STATUS=stopping",
    ]


def test_an_abstract_address_and_no_watchdog() -> None:
    there = Systemd(f"@thingscale-{os.getpid()}")
    manager = ServiceManager({**there.environment, "WATCHDOG_PID": "1"})  # for another process
    manager.ready()
    manager.alive()
    assert there.told() == ["READY=1", "STATUS=ready", "STATUS=ready"]
    there.close()


def test_a_socket_that_is_away_and_none(systemd: Systemd) -> None:
    systemd.close()
    for environment in (systemd.environment, {}):
        manager = ServiceManager(dict(environment))
        manager.ready()
        manager.alive()
        manager.stopping()


@pytest.mark.e2e
@pytest.mark.parametrize("part", ["web", "ingest", "celery"])
def test_each_process_is_alive_until_it_stops(transactional_db: None, systemd: Systemd, part: str) -> None:
    stack = Stack(**systemd.environment)
    try:
        stack.ensure(part)
        wait_until(lambda: systemd.told().count("WATCHDOG=1") > 2, SECONDS, "signs of life")
        assert systemd.told()[:2] == ["READY=1", "STATUS=ready"]
        assert "STOPPING=1" not in systemd.told()
        stack.processes[part].send_signal(signal.SIGTERM)
        wait_until(lambda: "STOPPING=1" in systemd.told(), SECONDS, "STOPPING=1")
        stack.processes[part].wait(SECONDS)
    finally:
        stack.stop()


@pytest.mark.e2e
def test_up_is_ready_when_all_of_it_is(transactional_db: None, systemd: Systemd, tmp_path: Path) -> None:
    """Its children say nothing."""
    stack = Stack(**systemd.environment, THINGSCALE_HOME=str(tmp_path / "home"))
    port = str(free_port())
    up = stack.another(THINGSCALE_HTTP_PORT=port).manage("up", "--only", "web,celery")
    try:
        wait_until(lambda: "READY=1" in systemd.told() or up.poll() is not None, 2 * SECONDS, "READY=1")
        assert systemd.told().count("READY=1") == 1
        assert systemd.told()[0] == "STATUS=starting"
        before = systemd.told().count("WATCHDOG=1")
        wait_until(lambda: systemd.told().count("WATCHDOG=1") > before + 2, SECONDS, "signs of life")
    finally:
        up.send_signal(signal.SIGTERM)
        said, wrong = up.communicate(timeout=SECONDS)
    assert up.returncode == 0, said + wrong
    assert systemd.told()[-2:] == ["STOPPING=1", "STATUS=stopping"]
