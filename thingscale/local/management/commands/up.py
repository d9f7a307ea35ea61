import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from thingscale.local import up
from thingscale.local.config import PROJECT


class Command(BaseCommand):
    help = (
        "Starts the platform, or parts of it: private servers where none are named, web, ingest and celery."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        up.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        # Becomes a process without Django: the supervisor lives as long as the platform and stays small.
        os.chdir(PROJECT)
        chosen = ["--only", options["only"], "--workers", options["workers"]]
        os.execv(sys.executable, [sys.executable, "-m", "thingscale.local", "up", *chosen])  # noqa: S606
