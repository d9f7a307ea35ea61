"""Writes that concern a device and its channel: mapping and import. A device that can store by then gets its
held messages stored."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account
from thingscale.devices.actions import lock_devices
from thingscale.devices.models import ActivationRule, Device
from thingscale.lib.csv_file import CsvRow
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk, DevicePk
from thingscale.lib.names import may_exist
from thingscale.processes import change_notifications
from thingscale.provisioning import device_csv, named_channels
from thingscale.provisioning.device_csv import Fault, Report, Wanted
from thingscale.provisioning.held_messages import store_held, store_held_in_transaction
from thingscale.provisioning.named_channels import ChannelName
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel

STATEMENT_DEVICES = 500


@transaction.atomic
def configure_device(device: Device, changes: dict[str, Any]) -> Device:
    """Sets any of a device's fields. If the device can store now, its held messages are stored, under the
    lock that ingest takes to hold another message, so that none is left behind.

    Raises ContractError: NO_DEVICE, if it has been deleted meanwhile."""
    found = Device.objects.select_for_update().filter(pk=device.pk).first()
    if found is None:
        raise ContractError(
            "NO_DEVICE",
            _("The device %(device_id)s has just been deleted.") % {"device_id": device.device_id},
        )
    device = found
    for name, value in changes.items():
        setattr(device, name, value)
    if device.enabled and device.activate_at is None:
        device.activate_at = timezone.now()
    device.save()
    store_held_in_transaction([device.id])
    change_notifications.announce("device", device.user_id, device.device_id)
    return device


@transaction.atomic
def activate_by_rule(device: Device, rule: ActivationRule) -> None:
    """Enables and maps a new device as the rule says. Of two tasks for it, the second one finds it activated,
    and so it does where a person was faster. Raises ContractError: MAX_CHANNEL_REACH, QUOTA_EXCEEDED."""
    if rule.channel_id is None:
        locked(device.user)  # before the device, as whoever makes a channel for one
    new = Device.objects.waiting().select_for_update().filter(pk=device.pk).first()
    if new is None:
        return
    channel = rule.channel_id
    if channel is None:
        own = named_channels.plan(device.user, {new.device_id: named_channels.OWN}, {new.device_id: new})
        channel = named_channels.make(device.user, own)[new.device_id]
    configure_device(new, {"enabled": True, "mapped_channel_id": channel})


@transaction.atomic
def map_to_new_channel(device: Device, number: int, changes: dict[str, Any]) -> Device:
    """Names the channel after the device. Raises ContractError as create_channel does."""
    channel = create_channel(device.user, number, name=device.device_id)
    return configure_device(device, {"mapped_channel": channel} | changes)


@transaction.atomic
def start_device(device: Device, number: int) -> None:
    """Enables the device and maps it to its user's channel of this number, which is created if there is none.
    So its held messages are stored, and those that it sends from now on. Raises ContractError as
    create_channel does."""
    channel = Channel.objects.for_account(device.user).filter(number=number).first()
    if channel is None:
        map_to_new_channel(device, number, {"enabled": True})
    else:
        configure_device(device, {"enabled": True, "mapped_channel": channel})


def configure_devices(
    account: Account, devices: QuerySet[Device], changes: dict[str, Any], channel: ChannelName | None = None
) -> int:
    """As configure_device, for those of the devices that are the user's, all or none. With `channel`, they
    are mapped to it, and it is made if it is not there. Returns how many. Raises ContractError: NO_CHANNEL,
    if a name is that of several, MAX_CHANNEL_REACH."""
    with transaction.atomic():
        if channel is not None:
            locked(account)
        keys = lock_devices(account, devices)
        chosen = Device.objects.filter(pk__in=keys)
        if channel is not None:
            planned = plan_channel(account, chosen, channel)
            _map(chosen, named_channels.make(account, planned))
        chosen.update(**changes)
        chosen.filter(enabled=True, activate_at=None).update(activate_at=timezone.now())
        change_notifications.announce("devices", account.pk)
    store_held(keys)
    return len(keys)


def plan_channel(account: Account, devices: QuerySet[Device], channel: ChannelName) -> named_channels.Plan:
    """What it takes to map these devices to the channel. Raises ContractError: NO_CHANNEL."""
    present = {device.device_id: device for device in devices}
    planned = named_channels.plan(account, dict.fromkeys(present, channel), present)
    if planned.faults:
        raise ContractError("NO_CHANNEL", next(iter(planned.faults.values())))
    return planned


def _map(devices: QuerySet[Device], channels: Mapping[str, ChannelPk]) -> None:
    names = list(devices.values_list("pk", "device_id"))
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE devices_device d SET mapped_channel_id = w.channel
            FROM unnest(%s::bigint[], %s::bigint[]) AS w (device, channel) WHERE d.id = w.device""",
            [[pk for pk, _ in names], [channels[name] for _, name in names]],
        )


def import_devices(
    account: Account, rows: Sequence[CsvRow], dry_run: bool = False, seen: Collection[str] | None = None
) -> Report:
    """Creates and changes the devices of all rows, and makes the channels that they name, or nothing of it if
    a row has a fault. A column that is missing leaves the devices' fields as they are. With `seen`, nothing
    is written either if a channel would be made that is not among these."""
    with transaction.atomic():
        account = locked(account)
        own = Device.objects.for_account(account)
        named = [row.cells[device_csv.KEY] for row in rows if may_exist(row.cells[device_csv.KEY])]
        asked = own.filter(device_id__in=named).order_by("pk").select_for_update()
        present = {device.device_id: device for device in asked}
        wanted, faults = device_csv.check(rows, present)
        asked_for = {row.device_id: row.channel for row in wanted if row.channel is not None}
        planned = named_channels.plan(account, asked_for, present)
        lines = {row.device_id: row.line for row in wanted}
        faults += [Fault(lines[name], "channel", fault) for name, fault in planned.faults.items()]
        beyond = set(
            planned.new[max(0, account.max_channels - Channel.objects.for_account(account).count()) :]
        )
        faults += [
            Fault(lines[name], "channel", no_more_than(account.max_channels, "channel"))
            for name, channel in planned.channels.items()
            if channel in beyond
        ]
        new = [row for row in wanted if row.device_id not in present]
        room = max(0, account.max_devices - own.count())
        faults += [
            Fault(row.line, device_csv.KEY, no_more_than(account.max_devices, "device")) for row in new[room:]
        ]
        unmapped = sum(
            present[row.device_id].mapped_channel_id is not None
            and row.changes.get("mapped_channel_id", ...) is None
            for row in wanted
            if row.device_id in present
        )
        write = not faults and not dry_run and (seen is None or set(planned.titles) <= set(seen))
        if write:
            channels = named_channels.make(account, planned)
            for row in wanted:
                if row.channel is not None:
                    row.changes["mapped_channel_id"] = channels[row.device_id]
            keys = _save_devices(account, wanted, present)
    if write:
        store_held(keys)
    return Report(len(new), len(wanted) - len(new), sorted(faults), unmapped, sorted(planned.titles), write)


def _save_devices(account: Account, wanted: Sequence[Wanted], present: dict[str, Device]) -> list[DevicePk]:
    """Returns the primary keys. A device that ingest creates at the same moment is updated as well."""
    fields = {"activate_at"}.union(*(row.changes for row in wanted))
    devices = []
    for row in wanted:
        device = present.get(row.device_id) or Device(user_id=account.pk, device_id=row.device_id)
        for name, value in row.changes.items():
            setattr(device, name, value)
        if device.enabled and device.activate_at is None:
            device.activate_at = timezone.now()
        device.pk = None  # bulk_create finds an existing row by its device id
        devices.append(device)
    saved = Device.objects.bulk_create(
        devices,
        batch_size=STATEMENT_DEVICES,
        update_conflicts=True,
        unique_fields=["user", "device_id"],
        update_fields=sorted(fields),
    )
    change_notifications.announce("devices", account.pk)
    return [device.id for device in saved]
