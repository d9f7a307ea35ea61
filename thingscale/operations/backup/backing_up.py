"""Makes a backup while the platform runs."""

from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from thingscale.operations.backup import BackupError, manifest, programs
from thingscale.operations.backup.manifest import Manifest
from thingscale.operations.backup.places import Place
from thingscale.processes import compatibility
from thingscale.version import RELEASE, VERSION

LOCK = 7_469  # advisory lock: one backup of a database at a time
CONNECT_SECONDS = 10
LOCK_WAIT = "60s"  # for a migration that holds a table
TABLES = """SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname NOT LIKE 'pg_toast%' AND n.nspname NOT LIKE 'pg_temp%' ORDER BY 1"""


class Made(NamedTuple):
    name: str
    manifest: Manifest
    deleted: list[str]  # names of older ones


def back_up(place: Place, parameters: dict[str, Any], jobs: int, keep: int) -> Made:
    """Raises BackupError and psycopg.Error."""
    timing = {"connect_timeout": CONNECT_SECONDS} | parameters
    with psycopg.connect(**timing, application_name="thingscale-backup") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        ((alone,),) = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchall()
        if not alone:
            raise BackupError("Another backup of this database is being made: wait for it.")
        try:
            return _back_up_alone(connection, place, parameters, jobs, keep)
        finally:
            if not connection.broken:
                connection.rollback()


def _back_up_alone(
    connection: psycopg.Connection, place: Place, parameters: dict[str, Any], jobs: int, keep: int
) -> Made:
    place.sweep()
    keys = _keys(connection)
    ((snapshot, moment, server),) = connection.execute(
        "SELECT pg_export_snapshot(), now(), current_setting('server_version')"
    ).fetchall()
    name = f"thingscale-{moment:%Y%m%dT%H%M%SZ}"
    bin_folder = programs.find(connection.info.server_version // 10_000)
    with place.workplace(name) as folder:
        dump = ["--format=directory", f"--jobs={jobs}", "--compress=1", "--no-owner", "--no-privileges"]
        same = [
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={LOCK_WAIT}",
            f"--file={folder / manifest.DUMP}",
        ]
        programs.run(bin_folder / "pg_dump", [*dump, *same], parameters)
        made = Manifest(
            format=manifest.FORMAT,
            version=VERSION,
            release=RELEASE,
            postgresql=server,
            pg_dump=programs.run(bin_folder / "pg_dump", ["--version"]).split()[-1],
            taken_at=moment.isoformat(),
            secret_keys=keys,
            rows=count_rows(connection),
            files=manifest.describe_files(folder),
        )
        manifest.check_rows(folder, made, bin_folder)
        manifest.check_files(folder, made)
        made.write(folder)
        place.keep(name, folder)
    older = place.names()[keep:] if keep else []
    for old in older:
        place.delete(old)
    return Made(name, made, older)


def _keys(connection: psycopg.Connection) -> list[str]:
    """The fingerprints of the keys. Raises BackupError for a database that is not the platform's."""
    try:
        compatibility.check_schema(connection)
    except compatibility.StartRefused as refused:
        raise BackupError(f"{refused} A backup is made by the release that runs.") from None
    return [key for (key,) in connection.execute("SELECT fingerprint FROM processes_secretkey ORDER BY 1")]


def count_rows(connection: psycopg.Connection) -> dict[str, int]:
    """As of the same moment."""
    counts: dict[str, int] = {}
    for table, schema in connection.execute(TABLES).fetchall():
        question = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        ((counts[table],),) = connection.execute(question).fetchall()
    return counts
