"""What has to be true before a process serves anybody: it can read what is in the database and what the
others write there, and they what it writes.

Each process has a row while it lives, so that the next one knows which releases run, and with which key.
"""

import contextlib
import logging
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils.crypto import salted_hmac

from thingscale.background.watched import WatchedThread
from thingscale.lib.plurals import counted
from thingscale.processes import secret_key
from thingscale.version import RELEASE, VERSION

log = logging.getLogger(__name__)

SEEN_SECONDS = 15.0  # between two signs of life
LIVES_SECONDS = 60  # without one, after which a process counts as ended
KEPT_DAYS = 1
CONNECT_SECONDS = 5
LOCK = 7_466  # of who looks, and then writes

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
    """One sentence or two, which say what to do."""


@contextlib.contextmanager
def connected() -> Iterator[psycopg.Connection]:
    """For a moment; to the database that Django uses."""
    params: dict[str, Any] = connections["default"].get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        params.pop(name, None)
    known = {"connect_timeout": CONNECT_SECONDS} | params
    with psycopg.connect(**known, application_name="thingscale-start") as connection:
        connection.execute("SET LOCAL statement_timeout = '10s'")
        yield connection


def fingerprints() -> list[str]:
    """Of the secret keys, newest first. They tell nothing about the keys."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [
        salted_hmac("thingscale.processes", "fingerprint", key, algorithm="sha256").hexdigest()
        for key in keys
    ]


# The checks. Each raises StartRefused


def check(connection: psycopg.Connection) -> None:
    """On a database that is prepared. Writes down that this release and this key have been here."""
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


def check_schema(connection: psycopg.Connection) -> None:
    """By names: to load all migrations takes memory that the process never needs again. The database may have
    more than we know, of the next release."""
    missing = sorted(migrations() - applied(connection))
    if missing:
        app, name = missing[0]
        number = counted(len(missing), "migration,migrations")
        raise StartRefused(NOT_MIGRATED.format(missing=number, first=f"{app}.{name}"))


def migrations() -> set[tuple[str, str]]:
    """Those of the installed apps."""
    return {
        (config.label, found.name)
        for config in apps.get_app_configs()
        for found in pkgutil.iter_modules([os.path.join(config.path, "migrations")])
        if found.name[0] not in "_~"
    }


def applied(connection: psycopg.Connection) -> set[tuple[str, str]]:
    if not has_table(connection, "django_migrations"):
        return set()
    return {(app, name) for app, name in connection.execute("SELECT app, name FROM django_migrations")}


def has_table(connection: psycopg.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchall()[0][0])


def check_releases(connection: psycopg.Connection) -> None:
    for (newest,) in connection.execute("SELECT release FROM processes_installation"):
        if newest - 1 > RELEASE:
            raise StartRefused(DATABASE_NEWER.format(ours=RELEASE, theirs=newest))
    older = connection.execute(
        """SELECT part, host, pid, release FROM processes_process
        WHERE release < %s AND seen_at > now() - make_interval(secs => %s) ORDER BY release LIMIT 1""",
        [RELEASE - 1, LIVES_SECONDS],
    )
    for part, host, pid, theirs in older:
        raise StartRefused(
            PROCESS_OLDER.format(
                ours=RELEASE, theirs=theirs, part=part, host=host, pid=pid, seconds=LIVES_SECONDS
            )
        )


def check_keys(connection: psycopg.Connection) -> None:
    """All that something may be encrypted with have to be ours, too."""
    used = {key for (key,) in connection.execute("SELECT fingerprint FROM processes_secretkey")}
    ours = set(fingerprints())
    if not used <= ours:
        raise StartRefused(KEY_MISSING if used & ours else OTHER_KEY)


def forget_older_keys(connection: psycopg.Connection) -> None:
    """After everything was encrypted anew. Processes that live go on with theirs."""
    connection.execute(
        """DELETE FROM processes_secretkey WHERE fingerprint <> %s AND fingerprint NOT IN (
            SELECT secret_key FROM processes_process WHERE seen_at > now() - make_interval(secs => %s))""",
        [fingerprints()[0], LIVES_SECONDS],
    )


# The process


class Registration:
    """The row of this process, for as long as it lives."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._key = 0
        self._thread = WatchedThread("registration", self._run)

    def check(self) -> None:
        """Before anything else is started. While the database is away nothing can be told: the thread does it
        later. Raises ContractError."""
        try:
            with connected() as connection:
                check(connection)
        except psycopg.Error as error:
            log.warning(
                "The database is away (%s): key and release are looked at later", type(error).__name__
            )

    def require(self) -> None:
        """Ends the process with the sentence, as it does without a secret key."""
        try:
            self.check()
        except StartRefused as refused:
            sys.stderr.write(f"{refused}\n")
            sys.exit(secret_key.STARTED_IN_VAIN)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Takes the row away."""
        self._thread.stop(CONNECT_SECONDS)
        with contextlib.suppress(psycopg.Error), connected() as connection:
            connection.execute("DELETE FROM processes_process WHERE id = %s", [self._key])

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            try:
                with connected() as connection:
                    self._write(connection)
            except StartRefused as refused:
                log.critical("%s", refused)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except psycopg.Error as error:
                log.warning("This process can't be registered: %s", type(error).__name__)
            self._thread.stopping.wait(SEEN_SECONDS)

    def _write(self, connection: psycopg.Connection) -> None:
        seen = connection.execute("UPDATE processes_process SET seen_at = now() WHERE id = %s", [self._key])
        if seen.rowcount:
            return
        check(connection)
        connection.execute(
            "DELETE FROM processes_process WHERE seen_at < now() - make_interval(days => %s)", [KEPT_DAYS]
        )
        (self._key,) = connection.execute(
            """INSERT INTO processes_process (part, host, pid, version, release, secret_key)
            VALUES (%s, %s, %s, %s, %s, %s) RETURNING id""",
            [self._part, socket.gethostname()[:255], os.getpid(), VERSION, RELEASE, fingerprints()[0]],
        ).fetchall()[0]
