"""The subscriptions of durable sessions."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import psycopg


class StoredSubscription(NamedTuple):
    group: str
    filter: str
    options: int
    identifier: int


def subscribe(cursor: psycopg.Cursor, subscriptions: Sequence[tuple[int, StoredSubscription]]) -> None:
    """Each with its session. If a filter comes twice, the last one counts."""
    last = {(key, each.group, each.filter): each for key, each in subscriptions}
    rows = sorted((key, *each) for (key, _, _), each in last.items())
    cursor.execute(
        """INSERT INTO mqtt_subscription (session, "group", filter, options, identifier)
        SELECT k.* FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::smallint[], %s::bigint[])
            AS k (session, "group", filter, options, identifier)
        JOIN mqtt_session s ON s.id = k.session
        ON CONFLICT (session, "group", filter)
            DO UPDATE SET options = excluded.options, identifier = excluded.identifier""",
        [list(column) for column in zip(*rows, strict=True)],
    )


def unsubscribe(cursor: psycopg.Cursor, filters: Sequence[tuple[int, str, str]]) -> None:
    """Session, group, filter."""
    cursor.execute(
        """DELETE FROM mqtt_subscription s USING unnest(%s::bigint[], %s::text[], %s::text[])
            AS k (session, "group", filter)
        WHERE s.session = k.session AND s."group" = k."group" AND s.filter = k.filter""",
        [list(column) for column in zip(*filters, strict=True)],
    )


def read_subscriptions(
    cursor: psycopg.Cursor, sessions: Collection[int]
) -> dict[int, list[StoredSubscription]]:
    """By session."""
    cursor.execute(
        """SELECT session, "group", filter, options, identifier FROM mqtt_subscription
        WHERE session = ANY (%s) ORDER BY session, filter""",
        [list(sessions)],
    )
    found: dict[int, list[StoredSubscription]] = {}
    for key, *fields in cursor.fetchall():
        found.setdefault(key, []).append(StoredSubscription(*fields))
    return found
