"""Hands over to the store, in order, what the clients send: what has come in one turn of the event loop goes
together, and what finds the queue full waits here."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.message import Outcome
from ingest.session_work import Asked, Behind, Found, RetainedAsked, RetainedPage, SessionWork
from ingest.store_client import StoreClient
from ingest.writer import QueueLimits
from thingscale.devices.mqtt_store.app_messages import PublishedMessage
from thingscale.devices.mqtt_store.queues import Progress, QueuedRow
from thingscale.devices.mqtt_store.sessions import Disconnected, Open, Opened, WaitingWill
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription

if TYPE_CHECKING:
    from ingest.gateway.publishes import ClientSubmission

RETRY_SECONDS = 0.02  # how often what waits for room in the queue is offered again
GATHER_MESSAGES = 500  # that go on together, with the read that reaches this
GATHER_BYTES = 256 * 1024  # of payload, the same
SHARE = 4  # one account has at most one part in so many of the queue
QUEUES = 100  # read at once: each answer may have 256 kB
ASKED_SECONDS = 10.0  # that an answer about a session may take

log = logging.getLogger(__name__)

Answer = asyncio.Future[Any]


class DatabaseAway(Exception):
    """The database can't answer, or not in time."""


class Questions(NamedTuple):
    """Questions about sessions, each with the future that gets its answer."""

    open: list[tuple[Open, Answer]]
    unsubscribe: list[tuple[int, str, str]]
    subscribe: list[tuple[int, StoredSubscription]]
    queues: list[tuple[tuple[int, int], Answer]]
    retained: list[tuple[list[RetainedAsked], Callable[[Sequence[RetainedPage] | None], None]]]
    committed: list[Answer]  # which only wait for COMMIT


class Admission:
    """`limits` are for what was taken from clients and is not stored yet. `resume_reading` is called when the
    clients may be read again."""

    def __init__(self, store: StoreClient, limits: QueueLimits, resume_reading: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self.limits = limits
        self._resume_reading = resume_reading
        self.queued = 0  # messages, of all accounts
        self.queued_bytes = 0
        self._queued: dict[int, int] = {}  # messages, by account
        self._queued_bytes: dict[int, int] = {}
        self._flush_due = False
        # In this turn of the loop:
        self._gathered: list[ClientSubmission] = []
        self._gathered_messages = self._gathered_bytes = 0
        self._progress: dict[int, Callable[[], Progress]] = {}
        self._disconnected: list[Disconnected] = []
        self._published: list[int] = []  # of apps
        self._results: dict[int, str] = {}  # of commands
        self._wills: list[int] = []  # sessions whose wills are published
        self._questions = Questions([], [], [], [], [], [])
        self._asking = False  # questions are on their way; later ones wait, and then go together
        self._on_commit: list[Callable[[], None]] = []  # to be called once this turn is committed
        self._waiting: dict[int, deque[ClientSubmission]] = {}  # by account; whose turn is next comes first

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def holds(self, account: int) -> bool:
        """Whether messages of this account wait for room."""
        return account in self._waiting

    @property
    def pending(self) -> bool:
        """Whether something taken from a client is not stored yet."""
        return bool(self.queued or self._waiting)

    # Messages

    def submit(self, submission: "ClientSubmission", wait: bool = False) -> bool:
        """False if the queue is full. Then messages at QoS 0 are dropped and counted, unless they `wait` as
        the others do, and the client should not be read."""
        if submission.account not in self._waiting and self._gather(submission):
            return True
        kept = submission if wait else submission.without_qos_0()
        dropped = len(submission.messages) - len(kept.messages)
        self._store.metrics.dropped += dropped
        submission.publishes.unacked -= dropped
        if kept.messages:
            if not self._waiting:
                self._loop.call_later(RETRY_SECONDS, self._offer)
            self._waiting.setdefault(submission.account, deque()).append(kept)
        return not kept.messages

    def _gather(self, submission: "ClientSubmission") -> bool:
        """Gathers what the clients send in one turn of the loop: with a thousand clients of one message each,
        to hand over one by one would cost more than to store them. If it is a lot, it is handed over at once,
        so that the store can begin. False if there is no room, at all or for this account."""
        limits, account, count, size = self.limits, submission.account, submission.weight, submission.size
        messages, bytes_ = self._queued.get(account, 0), self._queued_bytes.get(account, 0)
        full = self.queued >= limits.messages or self.queued_bytes >= limits.bytes
        if full or messages * SHARE >= limits.messages or bytes_ * SHARE >= limits.bytes:
            return False
        self._queued[account], self._queued_bytes[account] = messages + count, bytes_ + size
        self.queued += count
        self.queued_bytes += size
        self._gathered.append(submission)
        self._gathered_messages += count
        self._gathered_bytes += size
        if self._gathered_messages >= GATHER_MESSAGES or self._gathered_bytes >= GATHER_BYTES:
            self.flush()
        else:
            self._flush_soon()
        return True

    # What sessions have to remember: written behind the messages of this turn

    def note(
        self, session: int, progress: Callable[[], Progress], on_commit: Callable[[], None] | None
    ) -> None:
        """`progress` is asked when it is handed over."""
        self._progress[session] = progress
        if on_commit:
            self._on_commit.append(on_commit)
        self._flush_soon()

    def note_disconnected(self, disconnected: Disconnected) -> None:
        self._disconnected.append(disconnected)
        self._flush_soon()

    def will_published(self, session: int) -> None:
        """There was nothing to store. A will that is among the messages of this turn is not noted here."""
        self._wills.append(session)
        self._flush_soon()

    def published(self, key: int) -> None:
        """What an app has published, the row `key`, is among the messages of this turn."""
        self._published.append(key)
        self._flush_soon()

    def command_result(self, command: int, result: str) -> None:
        self._results[command] = result
        self._flush_soon()

    # Questions about sessions. The store answers them behind all that was submitted before

    async def open(self, open: Open, unwanted: Callable[[Open, Opened], None]) -> Opened:
        """Raises DatabaseAway, as the others do. If the caller stops waiting, `unwanted` gets what was
        opened."""
        answer: Answer = self._loop.create_future()
        self._questions.open.append((open, answer))
        self._flush_soon()
        try:
            opened: Opened = await self._wait(asyncio.shield(answer))
        except BaseException:

            def hand_over(answer: Answer) -> None:
                if not answer.cancelled() and not answer.exception() and answer.result().session:
                    unwanted(open, answer.result())

            answer.add_done_callback(hand_over)
            raise
        return opened

    async def read_queue(self, session: int, seq: int) -> list[QueuedRow]:
        answer: Answer = self._loop.create_future()
        self._questions.queues.append(((session, seq), answer))
        self._flush_soon()
        rows: list[QueuedRow] = await self._wait(answer)
        return rows

    def subscribe(
        self,
        subscriptions: Iterable[tuple[int, StoredSubscription]],
        retained: list[RetainedAsked],
        answered: Callable[[Sequence[RetainedPage] | None], None],
    ) -> None:
        """`answered` gets the retained messages, before any message is routed that was submitted later; or
        None, if the database can't answer."""
        self._questions.subscribe.extend(subscriptions)
        self._questions.retained.append((retained, answered))
        self._flush_soon()

    async def write_subscriptions(
        self,
        subscribe: Iterable[tuple[int, StoredSubscription]] = (),
        unsubscribe: Iterable[tuple[int, str, str]] = (),
    ) -> None:
        """Returns once they are committed, and all that was asked before."""
        self._questions.subscribe.extend(subscribe)
        self._questions.unsubscribe.extend(unsubscribe)
        answer: Answer = self._loop.create_future()
        self._questions.committed.append(answer)
        self._flush_soon()
        await self._wait(answer)

    async def expire_sessions(self) -> list[tuple[int, int]]:
        """Returns the sessions and their accounts."""
        found = await self._find(Asked(expire=True))
        return list(found.ended)

    async def claim_wills(self, ending: Sequence[int]) -> tuple[Sequence[WaitingWill], float | None]:
        """Returns the wills that are due and those of the sessions that are `ending`, and the seconds until
        the next one is due."""
        found = await self._find(Asked(wills=ending))
        return found.wills, found.next_will

    async def read_published(self, seen: Iterable[int]) -> list[PublishedMessage]:
        """Returns the new messages of apps without those that were `seen`."""
        found = await self._find(Asked(published=list(seen)))
        return list(found.published)

    async def _find(self, asked: Asked) -> Found:
        work = SessionWork(asked, None)
        answer: Answer = self._loop.create_future()

        def done(outcomes: list[Outcome]) -> None:
            if not answer.done():
                answer.set_result(None)

        self._store.accept([], done, work)
        await self._wait(answer)
        if work.found is None:
            raise DatabaseAway
        return work.found

    async def _wait(self, answer: Answer) -> Any:
        try:
            async with asyncio.timeout(ASKED_SECONDS):
                return await answer
        except TimeoutError:
            raise DatabaseAway from None

    # To the store

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hands over what has come in this turn of the loop so far."""
        self._flush_due = False
        submissions, self._gathered = self._gathered, []
        self._gathered_messages = self._gathered_bytes = 0
        remembering = [submission for submission in submissions if submission.remembers]
        progress = {
            each.session: each
            for submission in remembering
            for each in submission.publishes.submitted(submission)
        }
        progress |= {session: ask() for session, ask in self._progress.items()}
        wills = self._wills + [submission.will_of for submission in submissions if submission.will_of]
        behind = Behind(list(progress.values()), self._disconnected, self._published, self._results, wills)
        self._disconnected, self._published, self._results, self._wills = [], [], {}, []
        on_commit, self._on_commit = self._on_commit, []
        self._progress = {}

        def done(outcomes: list[Outcome]) -> None:
            start = 0
            for submission in submissions:
                end = start + len(submission.messages)
                account, count = submission.account, submission.weight
                self.queued -= count
                self.queued_bytes -= submission.size
                if self._queued[account] == count:
                    del self._queued[account], self._queued_bytes[account]
                else:
                    self._queued[account] -= count
                    self._queued_bytes[account] -= submission.size
                try:
                    submission.publishes.committed(submission, outcomes[start:end])
                except Exception:
                    log.exception("A client failed to take its answer")
                start = end
            for each in on_commit:
                each()

        if submissions or any(behind):
            messages = list(chain.from_iterable([submission.messages for submission in submissions]))
            self._store.accept(messages, done, SessionWork(None, behind) if any(behind) else None)
        if not self._asking and any(self._questions):
            self._flush_questions()

    def _flush_questions(self) -> None:
        """Asks together what has come up while the questions before were on their way: a statement for many
        costs little more than for one."""
        questions = self._questions
        self._asking = True
        # A client that does not wait any more has perhaps asked again, on another connection.
        opens = [(question, answer) for question, answer in questions.open if not answer.done()]
        queues = [(question, answer) for question, answer in questions.queues if not answer.done()]
        self._questions = Questions([], [], [], queues[QUEUES:], [], [])
        del queues[QUEUES:]
        work = SessionWork(
            Asked(
                [question for question, _ in opens],
                questions.unsubscribe,
                questions.subscribe,
                [question for question, _ in queues],
                [each for asked, _ in questions.retained for each in asked],
            ),
            None,
        )

        def done(outcomes: list[Outcome]) -> None:
            self._asking = False
            if any(self._questions):
                self._flush_soon()
            found = work.found
            pages = iter(found.retained if found else ())
            for retained, answered in questions.retained:
                try:
                    answered(list(islice(pages, len(retained))) if found else None)
                except Exception:
                    log.exception("A client failed to take its answer")
            pairs: list[tuple[Answer, Any]] = [(answer, None) for answer in questions.committed]
            for asked, got in (
                (opens, found and found.opened),
                (queues, found and found.queues),
            ):
                pairs += zip((answer for _, answer in asked), got or [None] * len(asked), strict=True)
            for answer, value in pairs:
                if answer.done():
                    continue
                if found is None:
                    answer.set_exception(DatabaseAway())
                else:
                    answer.set_result(value)

        self._store.accept([], done, work)

    # While the queue is full

    def _offer(self) -> None:
        """Submits what waits, once there is room again: in order for each account, the accounts in turn."""
        limits = self.limits
        if self.queued < limits.messages // 2 and self.queued_bytes < limits.bytes // 2:
            for account in list(self._waiting):
                waiting = self._waiting.pop(account)
                while waiting and self._gather(waiting[0]):
                    waiting.popleft()
                if waiting:
                    self._waiting[account] = waiting  # at the end
                else:
                    self._resume_reading()
        if self._waiting:
            self._loop.call_later(RETRY_SECONDS, self._offer)
