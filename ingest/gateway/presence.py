"""Tells the database who is connected: a thread that writes what changed, a moment later and together."""

import logging
import threading
from collections.abc import Callable

import psycopg

from thingscale.background.watched import WatchedThread
from thingscale.devices import presence
from thingscale.devices.presence import ClientKey, Presence

log = logging.getLogger(__name__)

IDLE_SECONDS = 5.0
GATHER_SECONDS = 0.1


class PresenceWriter:
    """`came` and `went` may be called from any thread and never wait."""

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        self._connect = connect
        self._current: dict[ClientKey, Presence] = {}
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

    def came(self, client: Presence) -> None:
        self._note((client.user, client.client_id), client)

    def went(self, user: int, client_id: str) -> None:
        self._note((user, client_id), None)

    def _note(self, key: ClientKey, client: Presence | None) -> None:
        with self._lock:
            if client:
                self._current[key] = client
            else:
                self._current.pop(key, None)
            self._changed.add(key)
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
        with self._lock:
            self._changed = set(self._current)
        while not self._stopping.is_set():
            gone, come = self._take()
            if gone or come:
                presence.update(connection, gateway, gone, come)
            else:
                connection.execute("SELECT 1")  # notices a dead server
            self._wakeup.wait(IDLE_SECONDS)
            self._stopping.wait(GATHER_SECONDS)

    def _take(self) -> tuple[list[ClientKey], list[Presence]]:
        self._wakeup.clear()
        with self._lock:
            changed, self._changed = self._changed, set()
            come = [self._current[key] for key in changed if key in self._current]
            return [key for key in changed if key not in self._current], come
