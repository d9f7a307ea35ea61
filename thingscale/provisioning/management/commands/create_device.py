from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.lib.errors import ContractError
from thingscale.provisioning.actions import configure_device
from thingscale.streams.models import Channel


class Command(BaseCommand):
    help = "Creates a device, enabled, and maps it to a channel if one is given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="such as U000001")
        parser.add_argument("device_id")
        parser.add_argument("--channel", type=int, help="the channel that stores its data")
        parser.add_argument("--description", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                user = User.objects.by_user_id(options["user_id"])
                device = create_device(user, options["device_id"], description=options["description"])
                if options["channel"] is not None:
                    channel = Channel.objects.for_account(user).get(number=options["channel"])
                    configure_device(device, {"mapped_channel_id": channel.pk})
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['user_id']}.") from None
        except Channel.DoesNotExist:
            raise CommandError(
                f"There is no channel {options['channel']}: create it first, by create_channel."
            ) from None
        except ContractError as refused:
            raise CommandError(f"{refused.code}: {refused.detail}") from None
        self.stdout.write(f"Device {options['device_id']} created.")
