"""Marks until when what this process has heard is written (thingscale/devices/listening.py)."""

import contextlib
import logging
import time
from collections.abc import Callable
from uuid import UUID

import psycopg

from ingest.activity import QUICK
from thingscale.devices import listening
from thingscale.devices.listening import Door

log = logging.getLogger(__name__)

SECONDS = 1.5  # between two marks
UNDERWAY = 0.5  # seconds that a message may take from its arrival to the writer's queue


class ListeningMark:
    """For the writer thread only. `hears` says whether devices reach this process at all."""

    def __init__(self, writer: UUID, door: Door, hears: Callable[[], bool]) -> None:
        self._writer = writer
        self._door = door
        self._hears = hears
        self._next = time.monotonic()
        self._failing = False

    @property
    def wait_seconds(self) -> float:
        return max(0.0, self._next - time.monotonic())

    def write(self, connect: Callable[[], psycopg.Connection], behind: float) -> bool:
        """`behind`: see listening.mark(). False if that failed: then this counts as an outage, if it goes on
        failing."""
        self._next = time.monotonic() + SECONDS
        try:
            if self._hears():
                connection = connect()
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.execute(QUICK)
                    listening.mark(cursor, self._writer, self._door, behind)
            self._failing = False
        except Exception as error:
            if not self._failing:
                log.warning("That this process listens can't be written: %s", type(error).__name__)
            self._failing = True
        return not self._failing

    def leave(self, connect: Callable[[], psycopg.Connection]) -> None:
        """All is written. If this fails, others find out that the process has ended."""
        with contextlib.suppress(psycopg.Error):
            connection = connect()
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(QUICK)
                listening.leave(cursor, self._writer)
