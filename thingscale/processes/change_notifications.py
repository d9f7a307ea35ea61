"""Tells all processes what has changed, so that the device and token caches of the connectors follow at once.

`announce()` takes effect with the transaction's COMMIT (PostgreSQL NOTIFY). `Listener` is a thread that calls
back for each change. After it was cut off, it calls back with None, which means: forget everything.
"""

import logging
import time
from collections.abc import Callable

import psycopg
from django.db import connection

from thingscale.background.watched import WatchedThread
from thingscale.processes import database_clock

CHANNEL = "thingscale"
# Nouns of what gateways tell each other. These have a gateway's key in place of a user's primary key.
TAKE_OVER, SESSIONS, HEARD, LEFT, FENCED = "take-over", "sessions", "heard", "left", "fenced"
AMONG_GATEWAYS = frozenset({TAKE_OVER, SESSIONS, HEARD, LEFT, FENCED})
# Nouns of what only the rules of ingest follow (thingscale/events/rule_cache.py): an account's events have
# changed; a condition is not ok any more, with EVENT:DEVICE:TAG.
EVENTS, EVENT_OPEN = "events", "event-open"
INTAKES = "intakes"  # an account's intakes have changed; only who takes messages in follows this
PATROL_SECONDS = 1.0  # between two checks that the server is still there
log = logging.getLogger(__name__)

# Noun ("device", "devices", "limits", "published", "tokens", or one above), a primary key, and a device id or
# what is said above, or "".
Change = tuple[str, int, str]


def announce(noun: str, user: int, name: str = "") -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{noun}:{user}:{name}"])


class Listener:
    """Listens on a connection of its own and reconnects by itself.

    `connect` opens a psycopg connection in autocommit mode. `on_change` runs in this thread. So does
    `on_patrol`, after each check that the connection works, with the time.monotonic() at which the check
    began: `on_change` has had all that was announced before.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        on_change: Callable[[Change | None], None],
        on_patrol: Callable[[float], None] = lambda asked: None,
    ) -> None:
        self._connect = connect
        self._on_change = on_change
        self._on_patrol = on_patrol
        self.connected = False  # as of the last patrol
        self._thread = WatchedThread("invalidation", self._run)
        self._stop = self._thread.stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect() as listening:
                    listening.execute(f"LISTEN {CHANNEL}")
                    database_clock.follow(listening, database_clock.FIRST_TIMES)
                    self._on_change(None)
                    while not self._stop.is_set():
                        for notification in listening.notifies(timeout=PATROL_SECONDS, stop_after=1):
                            self._tell(notification.payload)
                        asked = time.monotonic()
                        database_clock.follow(listening)  # and notices a dead server
                        for notification in listening.notifies(timeout=0):  # what came before the answer
                            self._tell(notification.payload)
                        self.connected = True
                        self._on_patrol(asked)
            except psycopg.Error as error:
                log.warning("Lost the connection for cache invalidation: %s", type(error).__name__)
            finally:  # also if a callback raises: when the thread begins again, it forgets everything
                self.connected = False
            self._on_change(None)
            self._stop.wait(0.5)

    def _tell(self, announced: str) -> None:
        try:
            noun, user, name = announced.split(":", 2)
            change: Change | None = (noun, int(user), name)
        except ValueError:  # not ours; to forget everything is always safe
            change = None
        self._on_change(change)
