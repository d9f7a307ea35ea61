import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingest.import_broker import import_account
from ingest.old_broker import Away, OldBroker
from ingest.service import connect
from thingscale.accounts.models import User
from thingscale.lib.env import BadSetting, broker_of


class Command(BaseCommand):
    help = (
        "Takes over what the broker at MQTT_URL keeps that an earlier release's gateway stood in front of: "
        "retained messages, of topics that have none here yet, and what waits for clients that are away, "
        "whose sessions there end. May be run again. What waits for a client that is connected, or whose "
        "queue here is full, is left there, and the client is named."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="mqtt://user:password@host:1883; default: MQTT_URL, and MQTT5_URL")
        parser.add_argument("--user", help="such as U000001; default: all accounts")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.INGEST_MODE == "broker":
            raise CommandError("In broker mode the broker keeps what it has: there is nothing to take over.")
        url = options["url"] or os.environ.get("MQTT_URL")
        url5 = options["url"] or os.environ.get("MQTT5_URL") or url
        if not url or not url5:
            raise CommandError("Name the broker: --url mqtt://user:password@host:1883.")
        try:
            old = OldBroker(broker_of(url, "--url or MQTT_URL"), broker_of(url5, "--url or MQTT5_URL"))
        except BadSetting as error:
            raise CommandError(str(error)) from None
        users = User.objects.order_by("pk")
        if options["user"]:
            try:
                users = users.filter(pk=User.objects.by_user_id(options["user"]).pk)
            except User.DoesNotExist:
                raise CommandError(f"There is no account {options['user']}.") from None
        with connect() as connection:
            for user in users:
                try:
                    found = import_account(connection, old, user)
                except Away as error:
                    raise CommandError(f"{error} Run it again: what was taken over stays.") from None
                self.stdout.write(
                    f"{user.user_id}: {found.retained} retained messages, {found.messages} messages of "
                    f"{found.sessions} sessions."
                )
                for client_id in found.left:
                    self.stderr.write(
                        f"{user.user_id}: {client_id!r} is connected, or its queue is full: its messages are "
                        "left there. Run it again when it has gone, or has fetched them."
                    )
