import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.local import run_with_servers
from thingscale.local.errors import StartError


class Command(BaseCommand):
    help = "Runs a command with private PostgreSQL and Valkey, all gone afterwards."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        run_with_servers.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = run_with_servers.run(options["only"], options["fast"], options["command"])
        except StartError as error:
            raise CommandError(str(error)) from None
        sys.exit(code)
