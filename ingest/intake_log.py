"""Writes down the last messages of each intake, for its page: from memory, a moment later, and not all of a
sender of thousands a second. Nothing waits for it."""

import logging
import threading
import time
from collections import deque

import psycopg

from ingest.record_limiter import RecordLimiter
from thingscale.background.watched import WatchedThread
from thingscale.intakes.messages import Note, note_messages
from thingscale.processes import own_connection

log = logging.getLogger(__name__)

MAX_WAITING = 500  # the oldest are dropped
GATHER_SECONDS = 0.5
FAILED_SECONDS = 5.0  # until it tries again
IDLE_SECONDS = 30.0  # until the connection is closed


class IntakeLog:
    def __init__(self) -> None:
        self._waiting: deque[Note] = deque(maxlen=MAX_WAITING)
        self._limiter = RecordLimiter(2, 1.0)  # one of each outcome a second, and two of an intake
        self._wakeup = threading.Event()
        self._thread = WatchedThread("intake log", self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stopping.set()
        self._wakeup.set()
        self._thread.join(5)

    def wants(self, intake: int, outcome: str) -> bool:
        """Whether it is time for one more message. In the callers' thread, as the next."""
        return self._limiter.should_record(intake, outcome, time.monotonic())

    def note(self, note: Note) -> None:
        """Never waits."""
        self._waiting.append(note)
        self._wakeup.set()

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            self._wakeup.wait()
            self._wakeup.clear()  # first, so that a note that comes now wakes it again
            if not self._waiting:
                continue
            try:
                with own_connection.connect("thingscale-intakes") as connection:
                    self._write(connection)
            except own_connection.UNWELL as error:
                log.warning("The last messages of intakes can't be written: %s", type(error).__name__)
                self._thread.stopping.wait(FAILED_SECONDS)
                self._wakeup.set()

    def _write(self, connection: psycopg.Connection) -> None:
        """Until nothing has come for a while."""
        while True:
            notes = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                with connection.transaction(), connection.cursor() as cursor:
                    note_messages(cursor, notes)
            except own_connection.UNWELL:
                room = MAX_WAITING - len(self._waiting)
                self._waiting.extendleft(notes[: -room - 1 : -1])
                raise
            if self._thread.stopping.wait(GATHER_SECONDS) or not self._wakeup.wait(IDLE_SECONDS):
                return
            self._wakeup.clear()
