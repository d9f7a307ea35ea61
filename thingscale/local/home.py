"""The home folder of an installation: its lock, secret keys, remembered ports, logs and sockets."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from thingscale.local.errors import StartError

NEEDED_BYTES = 300 * 2**20  # PostgreSQL's first files, its first WAL segments and a margin
LONGEST_SOCKET_PATH = 103  # bytes; Linux allows 107, macOS 103
LONGEST_SOCKET_NAME = "postgres/.s.PGSQL.5432"


class Home:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "log"
        self.key = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        self._lock: int | None = None

    def create(self) -> None:
        try:
            make_folder(self.path, passable=True)
            make_folder(self.logs)
        except OSError as error:
            raise StartError(f"The home {self.path} can't be created: {error.strerror}.") from None
        if not os.access(self.path, os.W_OK | os.X_OK) or not os.access(self.logs, os.W_OK | os.X_OK):
            raise StartError(
                f"The home {self.path} is not writable: set THINGSCALE_HOME to a folder that is."
            )

    def lock(self) -> bool:
        """Takes the lock until this process ends, however it ends. True if an earlier one was killed."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 20).decode().strip() or "unknown"
            os.close(lock)
            raise StartError(f"A copy is already running in {self.path} (process {pid}).") from None
        crashed = os.fstat(lock).st_size > 0
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        return crashed

    def unlock(self) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def check_disk(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < NEEDED_BYTES:
            raise StartError(
                f"The disk is full: {free // 2**20} MiB are free in {self.path}, "
                f"and {NEEDED_BYTES // 2**20} MiB are needed."
            )

    def secret_keys(self) -> list[str]:
        """The secret keys, newest first. The first start makes one."""
        path = self.path / "secret_key"
        if not path.exists():
            write_private(path, f"{secrets.token_urlsafe(48)}\n")
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]

    def remembered_ports(self) -> dict[str, int]:
        try:
            ports = json.loads((self.path / "ports.json").read_text())
            return {str(name): int(port) for name, port in ports.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def remember_ports(self, ports: dict[str, int]) -> None:
        write_private(self.path / "ports.json", json.dumps(ports))

    def remember_servers(self, urls: dict[str, str]) -> None:
        """Lets other commands of the same home (settings.py) find the servers while these run."""
        write_private(self.path / "servers.json", json.dumps(urls))

    def sockets(self) -> Path:
        """The folder for sockets: `run` in the home, or a short private folder if the path would be too
        long."""
        folder = next(path for path in self._socket_folders() if _fits(path))
        try:
            make_folder(folder, passable=True)
        except OSError as error:
            raise StartError(f"The socket folder {folder} can't be created: {error.strerror}.") from None
        check_owned(folder)
        return folder

    def _socket_folders(self) -> list[Path]:
        short = f"thingscale-{self.key}"
        return [self.path / "run", Path(tempfile.gettempdir()) / short, Path("/tmp") / short]  # noqa: S108

    def remove_sockets(self) -> None:
        (self.path / "servers.json").unlink(missing_ok=True)
        shutil.rmtree(next(path for path in self._socket_folders() if _fits(path)), ignore_errors=True)


def make_folder(path: Path, passable: bool = False) -> None:
    """Makes a private folder. If we are root, PostgreSQL runs under another account: it can go through a
    passable folder to its own one inside, but not list it. Our files in the folder are private each."""
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if passable and os.geteuid() == 0:
            path.chmod(0o711)


def check_owned(folder: Path) -> None:
    """Somebody else may have made a folder in the system's temporary folder, where ours should be."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StartError(f"{folder} is not a private folder of this user: remove it and start again.")


def write_private(path: Path, text: str) -> None:
    """Writes the whole file or nothing, even if the power fails."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH
