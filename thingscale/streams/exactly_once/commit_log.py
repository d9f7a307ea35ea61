"""Which batch a writer committed last: the answer when its connection breaks during COMMIT.

Each writer has a row, updated first thing in the transaction of every batch. A broken COMMIT leaves the
outcome open; the row says exactly what became of it, and reading it under its lock waits for a server
process that is still at it. (A transaction id would not do: after a crash PostgreSQL may give out the same
one again.)

The row also fences: a gateway that the others take for dead can store nothing more.
"""

from collections.abc import Collection
from uuid import UUID

import psycopg
from django.db import connection as django_connection

from thingscale.devices import presence

# Not waiting for rows that are locked: whoever locks all of them would meet this in a deadlock.
_FORGET_OLD = """DELETE FROM streams_journal WHERE writer IN (
    SELECT writer FROM streams_journal WHERE at < now() - interval '7 days' FOR UPDATE SKIP LOCKED
)"""


class Fenced(Exception):
    """Others take this writer for dead: it does not know what has changed since."""


class Forgotten(Exception):
    """The writer's row is gone: nothing was announced to it since. It has to enter again, and read."""


def enter(connection: psycopg.Connection, writer: UUID) -> None:
    """Before the first batch, for others to see the row that they have to wait for."""
    connection.execute(
        "INSERT INTO streams_journal (writer, batch, at) VALUES (%s, 0, now()) ON CONFLICT DO NOTHING",
        [writer],
    )


def fence(cursor: psycopg.Cursor, gateways: Collection[int]) -> None:
    """By their keys (devices/presence.py). Waits for a batch that one of them is writing now."""
    cursor.execute(
        f"UPDATE streams_journal SET fenced = true WHERE {presence.key('writer')} = ANY (%s)",  # noqa: S608  it is ours
        [list(gateways)],
    )


def mark(cursor: psycopg.Cursor, writer: UUID, batch: int) -> int:
    """Returns the last announcement of redeliveries.py to this writer."""
    cursor.execute(
        "UPDATE streams_journal SET batch = %s, at = now() WHERE writer = %s RETURNING repeats, fenced",
        [batch, writer],
        prepare=True,
    )
    row = cursor.fetchone()
    if row is None:
        raise Forgotten
    repeats, fenced = row
    if fenced:
        raise Fenced
    return int(repeats)


def committed(connection: psycopg.Connection, writer: UUID, batch: int) -> bool:
    """If not, then it won't be any more: the statement of write_at_once() may still be on its way to the row,
    and stores nothing where it finds its number there, negative, or a later one."""
    row = connection.execute(
        "UPDATE streams_journal SET batch = CASE WHEN batch >= %s THEN batch ELSE -%s END"
        " WHERE writer = %s RETURNING batch",
        [batch, batch, writer],
    ).fetchone()
    return row is not None and row[0] >= batch


def lock_all(cursor: psycopg.Cursor) -> None:
    """Once the batches that are being written now are visible; until COMMIT, no other begins."""
    cursor.execute("SELECT FROM streams_journal ORDER BY writer FOR UPDATE")


def wait_for_others(connection: psycopg.Connection) -> None:
    """Until the batches that are being written now are visible. Outside of a transaction: whoever kept these
    locks while writing would meet the others' batches in a deadlock."""
    with connection.cursor() as cursor:
        lock_all(cursor)


def forget(connection: psycopg.Connection, writer: UUID) -> None:
    connection.execute("DELETE FROM streams_journal WHERE writer = %s", [writer])


def forget_old() -> None:
    """Rows of writers that were killed, and of those that have stored nothing for a week: see Forgotten."""
    with django_connection.cursor() as cursor:
        cursor.execute(_FORGET_OLD)
