import sys
import time
from typing import Any

import psycopg
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import OperationalError, connection, connections

from thingscale.accounts import encryption
from thingscale.accounts.models import Token
from thingscale.processes import compatibility, secret_key

LOCK = 7_467
LOCK_SECONDS = 2  # that a migration waits for a table; all who come later to the table wait behind it
PAUSE_SECONDS = 1.0  # in which they come to it
MIGRATE_SECONDS = 600  # with all pauses
LOCKED = (
    "The database could not be migrated in {seconds} s, since another transaction holds a table that is to"
    " change: look for it in pg_stat_activity, end it, and start again."
)


class Command(BaseCommand):
    help = (
        "Looks whether this release and its secret key go with the database and the processes that run, and"
        " then migrates it. Several machines may do so at once."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        secret_key.require()
        params: dict[str, Any] = connections["default"].get_connection_params()
        for name in ("cursor_factory", "context", "prepare_threshold"):
            params.pop(name, None)
        try:
            with compatibility.connected() as checking:
                compatibility.check_server(checking)  # a lock of a session needs one
            with psycopg.connect(**params, autocommit=True) as others:
                others.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # until this connection ends
                with compatibility.connected() as checking:
                    _check_before(checking)
                self._migrate(options["verbosity"])
                with compatibility.connected() as checking:
                    compatibility.check(checking)
        except compatibility.StartRefused as refused:
            self.stderr.write(str(refused))
            sys.exit(secret_key.EXIT_CODE)

    def _migrate(self, verbosity: int) -> None:
        """Processes of the release before may be at work, while a backup or a report holds a table for long.
        A migration that would have to wait for it gives way to them, and tries again."""
        deadline = time.monotonic() + MIGRATE_SECONDS
        while True:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
                call_command("migrate", interactive=False, verbosity=verbosity, stdout=self.stdout)
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                    raise
                if time.monotonic() > deadline:
                    raise compatibility.StartRefused(LOCKED.format(seconds=MIGRATE_SECONDS)) from error
                self.stderr.write("Another transaction holds a table that is to change: trying again.")
                time.sleep(PAUSE_SECONDS)
            finally:
                with connection.cursor() as cursor:
                    cursor.execute("RESET lock_timeout")


def _check_before(connection: psycopg.Connection) -> None:
    """Checks a database that may be empty, or of an earlier release, which recorded no keys."""
    if compatibility.has_table(connection, "processes_installation"):
        compatibility.check_releases(connection)
        compatibility.check_keys(connection)
        known = connection.execute("SELECT EXISTS (SELECT FROM processes_secretkey)").fetchall()[0][0]
    else:
        known = False
    if not known and compatibility.has_table(connection, Token._meta.db_table):
        tokens = connection.execute("SELECT ciphertext FROM accounts_token ORDER BY id DESC LIMIT 1")
        for (ciphertext,) in tokens:
            try:
                encryption.decrypt(bytes(ciphertext), encryption.Purpose.TOKEN)
            except encryption.Undecryptable:
                raise compatibility.StartRefused(compatibility.OTHER_KEY) from None
