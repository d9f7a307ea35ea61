import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

from thingscale.local import logs

from .helpers import PROJECT, alive, clean_environment, until

SUPERVISED = Path(__file__).with_name("supervised.py")


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(SUPERVISED), str(folder), *names],
            env=clean_environment(PYTHONPATH=str(PROJECT)),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self, seconds: float = 60) -> str:
        try:
            return self._lines.get(timeout=seconds)
        except Empty:
            pytest.fail("the supervisor said nothing")

    def pid(self, name: str) -> int:
        until((self.folder / f"{name}.pid").exists)
        return int((self.folder / f"{name}.pid").read_text())

    def ended(self) -> list[str]:
        return (self.folder / "ended").read_text().split()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path, "one", "two", "three")
    assert running.line() == "ready"
    yield running
    running.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_in_reverse_order(supervised: Supervised, number: signal.Signals) -> None:
    supervised.process.send_signal(number)
    assert supervised.process.wait(60) == 0
    assert supervised.ended() == ["three", "two", "one"]


def test_a_group_stops_together(tmp_path: Path) -> None:
    """Each of the pair ends once the other one has been asked to."""
    supervised = Supervised(tmp_path, "first", "pair-1", "pair-2", "last")
    assert supervised.line() == "ready"
    supervised.process.send_signal(signal.SIGTERM)
    assert [supervised.line() for _ in range(4)] == [
        f"stopping {name}" for name in ("last", "pair-2", "pair-1", "first")
    ]
    assert supervised.process.wait(15) == 0
    ended = supervised.ended()
    assert (ended[0], sorted(ended[1:3]), ended[3]) == ("last", ["pair-1", "pair-2"], "first")
    supervised.close()


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_only(supervised: Supervised) -> None:
    os.killpg(supervised.process.pid, signal.SIGINT)
    assert supervised.process.wait(60) == 0
    assert supervised.ended() == ["three", "two", "one"]


def test_a_dead_child_is_started_again_and_named(supervised: Supervised) -> None:
    first = supervised.pid("two")
    others = supervised.pid("one"), supervised.pid("three")
    os.kill(first, signal.SIGKILL)
    assert supervised.line() == "two stopped (killed by SIGKILL); starting it again in 0.5 s"
    until(lambda: supervised.pid("two") != first)
    assert (supervised.pid("one"), supervised.pid("three")) == others


def test_the_delay_grows(supervised: Supervised) -> None:
    for delay in ("0.5", "1"):
        pid = supervised.pid("one")
        os.kill(pid, signal.SIGKILL)
        assert supervised.line().endswith(f"starting it again in {delay} s")
        until(lambda pid=pid: supervised.pid("one") != pid)  # type: ignore[misc]


def test_errors_of_a_child_are_echoed(supervised: Supervised) -> None:
    (supervised.folder / "three.error").touch()
    assert supervised.line() == "three: 2026 ERROR something is wrong"


def test_children_die_with_a_killed_supervisor(supervised: Supervised) -> None:
    pids = [supervised.pid(name) for name in ("one", "two", "three")]
    supervised.process.kill()
    supervised.process.wait(60)
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_second_signal_forces(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "one", "stubborn")
    assert supervised.line() == "ready"
    pid = supervised.pid("stubborn")
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.line() == "stopping stubborn"
    assert alive(pid)
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.process.wait(60) == 0
    assert not alive(pid)
    supervised.close()


def test_a_child_that_breaks_at_the_start(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "one", "broken")
    assert supervised.line() == "broken stopped while starting (exit code 1: ERROR: it broke)."
    assert supervised.process.wait(60) == 1
    assert supervised.ended() == ["one"]
    supervised.close()


def test_logs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 100)
    log = tmp_path / "child.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 200)
        writer.flush()
        logs.truncate_large(log)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "child.log.1").stat().st_size == 100  # the newest part


def test_the_telling_line() -> None:
    assert logs.telling_line("a\nERROR: b\nc\n") == "ERROR: b"
    assert logs.telling_line("a\nb\n\n") == "b"
    assert logs.telling_line("") == ""
