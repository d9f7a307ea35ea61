"""One child process: it dies with us, logs to a file and stops within a time limit.

managed_process.py builds on this: there, a process has a name, is waited for until it is ready, and can be
started again.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

LAUNCHER = Path(__file__).with_name("launch.py")
# The kernel kills a child when the THREAD that started it ends. So one thread, which lives as long as we do,
# starts all of them.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


@dataclass(frozen=True)
class UnixAccount:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Program:
    argv: Sequence[str]
    log: Path | None = None  # None: our own standard streams
    stdout: IO[bytes] | None = None  # in place of the log, for what must not be kept
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path = Path("/")
    account: UnixAccount | None = None  # None: our own
    stop_signal: signal.Signals = signal.SIGTERM
    own_group: bool = True  # out of reach of the terminal's Ctrl-C


class ChildProcess:
    def __init__(self, program: Program) -> None:
        self.program = program
        self._popen = _starter.submit(_spawn, program).result()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._popen.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def ask_to_stop(self) -> None:
        self.signal(self.program.stop_signal)

    def kill(self) -> None:
        """As `kill -9`, also for what the process has started."""
        self._popen.kill()
        self._popen.wait()
        self.kill_rest()

    def kill_rest(self) -> None:
        """To be called once it has ended: kills what it has left behind in its process group."""
        if self.program.own_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def stop(self, seconds: float) -> int:
        self.ask_to_stop()
        if self.wait(seconds) is None:
            self.kill()
        return self._popen.wait()


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    account = program.account
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    launcher = [sys.executable, "-I", "-S", LAUNCHER, os.getpid(), int(program.stop_signal), uid, gid]
    argv = [str(word) for word in (*launcher, *program.argv)]
    group = 0 if program.own_group else None
    if program.log is None:
        return subprocess.Popen(argv, env=program.env, cwd=program.cwd, process_group=group)
    with os.fdopen(os.open(program.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
        return subprocess.Popen(
            argv,
            env=program.env,
            cwd=program.cwd,
            process_group=group,
            stdin=subprocess.DEVNULL,
            stdout=program.stdout or log,
            stderr=log,
        )
