"""Tells the database who is connected, and what the accounts use of this gateway: a thread that writes what
changed, a moment later and together. What it writes of a client it asks when it does, so that nothing is kept
of each."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

import psycopg

from thingscale.background.watched import WatchedThread
from thingscale.devices import presence
from thingscale.devices.mqtt_store import sessions
from thingscale.devices.presence import ClientKey, Figures, Presence, Use
from thingscale.streams.exactly_once import commit_log

log = logging.getLogger(__name__)

IDLE_SECONDS = 5.0
FOLLOW_SECONDS = 1.0  # between two looks at what other gateways have done
GATHER_SECONDS = 0.1
USE_SECONDS = 5.0  # between two looks at what the accounts use
BACK_SECONDS = 1.5  # after our connection was lost, in which others may be without theirs
LEAVING_SECONDS = 0.25  # between two looks whether there is still somebody to leave our clients to
_NOTHING = Use()

# The newest numbers in the queues of our clients, if there are other gateways; whether clients of dead ones
# have left; and gateways that have died.
Seen = Callable[[dict[int, int] | None, bool, set[int]], None]


class Known(NamedTuple):
    """What the gateway knows as of now; asked in the writer's thread."""

    everybody: Callable[[], Iterable[ClientKey]]  # who is connected
    find: Callable[[ClientKey], Presence | None]
    uses: Callable[[], Mapping[int, Use]] = dict  # by account
    figures: Callable[[], Figures] = Figures  # without the rate


class PresenceWriter:
    """`note` may be called from any thread and never waits. `entered` is set once others see that we live;
    `seen` tells what other gateways have done."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        gateway: UUID,
        known: Known,
        seen: Seen = lambda newest, left, dead: None,
    ) -> None:
        self._connect = connect
        self._gateway = gateway
        self._key = presence.key_of(gateway)
        self._known = known
        self._seen = seen
        self.entered = threading.Event()
        self.clock_offset = 0.0
        self._back_at = -BACK_SECONDS  # when our connection was there again
        self._alive: set[int] = set()  # gateways, when we last looked
        self._known_gateways: set[int] = set()  # and those that may have lost a connection only
        self._lost_at = 0.0  # when one of them was not there any more, or our connection was new
        self._changed: set[ClientKey] = set()
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._thread = WatchedThread("presence", self._run)
        self._stopping = self._thread.stopping
        self._leaving = threading.Event()
        self._left = threading.Event()  # the others know
        self.successors = 0  # other gateways that stay, once we leave

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.set()
        self._thread.join(5)

    @property
    def unsure(self) -> bool:
        """Whether others that seem to be dead have perhaps lost their connections as we have."""
        return time.monotonic() - self._back_at < BACK_SECONDS

    def leave(self, seconds: float) -> None:
        """Tells the others that we are to stop, and counts those that stay; waits so long at most."""
        self._leaving.set()
        self._wakeup.set()
        self._left.wait(seconds)

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
        presence.enter(connection, self._key)
        if self.entered.is_set():
            self._back_at = time.monotonic()
        self.clock_offset = presence.clock_offset(connection)
        self._lost_at = time.monotonic()  # the others may have lost their connections, too
        self.entered.set()
        everybody = set(self._known.everybody())
        with self._lock:
            self._changed |= everybody
        written: dict[int, Use] = {}
        figures, written_at = Figures(), time.monotonic()
        look_at = use_at = time.monotonic()
        while not self._stopping.is_set():
            gone, come = self._take()
            if gone or come:
                presence.update(connection, self._key, self.clock_offset, gone, come)
            if time.monotonic() >= look_at:
                alone = self._follow_others(connection)  # and notices a dead server
                look_at = time.monotonic() + (IDLE_SECONDS if alone else FOLLOW_SECONDS)
            if time.monotonic() >= use_at:
                self._write_uses(connection, written)
                figures, written_at = self._write_figures(connection, figures, written_at), time.monotonic()
                use_at = time.monotonic() + USE_SECONDS
            if self._leaving.is_set():
                presence.leave(connection, self._key)
                self.successors = len(presence.staying(connection) - {self._key})
                self._left.set()
            wait = look_at - time.monotonic()
            self._wakeup.wait(max(min(wait, LEAVING_SECONDS) if self._leaving.is_set() else wait, 0))
            if not self._leaving.is_set():
                self._stopping.wait(GATHER_SECONDS)

    def _follow_others(self, connection: psycopg.Connection) -> bool:
        """Whether there is nothing to follow. Who has lost its lock has perhaps lost a connection only."""
        now = time.monotonic()
        with connection.transaction(), connection.cursor() as cursor:
            alive = set(presence.gateways(cursor))
            if self._alive - alive:
                self._lost_at = now
            self._alive = alive
            self._known_gateways |= alive
            waits = now - self._lost_at < presence.DEAD_SECONDS
            dead = set() if waits else self._known_gateways - alive
            if dead:  # first, as batches do: their row, then sessions
                commit_log.fence(cursor, dead)
            left = not waits and sessions.disconnect_dead_gateways(cursor, alive)
            alone = alive <= {self._key}
            newest = None if alone else dict(sessions.newest_numbers(cursor, self._gateway))
        self._known_gateways -= dead
        if left or dead or newest is not None:
            self._seen(newest, left, dead)
        return alone and not waits

    def _write_figures(self, connection: psycopg.Connection, written: Figures, at: float) -> Figures:
        """`written`: those of last time, and when that was."""
        found = self._known.figures()
        rate = max(found.messages - written.messages, 0) / max(time.monotonic() - at, 1)
        now = found._replace(rate=round(rate, 1))
        if now != written:
            presence.update_figures(connection, self._key, now)
        return now

    def _write_uses(self, connection: psycopg.Connection, written: dict[int, Use]) -> None:
        """Those that are not what was `written` last."""
        now = self._known.uses()
        changed = {
            user: now.get(user, _NOTHING)
            for user in now.keys() | written.keys()
            if now.get(user, _NOTHING) != written.get(user, _NOTHING)
        }
        if changed:
            presence.update_use(connection, self._key, changed)
            written.clear()
            written.update(now)

    def _take(self) -> tuple[list[ClientKey], list[Presence]]:
        self._wakeup.clear()
        with self._lock:
            changed, self._changed = self._changed, set()
        found = {key: self._known.find(key) for key in changed}
        come = [client for client in found.values() if client]
        return [key for key, client in found.items() if client is None], come
