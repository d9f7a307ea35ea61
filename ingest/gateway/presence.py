"""A thread that writes into the database who is connected to this gateway and what accounts use of it, and
reads what other gateways have done. Changes are written together, a moment later. What is to be written of a
client is asked only then, so that nothing is kept for each client."""

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
USE_SECONDS = 5.0  # between two looks at what accounts use
BACK_SECONDS = 1.5  # after our connection was lost, in which others may not have theirs back yet
CLOCK_STEP = 0.5  # seconds; of the database's clock, by which it is written when each client connected
STOPPING_SECONDS = 0.25  # between two looks at whether other gateways stay, once this one is to stop
_NOTHING = Use()

# Gets the newest numbers in the queues of our clients, if there are other gateways; if clients of dead
# gateways were marked as disconnected, the sessions that ended by it (keys and accounts); and which gateways
# have died.
OnOtherGateways = Callable[[dict[int, int] | None, list[tuple[int, int]] | None, set[int]], None]


class Known(NamedTuple):
    """What the gateway knows at the moment; asked in this thread."""

    everybody: Callable[[], Iterable[ClientKey]]  # who is connected
    find: Callable[[ClientKey], Presence | None]
    uses: Callable[[], Mapping[int, Use]] = dict  # by account
    figures: Callable[[], Figures] = Figures  # without the rate


class PresenceWriter:
    """`note` may be called from any thread and never waits. `entered` is set once other gateways see that
    this one lives."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        gateway: UUID,
        known: Known,
        on_other_gateways: OnOtherGateways = lambda newest, ended, dead: None,
    ) -> None:
        self._connect = connect
        self._gateway = gateway
        self._key = presence.key_of(gateway)
        self._known = known
        self._on_other_gateways = on_other_gateways
        self.entered = threading.Event()
        self._back_at = -BACK_SECONDS  # when our connection was there again
        self._alive: set[int] = set()  # gateways, at the last look
        self._left: set[int] = set()  # gateways that have stopped, and said so
        self._known_gateways: set[int] = set()  # and those that may only have lost their connection
        self._lost_at = 0.0  # when one of them was missing, or our connection was new
        self._changed: set[ClientKey] = set()
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._thread = WatchedThread("presence", self._run)
        self._stopping = self._thread.stopping
        self._announcing_stop = threading.Event()
        self._stop_announced = threading.Event()
        self.successors = 0  # other gateways that stay, once this one is to stop

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.set()
        self._thread.join(5)

    @property
    def unsure(self) -> bool:
        """Whether gateways that seem to be dead have perhaps only lost their connections, as this one did."""
        return time.monotonic() - self._back_at < BACK_SECONDS

    def announce_stop(self, seconds: float) -> None:
        """Lets the others know that this gateway is to stop, and counts those that stay. Waits so long at
        most."""
        self._announcing_stop.set()
        self._wakeup.set()
        self._stop_announced.wait(seconds)

    def note_left(self, gateway: int) -> None:
        """It has stored all that it took: nothing is to be fenced off."""
        self._left.add(gateway)

    def note(self, client: ClientKey) -> None:
        """The client has connected or disconnected."""
        with self._lock:
            self._changed.add(client)
        self._wakeup.set()

    def _run(self) -> None:
        """A new connection has to write everything again: the lock that shows that we live is new."""
        while not self._stopping.is_set():
            try:
                with self._connect() as connection:
                    self._write_changes(connection)
            except psycopg.Error as error:
                log.warning("Who is connected can't be written: %s", type(error).__name__)
                self._stopping.wait(1)

    def _write_changes(self, connection: psycopg.Connection) -> None:
        presence.enter(connection, self._key)
        if self.entered.is_set():
            self._back_at = time.monotonic()
        clock_offset = presence.clock_offset()
        self._lost_at = time.monotonic()  # the others may have lost their connections, too
        self.entered.set()
        everybody = set(self._known.everybody())
        with self._lock:
            self._changed |= everybody
        written: dict[int, Use] = {}
        figures, written_at = Figures(), time.monotonic()
        look_at = use_at = time.monotonic()
        while not self._stopping.is_set():
            self._wakeup.clear()
            was, clock_offset = clock_offset, presence.clock_offset()
            everybody = set(self._known.everybody()) if abs(clock_offset - was) > CLOCK_STEP else set()
            with self._lock:
                changed, self._changed = self._changed | everybody, set()
            found = {key: self._known.find(key) for key in changed}
            disconnected = [key for key, client in found.items() if client is None]
            connected = [client for client in found.values() if client]
            if found:
                presence.update(connection, self._key, clock_offset, disconnected, connected)
            if time.monotonic() >= look_at:
                alone = self._follow_others(connection)  # and notices a dead server
                look_at = time.monotonic() + (IDLE_SECONDS if alone else FOLLOW_SECONDS)
            if time.monotonic() >= use_at:
                uses = self._known.uses()
                changed_uses = {
                    user: uses.get(user, _NOTHING)
                    for user in uses.keys() | written.keys()
                    if uses.get(user, _NOTHING) != written.get(user, _NOTHING)
                }
                if changed_uses:
                    presence.update_use(connection, self._key, changed_uses)
                    written = dict(uses)
                counted = self._known.figures()
                rate = max(counted.messages - figures.messages, 0) / max(time.monotonic() - written_at, 1)
                counted = counted._replace(rate=round(rate, 1))
                if counted != figures:
                    presence.update_figures(connection, self._key, counted)
                figures, written_at = counted, time.monotonic()
                use_at = written_at + USE_SECONDS
            if self._announcing_stop.is_set():
                presence.mark_stopping(connection, self._key)
                self.successors = len(presence.staying(connection) - {self._key})
                self._stop_announced.set()
            wait = look_at - time.monotonic()
            self._wakeup.wait(max(min(wait, STOPPING_SECONDS) if self._announcing_stop.is_set() else wait, 0))
            if not self._announcing_stop.is_set():
                self._stopping.wait(GATHER_SECONDS)

    def _follow_others(self, connection: psycopg.Connection) -> bool:
        """Returns whether there are no other gateways. One without its lock has perhaps only lost its
        connection, so it is taken for dead a little later."""
        now = time.monotonic()
        with connection.transaction(), connection.cursor() as cursor:
            alive = set(presence.gateways(cursor))
            if self._alive - alive:
                self._lost_at = now
            self._alive = alive
            self._known_gateways |= alive
            waits = now - self._lost_at < presence.DEAD_SECONDS
            if left := self._left - alive:
                self._known_gateways -= left
                self._left -= left
            dead = set() if waits else self._known_gateways - alive
            if dead:  # first, as batches do: their row, then sessions
                commit_log.fence(cursor, dead)
            ended = None if waits else sessions.disconnect_dead_gateways(cursor, alive)
            alone = alive <= {self._key}
            newest = None if alone else dict(sessions.newest_numbers(cursor, self._gateway))
        self._known_gateways -= dead
        if ended is not None or dead or newest is not None:
            self._on_other_gateways(newest, ended, dead)
        return alone and not waits
