"""Durable sessions and their wills."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import psycopg

from thingscale.devices import presence
from thingscale.devices.mqtt_store.queues import delete_queues, lock_own
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription, read_subscriptions

MAX_CLAIMED_WILLS = 1_000
CLAIM_SECONDS = 30  # for which nobody else publishes a will

Fence = Callable[[psycopg.Cursor, Collection[int]], None]  # commit_log.fence()


class Open(NamedTuple):
    """A client's CONNECT."""

    account: int
    client_id: str
    clean: bool  # its session ends, if there is one
    stored: bool  # it gets a row: it is durable, or has a will
    expiry: int  # seconds
    will: bytes | None = None
    will_delay: int = 0
    unsure: bool = False  # gateways that seem to be dead may live all the same
    force: bool = False  # even if a gateway that lives still has it; that gateway is fenced
    will_published: bool = False  # the one that was due


class Opened(NamedTuple):
    session: int  # 0: it has no row
    present: bool
    ended: int  # the session that ended by it, or 0
    next_seq: int = 1
    done_seq: int = 0
    done: Sequence[int] = ()
    received_seq: Sequence[int] = ()
    received: Sequence[int] = ()
    subscriptions: Sequence[StoredSubscription] = ()
    sent_seq: int | None = None  # the last number that was sent; None: any may have been
    refused: bool = False  # the account has as many as it may have
    held_by_other_gateway: bool = False  # which lives and still has it: nothing was done
    due_will: int = 0  # session whose will is to be published first: nothing was done
    moved: bool = False  # another gateway had it before


class Disconnected(NamedTuple):
    """The client of a session has disconnected."""

    session: int
    expiry: int  # seconds
    will_in: int | None  # seconds after which its will is to be published, if it still has it; None: never
    sent_seq: int | None = None  # the last number that was sent; None: that is not known

    @property
    def ends(self) -> bool:
        return not self.expiry and self.will_in is None


class StoredSession(NamedTuple):
    key: int
    account: int
    client_id: str
    subscriptions: Sequence[StoredSubscription]
    will_waits: bool


class WaitingWill(NamedTuple):
    session: int
    account: int
    client_id: str
    packet: bytes  # a PUBLISH of MQTT 5


def open_sessions(  # noqa: PLR0915  (each client has one of several answers)
    cursor: psycopg.Cursor, gateway: UUID, opens: Sequence[Open], fence: Fence
) -> list[Opened]:
    """Each client comes once. A gateway that still has a session when it is taken over is fenced: it may
    live, and be about to store what the client has sent to it and now sends again."""
    cursor.execute(
        # A session is not over before its will is published.
        """SELECT s.id, s.account_id, s.client_id,
            (s.ends_at <= now() AND s.will_at IS NULL) OR s.expiry = 0, s.sent_seq,
            s.gateway <> %s, s.ends_at IS NULL, s.expiry,
            CASE WHEN s.will IS NOT NULL AND (s.ends_at IS NULL OR s.will_at < -- not claimed, that is
                s.ends_at + (least(s.will_delay, s.expiry) - s.expiry + %s) * interval '1 s'
            ) THEN least(s.will_delay, s.expiry) END
        FROM mqtt_session s
        JOIN unnest(%s::bigint[], %s::text[]) AS k (account, client_id)
            ON s.account_id = k.account AND s.client_id = k.client_id
        ORDER BY s.id FOR UPDATE OF s""",
        [gateway, CLAIM_SECONDS, [each.account for each in opens], [each.client_id for each in opens]],
    )
    found = {}
    connected = []  # to other gateways
    moved = set()
    wills = {}  # seconds until the session expires, and that its will waits
    for key, account, name, over, sent, other_gateway, is_connected, expiry, delay in cursor.fetchall():
        found[account, name] = key, over, sent
        if other_gateway:
            moved.add(key)
        if other_gateway and is_connected:
            connected.append(key)
        if delay is not None and (other_gateway or not is_connected):
            wills[key] = expiry, delay
    holders = {}  # by session, the gateway that has it
    held = set()  # sessions whose gateway lives, for all we know
    if connected:
        cursor.execute(
            f"""SELECT id, {presence.KEY}, {presence.LIVES}, %s IN ({presence.ALIVE})
            FROM mqtt_session WHERE id = ANY (%s)""",  # noqa: S608  it is ours
            [presence.key_of(gateway), connected],
        )
        unsure = any(each.unsure for each in opens)
        for key, holder, lives, we_live in cursor.fetchall():
            holders[key] = holder
            # Where our own lock is missing or new, the database has perhaps just come back: the others, too,
            # may have lost their locks.
            if lives or unsure or not we_live:
                held.add(key)
    dead = set(connected) - held
    fenced = set()
    ended, kept, new = {}, {}, []
    disconnected, due = [], set()
    for each in opens:
        client = each.account, each.client_id
        key, over, _ = found.get(client, (0, False, None))
        if key in held and not each.force:
            continue
        if key in holders:
            fenced.add(holders[key])
        expiry, delay = wills.get(key, (0, None))
        if delay is not None and not each.will_published and (each.clean or (key in dead and not delay)):
            due.add(key)
            if key in dead:
                disconnected.append(Disconnected(key, expiry, 0))
            continue
        if key and (each.clean or over):
            ended[client] = key
        elif key:
            kept[client] = key, each
        if each.stored and client not in kept:
            new.append(each)
    if fenced:
        fence(cursor, fenced)
    if disconnected:
        disconnect(cursor, disconnected)
    if ended:
        delete_sessions(cursor, list(ended.values()))
    made = _create(cursor, gateway, new) if new else {}
    taken = _take_over(cursor, gateway, list(kept.values())) if kept else {}
    answers = []
    for each in opens:
        client = each.account, each.client_id
        if client in found and found[client][0] in held and not each.force:
            answers.append(Opened(0, present=False, ended=0, held_by_other_gateway=True))
        elif client in found and found[client][0] in due:
            answers.append(Opened(0, present=False, ended=0, due_will=found[client][0]))
        elif client in kept:
            key, _, sent = found[client]
            answers.append(taken[key]._replace(sent_seq=sent, moved=key in moved))
        else:
            key = made.get(client, 0)
            refused = each.stored and not key
            answers.append(Opened(key, present=False, ended=ended.get(client, 0), refused=refused))
    return answers


def _create(cursor: psycopg.Cursor, gateway: UUID, opens: list[Open]) -> dict[tuple[int, str], int]:
    """Creates those that there is room for. Returns the key by account and client id."""
    cursor.execute(
        """SELECT u.id, u.max_durable_sessions
            - (SELECT count(*) FROM mqtt_session s WHERE s.account_id = u.id AND s.expiry > 0)
        FROM accounts_user u WHERE u.id = ANY (%s)""",
        [list({each.account for each in opens if each.expiry})],
    )
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
        """INSERT INTO mqtt_session (gateway, account_id, client_id, expiry, will, will_delay)
        SELECT %s, k.* FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[], %s::bigint[])
            AS k (account, client_id, expiry, will, delay)
        JOIN accounts_user u ON u.id = k.account
        ON CONFLICT DO NOTHING RETURNING id, account_id, client_id""",
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


def _take_over(cursor: psycopg.Cursor, gateway: UUID, sessions: list[tuple[int, Open]]) -> dict[int, Opened]:
    keys = [key for key, _ in sessions]
    cursor.execute(
        """UPDATE mqtt_session s
        SET gateway = %s, epoch = s.epoch + 1, expiry = k.expiry, ends_at = NULL, will = k.will,
            will_delay = k.delay, will_at = NULL, sent_seq = NULL
        FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[], %s::bigint[]) AS k (id, expiry, will, delay)
        WHERE s.id = k.id
        RETURNING s.id, s.next_seq, s.done_seq, s.done, s.received_seq, s.received""",
        [
            gateway,
            keys,
            [each.expiry for _, each in sessions],
            [each.will for _, each in sessions],
            [each.will_delay for _, each in sessions],
        ],
    )
    rows = cursor.fetchall()
    subscriptions = read_subscriptions(cursor, keys)
    return {
        key: Opened(
            key, True, 0, next_seq, done_seq, done, received_seq, received, subscriptions.get(key, ())
        )
        for key, next_seq, done_seq, done, received_seq, received in rows
    }


def disconnect(
    cursor: psycopg.Cursor, sessions: Collection[Disconnected], gateway: UUID | None = None
) -> None:
    """With `gateway`, only those that no other gateway has taken over."""
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
        delete_sessions(cursor, over)


def delete_sessions(cursor: psycopg.Cursor, sessions: Collection[int]) -> None:
    """Deletes them with all that they have."""
    keys = sorted(sessions)
    cursor.execute("SELECT FROM mqtt_session WHERE id = ANY (%s) ORDER BY id FOR UPDATE", [keys])
    delete_queues(cursor, keys)
    cursor.execute("DELETE FROM mqtt_subscription WHERE session = ANY (%s)", [keys])
    cursor.execute("DELETE FROM mqtt_session WHERE id = ANY (%s)", [keys])


def expire_sessions(cursor: psycopg.Cursor, most: int) -> list[tuple[int, int]]:
    """Deletes the sessions that have expired, except those whose wills are still to be published, and
    retained messages that have expired. Returns the keys and accounts of the sessions."""
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
        delete_sessions(cursor, [key for key, _ in over])
    return over


def delete_account(cursor: psycopg.Cursor, account: int, most: int) -> bool:
    """Deletes all that the broker keeps for an account, up to `most` sessions at a time. False once there is
    nothing left."""
    cursor.execute("DELETE FROM mqtt_retained WHERE account_id = %s", [account])
    cursor.execute("DELETE FROM mqtt_publish WHERE account_id = %s", [account])
    cursor.execute("SELECT id FROM mqtt_session WHERE account_id = %s ORDER BY id LIMIT %s", [account, most])
    sessions = [key for (key,) in cursor.fetchall()]
    delete_sessions(cursor, sessions)
    return bool(sessions)


def load_sessions(cursor: psycopg.Cursor, only: list[int] | None = None) -> list[StoredSession]:
    """The durable sessions, also those that were durable before the present connection of their client; with
    `only`, those of these keys."""
    cursor.execute(
        """SELECT s.id, s.account_id, s.client_id, s.will_at IS NOT NULL FROM mqtt_session s
        JOIN accounts_user u ON u.id = s.account_id
        WHERE (%(only)s::bigint[] IS NULL OR s.id = ANY (%(only)s)) AND (s.expiry > 0 OR (
            s.ends_at IS NULL AND EXISTS (SELECT FROM mqtt_subscription b WHERE b.session = s.id)))""",
        {"only": only},
    )
    rows = cursor.fetchall()
    subscriptions = read_subscriptions(cursor, [key for key, _, _, _ in rows])
    return [
        StoredSession(key, account, client_id, subscriptions.get(key, []), will_waits)
        for key, account, client_id, will_waits in rows
    ]


def disconnect_dead_gateways(cursor: psycopg.Cursor, alive: Collection[int]) -> list[tuple[int, int]] | None:
    """Marks the clients of all gateways except those that are `alive` as disconnected. None if there were
    none; else the sessions that end by it and have subscriptions, by which gateways still know them (keys and
    accounts)."""
    cursor.execute(
        f"""SELECT id, expiry, CASE WHEN will IS NOT NULL THEN least(will_delay, expiry) END, account_id,
            expiry = 0 AND EXISTS (SELECT FROM mqtt_subscription b WHERE b.session = s.id)
        FROM mqtt_session s WHERE ends_at IS NULL AND (gateway IS NULL OR {presence.KEY} <> ALL (%s))
        ORDER BY id FOR UPDATE SKIP LOCKED""",  # noqa: S608  it is ours
        [list(alive)],
    )
    rows = cursor.fetchall()
    disconnect(cursor, [Disconnected(key, expiry, will_in) for key, expiry, will_in, _, _ in rows])
    if not alive:
        # Nobody publishes the wills that those gateways had claimed. They are due now: else a client that
        # comes back meanwhile would replace its will by another one.
        cursor.execute(
            """UPDATE mqtt_session SET will_at = now()
            WHERE will_at >= ends_at + (least(will_delay, expiry) - expiry + %s) * interval '1 s'""",
            [CLAIM_SECONDS],
        )
    return [(key, account) for key, _, _, account, known in rows if known] if rows else None


def newest_numbers(cursor: psycopg.Cursor, gateway: UUID) -> list[tuple[int, int]]:
    """For each connected client of the gateway: its session, and the number of the last message in its
    queue."""
    cursor.execute(
        "SELECT id, next_seq - 1 FROM mqtt_session WHERE gateway = %s AND ends_at IS NULL",
        [gateway],
    )
    return cursor.fetchall()


def claim_wills(cursor: psycopg.Cursor, ending: Collection[int]) -> tuple[list[WaitingWill], float | None]:
    """Claims the wills that are due and those of the sessions that are `ending`. Returns them, and in how
    many seconds the next will is due. A will that was claimed and not published in time can be claimed
    again."""
    cursor.execute(
        """UPDATE mqtt_session SET will_at = now() + %s * interval '1 s' WHERE id IN (
            SELECT id FROM mqtt_session
            WHERE will_at <= now() OR (will_at IS NOT NULL AND id = ANY (%s))
            ORDER BY id <> ALL (%s), will_at LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING id, account_id, client_id, will""",
        [CLAIM_SECONDS, list(ending), list(ending), MAX_CLAIMED_WILLS + len(ending)],
    )
    claimed = [WaitingWill(*row) for row in cursor.fetchall()]
    cursor.execute("SELECT extract(epoch FROM min(will_at) - now())::float FROM mqtt_session")
    (seconds,) = cursor.fetchone() or (None,)
    return claimed, seconds


def delete_wills(cursor: psycopg.Cursor, sessions: Collection[int]) -> None:
    """They are published. A client that has come back meanwhile has another will, which stays. A session that
    existed only for its will is deleted."""
    cursor.execute(
        """UPDATE mqtt_session SET will = NULL, will_at = NULL
        WHERE id IN (
            SELECT id FROM mqtt_session WHERE id = ANY (%s) AND will_at IS NOT NULL ORDER BY id FOR UPDATE
        ) RETURNING id, expiry""",
        [list(sessions)],
    )
    if over := [key for key, expiry in cursor.fetchall() if not expiry]:
        delete_sessions(cursor, over)
