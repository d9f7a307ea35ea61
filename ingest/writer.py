"""The one way into storage: a bounded queue and ONE writer thread.

`accept()` decodes messages in the caller's thread and queues them. The writer takes what has queued up during
its last commit, so that it needs no timer, writes it in one transaction, and reports. Nothing is reported
before COMMIT. While the database is away, the writer keeps its batch and tries again; the queue fills, and
`accept()` says so.
"""

import logging
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, repeat
from operator import itemgetter
from typing import NamedTuple

import psycopg

from ingest import transaction
from ingest.activity import ActivityLog
from ingest.after_commit import AfterCommit
from ingest.batch import NO_VALUE, Batch, Item, prepare, read_local_times
from ingest.decode import (
    LOCAL_TIMES,
    is_array,
)
from ingest.device_cache import DeviceCache
from ingest.listening_mark import UNDERWAY, ListeningMark
from ingest.message import FAILED, Outcome, RawMessage, Reason, Status
from ingest.metrics import Metrics
from ingest.quotas import Quotas
from ingest.session_work import SessionWork
from thingscale.background.watched import WatchedThread
from thingscale.devices.listening import Door
from thingscale.events.observe import Observations, Observer, concern, settle
from thingscale.events.rule_cache import RuleCache
from thingscale.lib.clock import now_us
from thingscale.processes.change_notifications import Change
from thingscale.processes.wake_up import WAKE_UP
from thingscale.streams import writer
from thingscale.streams.exactly_once import commit_log, redeliveries
from thingscale.streams.exactly_once.idempotent_requests import Key
from thingscale.streams.writer import Partitions

log = logging.getLogger(__name__)

MAX_BATCH = 5_000  # messages a transaction
LAST_SECONDS = 5  # for a statement that still runs when the time of a drain is over
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
MAX_DROPPED = 20  # empty partitions that may be dropped, one after the other, while a batch is stored
# Errors that a payload itself can cause. Any other error is ours, and rejects no message.
POISON = (
    *(psycopg.DataError, psycopg.errors.ProgramLimitExceeded),
    *(ValueError, OverflowError, struct.error),  # psycopg can't even send it
)
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)  # no connection, no disk space, timeouts
NO_PARTITION = psycopg.errors.CheckViolation
SHORTEST = len('{"value":1},')  # element of an array
LARGE = 512  # bytes of a payload
UNFOLDED = 4
READING = 150  # bytes of a reading besides its value
_RAW = itemgetter(Item._fields.index("raw"))
_ARRAY = itemgetter(Item._fields.index("array"))
_PAYLOAD = itemgetter(RawMessage._fields.index("payload"))
_POINTS = itemgetter(RawMessage._fields.index("points"))
_CHANNEL = itemgetter(writer.Row._fields.index("channel"))
_RECEIVED_AT = itemgetter(RawMessage._fields.index("received_at"))

Done = Callable[[list[Outcome]], None]
Completion = tuple[Done, list[Outcome]]
Dispatch = Callable[[list[Completion]], None]


class QueueFull(Exception):
    """Try again: the store takes less than what comes in, or is away."""


class QueueLimits(NamedTuple):
    """How much the queue may hold."""

    messages: int
    bytes: int


def queue_size(messages: Sequence[RawMessage]) -> int:
    """Bytes that they take while they wait for storage."""
    size = sum(map(len, map(_PAYLOAD, messages)))
    if size > LARGE * len(messages):  # small datapoints of arrays take several times their text
        size += sum(UNFOLDED * len(raw.payload) for raw in messages if is_array(raw.payload))
    if any(map(_POINTS, messages)):
        every = [raw.points for raw in messages if raw.points]
        size += sum(READING * len(points.values) + sum(map(len, points.values)) for points in every)
    return size


class Submission:
    """Messages of one caller, answered together."""

    __slots__ = ("cancelled", "done", "items", "points", "size", "work")

    def __init__(self, items: list[Item], done: Done, size: int, work: SessionWork | None) -> None:
        self.items = items
        self.work = work
        self.done = done
        self.size = size
        self.points = len(items)  # about as many datapoints
        if any(map(_ARRAY, items)):
            self.points = sum(map(_points, items))
        self.cancelled = False


def _points(item: Item) -> int:
    """How many datapoints an item has; of an array that is not read yet, how many it may have."""
    if item.array is LOCAL_TIMES:
        return len(item.raw.payload) // SHORTEST
    return len(item.array.times) if item.array else 1


def run_all(completions: list[Completion]) -> None:
    for done, outcomes in completions:
        try:
            done(outcomes)
        except Exception:
            log.exception("A connector failed to take its answer")


class Writer:
    """`connect` opens the writer's connection, in autocommit mode. `dispatch` brings answers to the callers'
    thread. `first_contact` gets the primary keys of devices that were created. `key` is the writer's id in
    the database. `fenced` is called when other gateways have taken this writer for dead. `hears` says, in
    the writer's thread, whether devices reach it at all by its `door`."""

    def __init__(  # noqa: PLR0913  (what differs between the processes)
        self,
        connect: Callable[[], psycopg.Connection],
        device_cache: DeviceCache,
        *,
        limits: QueueLimits,
        dispatch: Dispatch = run_all,
        first_contact: Callable[[list[int]], None] = lambda devices: None,
        key: uuid.UUID | None = None,
        fenced: Callable[[], None] = lambda: None,
        door: Door = Door.HTTP,
        hears: Callable[[], bool] = lambda: True,
    ) -> None:
        self.limits = limits
        self.queued = 0  # messages
        self.queued_bytes = 0
        self.closed = False  # it takes nothing more, as if it were full
        self.metrics = Metrics()
        self._connect = connect
        self._device_cache = device_cache
        self._dispatch = dispatch
        self._queue: deque[Submission] = deque()
        self._wakeup = threading.Condition()
        self._give_up = threading.Event()
        self._writer = key or uuid.uuid4()
        self._sequence = 0
        self._redeliveries = redeliveries.Redeliveries(self._writer)
        self._partitions = Partitions()
        self._activity = ActivityLog(door)
        self._mark = ListeningMark(self._writer, door, hears)
        self.quotas = Quotas()
        self._rules = RuleCache()
        self._after_commit = AfterCommit(self._activity, self.quotas, first_contact)
        # Microseconds: when the messages that are being answered were received.
        self.received: list[int] = []
        self._committed: list[Batch] = []  # parts of the batch that is being stored
        self._connection: psycopg.Connection | None = None
        self._fenced = fenced
        self._thread = WatchedThread("writer", self._run)

    # In the callers' threads

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def gauges(self) -> dict[str, int]:
        return {"queue_messages": self.queued, "queue_bytes": self.queued_bytes}

    @property
    def full(self) -> bool:
        most = self.limits
        return self.closed or self.queued >= most.messages or self.queued_bytes >= most.bytes

    def accept(
        self, messages: Sequence[RawMessage], done: Done, work: SessionWork | None = None
    ) -> Submission:
        """Queues messages; `done` gets their outcomes, in order, once they are committed.
        Raises QueueFull, with nothing taken."""
        if self.full:
            raise QueueFull
        items = [prepare(message) for message in messages]
        submission = Submission(items, done, queue_size(messages), work)
        with self._wakeup:
            self.queued += len(items)
            self.queued_bytes += submission.size
            self._queue.append(submission)
            self._wakeup.notify()
        return submission

    def on_change(self, change: Change | None) -> None:
        """In the listener's thread."""
        self.quotas.on_change(change)
        self._rules.on_change(change)
        if change is None or change[0] == "limits":
            with self._wakeup:
                self._wakeup.notify()

    def acknowledge(self, completions: list[Completion], received: Sequence[int]) -> None:
        """In the callers' thread, for a `dispatch` that hands over to it."""
        run_all(completions)
        self.metrics.acknowledged.observe_ages(received, now_us())

    def drain(self, seconds: float) -> bool:
        """Stops accepting, stores what is queued, stops the thread. False if time ran out first."""
        with self._wakeup:
            self.closed = True
            self._thread.stopping.set()
            self._wakeup.notify()
        self._thread.join(seconds)
        self._give_up.set()
        self._thread.join(LAST_SECONDS)
        return not self.queued

    # In the writer's thread

    def _run(self) -> None:
        while (submissions := self._next_batch()) is not None:
            try:
                if submissions:
                    self._store(submissions)
            except Exception:
                log.exception("The writer failed; trying again")
                self._requeue(submissions)
                self._disconnect()
                self._give_up.wait(1)
            if self._give_up.is_set():
                break
            if self._activity.wait_seconds == 0:
                self._flush_activity()
            if self._mark.wait_seconds == 0 and not self._mark.write(self._connected, self._behind()):
                self._disconnect()
            if self.quotas.wait_seconds == 0 and not self.quotas.look(self._connected):
                self._disconnect()
        if not self._give_up.is_set():
            self._flush_activity()
            if self._activity.unwritten_since is None:
                self._mark.leave(self._connected)
        self._disconnect(forget=True)

    def _behind(self) -> float:
        """How many seconds of what devices have sent are not in the database yet."""
        with self._wakeup:
            waiting = next((queued.items[0].raw.received_at for queued in self._queue if queued.items), None)
        unwritten = [at for at in (waiting, self._activity.unwritten_since) if at is not None]
        return UNDERWAY + max(0, now_us() - min(unwritten)) / 1e6 if unwritten else UNDERWAY

    def _flush_activity(self) -> None:
        if not self._activity.flush(self._connected):
            self._disconnect()

    def _next_batch(self) -> list[Submission] | None:
        """Waits until something has queued up, or until activity is to be flushed, quotas are to be measured
        or a mark is to be made. None: stop."""
        with self._wakeup:
            if not self._queue and not self.closed:
                waits = (self._activity.wait_seconds, self.quotas.wait_seconds, self._mark.wait_seconds)
                self._wakeup.wait(min(seconds for seconds in waits if seconds is not None))
            if not self._queue and self.closed:
                return None
            taken: list[Submission] = []
            count = 0
            while self._queue and (not taken or count + self._queue[0].points <= MAX_BATCH):
                work = self._queue[0].work
                if count and work and work.asked:
                    break  # it has to see what was stored before it
                submission = self._queue.popleft()
                count += submission.points + (work is not None)
                taken.append(submission)
            return taken

    def _requeue(self, submissions: list[Submission]) -> None:
        with self._wakeup:
            self._queue.extendleft(reversed(submissions))

    def _store(self, submissions: list[Submission]) -> None:
        started = time.monotonic()
        self.received = []
        live = [submission for submission in submissions if not submission.cancelled]
        items = [item for submission in live for item in submission.items]
        works = [submission.work for submission in live if submission.work]
        outcomes = self._commit(items, live, works)
        if outcomes is None:
            self._run_after_commit()  # some halves are committed
            self._requeue(submissions)
            return
        seconds = time.monotonic() - started
        with self._wakeup:
            for submission in submissions:
                self.queued -= len(submission.items)
                self.queued_bytes -= submission.size
        completions: list[Completion] = []
        start = 0
        for submission in live:
            end = start + len(submission.items)
            completions.append((submission.done, outcomes[start:end]))
            start = end
        try:
            self._dispatch(completions)
        except Exception:  # to store the batch again would be worse
            log.exception("A connector failed to take its answers")
        self.metrics.batch(outcomes, seconds)
        self._run_after_commit()

    def _run_after_commit(self) -> None:
        committed, self._committed = self._committed, []
        self._after_commit.run(committed)

    def _commit(
        self, items: list[Item], live: list[Submission], works: Sequence[SessionWork] = ()
    ) -> list[Outcome] | None:
        """The outcomes of the items, once they are committed; None if that was given up."""
        attempt = doubts = 0
        while (items or works) and not self._give_up.is_set():
            try:
                return self._commit_once(items, works)
            except commit_log.Fenced:
                self._fenced()
                raise
            except commit_log.NotRegistered:
                self._disconnect()  # to connect again reads what was announced meanwhile
                continue
            except (psycopg.Error, *POISON) as error:
                if not isinstance(error, AWAY) or isinstance(error, POISON):
                    if doubts >= (MAX_DROPPED if isinstance(error, NO_PARTITION) else 1):
                        return self._commit_halves(items, works, error)
                    self._partitions = Partitions()  # one may have been dropped
                    doubts += 1
                    continue
                log.warning("The database is away or busy: %s", type(error).__name__)
                self._disconnect()
            self._give_up.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
            if any(submission.cancelled for submission in live):
                return None
        return [] if not items and not works else None

    def _commit_once(self, items: list[Item], works: Sequence[SessionWork]) -> list[Outcome]:
        connection = self._connected()
        batch = Batch(items, self._device_cache, self.quotas)
        received = times = list(map(_RECEIVED_AT, map(_RAW, items)))
        if not batch.simple:
            if local := batch.local_times:
                items = read_local_times(connection, items, local)
                batch = Batch(items, self._device_cache, self.quotas)
            if again := batch.repeats:
                redeliveries.announce(connection, self._writer, again)
            times = times + batch.own_times
        now = now_us()
        if times:
            self._partitions.ensure(connection, times, now)
        self._rules.load(connection, batch.users)
        small = batch.simple and not works and not self._redeliveries.known
        small = small and len(batch.rows) <= writer.MAX_STATEMENT_ROWS
        watched = self._rules.watched(map(_CHANNEL, batch.rows)) if small else {}
        small = small and writer.fits_one_statement(batch.rows, now)
        if small and watched:
            small = not concern(batch.rows, watched)
        self._sequence += 1
        doubtful: dict[int, Key] = {}
        observers: list[Observer] = []  # one, where channels have rules
        observations = Observations()
        try:
            if not small or not writer.write_in_one_statement(
                connection, batch.rows, self._writer, self._sequence, self._redeliveries.seen
            ):
                with connection.transaction(), connection.cursor() as cursor:
                    if doubtful := self._possible_duplicates(cursor, items):
                        batch = batch.with_possible_duplicates(doubtful)
                    compare = partial(self._compare, observers, batch)
                    transaction.write(cursor, batch, works, self._writer, compare)
                    for observer in observers:
                        observations = observer.write(cursor)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            if not self._was_committed():
                self._rules.forget(batch.users)
                raise
        except BaseException:
            self._rules.forget(batch.users)
            raise
        if not batch.simple:
            self._redeliveries.confirmed(doubtful.values())
            batch.store_routes()
        if observations.work:
            settle(observations)
            self._rules.grow(observations.matches.total())
        if observations.rows:
            WAKE_UP.events()
        self._committed.append(batch)
        self.received += received
        return batch.outcomes

    def _compare(self, observers: list[Observer], batch: Batch) -> None:
        watched = self._rules.watched(map(_CHANNEL, batch.rows))
        if watched:
            observers.append(Observer())
            observers[0].compare(batch.rows, watched, batch.device_ids)

    def _possible_duplicates(self, cursor: psycopg.Cursor, items: Sequence[Item]) -> dict[int, Key]:
        """The first statement of a transaction. Returns places and keys of messages that another process has
        announced as sent again, though they do not say so themselves."""
        self._redeliveries.catch_up(cursor, commit_log.record_batch(cursor, self._writer, self._sequence))
        if not self._redeliveries.known:
            return {}
        announced = self._redeliveries.announced_at
        return {
            place: (raw.user, raw.dedupe)
            for place, (raw, *_) in enumerate(items)
            if raw.dedupe is not None
            and raw.connected_at < announced(raw.user, raw.dedupe)
            and not raw.repeated
        }

    def _commit_halves(
        self, items: list[Item], works: Sequence[SessionWork], error: Exception
    ) -> list[Outcome] | None:
        """Finds the message at fault, so that the rest of the batch is stored. The message is recorded as
        rejected if its payload caused the error; else it is to be sent again."""
        if not items or (len(items) == 1 and not isinstance(error, POISON)):
            diagnosis = error.diag if isinstance(error, psycopg.Error) else None
            place = diagnosis and (diagnosis.constraint_name or diagnosis.column_name or diagnosis.table_name)
            log.error(  # no value
                "PostgreSQL refused a message for what is not its fault, so it has to come again: %s at %s",
                type(error).__name__,
                place or "-",
            )
            for work in works:
                work.failed = True
            return [FAILED] * len(items)
        if len(items) == 1:
            log.warning("PostgreSQL refused a value: %s", type(error).__name__)
            if items[0].reason:  # it was the record of a rejection
                return [Outcome(Status.REJECTED, Reason.UNSTORABLE)]
            return self._commit([Item(items[0].raw, NO_VALUE, Reason.UNSTORABLE)], [], works)
        middle = len(items) // 2
        first = self._commit(items[:middle], [])
        second = self._commit(items[middle:], [], works) if first is not None else None
        return first + second if first is not None and second is not None else None

    def _was_committed(self) -> bool:
        """Whether the transaction in which the connection broke was committed. Waits until the database can
        tell."""
        for delay in chain((0, *RETRY_SECONDS), repeat(RETRY_SECONDS[-1])):
            if self._give_up.wait(delay):
                break
            self._disconnect()
            try:
                return commit_log.was_committed(self._connected(), self._writer, self._sequence)
            except psycopg.Error:
                continue
        return False

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            connection = self._connect()
            try:
                self._redeliveries.register(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self, forget: bool = False) -> None:
        if self._connection is None:
            return
        try:
            if forget:
                commit_log.unregister(self._connection, self._writer)
            self._connection.close()
        except psycopg.Error:
            log.debug("The connection was gone already")
        self._connection = None
