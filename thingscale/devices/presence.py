"""Which clients are connected to which gateway. Each gateway process holds an advisory lock while it lives,
and the key of the lock is in its rows: rows whose lock is gone are stale at once."""

import os
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.db import connection as django_connection
from django.db.models import Count, QuerySet

from thingscale.accounts.models import Account
from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.devices.models import GatewayProcess, MqttSession
from thingscale.lib.clock import now_us
from thingscale.processes.change_notifications import CHANNEL, TAKE_OVER

LOCK = 7_465  # first key of the advisory locks
STOPPING = 7_469  # the same, of gateways that are to stop
DEAD_SECONDS = 5.0  # without its lock, after which a gateway's clients count as disconnected

ClientKey = tuple[int, str]  # user's primary key, client id

_ALIVE = """SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def key(column: str) -> str:
    """key_of() in SQL."""
    return f"(('x' || right({column}::text, 8))::bit(32) & x'7fffffff')::int"


# Of the gateway of a row of mqtt_session: its key, and whether it lives.
KEY = key("gateway")
ALIVE = _ALIVE % LOCK
LIVES = f"{KEY} IN ({ALIVE})"

# Clients that are connected to two gateways: the later one of the two connections stays.
_TWICE = """SELECT m.user_id, m.client_id, CASE WHEN m.connected_at > o.connected_at
        OR (m.connected_at = o.connected_at AND m.gateway > o.gateway) THEN m.gateway ELSE o.gateway END,
    extract(epoch FROM greatest(m.connected_at, o.connected_at))::float8
FROM devices_mqttsession m
JOIN unnest(%s::bigint[], %s::text[]) AS g (user_id, client_id) USING (user_id, client_id)
JOIN devices_mqttsession o ON o.user_id = m.user_id AND o.client_id = m.client_id AND o.gateway <> m.gateway
WHERE m.gateway = %s AND o.gateway = ANY (%s)"""


class TakeOver(NamedTuple):
    """Announced to all gateways: a client has connected to this one, at this time by the database's clock."""

    gateway: int
    at: float
    client_id: str

    @property
    def text(self) -> str:
        return f"{self.gateway} {self.at!r} {self.client_id}"

    @classmethod
    def of(cls, text: str) -> "TakeOver":
        gateway, at, client_id = text.split(" ", 2)
        return cls(int(gateway), float(at), client_id)


class Presence(NamedTuple):
    user: int
    client_id: str
    ipaddress: str
    clean_sess: bool
    proto_ver: int
    keepalive: int
    began_at: float  # as time.monotonic() has it


class Figures(NamedTuple):
    """Figures of a gateway since its start: the columns of devices_gatewayprocess."""

    messages: int = 0
    rate: float = 0
    waiting: int = 0
    dropped: int = 0
    refused: int = 0


class Use(NamedTuple):
    """What an account's clients use of the memory of one gateway."""

    subscriptions: int = 0
    unread_bytes: int = 0


def connected(account: Account) -> QuerySet[MqttSession]:
    return alive().for_account(account).order_by("connected_at", "pk")


def alive() -> OwnedQuerySet[MqttSession]:
    """Clients of gateways that live."""
    return MqttSession.objects.filter(gateway__in=_gateways())


def living() -> list[GatewayProcess]:
    """The gateways that live, each with the number of its `clients` that have signed in."""
    keys = _gateways()
    clients = Counter(
        dict(
            MqttSession.objects.filter(gateway__in=keys)
            .values_list("gateway")
            .annotate(Count("pk"))
            .order_by()
        )
    )
    found = {gateway.key: gateway for gateway in GatewayProcess.objects.filter(key__in=keys)}
    # A gateway of an older release has no row. (What is not given would be an expression of the database.)
    nothing = dict.fromkeys(("messages", "rate", "waiting", "dropped", "refused"), 0)
    listed = [
        found.get(key) or GatewayProcess(key=key, host="", pid=0, started_at=None, **nothing)  # type: ignore[misc]
        for key in keys
    ]
    for gateway in listed:
        gateway.clients = clients[gateway.key]
    return sorted(listed, key=lambda each: (each.host, each.pid))


def names() -> dict[int, str]:
    """Of the gateways, as operators see them, by key."""
    return {gateway.key: gateway.name for gateway in GatewayProcess.objects.all()}


def _gateways() -> list[int]:
    with django_connection.cursor() as cursor:
        return gateways(cursor)


def gateways(cursor: Any) -> list[int]:
    """Keys of the gateways that live."""
    cursor.execute(_ALIVE, [LOCK])
    return [key for (key,) in cursor.fetchall()]


def mark_stopping(connection: psycopg.Connection, key: int) -> None:
    """For as long as the connection lives: no clients should be handed over to this gateway."""
    connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [STOPPING, key])


def staying(connection: psycopg.Connection) -> set[int]:
    """Gateways that live, and are not to stop."""
    found = connection.execute(f"{_ALIVE} EXCEPT {_ALIVE}", [LOCK, STOPPING])
    return {key for (key,) in found.fetchall()}


def key_of(gateway: UUID) -> int:
    """The key of the gateway's lock."""
    return gateway.int & 0x7FFFFFFF


def enter(connection: psycopg.Connection, key: int) -> None:
    """Takes the lock for as long as the connection lives, and deletes the rows of dead gateways."""
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK, key])
    alive = [key for (key,) in connection.execute(_ALIVE, [LOCK]).fetchall()]
    connection.execute("DELETE FROM devices_mqttsession WHERE gateway <> ALL (%s)", [alive])
    connection.execute("DELETE FROM devices_gatewayuse WHERE gateway <> ALL (%s)", [alive])
    connection.execute("DELETE FROM devices_gatewayprocess WHERE key <> ALL (%s)", [alive])
    connection.execute(
        """INSERT INTO devices_gatewayprocess (key, host, pid) VALUES (%s, %s, %s)
        ON CONFLICT (key) DO NOTHING""",
        [key, socket.gethostname()[:255], os.getpid()],
    )


def clock_offset() -> float:
    """From this process's monotonic clock to the database's clock, by which all gateways compare times."""
    return now_us() / 1e6 - time.monotonic()


def update(
    connection: psycopg.Connection,
    gateway: int,
    offset: float,
    disconnected: Sequence[ClientKey],
    connected: Sequence[Presence],
) -> None:
    """`offset`: see clock_offset()."""
    old = [*disconnected, *((row.user, row.client_id) for row in connected)]
    with connection.transaction():
        connection.execute(
            """DELETE FROM devices_mqttsession s
            USING unnest(%s::bigint[], %s::text[]) AS g (user_id, client_id)
            WHERE s.gateway = %s AND s.user_id = g.user_id AND s.client_id = g.client_id""",
            [[user for user, _ in old], [client for _, client in old], gateway],
        )
        columns = [[row[place] for row in connected] for place in range(len(Presence._fields))]
        connection.execute(
            """INSERT INTO devices_mqttsession (gateway, user_id, client_id, ipaddress, clean_sess, proto_ver,
                keepalive, connected_at)
            SELECT %s, user_id, client_id, ipaddress, clean_sess, proto_ver, keepalive,
                to_timestamp(began_at + %s)
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bool[], %s::int[], %s::int[], %s::float8[])
                AS p (user_id, client_id, ipaddress, clean_sess, proto_ver, keepalive, began_at)
            JOIN accounts_user u ON u.id = p.user_id""",
            [gateway, offset, *columns],
        )
    if not connected:
        return
    others = [key for key in gateways(connection.cursor()) if key != gateway]
    if others:
        # Behind the commit: of two gateways at the same moment at least one sees the other's row.
        clients = [[row.user for row in connected], [row.client_id for row in connected]]
        for user, client_id, winner, at in connection.execute(_TWICE, [*clients, gateway, others]).fetchall():
            take_over = TakeOver(winner, at, client_id)
            connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{TAKE_OVER}:{user}:{take_over.text}"])


def update_figures(connection: psycopg.Connection, key: int, figures: Figures) -> None:
    connection.execute(
        """UPDATE devices_gatewayprocess
        SET messages = %s, rate = %s, waiting = %s, dropped = %s, refused = %s
        WHERE key = %s""",
        [*figures, key],
    )


def update_use(connection: psycopg.Connection, gateway: int, uses: Mapping[int, Use]) -> None:
    """By account. An account that uses nothing has no row."""
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
