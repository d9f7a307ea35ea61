"""Which accounts have no room for more. It is measured every few seconds, so that a message costs no query;
what comes in those seconds may exceed the limit (decision 26)."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set

import psycopg

from thingscale.processes.change_notifications import Change
from thingscale.streams.usage import full_accounts

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
SHARE = 20  # the writer spends at most one part in so many of its time on this
_QUICK = "SELECT set_config('statement_timeout', '5s', true)"


class Quotas:
    """For the writer's thread, except `on_change`."""

    def __init__(self) -> None:
        # Accounts, each with the sentence for what is refused:
        self.full: dict[int, str] = {}  # whose storage is full
        self.held_full: dict[int, str] = {}  # that have as many held messages as they may
        self.retained_full: dict[int, str] = {}  # the same
        self.queued_full: set[int] = set()  # whose queues have as many bytes as they may
        self._active: set[int] = set()
        self._changed = True  # any account's limits may have changed: all are measured once
        self._next = time.monotonic()
        self._failing = False
        self._lock = threading.Lock()

    def note(self, users: Iterable[int]) -> None:
        """These users have sent something."""
        self._active.update(users)

    def on_change(self, change: Change | None) -> None:
        """In the listener's thread."""
        if change is None:
            self._changed = True
        elif change[0] == "limits":
            with self._lock:
                self._active.add(change[1])
                self._next = time.monotonic()

    @property
    def wait_seconds(self) -> float | None:
        """Until the next measurement; None if there is nothing to measure."""
        if not (self._active or self._all_full):
            return None
        return max(0.0, self._next - time.monotonic())

    @property
    def _all_full(self) -> set[int]:
        """Accounts that are full of something."""
        return {*self.full, *self.held_full, *self.retained_full, *self.queued_full}

    def look(self, connect: Callable[[], psycopg.Connection]) -> bool:
        """False if that failed: then what was known stays until the next time."""
        started = time.monotonic()
        everybody, self._changed = self._changed, False
        with self._lock:
            asked = self._active | self._all_full
            self._active = set()
        try:
            users = None if everybody else asked
            connection = connect()
            with connection.transaction():
                connection.execute(_QUICK)
                full = full_accounts(connection, users)
            self.full = full.storage | _others(self.full, users)
            self.held_full = full.held | _others(self.held_full, users)
            self.retained_full = full.retained | _others(self.retained_full, users)
            self.queued_full = full.queued | (set() if users is None else self.queued_full - users)
            self._failing = False
        except Exception as error:
            if not self._failing:
                log.warning("The accounts' storage was not measured: %s", type(error).__name__)
            self._failing = True
            self.note(asked)
        finished = time.monotonic()
        self._next = finished + max(LOOK_SECONDS, (finished - started) * SHARE)
        return not self._failing


def _others(known: Mapping[int, str], users: Set[int] | None) -> dict[int, str]:
    """What is known of all others; `users` None: of nobody."""
    return {} if users is None else {user: known[user] for user in known.keys() - users}
