"""Rows of durable MQTT sessions (decisions 0008, 0023). Each gateway keeps them in memory too."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum, auto
from typing import Any, NamedTuple

import orjson
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from thingscale.devices import presence
from thingscale.devices.models import DurableSession
from thingscale.devices.presence import ClientKey


class Kept(NamedTuple):
    """`ends_at`: while its client is away."""

    subscriptions: list[list[Any]]  # fields of ingest.mqtt.packets.Subscription
    ends_at: datetime | None = None

    @property
    def over(self) -> bool:
        return self.ends_at is not None and self.ends_at <= timezone.now()


class Elsewhere(Enum):
    NOT = auto()
    CONNECTED = auto()  # its client, with this session or without; or that has just gone from here
    GOES_ON = auto()


@transaction.atomic
def save(sessions: Mapping[ClientKey, Kept | None]) -> None:
    """None: there is no such session any more. Those of users who have gone are left out."""
    kept = sorted((key, session) for key, session in sessions.items() if session)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '5s'")  # clients wait for it
        cursor.execute(
            """DELETE FROM devices_durablesession
            WHERE (user_id, client_id) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))""",
            _columns(key for key, session in sessions.items() if not session),
        )
        cursor.execute(
            """INSERT INTO devices_durablesession (user_id, client_id, subscriptions, expires_at)
            SELECT k.* FROM unnest(%s::bigint[], %s::text[], %s::jsonb[], %s::timestamptz[])
                AS k (user_id, client_id, subscriptions, expires_at)
            JOIN accounts_user u ON u.id = k.user_id
            ON CONFLICT (user_id, client_id) DO UPDATE SET
                subscriptions = excluded.subscriptions, expires_at = excluded.expires_at""",
            [
                *_columns(key for key, _ in kept),
                [orjson.dumps(session.subscriptions).decode() for _, session in kept],
                [session.ends_at for _, session in kept],
            ],
        )


def load(ends_at: datetime) -> dict[ClientKey, Kept]:
    """All of them, and none ends later. Those without an end have clients connected to another gateway, or to
    one that was killed: the latter get this one, and in memory both do."""
    connected = presence.alive().filter(user=OuterRef("user"), client_id=OuterRef("client_id"))
    too_late = Q(expires_at__gt=ends_at) | Q(~Exists(connected), expires_at=None)
    DurableSession.objects.filter(too_late).update(expires_at=ends_at)
    rows = DurableSession.objects.values_list("user", "client_id", "subscriptions", "expires_at")
    return {(user, name): Kept(kept, end or ends_at) for user, name, kept, end in rows.iterator()}


def elsewhere(key: ClientKey) -> Elsewhere:
    """What other gateways have of a session that is over here."""
    user, client_id = key
    going_on = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    if DurableSession.objects.filter(going_on, user=user, client_id=client_id).exists():
        return Elsewhere.GOES_ON
    if presence.alive().filter(user=user, client_id=client_id).exists():
        return Elsewhere.CONNECTED
    return Elsewhere.NOT


def _columns(keys: Iterable[ClientKey]) -> list[list[Any]]:
    users_and_names = list(keys)
    return [[user for user, _ in users_and_names], [client_id for _, client_id in users_and_names]]
