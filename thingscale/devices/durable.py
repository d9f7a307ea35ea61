"""Durable sessions as the release before had them, with its embedded broker: they go on here with what they
subscribed to (mqtt_store.py)."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg

from thingscale.devices.mqtt_store import Subscribed

_GROUP = re.compile(r"\$share/U\d+-(.*)-[0-9a-f]{8}/")

_TAKE_ALL = """DELETE FROM devices_durablesession
RETURNING user_id, client_id, subscriptions, expires_at"""
_TAKE = """DELETE FROM devices_durablesession d
USING unnest(%s::bigint[], %s::text[]) AS k (account, client_id)
WHERE d.user_id = k.account AND d.client_id = k.client_id
RETURNING d.user_id, d.client_id, d.subscriptions, d.expires_at"""
_INSERT = """INSERT INTO mqtt_session (account_id, client_id, expiry, ends_at)
SELECT u.id, %s, greatest(1, extract(epoch FROM ends_at - now())::bigint), ends_at
FROM accounts_user u, coalesce(%s::timestamptz, now() + %s * interval '1 day') AS ends_at
WHERE u.id = %s AND ends_at > now()
ON CONFLICT DO NOTHING RETURNING id"""


def adopt_all(cursor: psycopg.Cursor, days: int) -> None:
    """What is connected to a gateway of that release may come to us later."""
    cursor.execute(_TAKE_ALL)
    _adopt(cursor, cursor.fetchall(), days)


def adopt(cursor: psycopg.Cursor, clients: Iterable[tuple[int, str]], days: int) -> None:
    """Of these accounts and client ids."""
    accounts, names = zip(*clients, strict=True)
    cursor.execute(_TAKE, [list(accounts), list(names)])
    _adopt(cursor, cursor.fetchall(), days)


def _adopt(
    cursor: psycopg.Cursor, sessions: Sequence[tuple[int, str, list[list[Any]], datetime | None]], days: int
) -> None:
    for account, client_id, subscriptions, ends_at in sessions:
        cursor.execute(_INSERT, [client_id, ends_at, days, account])
        row = cursor.fetchone()
        if row and subscriptions:
            cursor.executemany(
                """INSERT INTO mqtt_subscription (session, "group", filter, options, identifier)
                VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
                [(row[0], *translated(fields)) for fields in subscriptions],
            )


def translated(fields: Sequence[Any]) -> Subscribed:
    """That release's broker had the user id in front of each filter, and in the names of share groups."""
    filter_, qos, no_local, retain_as_published, retain_handling = fields
    group = _GROUP.match(filter_)
    relative = (filter_[group.end() :] if group else filter_).partition("/")[2]
    options = qos | no_local << 2 | retain_as_published << 3 | retain_handling << 4
    return Subscribed(group[1] if group else "", relative, options, 0)
