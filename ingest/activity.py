"""When each device was last heard, and messages a minute of each account: noted in memory after every
commit, written every few seconds.

These are figures for people to look at. `kill -9` loses those of the last seconds, a connection that breaks
during their COMMIT may count them twice; a message is never lost or delayed for them.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any

import psycopg

from ingest.batch import Item
from ingest.message import STORED, Outcome, RawMessage, Status
from ingest.router import DeviceKey
from thingscale.devices import writer
from thingscale.lib.clock import from_us

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
SHARE = 20  # the writer spends at most one part in so many of its time on this
KEPT = 100_000  # devices, and minutes of accounts, while they can't be written
_QUICK = """SELECT set_config('lock_timeout', '500ms', true), set_config('statement_timeout', '3s', true),
    set_config('synchronous_commit', 'off', true)"""

_RAW = itemgetter(Item._fields.index("raw"))
_KEY = itemgetter(RawMessage._fields.index("user"), RawMessage._fields.index("device_id"))
_AT = itemgetter(RawMessage._fields.index("received_at"))
_USER = itemgetter(0)  # of a key

MinuteKey = tuple[int, datetime]  # user's primary key, begin of the minute


class Activity:
    """For the writer thread only."""

    def __init__(self) -> None:
        self._seen: dict[DeviceKey, int] = {}  # received_at of the latest message
        self._messages: Counter[DeviceKey] = Counter()
        self._minutes: dict[Status, Counter[MinuteKey]] = {status: Counter() for status in Status}
        self._next = time.monotonic()
        self._failing = False

    @property
    def wait_seconds(self) -> float | None:
        """Until it is time to flush; None if there is nothing."""
        return max(0.0, self._next - time.monotonic()) if self._seen else None

    def note(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        """After their commit. Loops that run in C, since this is done 80,000 times a second."""
        raws = list(map(_RAW, items))
        keys = list(map(_KEY, raws))
        self._messages.update(keys)
        self._seen.update(zip(keys, map(_AT, raws), strict=True))
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        for user, count in Counter(map(_USER, keys)).items():
            self._minutes[Status.STORED][user, minute] += count
        if outcomes.count(STORED) < len(outcomes):
            self._note_exceptions(keys, outcomes, minute)
        if len(self._seen) > KEPT:
            self._forget_oldest()

    def _note_exceptions(
        self, keys: Sequence[DeviceKey], outcomes: Sequence[Outcome], minute: datetime
    ) -> None:
        for (user, _), outcome in zip(keys, outcomes, strict=True):
            if outcome is not STORED:
                self._minutes[Status.STORED][user, minute] -= 1
                self._minutes[outcome.status][user, minute] += 1

    def flush(self, connect: Callable[[], psycopg.Connection]) -> bool:
        """In a transaction of its own. False if that failed: what is noted is kept for the next time, unless
        it is refused for what it is."""
        if not self._seen:
            return True
        started = time.monotonic()
        try:
            self._write(connect())
            self._forget()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._say("waits for its next round", error)
        except Exception as error:
            self._say("is lost", error)
            self._forget()
        else:
            self._failing = False
        finished = time.monotonic()
        self._next = finished + max(FLUSH_SECONDS, (finished - started) * SHARE)
        return not self._failing

    def _write(self, connection: psycopg.Connection) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_QUICK)
            writer.note_heard(
                cursor,
                [writer.Heard(*key, from_us(at), self._messages[key]) for key, at in self._seen.items()],
            )
            held, rejected = self._minutes[Status.HELD], self._minutes[Status.REJECTED]
            writer.count_minutes(
                cursor,
                [
                    writer.Minute(*key, count, held[key], rejected[key])
                    for key, count in self._minutes[Status.STORED].items()
                ],
            )

    def _say(self, what: str, error: Exception) -> None:
        if not self._failing:
            log.warning("The activity of devices %s: %s", what, type(error).__name__)
        self._failing = True

    def _forget(self) -> None:
        for noted in self._noted():
            noted.clear()

    def _forget_oldest(self) -> None:
        for noted in self._noted():
            for key in list(islice(noted, max(0, len(noted) - KEPT))):
                del noted[key]

    def _noted(self) -> list[dict[Any, int]]:
        return [self._seen, self._messages, *self._minutes.values()]
