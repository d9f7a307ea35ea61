"""Where backups are kept: a folder, or S3."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from django.conf import settings

from thingscale.operations.backup import BackupError, manifest

NAME = re.compile(r"thingscale-\d{8}T\d{6}Z")
PARTIAL = ".partial"
NO_BACKUP = "{} has no whole backup."


class Place(Protocol):
    def workplace(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """An empty folder, in which a backup is made. What is left in it without keep() is deleted."""

    def keep(self, name: str, made: Path) -> None:
        """From now on, and not before, it counts as a backup."""

    def names(self) -> list[str]:
        """Of whole backups, newest first."""

    def open(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """The backup as a folder."""

    def delete(self, name: str) -> None: ...

    def sweep(self) -> None:
        """Deletes what backups that were killed have left. Nobody makes one meanwhile."""


def find(target: str) -> Place:
    """Raises BackupError."""
    if target.startswith("s3://"):
        return Bucket(target)
    if "://" in target:
        raise BackupError(f"{target} is no folder, and no s3://bucket/prefix.")
    return Folder(Path(target).expanduser().resolve())


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def workplace(self, name: str) -> Iterator[Path]:
        partial = self._path / f"{name}{PARTIAL}"
        try:
            partial.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise BackupError(f"Nothing can be written to {self._path}: {error.strerror}.") from None
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def keep(self, name: str, made: Path) -> None:
        for path in (*(made / manifest.DUMP).iterdir(), made / manifest.DUMP, made):
            _sync(path)
        made.rename(self._path / name)
        _sync(self._path)

    def names(self) -> list[str]:
        if not self._path.is_dir():
            raise BackupError(f"There is no folder {self._path}.")
        try:
            named = filter(NAME.fullmatch, os.listdir(self._path))
            return sorted(
                (name for name in named if (self._path / name / manifest.NAME).is_file()), reverse=True
            )
        except OSError as error:
            raise BackupError(f"{error.filename} can't be read: {error.strerror}.") from None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Path]:
        yield self._path / name

    def delete(self, name: str) -> None:
        (self._path / name / manifest.NAME).unlink()  # first: what is half deleted is no backup
        shutil.rmtree(self._path / name)

    def sweep(self) -> None:
        for path in self._path.glob(f"thingscale-*{PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)


class Bucket:
    """Of S3, or of what speaks like it: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT
    in the environment, as everywhere. An object comes into being whole, and the manifest comes last."""

    def __init__(self, target: str) -> None:
        import obstore  # here, since no other process needs it
        from obstore.store import S3Store

        parts = urlsplit(target)
        if not parts.netloc:
            raise BackupError("S3 has to be named as s3://bucket/prefix.")
        self._obstore = obstore
        insecure = os.environ.get("AWS_ENDPOINT", os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http:")
        self._store = S3Store(
            parts.netloc, prefix=parts.path.strip("/") or None, client_options={"allow_http": insecure}
        )
        self._target = target

    @contextlib.contextmanager
    def workplace(self, name: str) -> Iterator[Path]:
        """On this machine: it is sent when it is complete."""
        with tempfile.TemporaryDirectory(prefix="backup-", dir=_scratch()) as folder:
            yield Path(folder)

    def keep(self, name: str, made: Path) -> None:
        with _explained(self._target):
            for path in sorted((made / manifest.DUMP).iterdir()):
                self._obstore.put(self._store, f"{name}/{manifest.DUMP}/{path.name}", path)
            with self._fetched(name, manifest.read(made)) as folder:
                manifest.check_files(folder, manifest.read(made))
            self._obstore.put(self._store, f"{name}/{manifest.NAME}", made / manifest.NAME)

    def names(self) -> list[str]:
        found = [
            path.removesuffix(f"/{manifest.NAME}") for path in self._paths() if path.endswith(manifest.NAME)
        ]
        return sorted(filter(NAME.fullmatch, found), reverse=True)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Path]:
        with _explained(self._target), tempfile.TemporaryDirectory(dir=_scratch()) as folder:
            self._get(f"{name}/{manifest.NAME}", Path(folder) / manifest.NAME)
            found = manifest.read(Path(folder))
        with self._fetched(name, found) as fetched:
            found.write(fetched)
            yield fetched

    def delete(self, name: str) -> None:
        with _explained(self._target):
            self._obstore.delete(self._store, f"{name}/{manifest.NAME}")
            self._delete_below(name)

    def sweep(self) -> None:
        whole = set(self.names())
        for name in {path.partition("/")[0] for path in self._paths()} - whole:
            if NAME.fullmatch(name):
                self._delete_below(name)

    def _delete_below(self, name: str) -> None:
        with _explained(self._target):
            self._obstore.delete(self._store, [path for path in self._paths() if path.startswith(f"{name}/")])

    @contextlib.contextmanager
    def _fetched(self, name: str, wanted: manifest.Manifest) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="restore-", dir=_scratch()) as folder:
            (Path(folder) / manifest.DUMP).mkdir()
            with _explained(self._target):
                for file in wanted.files:
                    self._get(f"{name}/{manifest.DUMP}/{file}", Path(folder) / manifest.DUMP / file)
            yield Path(folder)

    def _get(self, path: str, into: Path) -> None:
        with into.open("wb") as file:
            for block in self._obstore.get(self._store, path).stream():
                file.write(block)

    def _paths(self) -> list[str]:
        with _explained(self._target):
            return [each["path"] for some in self._obstore.list(self._store) for each in some]


def _scratch() -> Path:
    """On a disk, which a temporary folder of the system may not be."""
    home: Path = settings.THINGSCALE_HOME
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


@contextlib.contextmanager
def _explained(target: str) -> Iterator[None]:
    """Errors of the library have long texts, of which the first line matters."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        line = str(error).strip().splitlines()[0].strip()[:300]
        raise BackupError(f"{target} can't be used: {line}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
