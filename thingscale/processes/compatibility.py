"""Checks, before a process starts, that its release and its secret key are compatible with the database and
with the other processes: it has to read what they write, and they what it writes.

Each process has a row while it runs; see registration.py.
"""

import contextlib
import logging
import os
import pkgutil
from collections.abc import Iterator
from functools import partial

import psycopg
from django.apps import apps
from django.conf import settings
from django.utils.crypto import salted_hmac

from thingscale.lib import database_server
from thingscale.lib.plurals import counted
from thingscale.processes import own_connection
from thingscale.version import RELEASE

log = logging.getLogger(__name__)

ENDED_AFTER_SECONDS = 60  # without a sign of life, a process counts as ended
CONNECT_SECONDS = 5
LOCK = 7_466  # advisory lock while a process checks and records itself

OTHER_KEY = (
    "The database is of an installation with another secret key, and this process could not read its tokens."
    " Give it the same key: THINGSCALE_SECRET_KEYS of the other processes, or the file secret_key of"
    " their home."
)
KEY_MISSING = (
    "Some of the database may be encrypted with a secret key that this process does not have: list it, too,"
    " in THINGSCALE_SECRET_KEYS. To be rid of an old key, run `manage.py reencrypt` while both are listed."
)
NOT_MIGRATED = (
    "The database lacks {missing} (the first one: {first}): run `manage.py prepare`, or `manage.py up`."
)
DATABASE_NEWER = (
    "This is release {ours}, and the database is one of release {theirs}. Only releases that follow each"
    " other run together: install that release here."
)
PROCESS_OLDER = (
    "This is release {ours}, and {part} on {host} (process {pid}) runs release {theirs}. Only releases that"
    " follow each other run together: stop it first (one that was killed counts for {seconds} seconds), or"
    " install the releases between, one after the other."
)


class StartRefused(Exception):
    """The text says what to do, in one sentence or two."""


@contextlib.contextmanager
def connected() -> Iterator[psycopg.Connection]:
    """A short connection to the database that Django uses, of its own."""
    with _connect() as connection:
        try:
            connection.execute("SET LOCAL statement_timeout = '10s'")
        except psycopg.Error as error:
            if database_server.is_statement_pooling(error):
                raise StartRefused(database_server.POOLED) from None
            raise
        yield connection


def _connect(autocommit: bool = False) -> psycopg.Connection:
    known = {"connect_timeout": CONNECT_SECONDS} | own_connection.parameters()
    return psycopg.connect(**known, autocommit=autocommit, application_name="thingscale-start")


def fingerprints() -> list[str]:
    """Fingerprints of the secret keys, newest first. They reveal nothing about the keys."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [
        salted_hmac("thingscale.processes", "fingerprint", key, algorithm="sha256").hexdigest()
        for key in keys
    ]


def check(connection: psycopg.Connection) -> None:
    """Checks a prepared database, and records that this release and this key have been here. Raises
    StartRefused."""
    check_server(connection)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    check_schema(connection)
    check_releases(connection)
    check_keys(connection)
    connection.execute(
        """INSERT INTO processes_installation (id, release) VALUES (1, %s)
        ON CONFLICT (id) DO UPDATE SET release = EXCLUDED.release
        WHERE processes_installation.release < EXCLUDED.release""",
        [RELEASE],
    )
    connection.execute(
        "INSERT INTO processes_secretkey (fingerprint) VALUES (%s) ON CONFLICT DO NOTHING", fingerprints()[:1]
    )


def check_server(connection: psycopg.Connection) -> None:
    """Raises StartRefused."""
    try:
        database_server.check(connection, partial(_connect, autocommit=True))
    except database_server.Unsuitable as unsuitable:
        raise StartRefused(str(unsuitable)) from None


def check_schema(connection: psycopg.Connection) -> None:
    """Compares names only, since loading all migrations would take memory that the process never needs again.
    The database may have more migrations, of the next release. Raises StartRefused."""
    applied: set[tuple[str, str]] = set()
    if has_table(connection, "django_migrations"):
        rows = connection.execute("SELECT app, name FROM django_migrations")
        applied = {(app, name) for app, name in rows}
    missing = sorted(migrations() - applied)
    if missing:
        app, name = missing[0]
        number = counted(len(missing), "migration,migrations")
        raise StartRefused(NOT_MIGRATED.format(missing=number, first=f"{app}.{name}"))


def migrations() -> set[tuple[str, str]]:
    """The migrations of the installed apps."""
    return {
        (config.label, found.name)
        for config in apps.get_app_configs()
        for found in pkgutil.iter_modules([os.path.join(config.path, "migrations")])
        if found.name[0] not in "_~"
    }


def has_table(connection: psycopg.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchall()[0][0])


def check_releases(connection: psycopg.Connection) -> None:
    """Raises StartRefused."""
    for (newest,) in connection.execute("SELECT release FROM processes_installation"):
        if newest - 1 > RELEASE:
            raise StartRefused(DATABASE_NEWER.format(ours=RELEASE, theirs=newest))
    older = connection.execute(
        """SELECT part, host, pid, release FROM processes_process
        WHERE release < %s AND seen_at > now() - make_interval(secs => %s) ORDER BY release LIMIT 1""",
        [RELEASE - 1, ENDED_AFTER_SECONDS],
    )
    for part, host, pid, theirs in older:
        raise StartRefused(
            PROCESS_OLDER.format(
                ours=RELEASE, theirs=theirs, part=part, host=host, pid=pid, seconds=ENDED_AFTER_SECONDS
            )
        )


def older_release_runs(connection: psycopg.Connection) -> bool:
    """While machines are updated: what a process of the release before would misunderstand has to wait."""
    found = connection.execute(
        """SELECT FROM processes_process
        WHERE release < %s AND seen_at > now() - make_interval(secs => %s) LIMIT 1""",
        [RELEASE, ENDED_AFTER_SECONDS],
    )
    return found.fetchone() is not None


def check_keys(connection: psycopg.Connection) -> None:
    """We need each key that something in the database may be encrypted with. Raises StartRefused."""
    used = {key for (key,) in connection.execute("SELECT fingerprint FROM processes_secretkey")}
    ours = set(fingerprints())
    if not used <= ours:
        raise StartRefused(KEY_MISSING if used & ours else OTHER_KEY)


def forget_older_keys(connection: psycopg.Connection) -> None:
    """To be called after everything was encrypted with the newest key. Keys of running processes stay."""
    connection.execute(
        """DELETE FROM processes_secretkey WHERE fingerprint <> %s AND fingerprint NOT IN (
            SELECT secret_key FROM processes_process WHERE seen_at > now() - make_interval(secs => %s))""",
        [fingerprints()[0], ENDED_AFTER_SECONDS],
    )
