"""Writes of channels."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account
from thingscale.devices.models import Device
from thingscale.lib.errors import ContractError
from thingscale.processes import change_notifications
from thingscale.streams.models import Channel, DeletedChannel

MAX_LABEL_BYTES = 128 * 1024  # of all labels of a channel: keys, labels and units


@transaction.atomic
def create_channel(account: Account, number: int, **fields: Any) -> Channel:
    """Raises ContractError: BAD_PARAMETER, MAX_CHANNEL_REACH, CHANNEL_INUSE."""
    if not 0 <= number <= Channel.MAX_NUMBER:
        raise ContractError(
            "BAD_PARAMETER",
            _("A channel is a whole number from 0 to %(max_number)s.") % {"max_number": Channel.MAX_NUMBER},
        )
    _check_labels(fields)
    account = locked(account)
    if Channel.objects.for_account(account).count() >= account.max_channels:
        raise ContractError("MAX_CHANNEL_REACH", no_more_than(account.max_channels, "channel"))
    try:
        with transaction.atomic():
            return Channel.objects.create(user=account, number=number, **fields)
    except IntegrityError:
        raise ContractError(
            "CHANNEL_INUSE", _("There is a channel %(number)s already: change that one.") % {"number": number}
        ) from None


@transaction.atomic
def create_channels(account: Account, wanted: Sequence[tuple[int | None, str]]) -> list[Channel]:
    """Creates channels of these numbers and names, all or none; without a number one that is free. Raises
    ContractError: MAX_CHANNEL_REACH, CHANNEL_INUSE."""
    if not wanted:
        return []
    account = locked(account)
    own = Channel.objects.for_account(account)
    if own.count() + len(wanted) > account.max_channels:
        raise ContractError("MAX_CHANNEL_REACH", no_more_than(account.max_channels, "channel"))
    numbers = [number for number, _ in wanted if number is not None]
    free = iter(own.free_numbers(len(wanted) - len(numbers), but=numbers))
    channels = [
        Channel(user=account, number=next(free) if number is None else number, name=name)
        for number, name in wanted
    ]
    try:
        with transaction.atomic():
            return Channel.objects.bulk_create(channels, batch_size=1000)
    except IntegrityError:
        taken = own.filter(number__in=numbers).values_list("number", flat=True).first()
        raise ContractError(
            "CHANNEL_INUSE",
            _("There is a channel %(taken)s already: look again at what is there.") % {"taken": taken},
        ) from None


@transaction.atomic
def update_channel(channel: Channel, changes: dict[str, Any]) -> None:
    """Raises ContractError: NO_CHANNEL, if it has been deleted meanwhile, BAD_PARAMETER."""
    _check_labels(changes)
    for name, value in changes.items():
        setattr(channel, name, value)
    if changes and not Channel.objects.filter(pk=channel.pk).update(**changes):
        raise ContractError(
            "NO_CHANNEL", _("Channel %(number)s has just been deleted.") % {"number": channel.number}
        )


@transaction.atomic
def delete_channel(channel: Channel) -> None:
    """Unmaps its devices. Its datapoints are out of sight at once, and purged by a task. Locks the devices
    first, in the order in which ingest locks them, because a batch on its way may bring a tag."""
    mapped = Device.objects.select_for_update().filter(mapped_channel=channel).order_by("pk")
    Device.objects.filter(pk__in=list(mapped.values_list("pk", flat=True))).update(mapped_channel=None)
    DeletedChannel.objects.get_or_create(channel=channel.pk)  # somebody else may be doing the same
    channel.delete()
    change_notifications.announce("devices", channel.user_id)


def _check_labels(changes: Mapping[str, Any]) -> None:
    """Bounds the labels, since each row of a list of channels has them all."""
    size = sum(len(text.encode()) for label in changes.get("streams", ()) for text in label.values())
    if size > MAX_LABEL_BYTES:
        detail = (
            f"streams: its texts have {size} bytes, of at most {MAX_LABEL_BYTES} a channel: shorten them."
        )
        raise ContractError("BAD_PARAMETER", detail)
