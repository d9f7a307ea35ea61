"""The commit log has the number of the batch that each writer committed last. It tells a writer whether a
batch is stored, after its connection broke during COMMIT.

Each writer has a row in it, which the transaction of every batch updates first. Reading the row under its
lock waits for a server process that still works on the batch. (A transaction id could not be asked for
instead: after a crash, PostgreSQL may give out the same one again.)

The row also fences a writer off: a gateway that the others take for dead can store nothing more. It may have
no row: it has stored nothing yet, or nothing for a week. Then a row that only has its key stands for it.
"""

from collections.abc import Collection
from uuid import UUID

import psycopg
from django.db import connection as django_connection

from thingscale.devices import presence
from thingscale.processes.change_notifications import CHANNEL, FENCED

LOCK = 7_473  # first key of the advisory locks between register() and fence(); the second is the gateway's
_KEY = presence.key("writer")

# A fence stays for longer: its gateway may have been asleep. Skips locked rows: waiting for them could end in
# a deadlock with lock_all().
_DELETE_OLD = """DELETE FROM streams_journal WHERE writer IN (
    SELECT writer FROM streams_journal
    WHERE at < now() - CASE WHEN fenced THEN interval '90 days' ELSE interval '7 days' END
    FOR UPDATE SKIP LOCKED
)"""


class Fenced(Exception):
    """Other gateways take this writer for dead, and have told it nothing since."""


class NotRegistered(Exception):
    """The writer's row is gone, so nothing was announced to it since. It has to register again, and to read
    what was announced."""


def register(connection: psycopg.Connection, writer: UUID) -> None:
    """Makes the writer's row, before its first batch: others have to see the row to wait for the batch. It is
    fenced if it had none when it was fenced off."""
    key = presence.key_of(writer)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK, key])
        connection.execute(
            f"""INSERT INTO streams_journal (writer, batch, at, fenced)
            SELECT %s, 0, now(), EXISTS (SELECT FROM streams_journal WHERE fenced AND {_KEY} = %s)
            ON CONFLICT DO NOTHING""",  # noqa: S608  it is ours
            [writer, key],
        )


def fence(cursor: psycopg.Cursor, gateways: Collection[int]) -> None:
    """Fences off gateways, by their keys (devices/presence.py), and tells them. Waits for the batches they
    are writing now."""
    with cursor.connection.transaction():
        for key in sorted(gateways):
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK, key])
            cursor.execute(f"UPDATE streams_journal SET fenced = true, at = now() WHERE {_KEY} = %s", [key])  # noqa: S608  it is ours
            if not cursor.rowcount:
                cursor.execute(
                    "INSERT INTO streams_journal (writer, batch, at, fenced) VALUES (%s, 0, now(), true)",
                    [UUID(int=key)],
                )
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{FENCED}:{key}:"])


def record_batch(cursor: psycopg.Cursor, writer: UUID, batch: int) -> int:
    """Returns the number of the last announcement to this writer (redeliveries.py).
    Raises NotRegistered, Fenced."""
    cursor.execute(
        "UPDATE streams_journal SET batch = %s, at = now() WHERE writer = %s RETURNING repeats, fenced",
        [batch, writer],
        prepare=True,
    )
    row = cursor.fetchone()
    if row is None:
        raise NotRegistered
    repeats, fenced = row
    if fenced:
        raise Fenced
    return int(repeats)


def was_committed(connection: psycopg.Connection, writer: UUID, batch: int) -> bool:
    """If this says no, the batch will not be committed later either: the statement of
    write_in_one_statement() may still arrive, but stores nothing once its number is in the row, as a negative
    one, or a later number."""
    row = connection.execute(
        "UPDATE streams_journal SET batch = CASE WHEN batch >= %s THEN batch ELSE -%s END"
        " WHERE writer = %s RETURNING batch",
        [batch, batch, writer],
    ).fetchone()
    return row is not None and row[0] >= batch


def lock_all(cursor: psycopg.Cursor) -> None:
    """Waits until the batches that are being written now are visible. No other batch begins until COMMIT."""
    cursor.execute("SELECT FROM streams_journal WHERE NOT fenced ORDER BY writer FOR UPDATE")


def wait_for_others(connection: psycopg.Connection) -> None:
    """Waits until the batches that are being written now are visible. To be called outside of a transaction:
    keeping these locks while writing could end in a deadlock with the others' batches."""
    with connection.cursor() as cursor:
        lock_all(cursor)


def unregister(connection: psycopg.Connection, writer: UUID) -> None:
    connection.execute("DELETE FROM streams_journal WHERE writer = %s", [writer])


def delete_old() -> None:
    """Deletes the rows of writers that have stored nothing for a week, mostly because they were killed. One
    that still runs gets NotRegistered."""
    with django_connection.cursor() as cursor:
        cursor.execute(_DELETE_OLD)
