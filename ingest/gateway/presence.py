"""Tells the database who is connected, and what the accounts use of this gateway: a thread that writes what
changed, a moment later and together. What it writes of a client it asks when it does, so that nothing is kept
of each."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import psycopg

from thingscale.background.watched import WatchedThread
from thingscale.devices import presence
from thingscale.devices.presence import ClientKey, Presence, Use

log = logging.getLogger(__name__)

IDLE_SECONDS = 5.0
GATHER_SECONDS = 0.1
USE_SECONDS = 5.0  # between two looks at what the accounts use
_NOTHING = Use()


class PresenceWriter:
    """`note` may be called from any thread and never waits. `everybody` and `find` tell who is connected as
    of now, `find_uses` what the accounts use; they are called in the writer's thread."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        everybody: Callable[[], Iterable[ClientKey]],
        find: Callable[[ClientKey], Presence | None],
        find_uses: Callable[[], Mapping[int, Use]] = dict,
    ) -> None:
        self._connect = connect
        self._everybody = everybody
        self._find = find
        self._find_uses = find_uses
        self._changed: set[ClientKey] = set()
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._thread = WatchedThread("presence", self._run)
        self._stopping = self._thread.stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.set()
        self._thread.join(5)

    def note(self, client: ClientKey) -> None:
        """It has come, or gone."""
        with self._lock:
            self._changed.add(client)
        self._wakeup.set()

    def _run(self) -> None:
        """The lock that shows that we live ends with the connection, so a new one writes everything again."""
        while not self._stopping.is_set():
            try:
                with self._connect() as connection:
                    self._write(connection)
            except psycopg.Error as error:
                log.warning("Who is connected can't be written: %s", type(error).__name__)
                self._stopping.wait(1)

    def _write(self, connection: psycopg.Connection) -> None:
        gateway = presence.enter(connection)
        everybody = set(self._everybody())
        with self._lock:
            self._changed |= everybody
        written: dict[int, Use] = {}
        look_at = time.monotonic()
        while not self._stopping.is_set():
            gone, come = self._take()
            if gone or come:
                presence.update(connection, gateway, gone, come)
            else:
                connection.execute("SELECT 1")  # notices a dead server
            if time.monotonic() >= look_at:
                self._write_uses(connection, gateway, written)
                look_at = time.monotonic() + USE_SECONDS
            self._wakeup.wait(IDLE_SECONDS)
            self._stopping.wait(GATHER_SECONDS)

    def _write_uses(self, connection: psycopg.Connection, gateway: int, written: dict[int, Use]) -> None:
        """Those that are not what was `written` last."""
        now = self._find_uses()
        changed = {
            user: now.get(user, _NOTHING)
            for user in now.keys() | written.keys()
            if now.get(user, _NOTHING) != written.get(user, _NOTHING)
        }
        if changed:
            presence.update_use(connection, gateway, changed)
            written.clear()
            written.update(now)

    def _take(self) -> tuple[list[ClientKey], list[Presence]]:
        self._wakeup.clear()
        with self._lock:
            changed, self._changed = self._changed, set()
        found = {key: self._find(key) for key in changed}
        come = [client for client in found.values() if client]
        return [key for key, client in found.items() if client is None], come
