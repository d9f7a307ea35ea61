import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from thingscale.lib.plurals import counted
from thingscale.operations.doctor.examination import Examination
from thingscale.operations.doctor.findings import Level
from thingscale.processes import own_connection
from thingscale.version import VERSION


class Command(BaseCommand):
    help = (
        "Looks at this machine, the settings, PostgreSQL and Valkey, and says what is wrong and what to do"
        " about"
        " it. Changes nothing. Ends with 1 if there is a problem, with 0 if there are warnings only, or"
        " nothing."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs: one object")

    def handle(self, *args: Any, **options: Any) -> None:
        examination = Examination(own_connection.parameters(), settings.REDIS_URL)
        found = list(examination.run())
        problems = [finding for finding in found if finding.level is Level.PROBLEM]
        if options["json"]:
            content = {
                "version": VERSION,
                "well": not problems,
                "checks": examination.looked,
                "findings": [finding._asdict() for finding in found],
            }
            self.stdout.write(json.dumps(content, indent=2))
        else:
            for finding in found:
                self.stdout.write(f"{finding.level.upper()} {finding.check}: {finding.sentence}")
                self.stdout.write(f"    {finding.remedy}")
            warnings = len(found) - len(problems)
            self.stdout.write(
                f"{counted(len(examination.looked), 'check')}: {counted(len(problems), 'problem')},"
                f" {counted(warnings, 'warning')}."
            )
        sys.exit(1 if problems else 0)
