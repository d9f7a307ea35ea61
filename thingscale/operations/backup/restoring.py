"""Puts a backup into a database."""

import tempfile
from pathlib import Path
from typing import Any

import psycopg

from thingscale.accounts import encryption
from thingscale.operations.backup import BackupError, backing_up, manifest, programs
from thingscale.operations.backup.manifest import Manifest
from thingscale.processes import compatibility
from thingscale.version import RELEASE

LAST = "TABLE DATA public django_migrations"  # a database without its rows is refused by every process
NOT_EMPTY = (
    "The database has tables already, and a backup is restored into an empty one: name another one in"
    " DATABASE_URL, or repeat this with --overwrite, which deletes all that is in it."
)
IN_USE = "Processes of the platform use the database: stop them first ({parts})."
OTHER_KEY = (
    "The backup is of an installation with another secret key, without which nobody can sign in to its"
    " devices:"
    " put that key into THINGSCALE_SECRET_KEY, or into the file secret_key of the home, and repeat this."
)
NEWER = "The backup is of release {theirs}, and this is release {ours}: install that release first."


def check_backup(folder: Path) -> Manifest:
    """Whether this release and its key can use the backup, and whether it is whole. Raises BackupError."""
    found = manifest.read(folder)
    if found.release > RELEASE:
        raise BackupError(NEWER.format(theirs=found.release, ours=RELEASE))
    if not set(found.secret_keys) <= set(compatibility.fingerprints()):
        raise BackupError(OTHER_KEY)
    manifest.check_files(folder, found)
    return found


def restore(folder: Path, parameters: dict[str, Any], jobs: int, overwrite: bool) -> Manifest:
    """Raises BackupError and psycopg.Error."""
    found = check_backup(folder)
    timing = {"connect_timeout": backing_up.CONNECT_SECONDS} | parameters
    with psycopg.connect(**timing, application_name="thingscale-restore", autocommit=True) as connection:
        server = connection.info.server_version // 10_000
        dumped_by = int(found.pg_dump.partition(".")[0])
        bin_folder = programs.find(max(server, dumped_by))
        _make_room(connection, overwrite)
        _fill(folder, bin_folder, parameters, jobs)
        connection.execute("DELETE FROM processes_process")  # they run elsewhere, if at all
        _check(connection, found)
        connection.execute("ANALYZE")
    return found


def _make_room(connection: psycopg.Connection, overwrite: bool) -> None:
    if not connection.execute(backing_up.TABLES).fetchall():
        return
    if compatibility.has_table(connection, "processes_process"):
        rows = connection.execute(
            """SELECT DISTINCT part || ' on ' || host FROM processes_process
            WHERE seen_at > now() - make_interval(secs => %s)""",
            [compatibility.ENDED_AFTER_SECONDS],
        ).fetchall()
        if rows and overwrite:
            raise BackupError(IN_USE.format(parts=", ".join(sorted(name for (name,) in rows))))
    if not overwrite:
        raise BackupError(NOT_EMPTY)
    connection.execute("DROP SCHEMA public CASCADE")
    connection.execute("CREATE SCHEMA public")


def _fill(folder: Path, bin_folder: Path, parameters: dict[str, Any], jobs: int) -> None:
    """In two steps: where the first one ends early, no process takes the database for a whole one."""
    program, dump = bin_folder / "pg_restore", str(folder / manifest.DUMP)
    entries = programs.run(program, ["--list", dump]).splitlines()
    last = [line for line in entries if LAST in line]
    ways = ["--exit-on-error", "--no-owner", "--no-privileges", "--no-comments", f"--jobs={jobs}"]
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "list"
        for lines in ([line for line in entries if line not in last], last):
            listed.write_text("\n".join(lines))
            programs.run(program, [*ways, f"--use-list={listed}", dump], parameters)


def _check(connection: psycopg.Connection, found: Manifest) -> None:
    """All rows are there, and the key reads the newest token."""
    rows = backing_up.count_rows(connection)
    without = {"processes_process"}
    for table, wanted in found.rows.items():
        if table not in without and rows.get(table) != wanted:
            raise BackupError(f"{table} has {rows.get(table, 0):,} rows, and the backup {wanted:,}.")
    tokens = connection.execute("SELECT ciphertext FROM accounts_token ORDER BY id DESC LIMIT 1")
    for (ciphertext,) in tokens:
        try:
            encryption.decrypt(bytes(ciphertext), encryption.Purpose.TOKEN)
        except encryption.Undecryptable:
            raise BackupError(OTHER_KEY) from None
