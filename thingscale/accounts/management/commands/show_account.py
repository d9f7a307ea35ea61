from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.accounts.credentials import render
from thingscale.accounts.models import User


class Command(BaseCommand):
    help = "Prints an account's user id and current tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="such as U000001")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = User.objects.by_user_id(options["user_id"])
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['user_id']}.") from None
        self.stdout.write(render(user, options["json"]))
