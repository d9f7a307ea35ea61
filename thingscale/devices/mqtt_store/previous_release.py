"""Takes over the durable sessions of the release before, which kept them in a table of its own."""

import re
from collections.abc import Iterable

import psycopg

from thingscale.devices.mqtt_store.subscriptions import StoredSubscription

_GROUP = re.compile(r"\$share/U\d+-(.*)-[0-9a-f]{8}/")


def adopt(cursor: psycopg.Cursor, days: int, clients: Iterable[tuple[int, str]] | None = None) -> None:
    """The sessions of these accounts and client ids, or all; clients that are still connected to a gateway of
    that release may come to us later. A session without an end gets `days`."""
    if clients is None:
        cursor.execute(
            "DELETE FROM devices_durablesession RETURNING user_id, client_id, subscriptions, expires_at"
        )
    else:
        accounts, names = zip(*clients, strict=True)
        cursor.execute(
            """DELETE FROM devices_durablesession d
            USING unnest(%s::bigint[], %s::text[]) AS k (account, client_id)
            WHERE d.user_id = k.account AND d.client_id = k.client_id
            RETURNING d.user_id, d.client_id, d.subscriptions, d.expires_at""",
            [list(accounts), list(names)],
        )
    for account, client_id, subscriptions, ends_at in cursor.fetchall():
        cursor.execute(
            """INSERT INTO mqtt_session (account_id, client_id, expiry, ends_at)
            SELECT u.id, %s, greatest(1, extract(epoch FROM ends_at - now())::bigint), ends_at
            FROM accounts_user u, coalesce(%s::timestamptz, now() + %s * interval '1 day') AS ends_at
            WHERE u.id = %s AND ends_at > now()
            ON CONFLICT DO NOTHING RETURNING id""",
            [client_id, ends_at, days, account],
        )
        row = cursor.fetchone()
        if row and subscriptions:
            cursor.executemany(
                """INSERT INTO mqtt_subscription (session, "group", filter, options, identifier)
                VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
                [(row[0], *translated(*fields)) for fields in subscriptions],
            )


def translated(
    filter_: str, qos: int, no_local: bool, retain_as_published: bool, retain_handling: int
) -> StoredSubscription:
    """The broker of that release had the user id in front of each filter, and in the names of share
    groups."""
    group = _GROUP.match(filter_)
    relative = (filter_[group.end() :] if group else filter_).partition("/")[2]
    options = qos | no_local << 2 | retain_as_published << 3 | retain_handling << 4
    return StoredSubscription(group[1] if group else "", relative, options, 0)
