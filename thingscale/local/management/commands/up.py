import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from thingscale.local.config import PROJECT


class Command(BaseCommand):
    help = "Starts the whole platform: private servers where none are named, web, ingest and celery."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        # Becomes a process without Django: the supervisor lives as long as the platform and stays small.
        os.chdir(PROJECT)
        os.execv(sys.executable, [sys.executable, "-m", "thingscale.local", "up"])  # noqa: S606
