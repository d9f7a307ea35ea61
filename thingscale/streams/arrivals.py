"""What came last for an account, whatever became of it: one query a status."""

from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from thingscale.accounts.models import User
from thingscale.devices.models import Device, RejectedMessage
from thingscale.streams.models import Latest
from thingscale.streams.queries import template
from thingscale.watch import PREVIEW

_STORED = template("newest_of_user.sql").substitute()
_HELD = template("newest_held_of_user.sql").substitute()


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
    detail: str = ""  # beyond the reason


def newest(user: User, limit: int) -> list[Arrival]:
    """Of all three, the newest first; at most `limit` of each."""
    found = stored(user, limit) + held(user, limit) + rejected(user, limit)
    return sorted(found, key=lambda arrival: arrival.at, reverse=True)


def stored(user: User, limit: int) -> list[Arrival]:
    return [
        Arrival(at, "stored", device or "", pk, value, tag, number)
        for at, device, pk, tag, number, value in _rows(_STORED, user, limit)
    ]


def held(user: User, limit: int) -> list[Arrival]:
    return [
        Arrival(at, "held", device, pk, value, tag, reason=reason)
        for at, device, pk, tag, value, reason in _rows(_HELD, user, limit)
    ]


def _rows(sql: str, user: User, limit: int) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"user": user.pk, "rows": limit, "preview": PREVIEW})
        return list(cursor.fetchall())


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
            detail=row.detail,
        )
        for row in RejectedMessage.objects.for_user(user).order_by("-pk")[:limit]
    ]


def none_yet(user: User) -> bool:
    """No datapoint was ever stored and no device heard."""
    if Latest.objects.filter(channel__user=user).exists():
        return False
    return not Device.objects.for_user(user).filter(activity__isnull=False).exists()
