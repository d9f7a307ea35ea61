"""Keeps child processes running until a signal comes, then stops them in reverse order."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from tempfile import TemporaryFile
from types import FrameType

from thingscale.local import logs
from thingscale.local.child_process import ChildProcess, Program
from thingscale.local.errors import StartError
from thingscale.local.managed_process import POLL_SECONDS, ManagedProcess
from thingscale.processes.service_manager import ServiceManager

FIRST_DELAY, LAST_DELAY = 0.5, 10.0
STEADY_SECONDS = 60  # a child that ran for so long is restarted after FIRST_DELAY again
ECHO_SECONDS = 1.0  # in which at most one error line of a child is shown
ROTATE_SECONDS = 1.0  # between two checks of the logs' sizes
WAITING_SECONDS = 10.0  # between two messages that a child is still waited for
EXPLAINED = 3  # exit code of a command that has written a sentence on why it can't go on
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A signal asked us to stop."""


@dataclass
class Watched:
    child: ManagedProcess
    started: float
    delay: float = FIRST_DELAY
    restart_at: float | None = None
    echoed_at: float = 0.0
    read: int = 0  # offset in its log


class Supervisor:
    def __init__(self, say: Callable[[str], None], manager: ServiceManager | None = None) -> None:
        self._say = say
        self.manager = manager or ServiceManager({})
        self._children: list[ManagedProcess] = []
        self._watched: list[Watched] = []
        self.signals_received = 0
        self._rotated_at = time.monotonic()

    @contextmanager
    def signals(self) -> Iterator[None]:
        previous = [(number, signal.signal(number, self._on_signal)) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in previous:
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals_received += 1

    def start(self, child: ManagedProcess) -> None:
        """Returns when the child is ready. From then on it is watched."""
        self._check_signal()
        self._children.append(child)
        told = time.monotonic()

        def meanwhile() -> None:
            nonlocal told
            self.tick()
            if time.monotonic() - told > WAITING_SECONDS:  # recovery after a crash can take minutes
                told = time.monotonic()
                self._say(f"still waiting for {child.name} ({child.last_words()})")

        child.start(meanwhile)
        self._watched.append(Watched(child, time.monotonic(), read=_log_size(child)))

    def run(self, name: str, program: Program) -> str:
        """Runs a command to its end, and returns its standard output, which reaches no log."""
        self._check_signal()
        start = logs.size(program.log) if program.log else 0
        with TemporaryFile() as stdout:
            process = ChildProcess(replace(program, stdout=stdout))
            try:
                while process.exit_code() is None:
                    self.tick()
                    time.sleep(POLL_SECONDS)
            except BaseException:
                process.stop(10)
                raise
            stdout.seek(0)
            output = stdout.read().decode(errors="replace")
        if process.exit_code() == EXPLAINED and program.log:
            raise StartError(logs.read_from(program.log, start).strip())
        if process.exit_code():
            reason = logs.telling_line(logs.read_from(program.log, start)) if program.log else ""
            raise StartError(f"{name} failed ({reason or 'without a word'}); more in {program.log}.")
        return output

    def watch(self) -> None:
        """Watches all children until a signal comes, which raises Stopped."""
        while True:
            self.tick()
            time.sleep(0.1)

    def tick(self) -> None:
        """Looks at all children once."""
        self._check_signal()
        self.manager.alive([each.child.name for each in self._watched if each.restart_at is not None])
        for watched in self._watched:
            self._echo_errors(watched)
            self._keep_running(watched)
        if time.monotonic() - self._rotated_at > ROTATE_SECONDS:
            self._rotated_at = time.monotonic()
            for child in self._children:
                if child.process and child.process.program.log:
                    logs.truncate_large(child.process.program.log)

    def _check_signal(self) -> None:
        if self.signals_received:
            raise Stopped

    def _keep_running(self, watched: Watched) -> None:
        now = time.monotonic()
        if watched.restart_at is not None:
            if now < watched.restart_at:
                return
            watched.restart_at, watched.started = None, now
            try:
                watched.child.launch()
            except (StartError, OSError) as error:
                self._plan_restart(watched, f"can't be started: {error}")
            watched.read = _log_size(watched.child)
        elif watched.child.exit_code() is not None:
            if now - watched.started > STEADY_SECONDS:
                watched.delay = FIRST_DELAY
            self._plan_restart(watched, f"stopped ({watched.child.last_words()})")

    def _plan_restart(self, watched: Watched, what: str) -> None:
        self._say(f"{watched.child.name} {what}; starting it again in {watched.delay:g} s")
        watched.restart_at = time.monotonic() + watched.delay
        watched.delay = min(watched.delay * 2, LAST_DELAY)

    def _echo_errors(self, watched: Watched) -> None:
        log = watched.child.process.program.log if watched.child.process else None
        now = time.monotonic()
        if log is None or now - watched.echoed_at < ECHO_SECONDS:
            return
        end = logs.size(log)
        if end == watched.read:
            return
        lines = logs.error_lines(logs.read_from(log, min(watched.read, end)), watched.child.alarming)
        watched.read = end
        if lines and watched.child.running():
            more = f" (and {len(lines) - 1} more in {log})" if len(lines) > 1 else ""
            self._say(f"{watched.child.name}: {lines[-1]}{more}")
            watched.echoed_at = now

    def stop(self) -> None:
        """Stops the children in reverse order, those of a group together. A second signal kills those that
        are left."""
        for _, group in groupby(reversed(self._children), lambda child: child.group or child.name):
            stopping = [child for child in group if child.running()]
            for child in stopping:
                self._say(f"stopping {child.name}")
                if child.process:
                    child.process.ask_to_stop()
            asked_at = time.monotonic()
            for child in stopping:
                deadline = asked_at + child.stop_limit
                while child.running() and self.signals_received < 2 and time.monotonic() <= deadline:
                    time.sleep(POLL_SECONDS)
                if child.running():
                    self._say(f"{child.name} is killed")
                    child.force()
                elif child.process:
                    child.process.kill_rest()
        self._children.clear()
        self._watched.clear()


def _log_size(child: ManagedProcess) -> int:
    log = child.process.program.log if child.process else None
    return logs.size(log) if log else 0
