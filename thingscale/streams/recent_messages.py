"""The newest messages of an account, stored, held and rejected: one query for each status."""

from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import TextField
from django.db.models.functions import Cast

from thingscale.accounts.models import Account
from thingscale.devices.models import Device, RejectedMessage
from thingscale.lib.excerpts import excerpt
from thingscale.lib.reasons import Reason
from thingscale.processes.live_feed import PREVIEW
from thingscale.streams.models import Latest
from thingscale.streams.queries import newest_of_device, template

LOOK_AT = 1_000  # newest datapoints of a channel, among which one of the device is looked for
_STORED = template("newest_of_user.sql").substitute()
_HELD = template("newest_held_of_user.sql").substitute()


class RecentMessage(NamedTuple):
    """A message as open pages show it (thingscale/processes/live_feed.py)."""

    at: datetime
    status: str  # stored, held, rejected
    device: str  # "" if it is unknown
    device_pk: int | None
    value: str  # the beginning of its JSON text, or of the payload if it was rejected
    tag: str | None = None
    channel: int | None = None  # the number, if it is stored
    kind: str = ""
    reason: str | None = None
    detail: str = ""  # in addition to the reason


def newest(account: Account, limit: int) -> list[RecentMessage]:
    """The newest first; at most `limit` of each status."""
    found = stored(account, limit) + held(account, limit) + rejected(account, limit)
    return sorted(found, key=lambda arrival: arrival.at, reverse=True)


def newest_of_device_id(account: Account, device_id: str) -> list[RecentMessage]:
    """As newest(), but only one message of each status, and only of this device id."""
    found = [
        _rejected(row)
        for row in RejectedMessage.objects.for_account(account)
        .filter(device_id=device_id)
        .order_by("-pk")[:1]
    ]
    device = Device.objects.for_account(account).filter(device_id=device_id).first()
    if device is not None:
        texts = device.held.annotate(text=Cast("value", TextField())).order_by("-pk")
        found += [
            RecentMessage(at, "held", device_id, device.pk, text[:PREVIEW], tag)
            for at, tag, text in texts.values_list("received_at", "tag", "text")[:1]
        ]
    if device is not None and (channel := device.mapped_channel):
        found += [
            RecentMessage(point.at, "stored", device_id, device.pk, point.value, point.tag, channel.number)
            for point in newest_of_device(channel.id, device.id, 1, LOOK_AT, PREVIEW)
        ]
    return sorted(found, key=lambda arrival: arrival.at, reverse=True)


def stored(account: Account, limit: int) -> list[RecentMessage]:
    return [
        RecentMessage(at, "stored", device or "", pk, value, tag, number)
        for at, device, pk, tag, number, value in _rows(_STORED, account, limit)
    ]


def held(account: Account, limit: int) -> list[RecentMessage]:
    return [
        RecentMessage(
            *(at, "held", device, pk, value, tag),
            reason=Reason.NEW_DEVICE_FOUND if is_new else Reason.NO_MAPPED_CH,
        )
        for at, device, pk, tag, value, is_new in _rows(_HELD, account, limit)
    ]


def _rows(sql: str, account: Account, limit: int) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"user": account.pk, "rows": limit, "preview": PREVIEW})
        return list(cursor.fetchall())


def rejected(account: Account, limit: int) -> list[RecentMessage]:
    return [_rejected(row) for row in RejectedMessage.objects.for_account(account).order_by("-pk")[:limit]]


def _rejected(row: RejectedMessage) -> RecentMessage:
    payload = excerpt(bytes(row.payload)[: 4 * PREVIEW])[:PREVIEW]
    return RecentMessage(
        row.received_at,
        "rejected",
        row.device_id,
        None,
        payload,
        kind=row.source,
        reason=row.reason,
        detail=row.detail,
    )


def nothing_received(account: Account) -> bool:
    """Whether the account has no datapoints, and no device of it ever sent a message."""
    if Latest.objects.filter(channel__user=account.pk).exists():
        return False
    return not Device.objects.for_account(account).filter(activity__isnull=False).exists()
