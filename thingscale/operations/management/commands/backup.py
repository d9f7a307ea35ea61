import time
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from thingscale.lib.plurals import counted
from thingscale.operations.backup import BackupError, backing_up, places, what_postgresql_says
from thingscale.processes import own_connection, secret_key

KEY = (
    "The secret key is not in it, and without it nobody can use the backup: keep a copy at another place"
    " (THINGSCALE_SECRET_KEY, or secret_key in the home folder)."
)


class Command(BaseCommand):
    help = (
        "Makes a backup while the platform runs, as of the moment at which it begins, and reads it back."
        " TARGET"
        " is a folder, or s3://bucket/prefix."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("target")
        parser.add_argument(
            "--keep", type=int, default=7, help="the newest ones stay, 0: all; default: %(default)s"
        )
        parser.add_argument("--jobs", type=int, default=2, help="tables at once; default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        secret_key.require()
        if options["keep"] < 0 or options["jobs"] < 1:
            raise CommandError("--keep takes a number from 0 on, and --jobs one from 1 on.")
        began = time.monotonic()
        try:
            place = places.find(options["target"])
            parameters = own_connection.parameters()
            name, found, deleted = backing_up.back_up(place, parameters, options["jobs"], options["keep"])
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from None
        except psycopg.Error as error:
            raise CommandError(what_postgresql_says(error)) from None
        datapoints = sum(rows for table, rows in found.rows.items() if table.startswith("datapoint_"))
        self.stdout.write(
            f"{name}: {counted(datapoints, 'datapoint')}, {filesizeformat(found.bytes)}, read back, in"
            f" {time.monotonic() - began:.0f} s."
        )
        for each in deleted:
            self.stdout.write(f"{each} was deleted.")
        self.stdout.write(KEY)
