"""When each device was last heard, and how many messages a minute each account sends: noted in memory after
every commit, written every second or two.

`kill -9` loses those of the last seconds, which silence knows (thingscale/devices/listening.py), and if a
connection breaks during their COMMIT they may count twice. No message is lost or delayed for them.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Generic, TypeVar

import psycopg

from ingest.batch import Batch, Item
from ingest.device_cache import DeviceKey
from ingest.message import RawMessage, Status
from thingscale.devices import writer
from thingscale.devices.listening import Door
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.fair_cache import FairCache
from thingscale.streams.writer import Row

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.5
SHARE = 20  # the writer spends at most one part in so many of its time on this
MAX_NOTED = 100_000  # devices, and minutes of accounts, while they can't be written
NOBODY = 0  # in place of an account's primary key: of devices that are not known any more
QUICK = """SELECT set_config('lock_timeout', '500ms', true), set_config('statement_timeout', '3s', true),
    set_config('synchronous_commit', 'off', true)"""

_RAW = itemgetter(Item._fields.index("raw"))
_USER = itemgetter(RawMessage._fields.index("user"))
_RECEIVED_AT = itemgetter(RawMessage._fields.index("received_at"))
_DEVICE = itemgetter(Row._fields.index("device"))
_AT = itemgetter(Row._fields.index("at"))

MinuteKey = tuple[int, datetime]  # user's primary key, begin of the minute
K = TypeVar("K", int, DeviceKey)


class Heard(Generic[K]):
    """By device: the time of its latest message, and how many there were."""

    def __init__(self) -> None:
        self.seen: dict[K, int] = {}
        self.messages: Counter[K] = Counter()

    def rows(self) -> list[tuple[K, datetime, int]]:
        return [(key, from_us(at), self.messages[key]) for key, at in self.seen.items()]

    def forget_oldest(self, account: Callable[[K], int]) -> None:
        """Forgets devices of the accounts that have most of them. It keeps half as many as there may be, so
        that this happens seldom."""
        shares: dict[int, dict[K, int]] = {}
        for key, at in self.seen.items():
            shares.setdefault(account(key), {})[key] = at
        kept: FairCache[K, int] = FairCache(MAX_NOTED // 2)
        for user, seen in shares.items():
            kept.update(user, seen)
        self.seen = {key: at for seen in kept.accounts.values() for key, at in seen.items()}
        self.messages = Counter({key: self.messages[key] for key in self.seen})


class ActivityLog:
    """For the writer thread only."""

    def __init__(self, door: Door = Door.HTTP) -> None:
        self._door = door
        self._known: Heard[int] = Heard()  # by primary key
        self._named: Heard[DeviceKey] = Heard()  # messages off the hot path, whose devices may not exist
        self._minutes: dict[Status, Counter[MinuteKey]] = {status: Counter() for status in Status}
        self.unwritten_since: int | None = None  # when the oldest of what is noted was received
        self._next = time.monotonic()
        self._failing = False

    @property
    def wait_seconds(self) -> float | None:
        """Until the next flush; None if there is nothing to flush."""
        return None if self.unwritten_since is None else max(0.0, self._next - time.monotonic())

    def note(self, batch: Batch) -> None:
        """After its commit. 80,000 messages a second come by, so these are loops that run in C; the messages
        of a device come in order."""
        if self.unwritten_since is None:
            self.unwritten_since = min(map(_RECEIVED_AT, map(_RAW, batch.items)), default=None)
        try:
            ordinary = batch.ordinary
            devices = list(map(_DEVICE, ordinary))
            self._known.messages.update(devices)
            self._known.seen.update(zip(devices, map(_AT, ordinary), strict=True))
            minute = from_us(now_us()).replace(second=0, microsecond=0)
            for user, count in Counter(map(_USER, map(_RAW, batch.items))).items():
                self._minutes[Status.STORED][user, minute] += count
            for raw, outcome, points in batch.exceptions:  # these were counted as stored
                key = raw.user, raw.device_id
                self._named.messages[key] += 1
                self._named.seen[key] = raw.received_at
                if outcome.status is not Status.STORED:
                    self._minutes[Status.STORED][raw.user, minute] -= 1
                    self._minutes[outcome.status][raw.user, minute] += 1
                else:  # an array counts by its datapoints, as at the REST API
                    self._minutes[Status.STORED][raw.user, minute] += points - 1
            if len(self._known.seen) > MAX_NOTED:
                accounts = batch.device_cache.accounts_of_devices()
                self._known.forget_oldest(lambda device: accounts.get(device, NOBODY))
            if len(self._named.seen) > MAX_NOTED:
                self._named.forget_oldest(itemgetter(0))
            for minutes in self._minutes.values():  # each account has one more a minute
                for oldest in list(islice(minutes, max(0, len(minutes) - MAX_NOTED))):
                    del minutes[oldest]
        except Exception:  # must not look as if the batch had failed: it would be stored again
            log.exception("The activity of devices could not be noted")

    def flush(self, connect: Callable[[], psycopg.Connection]) -> bool:
        """Writes it in a transaction of its own. False if that failed: then it is kept for the next time,
        unless the database refuses what is written."""
        if self.wait_seconds is None:
            return True
        started = time.monotonic()
        try:
            connection = connect()
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(QUICK)
                writer.note_heard(cursor, self._known.rows(), self._named.rows(), self._door)
                held, rejected = self._minutes[Status.HELD], self._minutes[Status.REJECTED]
                writer.count_minutes(
                    cursor,
                    [
                        writer.MinuteRow(*key, count, held[key], rejected[key])
                        for key, count in self._minutes[Status.STORED].items()
                    ],
                )
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

    def _say(self, what: str, error: Exception) -> None:
        if not self._failing:
            log.warning("The activity of devices %s: %s", what, type(error).__name__)
        self._failing = True

    def _forget(self) -> None:
        self.unwritten_since = None
        for heard in (self._known, self._named):
            heard.seen.clear()
            heard.messages.clear()
        for minutes in self._minutes.values():
            minutes.clear()
