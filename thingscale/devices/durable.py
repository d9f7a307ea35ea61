"""Rows of durable MQTT sessions (decision 0008). Each gateway keeps those of its clients in memory too."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from thingscale.devices.models import DurableSession
from thingscale.devices.presence import alive

Key = tuple[int, str]  # user's primary key, client id


class Kept(NamedTuple):
    """`ends_at`: while its client is away."""

    subscriptions: list[list[Any]]  # fields of ingest.mqtt.packets.Subscription
    ends_at: datetime | None = None

    @property
    def over(self) -> bool:
        return self.ends_at is not None and self.ends_at <= timezone.now()


@transaction.atomic
def save(sessions: Mapping[Key, Kept | None]) -> None:
    """None: there is no such session any more. Those of users who have gone are left out."""
    kept = sorted((key, session) for key, session in sessions.items() if session)
    gone = sorted(key for key, session in sessions.items() if not session)
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM devices_durablesession
            WHERE (user_id, client_id) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))""",
            _columns(gone),
        )
        cursor.execute(
            """INSERT INTO devices_durablesession (user_id, client_id, subscriptions, expires_at)
            SELECT k.* FROM unnest(%s::bigint[], %s::text[], %s::jsonb[], %s::timestamptz[])
                AS k (user_id, client_id, subscriptions, expires_at)
            JOIN accounts_user u ON u.id = k.user_id
            ON CONFLICT (user_id, client_id) DO UPDATE SET
                subscriptions = excluded.subscriptions, expires_at = excluded.expires_at""",
            [
                *_columns([key for key, _ in kept]),
                [orjson.dumps(session.subscriptions).decode() for _, session in kept],
                [session.ends_at for _, session in kept],
            ],
        )


def load(ends_at: datetime) -> dict[Key, Kept]:
    """All of them. Those without an end have clients connected to another gateway, or to one that was killed:
    the latter get this one, and in memory both do."""
    connected = alive().filter(user=OuterRef("user"), client_id=OuterRef("client_id"))
    DurableSession.objects.filter(~Exists(connected), expires_at=None).update(expires_at=ends_at)
    rows = DurableSession.objects.values_list("user", "client_id", "subscriptions", "expires_at")
    return {(user, name): Kept(kept, end or ends_at) for user, name, kept, end in rows.iterator()}


@transaction.atomic
def end(keys: Sequence[Key], now: datetime) -> set[Key]:
    """Deletes the rows that are over; returns those that are not: their clients went to another gateway."""
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM devices_durablesession WHERE expires_at <= %s
                AND (user_id, client_id) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))""",
            [now, *_columns(keys)],
        )
        cursor.execute(
            """SELECT user_id, client_id FROM devices_durablesession
            WHERE (user_id, client_id) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))""",
            _columns(keys),
        )
        return set(cursor.fetchall())


def _columns(keys: Sequence[Key]) -> list[list[Any]]:
    return [[user for user, _ in keys], [client_id for _, client_id in keys]]
