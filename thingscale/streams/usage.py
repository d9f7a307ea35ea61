"""What an account has stored, and whether there is room for more."""

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg
from django.conf import settings
from django.db import connection

from thingscale.accounts.limits import MORE, WORDS, WhenFull, storage_bound
from thingscale.accounts.models import User
from thingscale.lib.errors import ContractError

_SQL = Path(__file__).parent / "sql"
_USAGE = (_SQL / "usage_of_accounts.sql").read_text()
_COUNTS = (_SQL / "counts_of_accounts.sql").read_text()
GOOD_SECONDS = 5.0  # a measurement, for an account with
NEARLY = 0.9  # less than this part of its storage in use: nearer to the end, each call measures
MAX_MEASURED = 10_000  # accounts


class Usage(NamedTuple):
    datapoints: int
    datapoint_bytes: int
    held: int
    held_bytes: int
    rejected: int
    rejected_bytes: int
    retained: int
    retained_bytes: int
    queued_bytes: int  # for MQTT sessions; they come and go, and are no part of the storage

    @property
    def bytes(self) -> int:
        """What counts towards the storage."""
        return self.datapoint_bytes + self.held_bytes + self.rejected_bytes + self.retained_bytes


def measure(raw: psycopg.Connection, users: Sequence[int]) -> dict[int, Usage]:
    """By the users' primary keys."""
    rows = raw.execute(_USAGE, [list(users)]).fetchall()
    return {user: Usage(*figures) for user, *figures in rows}


def used_storage(user: User) -> Usage:
    connection.ensure_connection()
    return measure(connection.connection, [user.pk]).get(user.pk, Usage(0, 0, 0, 0, 0, 0, 0, 0, 0))


class Share(NamedTuple):
    """What an account uses of something, and how much it may."""

    used: int
    most: int

    @property
    def percent(self) -> int:
        return 100 * self.used // self.most if self.most else 100 * (self.used > 0)


def shares(users: Sequence[User]) -> dict[int, dict[str, Share]]:
    """By the users' primary keys, and by the names that `GET /v2/user` has."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    keys = [user.pk for user in users]
    used = measure(raw, keys)
    counts = {user: figures for user, *figures in raw.execute(_COUNTS, [keys]).fetchall()}
    return {
        user.pk: _shares(user, used[user.pk], counts[user.pk])
        for user in users
        if user.pk in used and user.pk in counts
    }


def _shares(user: User, used: Usage, counts: Sequence[int]) -> dict[str, Share]:
    devices, channels, tags, keys, events, rules, sessions, connections, subscriptions, unread = counts
    return {
        "storage": Share(used.bytes, user.max_storage),
        "devices": Share(devices, user.max_devices),
        "channels": Share(channels, user.max_channels),
        "tags": Share(tags, user.max_tags),
        "keys": Share(keys, user.max_keys),
        "events": Share(events, user.max_events),
        "activation_rules": Share(rules, user.max_rules),
        "held": Share(used.held, user.max_held),
        "retained": Share(used.retained, user.max_retained),
        "connections": Share(connections, user.max_connections),
        "durable_sessions": Share(sessions, user.max_durable_sessions),
        "queued": Share(used.queued_bytes, user.max_queued),
        "subscriptions": Share(subscriptions, settings.SUBSCRIPTIONS),
        "unread": Share(unread, settings.UNREAD_BYTES),
        "rejected": Share(used.rejected, user.max_rejected),
    }


class Full(NamedTuple):
    """Accounts, each with the sentence that says so; but what is left out of queues nobody is told."""

    storage: dict[int, str]
    held: dict[int, str]  # who has as many held messages as there may be
    retained: dict[int, str]  # the same
    queued: set[int]  # whose MQTT sessions have as many bytes in their queues as they may


def full_accounts(raw: psycopg.Connection, users: Collection[int] | None) -> Full:
    """Of these, or of all."""
    limited = """SELECT id, max_storage, when_full, max_held, max_retained, max_queued FROM accounts_user
        WHERE closed_at IS NULL"""
    if users is None:
        accounts = raw.execute(limited).fetchall()
    else:
        accounts = raw.execute(f"{limited} AND id = ANY (%s)", [list(users)]).fetchall()
    used = measure(raw, [user for user, *_ in accounts])
    full = Full({}, {}, {}, set())
    for user, max_storage, when_full, max_held, max_retained, max_queued in accounts:
        usage = used.get(user)
        if usage and usage.bytes >= storage_bound(max_storage, when_full):
            full.storage[user] = full_sentence(usage.bytes, max_storage, when_full)
        if usage and usage.held >= max_held:
            full.held[user] = held_sentence(usage.held, max_held)
        if usage and usage.retained >= max_retained:
            full.retained[user] = retained_sentence(usage.retained, max_retained)
        if usage and usage.queued_bytes >= max_queued:
            full.queued.add(user)
    return full


class Most(NamedTuple):
    """What an account may have of what messages can bring."""

    devices: int
    tags: int


def most_of_account(cursor: psycopg.Cursor, user: int) -> Most:
    cursor.execute("SELECT max_devices, max_tags FROM accounts_user WHERE id = %s", [user])
    return Most(*(cursor.fetchone() or (0, 0)))  # nothing, should it have just been deleted


class Room:
    """Of accounts' storage, for what does not come through ingest. Each process remembers what it measured: a
    few calls at the same moment may together take more than there was."""

    def __init__(self) -> None:
        self._used: dict[int, tuple[int, float]] = {}  # bytes, and when they were measured
        self._lock = threading.Lock()

    def check(self, user: User, size: int) -> None:
        """Raises ContractError: QUOTA_EXCEEDED, if there is none for so many bytes."""
        bound, now = storage_bound(user.max_storage, user.when_full), time.monotonic()
        used, at = self._used.get(user.pk, (0, -GOOD_SECONDS))
        if now - at >= GOOD_SECONDS or used + size > bound * NEARLY:
            used, at = used_storage(user).bytes, now
        if used + size > bound:
            raise ContractError("QUOTA_EXCEEDED", full_sentence(used, user.max_storage, user.when_full))
        with self._lock:
            if len(self._used) >= MAX_MEASURED:
                self._used.clear()
            self._used[user.pk] = used + size, at


ROOM = Room()


def full_sentence(used: int, most: int, when_full: str) -> str:
    how_much = f"The storage is full: {used:,} of {most:,} bytes are used."
    if when_full == WhenFull.DROP_OLDEST:
        return f"{how_much} The oldest datapoints are being deleted: send it again in a minute."
    return f"{how_much} {WORDS['storage'].remedy}, {MORE}."


def held_sentence(used: int, most: int) -> str:
    return f"As many messages are held as may be: {used:,} of {most:,}. {WORDS['held'].remedy}, {MORE}."


def retained_sentence(used: int, most: int) -> str:
    return (
        f"As many messages are retained as may be: {used:,} of {most:,}. {WORDS['retained'].remedy}, {MORE}."
    )
