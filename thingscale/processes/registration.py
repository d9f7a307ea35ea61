"""Registers each process in the database while it runs, so that the next one that starts knows which releases
run, and with which secret key."""

import contextlib
import logging
import os
import signal
import socket
import sys

import psycopg

from thingscale.background.watched import WatchedThread
from thingscale.processes import database_clock, secret_key
from thingscale.processes.compatibility import CONNECT_SECONDS, StartRefused, check, connected, fingerprints
from thingscale.version import RELEASE, VERSION

log = logging.getLogger(__name__)

SEEN_SECONDS = 15.0  # between two signs of life
DELETED_AFTER_DAYS = 1  # without a sign of life


class Registration:
    """The row of this process, for as long as it lives."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._key = 0
        self._thread = WatchedThread("registration", self._run)

    def check(self) -> None:
        """To be called before anything else is started. If the database is away, the thread checks later.
        Raises StartRefused."""
        try:
            with connected() as connection:
                check(connection)
                database_clock.follow(connection, database_clock.FIRST_TIMES)
        except psycopg.Error as error:
            log.warning(
                "The database is away (%s): key and release are looked at later", type(error).__name__
            )

    def require(self) -> None:
        """If check() refuses, ends the process with its sentence, as without a secret key."""
        try:
            self.check()
        except StartRefused as refused:
            sys.stderr.write(f"{refused}\n")
            sys.exit(secret_key.EXIT_CODE)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Deletes the row."""
        self._thread.stop(CONNECT_SECONDS)
        with contextlib.suppress(psycopg.Error), connected() as connection:
            connection.execute("DELETE FROM processes_process WHERE id = %s", [self._key])

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            try:
                with connected() as connection:
                    self._update_row(connection)
            except StartRefused as refused:
                log.critical("%s", refused)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except psycopg.Error as error:
                log.warning("This process can't be registered: %s", type(error).__name__)
            self._thread.stopping.wait(SEEN_SECONDS)

    def _update_row(self, connection: psycopg.Connection) -> None:
        """Makes the row if there is none, as at first, or after the process was cut off for long."""
        database_clock.follow(connection)  # in some processes nobody else does
        seen = connection.execute("UPDATE processes_process SET seen_at = now() WHERE id = %s", [self._key])
        if seen.rowcount:
            return
        check(connection)
        connection.execute(
            "DELETE FROM processes_process WHERE seen_at < now() - make_interval(days => %s)",
            [DELETED_AFTER_DAYS],
        )
        (self._key,) = connection.execute(
            """INSERT INTO processes_process (part, host, pid, version, release, secret_key)
            VALUES (%s, %s, %s, %s, %s, %s) RETURNING id""",
            [self._part, socket.gethostname()[:255], os.getpid(), VERSION, RELEASE, fingerprints()[0]],
        ).fetchall()[0]
