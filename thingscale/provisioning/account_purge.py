"""Deletes the data of closed accounts, a little at a time."""

from django.db import connection, transaction
from django.utils import timezone

from thingscale.accounts.models import User
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
        left = True
        while left:
            maintenance.check_stop()
            pks = Device.objects.for_account(user).order_by("pk").values_list("pk", flat=True)
            left = Device.objects.filter(pk__in=list(pks[:BATCH_DEVICES])).delete()[0] > 0
            if not left:
                with transaction.atomic(), connection.connection.cursor() as cursor:
                    left = sessions.delete_account(cursor, user.pk, BATCH_DEVICES)
        if user.closed_at and user.closed_at < timezone.now() - LATE_WRITES:
            user.delete()
