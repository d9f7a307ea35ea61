"""What an account has stored, and whether there is room for more."""

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from thingscale.accounts.limits import MORE, WORDS, WhenFull, storage_bound
from thingscale.accounts.models import Account
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import UserPk

_SQL = Path(__file__).parent / "sql"
_USAGE = (_SQL / "usage_of_accounts.sql").read_text()
_COUNTS = (_SQL / "counts_of_accounts.sql").read_text()
REUSE_SECONDS = 5.0  # a measurement is used again for so long, for an account with
NEARLY_FULL = 0.9  # less than this part of its storage in use: nearer to the end, each call measures
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


def measure(raw: psycopg.Connection, users: Sequence[UserPk]) -> dict[UserPk, Usage]:
    rows = raw.execute(_USAGE, [list(users)]).fetchall()
    return {user: Usage(*figures) for user, *figures in rows}


def used_storage(account: Account) -> Usage:
    connection.ensure_connection()
    return measure(connection.connection, [account.id]).get(account.id, Usage(0, 0, 0, 0, 0, 0, 0, 0, 0))


class LimitUse(NamedTuple):
    """How much of one of its limits an account uses."""

    used: int
    limit: int

    @property
    def percent(self) -> int:
        return 100 * self.used // self.limit if self.limit else 100 * (self.used > 0)


def limit_use(users: Sequence[Account]) -> dict[UserPk, dict[str, LimitUse]]:
    """By the users' primary keys, and by the names that `GET /v2/user` has. An account that has just been
    deleted is left out."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    pks = [user.id for user in users]
    usages = measure(raw, pks)
    counts_of_users = {user: counts for user, *counts in raw.execute(_COUNTS, [pks]).fetchall()}
    found = {}
    for user in users:
        used, counts = usages.get(user.id), counts_of_users.get(user.id)
        if used is None or counts is None:
            continue
        devices, channels, tags, keys, events, rules, sessions, connections, subscriptions, unread = counts
        found[user.id] = {
            "storage": LimitUse(used.bytes, user.max_storage),
            "devices": LimitUse(devices, user.max_devices),
            "channels": LimitUse(channels, user.max_channels),
            "tags": LimitUse(tags, user.max_tags),
            "keys": LimitUse(keys, user.max_keys),
            "events": LimitUse(events, user.max_events),
            "activation_rules": LimitUse(rules, user.max_rules),
            "held": LimitUse(used.held, user.max_held),
            "retained": LimitUse(used.retained, user.max_retained),
            "connections": LimitUse(connections, user.max_connections),
            "durable_sessions": LimitUse(sessions, user.max_durable_sessions),
            "queued": LimitUse(used.queued_bytes, user.max_queued),
            "subscriptions": LimitUse(subscriptions, settings.SUBSCRIPTIONS),
            "unread": LimitUse(unread, settings.UNREAD_BYTES),
            "rejected": LimitUse(used.rejected, user.max_rejected),
        }
    return found


class FullAccounts(NamedTuple):
    """The accounts that are at a limit, by primary key, each with the sentence for the client that says so.
    Nobody is told what a full queue leaves out, so this has no sentence."""

    storage: dict[UserPk, str]
    held: dict[UserPk, str]
    retained: dict[UserPk, str]
    queued: set[UserPk]


def full_accounts(raw: psycopg.Connection, users: Collection[int] | None) -> FullAccounts:
    """Those of `users` that are full, or of all accounts."""
    limited = """SELECT id, max_storage, when_full, max_held, max_retained, max_queued FROM accounts_user
        WHERE closed_at IS NULL"""
    if users is None:
        accounts = raw.execute(limited).fetchall()
    else:
        accounts = raw.execute(f"{limited} AND id = ANY (%s)", [list(users)]).fetchall()
    used = measure(raw, [user for user, *_ in accounts])
    full = FullAccounts({}, {}, {}, set())
    for user, max_storage, when_full, max_held, max_retained, max_queued in accounts:
        usage = used.get(user)
        if usage is None:
            continue
        if usage.bytes >= storage_bound(max_storage, when_full):
            full.storage[user] = storage_full(usage.bytes, max_storage, when_full)
        if usage.held >= max_held:
            full.held[user] = (
                f"As many messages are held as may be: {usage.held:,} of {max_held:,}."
                f" {WORDS['held'].remedy}, {MORE}."
            )
        if usage.retained >= max_retained:
            full.retained[user] = (
                f"As many messages are retained as may be: {usage.retained:,} of {max_retained:,}."
                f" {WORDS['retained'].remedy}, {MORE}."
            )
        if usage.queued_bytes >= max_queued:
            full.queued.add(user)
    return full


class StorageQuota:
    """Checks that an account's storage has room for datapoints that do not come through ingest. Each process
    remembers what it measured, so a few calls at the same moment may together take more than there was."""

    def __init__(self) -> None:
        self._used: dict[UserPk, tuple[int, float]] = {}  # bytes, and when they were measured
        self._lock = threading.Lock()

    def check(self, account: Account, size: int) -> None:
        """Raises ContractError: QUOTA_EXCEEDED, if there is no room for so many bytes."""
        bound, now = storage_bound(account.max_storage, account.when_full), time.monotonic()
        used, at = self._used.get(account.id, (0, -REUSE_SECONDS))
        if now - at >= REUSE_SECONDS or used + size > bound * NEARLY_FULL:
            used, at = used_storage(account).bytes, now
        if used + size > bound:
            raise ContractError("QUOTA_EXCEEDED", storage_full(used, account.max_storage, account.when_full))
        with self._lock:
            if len(self._used) >= MAX_MEASURED:
                self._used.clear()
            self._used[account.id] = used + size, at


STORAGE_QUOTA = StorageQuota()


def storage_full(used: int, limit: int, when_full: str) -> str:
    """The sentence for the client."""
    how_much = _("The storage is full: %(used)s of %(limit)s bytes are used.") % {
        "used": f"{used:,}",
        "limit": f"{limit:,}",
    }
    if when_full == WhenFull.DROP_OLDEST:
        return f"{how_much} {_('The oldest datapoints are being deleted: send it again in a minute.')}"
    remedy = _("%(remedy)s, %(more)s.") % {"remedy": WORDS["storage"].remedy, "more": MORE}
    return f"{how_much} {remedy}"
