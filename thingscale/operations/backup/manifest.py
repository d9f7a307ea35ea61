"""What a backup says of itself, and whether it is true."""

import gzip
import hashlib
import json
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from thingscale.lib.plurals import counted
from thingscale.local.home import write_private
from thingscale.operations.backup import BackupError, programs

NAME = "manifest.json"
FORMAT = 1
DUMP = "dump"  # the folder that pg_dump writes
BLOCK = 2**20
END = b"\\.\n\n\n"  # of a table's rows, as pg_dump writes it
_TABLE_DATA = re.compile(r"(?P<id>\d+); \d+ \d+ TABLE DATA \S+ (?P<table>\S+) ")


@dataclass(frozen=True)
class Manifest:
    format: int
    version: str  # of the platform
    release: int
    postgresql: str
    pg_dump: str
    taken_at: str  # the moment: by the database's clock
    secret_keys: list[str]  # fingerprints of the keys that it needs; they reveal nothing about the keys
    rows: dict[str, int]  # of each table
    files: dict[str, list[str | int]]  # bytes and SHA-256 of each file of the dump

    def write(self, folder: Path) -> None:
        write_private(folder / NAME, json.dumps(asdict(self), indent=1, sort_keys=True))

    @property
    def bytes(self) -> int:
        return sum(int(size) for size, _ in self.files.values())


def read(folder: Path) -> Manifest:
    """Raises BackupError."""
    try:
        content = json.loads((folder / NAME).read_text())
        found = Manifest(**content)
    except FileNotFoundError:
        raise BackupError(f"{folder} is no whole backup: it has no {NAME}.") from None
    except (OSError, ValueError, TypeError):
        raise BackupError(f"{folder / NAME} can't be read: it is damaged, or of another release.") from None
    if found.format != FORMAT:
        raise BackupError(f"{folder} has format {found.format}: a newer release of the platform wrote it.")
    return found


def describe_files(folder: Path) -> dict[str, list[str | int]]:
    return {path.name: [path.stat().st_size, _digest(path)] for path in sorted((folder / DUMP).iterdir())}


def check_files(folder: Path, manifest: Manifest) -> None:
    """Reads all files. Raises BackupError for the first that differs."""
    for name, (size, digest) in manifest.files.items():
        path = folder / DUMP / name
        if not path.is_file():
            raise BackupError(f"{path} is missing: this backup can't be used.")
        if path.stat().st_size != size or _digest(path) != digest:
            raise BackupError(f"{path} differs from what was written: this backup can't be used.")


def check_rows(folder: Path, manifest: Manifest, bin_folder: Path) -> None:
    """Reads the rows of all tables back, and counts them. Raises BackupError."""
    listing = programs.run(bin_folder / "pg_restore", ["--list", str(folder / DUMP)])
    files = {found["table"]: found["id"] for found in _TABLE_DATA.finditer(listing)}
    for table, rows in manifest.rows.items():
        found = _count_rows(folder / DUMP / f"{files[table]}.dat.gz") if table in files else 0
        if found != rows:
            raise BackupError(
                f"The backup has {counted(found, 'row')} of {table}, and the database had {rows:,}."
            )


def _count_rows(path: Path) -> int:
    """A row is a line, since COPY escapes line breaks; after the last one comes END."""
    lines, tail = 0, b""
    try:
        with gzip.open(path) as file:
            while block := file.read(BLOCK):
                lines += block.count(b"\n")
                tail = (tail + block)[-len(END) :]
    except (OSError, EOFError, zlib.error):
        tail = b""
    if tail != END:
        raise BackupError(f"{path} is damaged: this backup can't be used.")
    return lines - END.count(b"\n")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
