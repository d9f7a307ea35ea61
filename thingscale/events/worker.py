"""The threads of a Celery worker that make stored datapoints into notifications.

Every worker process has them. One process at a time lets the conditions follow (advance.py): the one whose
connection holds the advisory lock. When it dies, PostgreSQL releases the lock and another process takes it.
All of its work is done on that same connection, so that whoever has lost the lock can write nothing any more.
"""

import contextlib
import logging
import time
from collections.abc import Callable

import psycopg
from django.conf import settings

from thingscale.background.watched import WatchedThread
from thingscale.events import advance, silence
from thingscale.events.mqtt_state import Relay
from thingscale.processes import own_connection
from thingscale.processes.own_connection import UNWELL
from thingscale.processes.wake_up import OBSERVATIONS, WAKE_UP, Sleeper

log = logging.getLogger(__name__)

LOCK = 7_471  # advisory, of the worker that lets conditions follow
STOP_SECONDS = 3.0  # for what is being done
LATEST_SECONDS = 5.0  # between two looks at what time changes, however much waits
LOOK_SECONDS = 1.0  # between two looks, if nobody wakes it before


class Notifications:
    def __init__(self) -> None:
        self._thread = WatchedThread("events", self._run)
        self._stopping = self._thread.stopping
        self._relay = Relay() if settings.INGEST_MODE == "broker" else None
        self._away = False  # the database, as was logged
        self.active = False  # it is this process that works
        self._look_for_silence_at = 0.0
        self._look_at_due_at = 0.0
        self._silence_fails = False

    def start(self) -> None:
        self._thread.start()
        if self._relay:
            self._relay.start()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        self._thread.stop(seconds)
        if self._relay:
            self._relay.stop(seconds)

    def _run(self) -> None:
        sleeper = Sleeper(OBSERVATIONS, self._stopping)
        with contextlib.closing(sleeper):
            while not self._stopping.is_set():
                try:
                    with own_connection.connect("thingscale-events") as connection:
                        self._work(connection, sleeper)
                except UNWELL as error:
                    if not self._away:
                        log.warning("Events wait: the database is away (%s)", type(error).__name__)
                    self._away = True
                    self._stopping.wait(LOOK_SECONDS)
                finally:
                    self.active = False

    def _work(self, connection: psycopg.Connection, sleeper: Sleeper) -> None:
        while not self._stopping.is_set():
            if not self.active:
                (self.active,) = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchall()[0]
            if self.active:
                self._look(connection)
            if self._away:
                log.info("Events go on: the database is back")
                self._away = False
            sleeper.listen(LOOK_SECONDS)

    def _look(self, connection: psycopg.Connection) -> None:
        """Until nothing waits any more. What time changes comes last, once each datapoint that was stored
        before is taken into account; but it does not wait for ever."""
        more = True
        while more and not self._stopping.is_set():
            if time.monotonic() >= self._look_for_silence_at:
                self._look_for_silence_at = time.monotonic() + LOOK_SECONDS
                self._look_for_silence(connection)
            found = _all(connection, advance.advance, advance.drop_observation)
            more = found > 0
            if not more or time.monotonic() >= self._look_at_due_at:
                self._look_at_due_at = time.monotonic() + LATEST_SECONDS
                advance.leave_out(connection)
                due = _all(connection, advance.look_at_due, advance.drop_due)
                more = more or due >= advance.BATCH
                found += due
            if found:
                WAKE_UP.deliveries()

    def _look_for_silence(self, connection: psycopg.Connection) -> None:
        try:
            silence.look(connection)
            self._silence_fails = False
        except UNWELL:
            raise
        except Exception as error:
            if not self._silence_fails:
                log.exception("Silent devices can't be found")
            else:
                log.error("Silent devices still can't be found: %s", type(error).__name__)
            self._silence_fails = True


def _all(
    connection: psycopg.Connection,
    work: Callable[[psycopg.Connection, int], int],
    drop: Callable[[psycopg.Connection], None],
) -> int:
    """Does a batch of the work. If it fails, it is done one by one, and what fails again is dropped: it would
    be in the way of everything behind it."""
    try:
        return work(connection, advance.BATCH)
    except UNWELL:
        raise
    except Exception:
        log.exception("A batch of events failed: it is done one by one")
    done = 0
    for _ in range(advance.BATCH):
        try:
            found = work(connection, 1)
        except UNWELL:
            raise
        except Exception:
            log.exception("What an event saw can't be followed, and is dropped")
            drop(connection)
            found = 1
        if not found:
            break
        done += found
    return done
