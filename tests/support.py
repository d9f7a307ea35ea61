"""An account with its tokens in plain text, and what tests ask of it."""

from dataclasses import dataclass

from django.db import connection

from thingscale.accounts.actions import create_account
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import Device
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel

PASSWORD = "correct horse battery"


@dataclass
class Account:
    """A user with both tokens in plain text, and what tests ask of it."""

    user: User
    user_id: str
    api_token: str
    device_token: str

    def channel(self, number: int = 0) -> Channel:
        return Channel.objects.for_account(self.user).filter(number=number).first() or create_channel(
            self.user, number
        )

    def device(self, device_id: str, channel: int | None = 0) -> Device:
        """Enabled, and mapped unless `channel` is None."""
        device = create_device(self.user, device_id)
        return (
            device if channel is None else configure_device(device, {"mapped_channel": self.channel(channel)})
        )

    def stored(self, channel: int = 0) -> list[tuple[str, str | None]]:
        """(value as JSON text, tag) of every datapoint of the channel, in order."""
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT d.value::text, t.name FROM datapoint d
                JOIN streams_channel c ON c.id = d.channel LEFT JOIN streams_tag t ON t.id = d.tag
                WHERE c.user_id = %s AND c.number = %s ORDER BY d.at, d.id""",
                [self.user.pk, channel],
            )
            return list(cursor.fetchall())


def make_account(email: str) -> Account:
    user = create_account(email, PASSWORD)
    return Account(user, **credentials(user))
