"""The threads of a Celery worker that make stored datapoints into notifications.

Every worker process has them. One process at a time lets the conditions follow (advance.py): the one whose
connection holds the advisory lock. When it dies, PostgreSQL releases the lock and another process takes it.
All of its work is done on that same connection, so that whoever has lost the lock can write nothing any more.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple

import psycopg
from django.conf import settings

from thingscale.background.watched import WatchedThread
from thingscale.events import advance, figures, silence
from thingscale.events.aside import Aside
from thingscale.events.mqtt_state import Relay
from thingscale.processes import own_connection, wake_up
from thingscale.processes.own_connection import UNWELL
from thingscale.processes.wake_up import WAKE_UP, Sleeper

log = logging.getLogger(__name__)

LOCK = 7_471  # advisory, of the worker that lets conditions follow
STOP_SECONDS = 3.0  # for what is being done
LATEST_SECONDS = 5.0  # between two looks at what time changes, however much waits
LOOK_SECONDS = 1.0  # between two looks, if nobody wakes it before
LOCK_SECONDS = 2.0  # that it waits for somebody else's transaction


class Work(NamedTuple):
    do: Callable[[psycopg.Connection, int, Collection[int]], int]
    next_event: Callable[[psycopg.Connection, Collection[int]], int | None]
    drop: Callable[[psycopg.Connection, Collection[int]], None]


OBSERVATIONS = Work(advance.advance, advance.next_event, advance.drop_observation)
DUE = Work(advance.look_at_due, advance.next_event_due, advance.drop_due)


class Notifications:
    def __init__(self) -> None:
        self._thread = WatchedThread("events", self._run)
        self._stopping = self._thread.stopping
        self._relay = Relay() if settings.INGEST_MODE == "broker" else None
        self._away = False  # the database, as was logged
        self.active = False  # it is this process that works
        self._look_for_silence_at = 0.0
        self._look_at_due_at = 0.0
        self._aside = Aside()
        self._fails: set[str] = set()  # as was logged

    def start(self) -> None:
        self._thread.start()
        if self._relay:
            self._relay.start()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        self._thread.stop(seconds)
        if self._relay:
            self._relay.stop(seconds)

    def _run(self) -> None:
        sleeper = Sleeper(wake_up.OBSERVATIONS, self._stopping)
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
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_SECONDS}s"])
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
                self._try("Silent devices can't be found", silence.look, connection)
            found = self._all(connection, OBSERVATIONS)
            more = found > 0
            if not more or time.monotonic() >= self._look_at_due_at:
                self._look_at_due_at = time.monotonic() + LATEST_SECONDS
                self._try("Matches that are too many stay", advance.leave_out, connection)
                due = self._all(connection, DUE)
                more = more or due >= advance.BATCH
                found += due
            if found:
                WAKE_UP.deliveries()

    def _try(
        self, failure: str, work: Callable[[psycopg.Connection], object], connection: psycopg.Connection
    ) -> None:
        """What must not keep the rest from being done."""
        try:
            work(connection)
            self._fails.discard(failure)
        except Exception as error:
            if own_connection.is_away(error):
                raise
            if failure not in self._fails:
                log.exception("%s", failure)
            else:
                log.error("%s, still: %s", failure, type(error).__name__)
            self._fails.add(failure)

    def _all(self, connection: psycopg.Connection, work: Work) -> int:
        """Does a batch of the work, in halves if it fails. What fails by itself would be in the way of
        everything behind it: it is dropped, or its event set aside if another try may be better."""
        done, most = 0, advance.BATCH
        while done < advance.BATCH:
            try:
                found = work.do(connection, most, self._aside.events())
            except Exception as error:
                if own_connection.is_away(error):
                    raise
                if most > 1:
                    if most == advance.BATCH:
                        log.exception("A batch of events failed: it is done in halves")
                    most //= 2
                    continue
                self._give_up(connection, work, error)
                found = 1
            done += found
            if not found or most == advance.BATCH:
                break
            most = min(2 * most, advance.BATCH)
        return done

    def _give_up(self, connection: psycopg.Connection, work: Work, error: Exception) -> None:
        aside = self._aside.events()
        event = work.next_event(connection, aside)
        if isinstance(error, own_connection.IN_THE_WAY) and event is not None and self._aside.add(event):
            log.warning("Event %d can't be followed for a while: %s", event, type(error).__name__)
            figure = figures.SET_ASIDE
        else:
            log.error("What event %s saw can't be followed, and is dropped", event, exc_info=error)
            work.drop(connection, aside)
            figure = figures.DROPPED
        figures.count(connection, Counter({(figure, ""): 1}))
