"""The writes of ingest that concern devices: first contact, held and rejected messages and states, in the
transaction of its batch; and activity, apart from batches. Each function takes one or two statements, however
large the batch."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

import psycopg

from thingscale.devices.listening import Door
from thingscale.devices.models import HeldMessage
from thingscale.lib.ids import ChannelPk, DevicePk

DeviceKey = tuple[int, str]  # user's primary key, device id
T = TypeVar("T", bound=tuple[object, ...])


class DeviceRow(NamedTuple):
    pk: DevicePk
    enabled: bool
    channel: ChannelPk | None
    new: bool  # never enabled


class Held(NamedTuple):
    device: DevicePk
    tag: str | None
    value: str  # JSON text
    received_at: datetime
    dedupe: int | None
    array: bool  # the value is an array of {"at", "tag", "value"}
    size: int  # of the JSON text


class MinuteRow(NamedTuple):
    user: int
    minute: datetime
    stored: int
    held: int
    rejected: int


class Rejected(NamedTuple):
    user: int
    device_id: str
    source: str
    reason: str
    payload: bytes
    size: int
    received_at: datetime
    detail: str = ""


def lock(cursor: psycopg.Cursor, keys: Iterable[DeviceKey]) -> dict[DeviceKey, DeviceRow]:
    """The devices that exist, locked, so that none is mapped while a message is being held for it."""
    users, names = _columns(sorted(keys), 2)
    cursor.execute(
        """SELECT d.id, d.enabled, d.mapped_channel_id, d.activate_at IS NULL, d.user_id, d.device_id
        FROM devices_device d
        JOIN unnest(%s::bigint[], %s::text[]) AS k (user_id, device_id)
            ON d.user_id = k.user_id AND d.device_id = k.device_id
        ORDER BY d.id FOR UPDATE OF d""",
        [users, names],
    )
    return {(row[4], row[5]): DeviceRow(*row[:4]) for row in cursor.fetchall()}


def create(cursor: psycopg.Cursor, keys: Iterable[DeviceKey]) -> set[DeviceKey]:
    """Creates devices on first contact, disabled and unmapped, as far as their accounts have room for them
    (max_devices). Returns those that it has created."""
    users, names = _columns(sorted(keys), 2)
    cursor.execute(
        """WITH asked AS (
            SELECT k.*, row_number() OVER (PARTITION BY k.user_id ORDER BY k.device_id) AS place
            FROM unnest(%s::bigint[], %s::text[]) AS k (user_id, device_id)
        ), room AS (
            SELECT u.id, u.max_devices - count(d.id) AS free
            FROM accounts_user u LEFT JOIN devices_device d ON d.user_id = u.id
            WHERE u.id = ANY (%s) GROUP BY u.id
        )
        INSERT INTO devices_device (user_id, device_id, enabled, created_at)
        SELECT asked.user_id, asked.device_id, false, now()
        FROM asked JOIN room ON room.id = asked.user_id AND asked.place <= room.free
        ORDER BY asked.user_id, asked.device_id
        ON CONFLICT (user_id, device_id) DO NOTHING
        RETURNING user_id, device_id""",
        [users, names, users],
    )
    return {(user, name) for user, name in cursor.fetchall()}


def hold(cursor: psycopg.Cursor, held: Sequence[Held]) -> None:
    """Keeps only the newest messages of each device, in number and in bytes."""
    newest = _newest(held, HeldMessage.KEPT)
    cursor.execute(
        """INSERT INTO devices_heldmessage (device_id, tag, value, received_at, dedupe, "array", size)
        SELECT device, tag, value::jsonb, received_at, dedupe, is_array, size
        FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::bigint[], %s::bool[],
            %s::int[]) WITH ORDINALITY AS h (device, tag, value, received_at, dedupe, is_array, size, place)
        ORDER BY place""",
        _columns(newest, 7),
    )
    cursor.execute(
        """DELETE FROM devices_heldmessage h
        USING (
            SELECT id, row_number() OVER newer AS place, sum(size) OVER newer AS total
            FROM devices_heldmessage WHERE device_id = ANY (%s)
            WINDOW newer AS (PARTITION BY device_id ORDER BY id DESC)
        ) AS kept
        WHERE h.id = kept.id AND (kept.place > %s OR (kept.total > %s AND kept.place > 1))""",
        [list({row.device for row in newest}), HeldMessage.KEPT, HeldMessage.MAX_BYTES],
    )


def reject(cursor: psycopg.Cursor, rejected: Sequence[Rejected]) -> None:
    """Keeps only the newest messages of each user, as many as its max_rejected."""
    cursor.execute(
        """INSERT INTO devices_rejectedmessage
            (user_id, device_id, source, reason, payload, size, received_at, detail)
        SELECT r.user_id, r.device_id, r.source, r.reason, r.payload, r.size, r.received_at, r.detail
        FROM (
            SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY place DESC) AS age
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::bytea[], %s::int[],
                %s::timestamptz[], %s::text[]) WITH ORDINALITY
                AS given (user_id, device_id, source, reason, payload, size, received_at, detail, place)
        ) AS r JOIN accounts_user u ON u.id = r.user_id AND r.age <= u.max_rejected
        ORDER BY place""",
        _columns(rejected, 8),
    )
    cursor.execute(
        """DELETE FROM devices_rejectedmessage r
        USING unnest(%s::bigint[]) AS u (id)
        WHERE r.user_id = u.id AND r.id <= (
            SELECT id FROM devices_rejectedmessage WHERE user_id = u.id
            ORDER BY id DESC OFFSET (SELECT max_rejected FROM accounts_user WHERE id = u.id) LIMIT 1)""",
        [list({row.user for row in rejected})],
    )


def set_states(cursor: psycopg.Cursor, states: dict[DevicePk, tuple[str, datetime]]) -> None:
    """`states`: by the device's primary key, the JSON text of the latest state and its time."""
    cursor.execute(
        """UPDATE devices_device d SET state = s.state::jsonb, state_at = s.at
        FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) AS s (device, state, at)
        WHERE d.id = s.device AND (d.state_at IS NULL OR d.state_at <= s.at)""",
        [list(states), [state for state, _ in states.values()], [at for _, at in states.values()]],
    )


def held_before(
    cursor: psycopg.Cursor, keys: Sequence[tuple[int, int, str, datetime]]
) -> set[tuple[int, int]]:
    """`keys`: device, dedupe key, JSON text of the value, and since when. Returns device and dedupe key of
    those that are held already."""
    cursor.execute(
        """SELECT h.device_id, h.dedupe FROM devices_heldmessage h
        JOIN unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[])
            AS k (device, dedupe, value, since)
            ON h.device_id = k.device AND h.dedupe = k.dedupe AND h.value = k.value::jsonb
                AND h.received_at >= k.since""",
        _columns(keys, 4),
    )
    return {(device, dedupe) for device, dedupe in cursor.fetchall()}


def note_heard(
    cursor: psycopg.Cursor,
    known: Sequence[tuple[int, datetime, int]],
    named: Sequence[tuple[DeviceKey, datetime, int]],
    door: Door,
) -> None:
    """Of each device, known by its primary key or by name: the time of its latest message, and how many.
    Devices that don't exist are left out. Every writer updates in the order of the keys, so that no two meet
    in a deadlock. A time in the future is from before the clock was set back."""
    names = [(*key, at, messages) for key, at, messages in named]
    cursor.execute(
        """INSERT INTO devices_activity AS a (device_id, last_seen, messages, door)
        SELECT id, max(at), sum(messages), %s::smallint
        FROM (
            SELECT d.id, h.at, h.messages
            FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[]) AS h (id, at, messages)
            JOIN devices_device d ON d.id = h.id
            UNION ALL
            SELECT d.id, h.at, h.messages
            FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::bigint[])
                AS h (user_id, device_id, at, messages)
            JOIN devices_device d ON d.user_id = h.user_id AND d.device_id = h.device_id
        ) AS heard
        GROUP BY id ORDER BY id
        ON CONFLICT (device_id) DO UPDATE SET
            last_seen = CASE WHEN a.last_seen > now() THEN excluded.last_seen
                ELSE greatest(a.last_seen, excluded.last_seen) END,
            messages = a.messages + excluded.messages,
            door = excluded.door""",
        [door, *_columns(known, 3), *_columns(names, 4)],
    )


def count_minutes(cursor: psycopg.Cursor, minutes: Sequence[MinuteRow]) -> None:
    cursor.execute(
        """INSERT INTO devices_minutecount AS c (user_id, minute, stored, held, rejected)
        SELECT m.*
        FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[], %s::bigint[], %s::bigint[])
            AS m (user_id, minute, stored, held, rejected)
        JOIN accounts_user u ON u.id = m.user_id
        ORDER BY m.user_id, m.minute
        ON CONFLICT (user_id, minute) DO UPDATE SET stored = c.stored + excluded.stored,
            held = c.held + excluded.held, rejected = c.rejected + excluded.rejected""",
        _columns(minutes, 5),
    )


def _newest(rows: Sequence[T], most: int) -> list[T]:
    """At most `most` of each owner (the rows' first field), in the order given."""
    counts: dict[object, int] = {}
    kept = []
    for row in reversed(rows):
        counts[row[0]] = counts.get(row[0], 0) + 1
        if counts[row[0]] <= most:
            kept.append(row)
    return kept[::-1]


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[place] for row in rows] for place in range(width)]
