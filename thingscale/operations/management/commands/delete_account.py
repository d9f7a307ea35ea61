from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.accounts.actions import close_account
from thingscale.accounts.models import User


class Command(BaseCommand):
    help = (
        "Closes an account for ever, as its owner can. Its tokens end at once; the Celery worker deletes all"
        " that"
        " it has, within hours."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="such as U000001")
        parser.add_argument("--email", required=True, help="of the account, so that no other one is meant")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = User.objects.by_user_id(options["user_id"])
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['user_id']}.") from None
        if user.closed_at:
            raise CommandError(f"{options['user_id']} is closed already: the worker deletes what it has.")
        if user.email != options["email"]:
            raise CommandError(f"{options['user_id']} has another e-mail address: nothing was changed.")
        close_account(user)
        self.stdout.write(f"{options['user_id']} is closed. The worker deletes what it has, within hours.")
