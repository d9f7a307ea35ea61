"""A child process with a name: it is started, watched until it is ready, stopped, killed and started
again."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from thingscale.local import logs
from thingscale.local.child_process import ChildProcess, Program
from thingscale.local.errors import StartError

POLL_SECONDS = 0.03


class ManagedProcess(ABC):
    name: str
    time_limit = 60.0  # seconds until ready
    stop_limit = 15.0  # seconds until killed
    alarming = logs.ERROR  # lines of its log that the person at the terminal should see
    attempts = 1  # to start it, if it ends early
    group = ""  # processes of the same group are stopped together
    process: ChildProcess | None = None

    @abstractmethod
    def program(self) -> Program:
        """What to run; prepares the files it needs. Called for each start."""

    @abstractmethod
    def ready(self) -> bool:
        """Looks once, for a few seconds at most, and raises nothing."""

    def launch(self) -> None:
        if self.process:
            self.process.kill_rest()
        program = self.program()
        if program.log:
            logs.truncate_large(program.log)
            self.log_start = logs.size(program.log)
        self.process = ChildProcess(program)

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Returns when ready. `meanwhile` is called all the time and may raise to give up."""
        self.launch()
        self.wait_ready(meanwhile)

    def wait_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        deadline = time.monotonic() + self.time_limit
        left = self.attempts
        while not self.ready():
            meanwhile()
            if self.exit_code() is not None:
                left -= 1
                if left < 1:
                    raise StartError(f"{self.name} stopped while starting ({self.last_words()}).")
                until = time.monotonic() + 0.5
                while time.monotonic() < until:
                    meanwhile()
                    time.sleep(POLL_SECONDS)
                self.launch()
            if time.monotonic() > deadline:
                raise StartError(
                    f"{self.name} was not ready in {self.time_limit:.0f} s ({self.last_words()})."
                )
            time.sleep(POLL_SECONDS)

    def running(self) -> bool:
        return self.process is not None and self.process.exit_code() is None

    def exit_code(self) -> int | None:
        return self.process.exit_code() if self.process else None

    def output(self) -> str:
        """The end of what it has logged since its last start."""
        log = self.process.program.log if self.process else None
        return logs.read_from(log, self.log_start) if log else ""

    def last_words(self) -> str:
        code = self.exit_code()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        ending = [f"exit code {code}"] if code is not None else []
        return ": ".join(ending + [line for line in [logs.telling_line(self.output())] if line])

    def stop(self) -> None:
        if self.process:
            self.process.stop(self.stop_limit)
            self.process.kill_rest()
            self.process = None

    def force(self) -> None:
        """Ends it as quickly as possible without leaving anything behind."""
        self.kill()

    def kill(self) -> None:
        """As `kill -9`: nothing is flushed or cleaned up."""
        if self.process:
            self.process.kill()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()
