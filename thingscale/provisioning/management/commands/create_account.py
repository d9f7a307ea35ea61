from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.accounts.credentials import render
from thingscale.accounts.limits import Kind
from thingscale.lib.errors import ContractError
from thingscale.provisioning.accounts import open_account


class Command(BaseCommand):
    help = "Creates an account and prints its user id and tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument("--password", required=True)
        parser.add_argument("--locale", default="UTC", help="IANA time zone")
        parser.add_argument(
            "--kind",
            choices=Kind.values,
            default=Kind.THINGSCALE,
            help="servwatch: for servers, which it calls hosts, enables on their first contact, each with a"
            " channel of its own; 3 REST requests a second",
        )
        parser.add_argument("--staff", action="store_true", help="may use the operator's admin")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = open_account(
                *(options["email"], options["password"], options["locale"], options["staff"], options["kind"])
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except ContractError as refused:
            raise CommandError(refused.detail) from None
        self.stdout.write(render(user, options["json"]))
