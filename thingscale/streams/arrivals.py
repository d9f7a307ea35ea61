"""What came last for an account, whatever became of it: one query a status."""

from datetime import datetime
from typing import NamedTuple

from django.db import connection
from django.db.models import TextField
from django.db.models.functions import Cast, Left

from thingscale.accounts.models import User
from thingscale.devices.models import Device, HeldMessage, RejectedMessage
from thingscale.streams.models import Latest
from thingscale.streams.queries import template
from thingscale.watch import PREVIEW

_NEWEST = template("newest_of_user.sql").substitute()


class Arrival(NamedTuple):
    """A message as open pages are told of it (thingscale/watch.py)."""

    at: datetime
    status: str  # stored, held, rejected
    device: str  # "" where it is not known, or gone
    device_pk: int | None
    value: str  # the begin of its JSON text, or of the payload if it was rejected
    tag: str | None = None
    channel: int | None = None  # number, of a datapoint
    kind: str = ""
    reason: str | None = None


def newest(user: User, limit: int) -> list[Arrival]:
    """Of all three, the newest first; at most `limit` of each."""
    found = stored(user, limit) + held(user, limit) + rejected(user, limit)
    return sorted(found, key=lambda arrival: arrival.at, reverse=True)


def stored(user: User, limit: int) -> list[Arrival]:
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, {"user": user.pk, "rows": limit, "preview": PREVIEW})
        return [
            Arrival(at, "stored", device or "", pk, value, tag, number)
            for at, device, pk, tag, number, value in cursor.fetchall()
        ]


def held(user: User, limit: int) -> list[Arrival]:
    text = Left(Cast("value", TextField()), PREVIEW)
    rows = HeldMessage.objects.filter(device__user=user).select_related("device").defer("value")
    return [
        Arrival(
            row.received_at,
            "held",
            row.device.device_id,
            row.device_id,
            row.text,
            row.tag,
            reason="NO_MAPPED_CH" if row.device.activate_at else "NEW_DEVICE_FOUND",
        )
        for row in rows.annotate(text=text).order_by("-pk")[:limit]
    ]


def rejected(user: User, limit: int) -> list[Arrival]:
    return [
        Arrival(
            row.received_at,
            "rejected",
            row.device_id,
            None,
            bytes(row.payload).decode(errors="replace")[:PREVIEW],
            kind=row.source,
            reason=row.reason,
        )
        for row in RejectedMessage.objects.for_user(user).order_by("-pk")[:limit]
    ]


def none_yet(user: User) -> bool:
    """No datapoint was ever stored and no device heard."""
    if Latest.objects.filter(channel__user=user).exists():
        return False
    return not Device.objects.for_user(user).filter(activity__isnull=False).exists()
