"""`manage.py with_servers`: runs a command with private servers."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from thingscale.local.child_process import ChildProcess, Program
from thingscale.local.servers import ALL, PLATFORM, Servers, not_given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        default=",".join(sorted(PLATFORM)),
        help=f"comma-separated, of {', '.join(sorted(ALL))}; default: %(default)s",
    )
    parser.add_argument("--fast", action="store_true", help="in memory and without fsync, for unit tests")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND [ARGUMENT ...]")


def run(only: str, fast: bool, command: Sequence[str]) -> int:
    """Returns the command's exit code. Servers that the environment names are used, not started."""
    words = list(command[1:] if command[:1] == ["--"] else command)
    names = frozenset(filter(None, only.split(",")))
    if not words or not names <= ALL:
        sys.stderr.write(f"usage: with_servers [--fast] [--only {','.join(sorted(ALL))}] -- COMMAND ...\n")
        return 2
    with _terminate_as_exit(), Servers(want=not_given(os.environ, names), fast=fast) as env:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, **env, "PATH": path}
        process = ChildProcess(Program(words, env=environment, cwd=Path.cwd(), own_group=False))
        # The terminal sends Ctrl-C to the command as well; the command decides, and we wait for it.
        previous = [signal.signal(signal.SIGINT, signal.SIG_IGN)]
        previous.append(
            signal.signal(signal.SIGTERM, lambda number, _: process.signal(signal.Signals(number)))
        )
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, previous[0])
            signal.signal(signal.SIGTERM, previous[1])
    return 128 - code if code is not None and code < 0 else code or 0


@contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """Turns SIGTERM into SystemExit, so that the servers are stopped and their folder is deleted."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
