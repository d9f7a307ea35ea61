from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from thingscale.accounts.actions import reencrypt
from thingscale.lib.plurals import counted
from thingscale.processes import compatibility


class Command(BaseCommand):
    help = (
        "Encrypts tokens, authenticators' secrets, contact points and the secrets of webhooks with the newest"
        " of THINGSCALE_SECRET_KEYS, and what earlier versions kept in clear. May run beside the platform,"
        " and again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        renewed, unreadable = reencrypt()
        self.stdout.write(f"{counted(renewed, 'secret is,secrets are')} encrypted anew.")
        if unreadable:
            raise CommandError(
                f"{counted(unreadable, 'secret is,secrets are')} of a key that is not in"
                " THINGSCALE_SECRET_KEYS: add it and repeat this."
            )
        with compatibility.connected() as connection:
            if compatibility.has_table(connection, "processes_secretkey"):  # else it is of an earlier release
                compatibility.forget_older_keys(connection)
        if settings.SECRET_KEY_FALLBACKS:
            self.stdout.write(
                "The older keys are needed for sessions and links only, which end within 14 days:"
                " remove them then."
            )
