from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.accounts.models import User
from thingscale.lib.errors import ContractError
from thingscale.streams.actions.channels import create_channel


class Command(BaseCommand):
    help = "Creates a channel."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="such as U000001")
        parser.add_argument("channel", type=int, help="a number from 0")
        parser.add_argument("--name", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = User.objects.by_user_id(options["user_id"])
            create_channel(user, options["channel"], name=options["name"])
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['user_id']}.") from None
        except ContractError as refused:
            raise CommandError(f"{refused.code}: {refused.detail}") from None
        self.stdout.write(f"Channel {options['channel']} created.")
