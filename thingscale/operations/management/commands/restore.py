import time
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.lib.plurals import counted
from thingscale.operations.backup import BackupError, places, restoring, what_postgresql_says
from thingscale.processes import own_connection, secret_key


class Command(BaseCommand):
    help = (
        "Puts the newest backup of TARGET, a folder or s3://bucket/prefix, into the database of DATABASE_URL,"
        " which has to be empty."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("target")
        parser.add_argument("--name", default="", help="of the backup; default: the newest")
        parser.add_argument("--list", action="store_true", help="print the names, and restore nothing")
        parser.add_argument(
            "--check", action="store_true", help="read all of the backup, and restore nothing"
        )
        parser.add_argument("--overwrite", action="store_true", help="delete what is in the database")
        parser.add_argument("--jobs", type=int, default=2, help="tables at once; default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        secret_key.require()
        if options["jobs"] < 1:
            raise CommandError("--jobs takes a number from 1 on.")
        began = time.monotonic()
        try:
            place = places.find(options["target"])
            names = place.names()
            if options["list"]:
                if not names:
                    self.stderr.write(places.NO_BACKUP.format(options["target"]))
                for name in names:
                    self.stdout.write(name)
                return
            name = options["name"] or next(iter(names), "")
            if name not in names:
                raise BackupError(
                    f"{options['target']} has no whole backup {name}".rstrip()
                    + ": `--list` prints the names of those it has."
                )
            with place.open(name) as folder:
                if options["check"]:
                    found = restoring.check_backup(folder)
                    self.stdout.write(f"{name} of {found.taken_at} is whole, and this secret key is its own.")
                    return
                found = restoring.restore(
                    folder, own_connection.parameters(), options["jobs"], options["overwrite"]
                )
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from None
        except psycopg.Error as error:
            raise CommandError(what_postgresql_says(error)) from None
        rows = counted(sum(found.rows.values()), "row")
        self.stdout.write(
            f"{name} of {found.taken_at} is restored: {rows}, in {time.monotonic() - began:.0f} s."
        )
        self.stdout.write("Run `manage.py upgrade` if this release is newer than the backup, then start.")
