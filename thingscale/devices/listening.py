"""Since when the platform listens to devices, and how far what it heard is written. So its own outage is no
device's silence.

Each process that hears devices marks, every second or two, until when all that it heard is in
`devices_activity`. Of what came after its last mark nobody knows, once it has ended: that is a gap, as is the
time in which nobody listened at a door, the time in which the database was away, and a step of the
database's clock, by which all of this goes.

Processes of the release before make no marks. They write `last_seen` without a door, which means: any gap may
have been one of theirs.
"""

from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

import psycopg


class Door(IntEnum):
    MQTT = 1
    HTTP = 2


GAP = timedelta(seconds=10)  # without a mark, after which a process counts as ended
STEP = timedelta(seconds=-1)  # a clock that goes back by more was set
# After a gap, until every client has connected again: most double their pauses, up to two minutes.
RETURN = timedelta(seconds=120)
GAPS_KEPT = timedelta(days=400)  # longer than any period of silence that one may watch

_MARK = """WITH before AS MATERIALIZED (
    SELECT writer, at, until, clock_timestamp() AS now FROM devices_listening
    WHERE writer = %(writer)s FOR UPDATE
)
UPDATE devices_listening l SET at = before.now, until = CASE
    WHEN before.now < before.at THEN least(before.until, before.now)
    ELSE greatest(before.until, before.now - make_interval(secs => %(behind)s::float8)) END
FROM before WHERE l.writer = before.writer
RETURNING before.at, before.until, before.now"""

_ENDED = """WHERE at NOT BETWEEN clock_timestamp() - %(gap)s::interval
    AND clock_timestamp() - %(step)s::interval"""

# Goes on with the last gap of the door if that has not ended, or has ended just before: a process that ends
# again and again makes one long gap.
_WIDEN = """UPDATE devices_listeninggap SET began_at = least(began_at, %(began)s), ended_at = %(ended)s
WHERE id = (
    SELECT id FROM devices_listeninggap
    WHERE door = %(door)s AND (ended_at IS NULL OR ended_at > %(began)s - %(pause)s::interval)
    ORDER BY id DESC LIMIT 1)"""
_ADD = "INSERT INTO devices_listeninggap (door, began_at, ended_at) VALUES (%(door)s, %(began)s, %(ended)s)"


def mark(cursor: psycopg.Cursor, writer: UUID, door: Door, behind: float) -> None:
    """`writer` listens, and what it has heard is written but for the last `behind` seconds. To be called in a
    transaction, as all of these."""
    row = cursor.execute(_MARK, {"writer": writer, "behind": behind}).fetchone()
    if row is None:
        _enter(cursor, writer, door)
        return
    before, until, now = row
    if not STEP < now - before < GAP:
        _lock(cursor)
        _note_gap(cursor, door, min(until, now), now)


def leave(cursor: psycopg.Cursor, writer: UUID) -> None:
    """`writer` has written all that it heard, and listens no more. Clients of MQTT were connected to it, and
    have to find another process; requests of HTTP just go there."""
    _lock(cursor)
    cursor.execute(
        "DELETE FROM devices_listening WHERE writer = %s RETURNING door, clock_timestamp()", [writer]
    )
    for door, now in cursor.fetchall():
        others = _listens(cursor, door)
        if not others:
            _note_gap(cursor, door, now, None)
        elif door == Door.MQTT:
            _note_gap(cursor, door, now, now)


def note_ended(cursor: psycopg.Cursor) -> None:
    """Finds the processes that have ended without a word."""
    limits = {"gap": GAP, "step": STEP}
    if cursor.execute(f"SELECT FROM devices_listening {_ENDED} LIMIT 1", limits).fetchone() is None:
        return
    _lock(cursor)
    cursor.execute(
        f"DELETE FROM devices_listening {_ENDED} RETURNING door, until, clock_timestamp()",  # noqa: S608
        limits,
    )
    for door, until, now in cursor.fetchall():
        _note_gap(cursor, door, min(until, now), now if _listens(cursor, door) else None)


def _enter(cursor: psycopg.Cursor, writer: UUID, door: Door) -> None:
    _lock(cursor)
    alone = not _listens(cursor, door)
    (now,) = cursor.execute(
        """INSERT INTO devices_listening (writer, door, at, until)
        VALUES (%s, %s, clock_timestamp(), clock_timestamp()) RETURNING at""",
        [writer, door],
    ).fetchall()[0]
    if alone:
        _note_gap(cursor, door, now, now)


def _listens(cursor: psycopg.Cursor, door: int) -> bool:
    found = cursor.execute("SELECT FROM devices_listening WHERE door = %s LIMIT 1", [door])
    return found.fetchone() is not None


def _note_gap(cursor: psycopg.Cursor, door: int, began: datetime, ended: datetime | None) -> None:
    gap = {"door": door, "began": began, "ended": ended, "pause": RETURN}
    if not cursor.execute(_WIDEN, gap).rowcount:
        cursor.execute(_ADD, gap)


def _lock(cursor: psycopg.Cursor) -> None:
    """So that of two processes that end at the same moment, the second one sees that it was the last."""
    cursor.execute("LOCK TABLE devices_listeninggap IN SHARE ROW EXCLUSIVE MODE")
