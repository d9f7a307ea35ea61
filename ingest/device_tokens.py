"""Whose token is it? The answers, also negative ones, are kept in memory until the account's tokens
change."""

import threading
import time
from enum import Enum, auto
from typing import NamedTuple

from django.db import close_old_connections

from ingest.intake_cache import KnownIntake, with_topics
from thingscale.accounts.models import Token, User
from thingscale.lib import tokens
from thingscale.lib.clock import now_us
from thingscale.processes.change_notifications import INTAKES, Change

NEGATIVE_SECONDS = 5.0
MAX_ENTRIES = 100_000
_NOT_REFUSED = 0.0, None


class TokenOwner(NamedTuple):
    """`ends_at`: Unix time, while a rotated token is in its overlap; None: no end.
    `siblings`: hashes of the user's valid device tokens, this one included, with their ends."""

    user: int  # primary key
    user_id: str  # "U000001"
    ends_at: float | None
    siblings: dict[bytes, float | None]
    max_connections: int
    own_topics: bool = False  # it may use topics without a token
    intakes: tuple[KnownIntake, ...] = ()  # that take what comes there

    @property
    def valid(self) -> bool:
        return _is_valid(self.ends_at)

    def covers(self, token: str) -> bool:
        """Whether this is one of the user's valid tokens."""
        digest = tokens.digest(token)
        return digest in self.siblings and _is_valid(self.siblings[digest])


class Denied(Enum):
    TOKEN = auto()


class DeviceTokens:
    def __init__(self) -> None:
        self._found: dict[str, TokenOwner] = {}
        # token -> until when, monotonic, and whose it was or is, if anybody's
        self._refused: dict[str, tuple[float, int | None]] = {}
        self._lock = threading.Lock()
        self._generation = 0

    def cached(self, token: str) -> TokenOwner | Denied | None:
        """Without asking the database. None: only `find` can tell."""
        owner = self._found.get(token)
        if owner is not None:
            return owner if owner.valid else Denied.TOKEN
        if not tokens.well_formed(token):  # nor remembered: it may be of any length
            return Denied.TOKEN
        refused_until, _ = self._refused.get(token, _NOT_REFUSED)
        return Denied.TOKEN if refused_until >= time.monotonic() else None

    def find(self, token: str) -> TokenOwner | None:
        """Asks the database, if need be. Blocks; raises django.db.Error while it is away."""
        cached = self.cached(token)
        if cached:
            return cached if isinstance(cached, TokenOwner) else None
        generation = self._generation
        found = _load(token)
        self._keep(generation, token, found)
        return found if isinstance(found, TokenOwner) else None

    def whose(self, token: str) -> int | None:
        """The primary key of the account of a token that was just refused: it has ended, or is another
        kind's."""
        owner = self._found.get(token)
        return owner.user if owner else self._refused.get(token, _NOT_REFUSED)[1]

    def on_change(self, change: Change | None) -> None:
        if change and change[0] not in {"tokens", "limits", INTAKES}:
            return
        with self._lock:
            self._generation += 1
            self._refused.clear()
            if change is None:
                self._found.clear()
            else:  # the others' are as good as before, however often one account changes its tokens
                self._found = {
                    token: owner for token, owner in self._found.items() if owner.user != change[1]
                }

    def _keep(self, generation: int, token: str, found: TokenOwner | int | None) -> None:
        with self._lock:
            if generation != self._generation:
                return
            if isinstance(found, TokenOwner):
                if len(self._found) >= MAX_ENTRIES:
                    self._found.clear()
                self._found[token] = found
            else:  # anybody can send those: they push out no others
                if len(self._refused) >= MAX_ENTRIES:
                    self._refused.clear()
                self._refused[token] = time.monotonic() + NEGATIVE_SECONDS, found


def _load(token: str) -> TokenOwner | int | None:
    """The owner; or the primary key of the user whose token it is, if it is not good for devices."""
    close_old_connections()
    found = Token.objects.find_any(token)
    if found is None:
        return None
    if found.kind != Token.Kind.DEVICE or found.ended:
        return int(found.user_id)
    live = Token.objects.live().filter(kind=Token.Kind.DEVICE, user=found.user_id)
    siblings = {bytes(token.digest): _end(token) for token in live}
    user = found.user
    intakes = with_topics(user.pk) if user.own_topics else ()
    return TokenOwner(
        found.user_id, user.user_id, _end(found), siblings, user.max_connections, user.own_topics, intakes
    )


def key_of_user(user_id: str) -> int | None:
    """The primary key behind U000001. Raises django.db.Error."""
    close_old_connections()
    try:
        return User.objects.by_user_id(user_id).pk
    except User.DoesNotExist:
        return None


def _end(token: Token) -> float | None:
    return token.expires_at.timestamp() if token.expires_at else None


def _is_valid(end: float | None) -> bool:
    return end is None or now_us() < end * 1e6
