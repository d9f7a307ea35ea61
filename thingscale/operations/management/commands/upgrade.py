import sys
from typing import Any

import psycopg
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from thingscale.lib.plurals import counted
from thingscale.operations.doctor import database, examination
from thingscale.operations.doctor.findings import Finding, Level
from thingscale.processes import own_connection, secret_key
from thingscale.version import VERSION

# What a migration needs. That processes run, or do not, is no matter.
NEEDED = (
    database.check_version,
    database.check_encoding,
    database.check_writing,
    database.check_rights,
    database.check_keys,
    database.check_long_transactions,
)


class Command(BaseCommand):
    help = (
        "Brings the database to this release, beside processes of this release and of the one before: looks"
        " whether it can, says what it does, and migrates it. No migration waits for a table for long, so"
        " that"
        " devices are served meanwhile. Several machines may do so at once; it can be repeated."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        secret_key.require()
        found = list(self._look())
        for finding in found:
            self.stderr.write(f"{finding.level.upper()}: {finding.sentence}\n    {finding.remedy}")
        if any(finding.level is Level.PROBLEM for finding in found):
            raise CommandError("Nothing was changed.")
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        connection.close()
        self.stdout.write(f"Release {VERSION}: {counted(len(plan), 'migration')} to apply.")
        if options["plan"]:
            for migration, _ in plan:
                self.stdout.write(f"  {migration}")
            return
        try:  # it looks at releases and keys under its lock, and migrates
            call_command("prepare", stdout=self.stdout, stderr=self.stderr, verbosity=1 if plan else 0)
        except SystemExit:
            self.stderr.write("Nothing more was changed.")
            sys.exit(secret_key.EXIT_CODE)
        self.stdout.write("The database is ready. Restart the processes, one machine after the other.")

    def _look(self) -> list[Finding]:
        parameters = own_connection.parameters()
        try:
            with examination.connect(parameters, "thingscale-upgrade") as looking:
                return [finding for check in NEEDED for finding in check(looking)]
        except psycopg.OperationalError as error:
            return [database.unreachable(error, parameters)]
