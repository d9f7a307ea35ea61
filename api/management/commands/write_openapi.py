from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from api.v2.openapi import as_yaml

FILE = Path(__file__).parents[2] / "openapi-v2.yaml"


class Command(BaseCommand):
    help = "Writes api/openapi-v2.yaml, which the tests hold against the views."
    requires_system_checks: list[Any] = []

    def handle(self, *args: Any, **options: Any) -> None:
        FILE.write_text(as_yaml())
