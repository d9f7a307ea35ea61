"""The queues of durable sessions.

Messages are numbered by session, without gaps. Messages of one batch that the same sessions wait for are one
row of mqtt_message, with a row of mqtt_queue for each session.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple
from uuid import UUID

import psycopg

from thingscale.devices.models import ClientSession

# For a queue whose account is full: a client that keeps up goes on getting messages.
SPARE_BYTES = 16 * 1024


class Copies(NamedTuple):
    """Packets that follow each other, for these sessions."""

    sessions: tuple[tuple[int, int, tuple[int, ...]], ...]  # key, options, subscription identifiers
    packets: list[bytes]
    command: int = 0  # Command, if it is one


class Progress(NamedTuple):
    """What a session's client has acknowledged, and which messages it has sent at QoS 2."""

    session: int
    done_seq: int
    done: list[int]
    received_seq: list[int]
    received: list[int]


class QueuedRow(NamedTuple):
    session: int
    seq: int
    last_seq: int
    options: int
    identifiers: Sequence[int]
    packets: bytes
    at: int  # microseconds since 1970 UTC
    command: int


def lock_own(cursor: psycopg.Cursor, gateway: UUID, sessions: list[int]) -> set[int]:
    """Returns those of these sessions that no other gateway has taken over."""
    cursor.execute(
        "SELECT id FROM mqtt_session WHERE id = ANY (%s) AND gateway = %s ORDER BY id FOR UPDATE",
        [sessions, gateway],
        prepare=True,
    )
    return {key for (key,) in cursor.fetchall()}


def enqueue(
    cursor: psycopg.Cursor, batch: Sequence[Copies], full: Set[int] = frozenset()
) -> dict[int, tuple[int, int]]:
    """Returns by session the first number that its messages of this batch got, and how many of them there was
    room for: the last ones are left out. Sessions of a `full` account have room only while they keep up. A
    session that does not exist any more is left out."""
    counts: dict[int, int] = {}
    for copies in batch:
        for key, _, _ in copies.sessions:
            counts[key] = counts.get(key, 0) + len(copies.packets)
    keys = sorted(counts)
    cursor.execute(
        """SELECT id, account_id, next_seq, next_seq - 1 - done_seq, queued_bytes FROM mqtt_session
        WHERE id = ANY (%s) ORDER BY id FOR UPDATE""",
        [keys],
        prepare=True,
    )
    next_seq: dict[int, int] = {}
    room: dict[int, int] = {}
    bytes_left: dict[int, int] = {}
    for key, account, following, waiting, size in cursor.fetchall():
        next_seq[key] = following
        room[key] = max(ClientSession.MAX_QUEUED - waiting, 0)
        bytes_left[key] = (SPARE_BYTES if account in full else ClientSession.MAX_QUEUED_BYTES) - size
    first = dict(next_seq)
    messages: list[bytes] = []
    commands: list[int] = []
    rows: list[tuple[int, int, int, int, str, int, int]] = []  # the last field: place among the messages
    sizes = dict.fromkeys(next_seq, 0)
    for copies in batch:
        size = sum(map(len, copies.packets))
        taken = 0
        for key, options, identifiers in copies.sessions:
            count = min(len(copies.packets), room.get(key, 0))
            if not count or bytes_left[key] < size:
                room[key] = 0  # what comes after it would overtake it
                continue
            seq = next_seq[key]
            texts = f"{{{','.join(map(str, identifiers))}}}"
            rows.append((key, seq, seq + count - 1, options, texts, size, len(messages)))
            next_seq[key] += count
            room[key] -= count
            bytes_left[key] -= size
            sizes[key] += size
            taken = max(taken, count)
        if taken:
            messages.append(b"".join(copies.packets[:taken]))
            commands.append(copies.command)
    if messages:
        cursor.execute(
            """INSERT INTO mqtt_message (packets, command, at) SELECT packets, command, now()
            FROM unnest(%s::bytea[], %s::bigint[]) WITH ORDINALITY AS m (packets, command, place)
            ORDER BY place RETURNING id""",
            [messages, commands],
            prepare=True,
        )
        ids = sorted(key for (key,) in cursor.fetchall())
        cursor.execute(
            """INSERT INTO mqtt_queue (session, seq, last_seq, options, identifiers, size, messages)
            SELECT session, seq, last_seq, options, identifiers::bigint[], size, messages
            FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::text[], %s::bigint[],
                %s::bigint[]) AS q (session, seq, last_seq, options, identifiers, size, messages)""",
            [
                *([row[column] for row in rows] for column in range(6)),
                [ids[row[6]] for row in rows],
            ],
            prepare=True,
        )
    cursor.execute(
        """UPDATE mqtt_session s SET next_seq = k.next_seq, queued_bytes = s.queued_bytes + k.bytes,
            dropped = s.dropped + k.dropped
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
            AS k (id, next_seq, bytes, dropped)
        WHERE s.id = k.id""",
        [
            list(first),
            [next_seq[key] for key in first],
            [sizes[key] for key in first],
            [counts[key] - (next_seq[key] - first[key]) for key in first],
        ],
        prepare=True,
    )
    return {key: (first[key], next_seq[key] - first[key]) for key in first}


def progress(cursor: psycopg.Cursor, gateway: UUID, sessions: Mapping[int, Progress]) -> None:
    """Deletes what has been acknowledged. Sessions that another gateway has taken over are left alone: it
    knows better."""
    own = lock_own(cursor, gateway, list(sessions))
    if not own:
        return
    keys, done_seq, *lists = zip(*(sessions[key] for key in sorted(own)), strict=True)
    # As text: PostgreSQL can't take arrays of different lengths as one array.
    arrays = [[f"{{{','.join(map(str, each))}}}" for each in column] for column in lists]
    cursor.execute(
        """WITH k AS (
            SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[])
                AS k (session, done_seq, done, received_seq, received)
        ), deleted AS (
            DELETE FROM mqtt_queue q USING k WHERE q.session = k.session
                AND q.seq <= k.done_seq  -- follows from the next, and is in the index
                AND q.last_seq <= k.done_seq
            RETURNING q.session, q.size, q.messages
        ), updated AS (
            UPDATE mqtt_session s SET done_seq = k.done_seq, done = k.done::bigint[],
                received_seq = k.received_seq::bigint[], received = k.received::int[],
                queued_bytes = s.queued_bytes
                    - coalesce((SELECT sum(size) FROM deleted d WHERE d.session = k.session), 0)
            FROM k WHERE s.id = k.session
        )
        SELECT messages FROM deleted""",
        [list(keys), list(done_seq), *arrays],
        prepare=True,
    )
    _delete_orphans(cursor, cursor.fetchall())


def read_queues(
    cursor: psycopg.Cursor, wanted: Sequence[tuple[int, int]], size: int
) -> dict[int, list[QueuedRow]]:
    """What each of the sessions waits for from that number on: about `size` bytes of it, or one row."""
    cursor.execute(
        """SELECT q.session, q.seq, q.last_seq, q.options, q.identifiers, m.packets,
            (extract(epoch FROM m.at) * 1000000)::bigint, m.command
        FROM unnest(%s::bigint[], %s::bigint[]) AS k (session, seq)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT *, sum(size) OVER (ORDER BY seq) - size AS before FROM (
                    SELECT * FROM mqtt_queue q WHERE q.session = k.session AND q.last_seq >= k.seq
                    ORDER BY q.session, q.seq LIMIT 100
                ) AS first_rows
            ) AS summed WHERE before < %s
        ) AS q
        JOIN mqtt_message m ON m.id = q.messages
        ORDER BY q.session, q.seq""",
        [[key for key, _ in wanted], [seq for _, seq in wanted], size],
        prepare=True,
    )
    found: dict[int, list[QueuedRow]] = {key: [] for key, _ in wanted}
    for row in cursor.fetchall():
        found[row[0]].append(QueuedRow(*row))
    return found


def delete_queues(cursor: psycopg.Cursor, sessions: Sequence[int]) -> None:
    cursor.execute("DELETE FROM mqtt_queue WHERE session = ANY (%s) RETURNING messages", [sessions])
    _delete_orphans(cursor, cursor.fetchall())


def _delete_orphans(cursor: psycopg.Cursor, messages: Iterable[tuple[int]]) -> None:
    """Deletes those of these messages that no session waits for. It is a statement of its own because it has
    to see what the statement before it has deleted."""
    keys = sorted({key for (key,) in messages})
    if keys:
        cursor.execute(
            """DELETE FROM mqtt_message m WHERE id = ANY (%s)
                AND NOT EXISTS (SELECT FROM mqtt_queue q WHERE q.messages = m.id)""",
            [keys],
        )
