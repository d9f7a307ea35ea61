"""Deletes the data of closed accounts, a little at a time."""

from django.db import connection, transaction
from django.utils import timezone

from thingscale.accounts.models import Account, User
from thingscale.background import maintenance
from thingscale.devices.models import Device
from thingscale.devices.mqtt_store import sessions
from thingscale.streams.actions.channels import delete_channel
from thingscale.streams.models import Channel
from thingscale.streams.retention import LATE_WRITES

BATCH_DEVICES = 500  # of a transaction, each with up to a hundred held messages


def purge_closed_accounts() -> None:
    """Deletes the account's own row last, when no message of it can still be in ingest. Its datapoints are
    deleted like those of any deleted channel."""
    for user in User.objects.exclude(closed_at=None):
        for channel in Channel.objects.for_account(user):
            delete_channel(channel)
        while _delete_devices(user) or _delete_mqtt(user):
            pass
        if user.closed_at and user.closed_at < timezone.now() - LATE_WRITES:
            user.delete()


@transaction.atomic
def _delete_mqtt(account: Account) -> bool:
    maintenance.check_stop()
    with connection.connection.cursor() as cursor:
        return sessions.delete_account(cursor, account.pk, BATCH_DEVICES)


def _delete_devices(account: Account) -> int:
    maintenance.check_stop()
    keys = list(
        Device.objects.for_account(account).order_by("pk").values_list("pk", flat=True)[:BATCH_DEVICES]
    )
    return Device.objects.filter(pk__in=keys).delete()[0]
