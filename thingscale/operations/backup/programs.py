"""Finds pg_dump and pg_restore, and runs them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from thingscale.local import bundled_servers
from thingscale.local.child_process import LAUNCHER
from thingscale.local.errors import StartError
from thingscale.operations.backup import BackupError

NICE = 10  # the platform goes first
VERSION_SECONDS = 20


def find(major: int) -> Path:
    """The folder with the programs of that major version, or else of the lowest one above: older ones refuse
    the server. Raises BackupError."""
    found = {version: folder for folder in reversed(_folders()) if (version := _major(folder))}
    fitting = [version for version in sorted(found) if version >= major]
    if not fitting:
        have = f"those here are of {max(found)}" if found else "there are none"
        raise BackupError(
            f"The server is PostgreSQL {major}, which needs its own pg_dump and pg_restore or later ones, and"
            f" {have}: install postgresql-client-{major}, or put the folder with them into PATH."
        )
    return found[fitting[0]]


def _folders() -> list[Path]:
    """First those that the person has chosen."""
    on_path = shutil.which("pg_dump")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's, of which PATH has a wrapper
    with contextlib.suppress(StartError):  # it is not installed, where the server is another one
        folders.append(bundled_servers.postgres_install() / "bin")
    return folders


@cache
def _major(folder: Path) -> int:
    """0: they can't be run."""
    majors = []
    for name in ("pg_dump", "pg_restore"):
        try:
            done = subprocess.run(
                [folder / name, "--version"],
                capture_output=True,
                text=True,
                timeout=VERSION_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return 0
        match = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
        majors.append(int(match[1]) if match else 0)
    return min(majors)


def run(program: Path, arguments: Sequence[str], parameters: dict[str, Any] | None = None) -> str:
    """Its output. The password goes by the environment, since everybody on the machine sees the arguments.
    Raises BackupError."""
    environment = dict(os.environ)
    ends_with_us = [sys.executable, "-I", "-S", LAUNCHER, os.getpid(), int(signal.SIGTERM), -1, -1]
    command = [*map(str, ends_with_us), "nice", "-n", str(NICE), str(program), *arguments]
    if parameters is not None:
        known = {name: value for name, value in parameters.items() if name != "password"}
        if password := parameters.get("password"):
            environment["PGPASSWORD"] = str(password)
        command.append(f"--dbname={make_conninfo(**known)}")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise BackupError(f"{program.name} failed: {reason}")
    return done.stdout
