from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.accounts.models import User
from thingscale.lib.plurals import counted
from thingscale.operations.account_export import export_account


class Command(BaseCommand):
    help = (
        "Writes all that an account has into a new folder: JSON lines of what it has set up, and of its"
        " datapoints by channel and month. Without tokens, keys, passwords and the addresses of receivers."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="such as U000001")
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        target: Path = options["folder"].expanduser().resolve()
        if target.exists():
            raise CommandError(f"{target} is there already: name a new folder.")
        try:
            user = User.objects.by_user_id(options["user_id"])
            counts = export_account(user, target, self.stdout.write)
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['user_id']}.") from None
        except OSError as error:
            raise CommandError(f"{target} can't be written: {error.strerror}.") from None
        datapoints = sum(rows for name, rows in counts.items() if name.startswith("datapoints/"))
        self.stdout.write(f"{target}: {counted(datapoints, 'datapoint')}, {counted(len(counts), 'file')}.")
