import sys
from typing import Any

import psycopg
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections

from thingscale.accounts import encryption
from thingscale.accounts.models import Token
from thingscale.processes import compatibility, secret_key

LOCK = 7_467


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
            with psycopg.connect(**params, autocommit=True) as others:
                others.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # until this connection ends
                with compatibility.connected() as connection:
                    _check_before(connection)
                call_command("migrate", interactive=False, verbosity=options["verbosity"], stdout=self.stdout)
                with compatibility.connected() as connection:
                    compatibility.check(connection)
        except compatibility.StartRefused as refused:
            self.stderr.write(str(refused))
            sys.exit(secret_key.EXIT_CODE)


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
