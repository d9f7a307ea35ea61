"""The ids of deleted devices, so that rows of their datapoints go on saying whose they are.

A device that comes back under its old id is another row of Device: its datapoints are those of all of them.
"""

from collections.abc import Sequence

from django.db import connection

from thingscale.accounts.models import Account
from thingscale.devices.models import DeletedDevice, Device
from thingscale.lib.ids import DevicePk


def keys_of(account: Account, device_id: str) -> list[DevicePk]:
    """Primary keys of the device with this id and of those that had it before."""
    present = Device.objects.for_account(account).filter(device_id=device_id).values_list("pk")
    deleted = DeletedDevice.objects.for_account(account).filter(device_id=device_id).values_list("pk")
    return [DevicePk(pk) for (pk,) in present.union(deleted, all=True)]


def keep_ids(devices: Sequence[DevicePk]) -> None:
    """To be called before they are deleted. Of those that were never enabled there are no datapoints."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO devices_deleteddevice (device, user_id, device_id)
            SELECT id, user_id, device_id FROM devices_device
            WHERE id = ANY (%s) AND activate_at IS NOT NULL
            ON CONFLICT DO NOTHING""",  # somebody else may be doing the same
            [list(devices)],
        )


def forget_oldest() -> None:
    """Deletes what is beyond DeletedDevice.KEPT, and what is left of accounts that are gone: a process of the
    release before may have purged them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM devices_deleteddevice d
            WHERE NOT EXISTS (SELECT FROM accounts_user u WHERE u.id = d.user_id)"""
        )
        cursor.execute(
            """DELETE FROM devices_deleteddevice d
            USING (
                SELECT user_id FROM devices_deleteddevice GROUP BY user_id HAVING count(*) > %(kept)s
            ) AS crowded
            WHERE d.user_id = crowded.user_id AND d.device <= (
                SELECT device FROM devices_deleteddevice WHERE user_id = crowded.user_id
                ORDER BY device DESC OFFSET %(kept)s LIMIT 1
            )""",
            {"kept": DeletedDevice.KEPT},
        )
