"""Which clients are connected. Each gateway process holds an advisory lock while it lives and has rows
under the lock's key, so the rows of one that died are known to be stale the moment it is gone."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from django.db import connection as django_connection
from django.db.models import QuerySet

from thingscale.accounts.models import User
from thingscale.accounts.owned import OwnedQuerySet
from thingscale.devices.models import MqttSession

LOCK = 7_465  # first key of the advisory locks

ClientKey = tuple[int, str]  # user's primary key, client id

_ALIVE = """SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND classid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


CONNECTED = f"""SELECT user_id, client_id FROM devices_mqttsession
WHERE gateway IN ({_ALIVE % LOCK})"""  # noqa: S608  both are ours


class Presence(NamedTuple):
    user: int
    client_id: str
    ipaddress: str
    clean_sess: bool
    proto_ver: int
    keepalive: int
    connected_at: datetime


class Use(NamedTuple):
    """What an account's clients use of the memory of one gateway."""

    subscriptions: int = 0
    unread_bytes: int = 0


def connected(user: User) -> QuerySet[MqttSession]:
    return alive().for_user(user).order_by("connected_at", "pk")


def alive() -> OwnedQuerySet[MqttSession]:
    """Clients of gateways that live."""
    return MqttSession.objects.filter(gateway__in=_gateways())


def totals() -> tuple[int, int]:
    """Gateways that live, and clients connected to them."""
    gateways = _gateways()
    return len(gateways), MqttSession.objects.filter(gateway__in=gateways).count()


def _gateways() -> list[int]:
    with django_connection.cursor() as cursor:
        return gateways(cursor)


def gateways(cursor: Any) -> list[int]:
    """Those that live."""
    cursor.execute(_ALIVE, [LOCK])
    return [key for (key,) in cursor.fetchall()]


def enter(connection: psycopg.Connection) -> int:
    """Takes a lock for as long as the connection lives, clears what dead gateways left; returns the key."""
    key = secrets.randbelow(2**31)
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK, key])
    alive = [key for (key,) in connection.execute(_ALIVE, [LOCK]).fetchall()]
    connection.execute("DELETE FROM devices_mqttsession WHERE gateway <> ALL (%s)", [alive])
    connection.execute("DELETE FROM devices_gatewayuse WHERE gateway <> ALL (%s)", [alive])
    return key


def update(
    connection: psycopg.Connection, gateway: int, gone: Sequence[ClientKey], come: Sequence[Presence]
) -> None:
    leaving = [*gone, *((row.user, row.client_id) for row in come)]
    with connection.transaction():
        connection.execute(
            """DELETE FROM devices_mqttsession s
            USING unnest(%s::bigint[], %s::text[]) AS g (user_id, client_id)
            WHERE s.gateway = %s AND s.user_id = g.user_id AND s.client_id = g.client_id""",
            [[user for user, _ in leaving], [client for _, client in leaving], gateway],
        )
        columns = [[row[place] for row in come] for place in range(len(Presence._fields))]
        connection.execute(
            """INSERT INTO devices_mqttsession (gateway, user_id, client_id, ipaddress, clean_sess, proto_ver,
                keepalive, connected_at)
            SELECT %s, p.* FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bool[], %s::int[], %s::int[],
                %s::timestamptz[]) AS p (user_id, client_id, ipaddress, clean_sess, proto_ver, keepalive, at)
            JOIN accounts_user u ON u.id = p.user_id""",
            [gateway, *columns],
        )


def update_use(connection: psycopg.Connection, gateway: int, uses: Mapping[int, Use]) -> None:
    """By account. Who uses nothing has no row."""
    none = [user for user, use in uses.items() if not any(use)]
    some = sorted((user, *use) for user, use in uses.items() if any(use))
    columns = [[row[place] for row in some] for place in range(3)]
    with connection.transaction():
        connection.execute(
            "DELETE FROM devices_gatewayuse WHERE gateway = %s AND user_id = ANY (%s)", [gateway, none]
        )
        connection.execute(
            """INSERT INTO devices_gatewayuse (gateway, user_id, subscriptions, unread_bytes)
            SELECT %s, k.* FROM unnest(%s::bigint[], %s::int[], %s::bigint[])
                AS k (user_id, subscriptions, unread_bytes)
            JOIN accounts_user u ON u.id = k.user_id
            ON CONFLICT (gateway, user_id) DO UPDATE
                SET subscriptions = excluded.subscriptions, unread_bytes = excluded.unread_bytes""",
            [gateway, *columns],
        )
