"""What the MQTT broker keeps in PostgreSQL: sessions that last, their subscriptions and queues, and retained
messages. Functions for the writer's transaction (ingest/transaction.py); each takes what a whole batch has of
its kind, and locks sessions in the order of their keys.

A queue's messages are numbered by session, without gaps. Those of one batch that the same sessions wait for
are one row of mqtt_message, with a row of mqtt_queue for each session.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg

from thingscale.devices import presence
from thingscale.devices.models import ClientSession, Command

SECOND_LEVEL = "split_part(topic, '/', 2)"
SLOT = 200  # bytes that a message takes at least, in limits
SPARE_BYTES = 16 * 1024  # of a queue though its account is full: who keeps up goes on getting what is sent
WILLS_AT_ONCE = 1_000
CLAIM_SECONDS = 30  # for which nobody else publishes a will


Fence = Callable[[psycopg.Cursor, Collection[int]], None]  # commit_log.fence()


class Open(NamedTuple):
    """A client's CONNECT."""

    account: int
    client_id: str
    clean: bool  # what there is ends
    lasts: bool  # it gets a row
    expiry: int  # seconds
    will: bytes | None = None
    will_delay: int = 0
    unsure: bool = False  # whether gateways that seem to be dead live all the same
    force: bool = False  # also if another gateway that lives has not let go of it, which is fenced
    will_published: bool = False  # the one that was due


class Subscribed(NamedTuple):
    group: str
    filter: str
    options: int
    identifier: int


class Opened(NamedTuple):
    session: int  # 0: it has no row
    present: bool
    ended: int  # the session that it took the place of, or 0
    next_seq: int = 1
    done_seq: int = 0
    done: Sequence[int] = ()
    received_seq: Sequence[int] = ()
    received: Sequence[int] = ()
    subscriptions: Sequence[Subscribed] = ()
    sent_seq: int | None = None  # the last number that was sent; None: any may have been
    refused: bool = False  # the account has as many as it may
    held_elsewhere: bool = False  # another gateway has not let go of it yet: nothing was done
    due_will: int = 0  # session whose will is to be published first; the same
    moved: bool = False  # another gateway had it before


class Copies(NamedTuple):
    """Packets in a row, for these sessions."""

    sessions: tuple[tuple[int, int, tuple[int, ...]], ...]  # key, options, subscription identifiers
    packets: list[bytes]
    command: int = 0  # Command, if it is one


class Progress(NamedTuple):
    """What a session's client has acknowledged, and what it has sent at QoS 2, as of now."""

    session: int
    done_seq: int
    done: list[int]
    received_seq: list[int]
    received: list[int]


class Retain(NamedTuple):
    account: int
    topic: str
    payload: bytes  # none: there is none any more
    qos: int
    properties: bytes
    at: datetime
    expires_at: datetime | None


class RetainedMessage(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    properties: bytes
    at: int  # microseconds since 1970 UTC
    expires_at: int | None


class QueuedRow(NamedTuple):
    session: int
    seq: int
    last_seq: int
    options: int
    identifiers: Sequence[int]
    packets: bytes
    at: int  # microseconds since 1970 UTC
    command: int


# Sessions

# A session is not over before its will is published.
_FIND = """SELECT s.id, s.account_id, s.client_id,
    (s.ends_at <= now() AND s.will_at IS NULL) OR s.expiry = 0, s.sent_seq,
    s.gateway <> %s, s.ends_at IS NULL, s.expiry,
    CASE WHEN s.will IS NOT NULL AND (s.ends_at IS NULL OR s.will_at < -- not claimed, that is
        s.ends_at + (least(s.will_delay, s.expiry) - s.expiry + %s) * interval '1 s'
    ) THEN least(s.will_delay, s.expiry) END
FROM mqtt_session s
JOIN unnest(%s::bigint[], %s::text[]) AS k (account, client_id)
    ON s.account_id = k.account AND s.client_id = k.client_id
ORDER BY s.id FOR UPDATE OF s"""
_TAKE = """UPDATE mqtt_session s
SET gateway = %s, epoch = s.epoch + 1, expiry = k.expiry, ends_at = NULL, will = k.will, will_delay = k.delay,
    will_at = NULL, sent_seq = NULL
FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[], %s::bigint[]) AS k (id, expiry, will, delay)
WHERE s.id = k.id
RETURNING s.id, s.next_seq, s.done_seq, s.done, s.received_seq, s.received"""
_INSERT = """INSERT INTO mqtt_session (gateway, account_id, client_id, expiry, will, will_delay)
SELECT %s, k.* FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[], %s::bigint[])
    AS k (account, client_id, expiry, will, delay)
JOIN accounts_user u ON u.id = k.account
ON CONFLICT DO NOTHING RETURNING id, account_id, client_id"""
_ROOM = """SELECT u.id, u.max_durable_sessions
    - (SELECT count(*) FROM mqtt_session s WHERE s.account_id = u.id AND s.expiry > 0)
FROM accounts_user u WHERE u.id = ANY (%s)"""
_HOLDERS = f"""SELECT id, {presence.KEY}, {presence.LIVES}, %s IN ({presence.ALIVE})
FROM mqtt_session WHERE id = ANY (%s)"""  # noqa: S608  it is ours
_SUBSCRIPTIONS = """SELECT session, "group", filter, options, identifier FROM mqtt_subscription
WHERE session = ANY (%s) ORDER BY session, filter"""


def open_sessions(  # noqa: PLR0915  (each client has one of several answers)
    cursor: psycopg.Cursor, gateway: UUID, opens: Sequence[Open], fence: Fence
) -> list[Opened]:
    """Each client once. A gateway that has not let go of a session before it is taken is fenced: it may live,
    and still have to store what the client has sent, and sends again."""
    keys = [[each.account for each in opens], [each.client_id for each in opens]]
    cursor.execute(_FIND, [gateway, CLAIM_SECONDS, *keys])
    found = {}
    connected = []  # to other gateways
    moved = set()
    wills = {}  # seconds that the session lives on, and that its will waits
    for key, account, name, over, sent, other_gateway, is_connected, expiry, delay in cursor.fetchall():
        found[account, name] = key, over, sent
        if other_gateway:
            moved.add(key)
        if other_gateway and is_connected:
            connected.append(key)
        if delay is not None and (other_gateway or not is_connected):
            wills[key] = expiry, delay
    holders = _holders(cursor, gateway, connected, opens) if connected else {}
    held = {key for key, (_, lives) in holders.items() if lives}
    dead = set(connected) - held
    fenced = set()
    ended, kept, new = {}, {}, []
    left, due = [], set()
    for each in opens:
        client = each.account, each.client_id
        key, over, _ = found.get(client, (0, False, None))
        if key in held and not each.force:
            continue
        if key in holders:
            fenced.add(holders[key][0])
        expiry, delay = wills.get(key, (0, None))
        if delay is not None and not each.will_published and (each.clean or (key in dead and not delay)):
            due.add(key)
            if key in dead:
                left.append(Left(key, expiry, 0))
            continue
        if key and (each.clean or over):
            ended[client] = key
        elif key:
            kept[client] = key, each
        if each.lasts and client not in kept:
            new.append(each)
    if fenced:
        fence(cursor, fenced)
    if left:
        leave(cursor, left)
    if ended:
        end_sessions(cursor, list(ended.values()))
    made = _insert(cursor, gateway, new) if new else {}
    taken = _take(cursor, gateway, list(kept.values())) if kept else {}
    answers = []
    for each in opens:
        client = each.account, each.client_id
        if client in found and found[client][0] in held and not each.force:
            answers.append(Opened(0, present=False, ended=0, held_elsewhere=True))
        elif client in found and found[client][0] in due:
            answers.append(Opened(0, present=False, ended=0, due_will=found[client][0]))
        elif client in kept:
            key, _, sent = found[client]
            answers.append(taken[key]._replace(sent_seq=sent, moved=key in moved))
        else:
            key = made.get(client, 0)
            refused = each.lasts and not key
            answers.append(Opened(key, present=False, ended=ended.get(client, 0), refused=refused))
    return answers


def _holders(
    cursor: psycopg.Cursor, gateway: UUID, sessions: list[int], opens: Sequence[Open]
) -> dict[int, tuple[int, bool]]:
    """By session, the gateway that has it, and whether that lives, for all we know. Where our own lock is not
    there, or new, the database has perhaps just come back, and so may the others."""
    cursor.execute(_HOLDERS, [presence.key_of(gateway), sessions])
    unsure = any(each.unsure for each in opens)
    return {
        session: (key, lives or unsure or not we_live) for session, key, lives, we_live in cursor.fetchall()
    }


def lock_own(cursor: psycopg.Cursor, gateway: UUID, sessions: list[int]) -> set[int]:
    """Those of these sessions that no other gateway has taken over."""
    cursor.execute(
        "SELECT id FROM mqtt_session WHERE id = ANY (%s) AND gateway = %s ORDER BY id FOR UPDATE",
        [sessions, gateway],
        prepare=True,
    )
    return {key for (key,) in cursor.fetchall()}


def newest_numbers(cursor: psycopg.Cursor, gateway: UUID) -> list[tuple[int, int]]:
    """Of the queues of the clients that are connected to it."""
    cursor.execute(
        "SELECT id, next_seq - 1 FROM mqtt_session WHERE gateway = %s AND ends_at IS NULL",
        [gateway],
    )
    return cursor.fetchall()


def _insert(cursor: psycopg.Cursor, gateway: UUID, opens: list[Open]) -> dict[tuple[int, str], int]:
    """Those that there is room for."""
    cursor.execute(_ROOM, [list({each.account for each in opens if each.expiry})])
    room: dict[int, int] = dict(cursor.fetchall())
    fitting = []
    for each in opens:
        if each.expiry:  # else it is there for its will only
            room[each.account] = room.get(each.account, 0) - 1
        if not each.expiry or room[each.account] >= 0:
            fitting.append(each)
    if not fitting:
        return {}
    cursor.execute(
        _INSERT,
        [
            gateway,
            [each.account for each in fitting],
            [each.client_id for each in fitting],
            [each.expiry for each in fitting],
            [each.will for each in fitting],
            [each.will_delay for each in fitting],
        ],
    )
    return {(account, name): key for key, account, name in cursor.fetchall()}


def _take(cursor: psycopg.Cursor, gateway: UUID, sessions: list[tuple[int, Open]]) -> dict[int, Opened]:
    keys = [key for key, _ in sessions]
    cursor.execute(
        _TAKE,
        [
            gateway,
            keys,
            [each.expiry for _, each in sessions],
            [each.will for _, each in sessions],
            [each.will_delay for _, each in sessions],
        ],
    )
    rows = cursor.fetchall()
    subscriptions = subscriptions_of(cursor, keys)
    return {
        key: Opened(
            key, True, 0, next_seq, done_seq, done, received_seq, received, subscriptions.get(key, ())
        )
        for key, next_seq, done_seq, done, received_seq, received in rows
    }


def subscriptions_of(cursor: psycopg.Cursor, sessions: Collection[int]) -> dict[int, list[Subscribed]]:
    cursor.execute(_SUBSCRIPTIONS, [list(sessions)])
    found: dict[int, list[Subscribed]] = {}
    for key, *fields in cursor.fetchall():
        found.setdefault(key, []).append(Subscribed(*fields))
    return found


class Left(NamedTuple):
    """A client has gone."""

    session: int
    expiry: int  # seconds that the session lives on
    will_in: int | None  # seconds after which its will is to be published, if it still has it; None: never
    sent_seq: int | None = None  # the last number that was sent; None: that is not known

    @property
    def ends(self) -> bool:
        return not self.expiry and self.will_in is None


def leave(cursor: psycopg.Cursor, sessions: Collection[Left], gateway: UUID | None = None) -> None:
    """`gateway`: only if they are still its own."""
    if gateway:
        own = lock_own(cursor, gateway, [each.session for each in sessions])
        sessions = [each for each in sessions if each.session in own]
    over = [each.session for each in sessions if each.ends]
    rest = sorted((each for each in sessions if not each.ends), key=lambda each: each.session)
    if rest:
        cursor.execute(
            """UPDATE mqtt_session s SET expiry = k.expiry, ends_at = now() + k.expiry * interval '1 s',
                will = CASE WHEN k.will_in IS NOT NULL THEN will END,
                will_at = CASE WHEN will IS NOT NULL THEN now() + k.will_in * interval '1 s' END,
                sent_seq = coalesce(k.sent_seq, s.next_seq - 1)
            FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
                AS k (id, expiry, will_in, sent_seq)
            WHERE s.id = k.id""",
            [list(column) for column in zip(*rest, strict=True)],
        )
    if over:
        end_sessions(cursor, over)


def end_sessions(cursor: psycopg.Cursor, sessions: Collection[int]) -> None:
    """With all that they have, locked in the order of their keys."""
    keys = sorted(sessions)
    cursor.execute("SELECT FROM mqtt_session WHERE id = ANY (%s) ORDER BY id FOR UPDATE", [keys])
    cursor.execute("DELETE FROM mqtt_queue WHERE session = ANY (%s) RETURNING messages", [keys])
    _delete_orphans(cursor, cursor.fetchall())
    cursor.execute("DELETE FROM mqtt_subscription WHERE session = ANY (%s)", [keys])
    cursor.execute("DELETE FROM mqtt_session WHERE id = ANY (%s)", [keys])


def expire_sessions(cursor: psycopg.Cursor, most: int) -> list[tuple[int, int]]:
    """Keys and accounts of the sessions that were over, but of those whose will is still to be published.
    Retained messages that have expired go with them."""
    cursor.execute(
        """DELETE FROM mqtt_retained WHERE (account_id, topic) IN (
            SELECT account_id, topic FROM mqtt_retained WHERE expires_at <= now() LIMIT %s
        )""",
        [most],
    )
    cursor.execute(
        """SELECT id, account_id FROM mqtt_session WHERE ends_at <= now() AND will_at IS NULL
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED""",
        [most],
    )
    over = cursor.fetchall()
    if over:
        end_sessions(cursor, [key for key, _ in over])
    return over


def forget_account(cursor: psycopg.Cursor, account: int, most: int) -> bool:
    """All that the broker keeps for it, so many sessions at a time. False once there is nothing left."""
    cursor.execute("DELETE FROM mqtt_retained WHERE account_id = %s", [account])
    cursor.execute("DELETE FROM mqtt_publish WHERE account_id = %s", [account])
    cursor.execute("SELECT id FROM mqtt_session WHERE account_id = %s ORDER BY id LIMIT %s", [account, most])
    sessions = [key for (key,) in cursor.fetchall()]
    end_sessions(cursor, sessions)
    return bool(sessions)


def _delete_orphans(cursor: psycopg.Cursor, messages: Iterable[tuple[int]]) -> None:
    """Of these messages, which no session waits for. In a statement of its own: it has to see what the one
    before it has deleted."""
    keys = sorted({key for (key,) in messages})
    if keys:
        cursor.execute(
            """DELETE FROM mqtt_message m WHERE id = ANY (%s)
                AND NOT EXISTS (SELECT FROM mqtt_queue q WHERE q.messages = m.id)""",
            [keys],
        )


class StoredSession(NamedTuple):
    key: int
    account: int
    client_id: str
    subscriptions: Sequence[Subscribed]
    will_waits: bool


def load_sessions(cursor: psycopg.Cursor, only: list[int] | None = None) -> list[StoredSession]:
    """Those that last, or did before this connection of their client; `only` these."""
    cursor.execute(
        """SELECT s.id, s.account_id, s.client_id, s.will_at IS NOT NULL FROM mqtt_session s
        JOIN accounts_user u ON u.id = s.account_id
        WHERE (%(only)s::bigint[] IS NULL OR s.id = ANY (%(only)s)) AND (s.expiry > 0 OR (
            s.ends_at IS NULL AND EXISTS (SELECT FROM mqtt_subscription b WHERE b.session = s.id)))""",
        {"only": only},
    )
    rows = cursor.fetchall()
    subscriptions = subscriptions_of(cursor, [key for key, _, _, _ in rows])
    return [
        StoredSession(key, account, client_id, subscriptions.get(key, []), will_waits)
        for key, account, client_id, will_waits in rows
    ]


def leave_for_the_dead(cursor: psycopg.Cursor, alive: Collection[int]) -> bool:
    """Clients that were connected to other gateways than these have left: now, for all we know. Whether there
    were some."""
    cursor.execute(
        f"""SELECT id, expiry, CASE WHEN will IS NOT NULL THEN least(will_delay, expiry) END
        FROM mqtt_session WHERE ends_at IS NULL AND (gateway IS NULL OR {presence.KEY} <> ALL (%s))
        ORDER BY id FOR UPDATE SKIP LOCKED""",  # noqa: S608  it is ours
        [list(alive)],
    )
    left = [Left(*row) for row in cursor.fetchall()]
    leave(cursor, left)
    if not alive:
        _give_back_wills(cursor)
    return bool(left)


def _give_back_wills(cursor: psycopg.Cursor) -> None:
    """What gateways had claimed, none of which lives any more. Else a client that comes back meanwhile would
    leave another will in its place."""
    cursor.execute(
        """UPDATE mqtt_session SET will_at = now()
        WHERE will_at >= ends_at + (least(will_delay, expiry) - expiry + %s) * interval '1 s'""",
        [CLAIM_SECONDS],
    )


# Wills that wait: for their delay, or that a gateway starts after one that was killed


class WaitingWill(NamedTuple):
    session: int
    account: int
    client_id: str
    packet: bytes  # a PUBLISH of MQTT 5


def claim_wills(cursor: psycopg.Cursor, ending: Collection[int]) -> tuple[list[WaitingWill], float | None]:
    """Those that are due, and of the sessions that are `ending`; and in how many seconds the next one is due.
    What one gateway has claimed, and not published in time, can be claimed again."""
    cursor.execute(
        """UPDATE mqtt_session SET will_at = now() + %s * interval '1 s' WHERE id IN (
            SELECT id FROM mqtt_session
            WHERE will_at <= now() OR (will_at IS NOT NULL AND id = ANY (%s))
            ORDER BY id <> ALL (%s), will_at LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING id, account_id, client_id, will""",
        [CLAIM_SECONDS, list(ending), list(ending), WILLS_AT_ONCE + len(ending)],
    )
    claimed = [WaitingWill(*row) for row in cursor.fetchall()]
    cursor.execute("SELECT extract(epoch FROM min(will_at) - now())::float FROM mqtt_session")
    (seconds,) = cursor.fetchone() or (None,)
    return claimed, seconds


def wills_published(cursor: psycopg.Cursor, sessions: Collection[int]) -> None:
    """Of clients that are away: who has come back meanwhile has another will. A session that was only there
    for its will ends."""
    cursor.execute(
        """UPDATE mqtt_session SET will = NULL, will_at = NULL
        WHERE id IN (
            SELECT id FROM mqtt_session WHERE id = ANY (%s) AND will_at IS NOT NULL ORDER BY id FOR UPDATE
        ) RETURNING id, expiry""",
        [list(sessions)],
    )
    if over := [key for key, expiry in cursor.fetchall() if not expiry]:
        end_sessions(cursor, over)


# Subscriptions


def subscribe(cursor: psycopg.Cursor, subscriptions: Sequence[tuple[int, Subscribed]]) -> None:
    """By session. The last one of a filter counts."""
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


# Queues


def enqueue(
    cursor: psycopg.Cursor, batch: Sequence[Copies], full: Set[int] = frozenset()
) -> dict[int, tuple[int, int]]:
    """By session, the first number that its messages of this batch got, and how many there was room for: the
    last ones were left out. Sessions of a `full` account have room only while they keep up. A session that
    is gone is not in the answer."""
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
    rows: list[tuple[int, int, int, int, str, int, int]] = []  # the last one: place among the messages
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


_PROGRESS = """WITH k AS (
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
SELECT messages FROM deleted"""


def progress(cursor: psycopg.Cursor, gateway: UUID, sessions: Mapping[int, Progress]) -> None:
    """What has been acknowledged needs no place any more. A session that another gateway has taken over knows
    better."""
    own = lock_own(cursor, gateway, list(sessions))
    if not own:
        return
    keys, done_seq, *lists = zip(*(sessions[key] for key in sorted(own)), strict=True)
    cursor.execute(_PROGRESS, [list(keys), list(done_seq), *map(_arrays, lists)], prepare=True)
    _delete_orphans(cursor, cursor.fetchall())


def _arrays(lists: Iterable[Iterable[int]]) -> list[str]:
    """As PostgreSQL writes them, which can't take arrays of different lengths as one."""
    return [f"{{{','.join(map(str, each))}}}" for each in lists]


def queued(
    cursor: psycopg.Cursor, wanted: Sequence[tuple[int, int]], size: int
) -> dict[int, list[QueuedRow]]:
    """What each of the sessions waits for from that number on, about so many bytes of it, or one row."""
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


# What apps publish


class PublishedMessage(NamedTuple):
    key: int
    account: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    command: int
    claimed: bool  # it is ours to put it into the queues


def claim(cursor: psycopg.Cursor, gateway: UUID, seen: Sequence[int]) -> list[PublishedMessage]:
    """What is new to this gateway. What another one has claimed and not done in half a minute is claimed
    again."""
    cursor.execute(
        """WITH claimed AS (
            UPDATE mqtt_publish SET gateway = %s WHERE id IN (
                SELECT id FROM mqtt_publish
                WHERE NOT done AND (gateway IS NULL OR at < now() - interval '30 s') AND id <> ALL (%s)
                ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
            ) RETURNING id
        )
        SELECT p.id, account_id, topic, payload, qos, retain, command, c.id IS NOT NULL
        FROM mqtt_publish p LEFT JOIN claimed c USING (id)
        WHERE c.id IS NOT NULL OR (p.id <> ALL (%s) AND at > now() - interval '30 s')
        ORDER BY p.id""",
        [gateway, list(seen), list(seen)],
    )
    return [PublishedMessage(*row) for row in cursor.fetchall()]


def published(cursor: psycopg.Cursor, keys: Sequence[int]) -> None:
    """They are in the queues. Each gateway has a minute to see them."""
    cursor.execute("UPDATE mqtt_publish SET done = true WHERE id = ANY (%s)", [list(keys)])
    cursor.execute("DELETE FROM mqtt_publish WHERE done AND at < now() - interval '60 s'")


def command_results(cursor: psycopg.Cursor, results: Mapping[int, str]) -> None:
    keys = sorted(results)
    cursor.execute(
        """UPDATE devices_command c SET result = k.result
        FROM unnest(%s::bigint[], %s::text[]) AS k (id, result)
        WHERE c.id = k.id AND c.result <> %s""",
        [keys, [results[key] for key in keys], Command.ACKNOWLEDGED],
    )


# Retained messages


def pattern(levels: Sequence[str]) -> str:
    """Of a topic filter, as a regular expression of PostgreSQL."""
    *parents, last = levels
    parts = ["[^/]*" if level == "+" else _quoted(level) for level in parents]
    if last != "#":
        parts.append("[^/]*" if last == "+" else _quoted(last))
        return f"^{'/'.join(parts)}$"
    return f"^{'/'.join(parts)}(/.*)?$" if parts else "^.*$"


def _quoted(text: str) -> str:
    return re.sub(r"([^\w])", r"\\\1", text)


_RETAIN = """INSERT INTO mqtt_retained (account_id, topic, payload, qos, properties, at, expires_at)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::smallint[], %s::bytea[], %s::timestamptz[],
    %s::timestamptz[])
ON CONFLICT (account_id, topic) DO UPDATE SET payload = excluded.payload, qos = excluded.qos,
    properties = excluded.properties, at = excluded.at, expires_at = excluded.expires_at"""


def retain(cursor: psycopg.Cursor, messages: Iterable[Retain]) -> None:
    """In the order in which they came; the last one of a topic counts."""
    last = {(each.account, each.topic): each for each in messages}
    rows = [last[key] for key in sorted(last)]
    kept = [row for row in rows if row.payload]
    cleared = [row for row in rows if not row.payload]
    if cleared:
        cursor.execute(
            """DELETE FROM mqtt_retained r USING unnest(%s::bigint[], %s::text[]) AS k (account, topic)
            WHERE r.account_id = k.account AND r.topic = k.topic""",
            [[row.account for row in cleared], [row.topic for row in cleared]],
        )
    if kept:
        cursor.execute(_RETAIN, [list(column) for column in zip(*kept, strict=True)], prepare=True)


def retained_topics(cursor: psycopg.Cursor, topics: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Which of them have a retained message."""
    accounts, names = map(list, zip(*topics, strict=True))
    cursor.execute(
        """SELECT account_id, topic FROM mqtt_retained
        JOIN unnest(%s::bigint[], %s::text[]) AS k (account, name)
            ON account_id = k.account AND topic = k.name""",
        [accounts, names],
    )
    return set(cursor.fetchall())


def retaining(cursor: psycopg.Cursor, accounts: Collection[int]) -> set[int]:
    """Those of these accounts that have retained messages: most clients subscribe where there are none."""
    if not accounts:
        return set()
    cursor.execute(
        """SELECT k.account FROM unnest(%s::bigint[]) AS k (account)
        WHERE EXISTS (SELECT FROM mqtt_retained r WHERE r.account_id = k.account)""",
        [sorted(accounts)],
        prepare=True,
    )
    return {account for (account,) in cursor.fetchall()}


def retained(
    cursor: psycopg.Cursor, account: int, topic_filter: str, after: str, rows: int
) -> list[RetainedMessage]:
    """Those whose topics match, in the order of their topics, from that topic on."""
    levels = topic_filter.split("/")
    conditions, parameters = (
        # Not as one that the planner can't estimate: it would sort all that the account has for each page.
        ["account_id = %s", "topic > %s", "(expires_at IS NULL OR expires_at > now())"],
        [account, after],
    )
    if "+" not in levels and levels[-1] != "#":
        conditions, parameters = [*conditions, "topic = %s"], [*parameters, topic_filter]
    else:
        fixed = levels[: next(n for n, level in enumerate(levels) if level in {"+", "#"})]
        if fixed:
            prefix = "/".join(fixed)
            conditions.append("topic >= %s AND topic < %s")
            parameters += [prefix, prefix + "0"]  # which comes after the slash
        if len(levels) > 1 and levels[1] not in {"+", "#"}:
            conditions.append(f"{SECOND_LEVEL} = %s")
            parameters.append(levels[1])
        if levels != ["#"]:
            conditions.append("topic ~ %s")
            parameters.append(pattern(levels))
    cursor.execute(
        f"""SELECT topic, payload, qos, properties, (extract(epoch FROM at) * 1000000)::bigint,
            (extract(epoch FROM expires_at) * 1000000)::bigint
        FROM mqtt_retained
        WHERE {" AND ".join(conditions)} ORDER BY topic LIMIT %s""",  # noqa: S608  the conditions are ours
        [*parameters, rows],
    )
    return [RetainedMessage(*row) for row in cursor.fetchall()]
