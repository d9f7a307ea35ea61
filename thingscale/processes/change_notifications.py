"""What changed, told to every process: the routing and token caches of the connectors follow at once.

`announce()` goes out with the transaction's COMMIT (PostgreSQL NOTIFY). `Listener` is a thread that
calls back for each change. Changes missed while it was cut off are made good by a call with None,
which means: forget everything.
"""

import logging
import time
from collections.abc import Callable

import psycopg
from django.db import connection

from thingscale.background.watched import WatchedThread

CHANNEL = "thingscale"
# Nouns of what gateways tell each other; in place of a user's primary key comes a gateway's.
TAKE_OVER, SESSIONS, HEARD, LEFT = "take-over", "sessions", "heard", "left"
AMONG_GATEWAYS = frozenset({TAKE_OVER, SESSIONS, HEARD, LEFT})
PATROL_SECONDS = 1.0  # between looks at whether the server is still there, and whether to stop
log = logging.getLogger(__name__)

Change = tuple[str, int, str]  # noun ("device", "devices", "tokens"), user's primary key, device id or ""


def announce(noun: str, user: int, name: str = "") -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{noun}:{user}:{name}"])


def _parse(payload: str) -> Change | None:
    """None, which is always safe, for what is not ours."""
    try:
        noun, user, name = payload.split(":", 2)
        return noun, int(user), name
    except ValueError:
        return None


class Listener:
    """Listens on a connection of its own and reconnects by itself.

    `connect` opens a psycopg connection in autocommit mode; `on_change` runs in this thread, and so does
    `on_patrol`, each time that the connection was seen to stand: with the time.monotonic() at which that was
    asked.
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
                    self._listen(listening)
            except psycopg.Error as error:
                log.warning("Lost the connection for cache invalidation: %s", type(error).__name__)
            finally:  # also when a callback raises: begun again, it forgets everything
                self.connected = False
            self._on_change(None)
            self._stop.wait(0.5)

    def _listen(self, listening: psycopg.Connection) -> None:
        listening.execute(f"LISTEN {CHANNEL}")
        self._on_change(None)
        while not self._stop.is_set():
            for notification in listening.notifies(timeout=PATROL_SECONDS, stop_after=1):
                self._on_change(_parse(notification.payload))
            asked = time.monotonic()
            listening.execute("SELECT 1")  # notices a dead server
            self.connected = True
            self._on_patrol(asked)
