"""The one ordered way from the clients to the store: what came in together in a turn of the loop, and what
has to wait while the queue is full."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

from ingest.message import Outcome, RawMessage
from ingest.session_work import Asked, Behind, Found, RetainedAsked, RetainedPage, SessionWork
from ingest.store_client import StoreClient
from ingest.writer import Limits
from thingscale.devices.mqtt_store.app_messages import PublishedMessage
from thingscale.devices.mqtt_store.queues import Progress, QueuedRow
from thingscale.devices.mqtt_store.sessions import Disconnected, Open, Opened, WaitingWill
from thingscale.devices.mqtt_store.subscriptions import Subscribed

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


class Submitter(Protocol):
    unacked: int

    def submitted(self, chunk: Any) -> Iterable[Progress]:
        """It is on its way: what the client's session has to remember with it."""

    def committed(self, chunk: Any, outcomes: list[Outcome]) -> None: ...


class Chunk(Protocol):
    """Messages of one client."""

    messages: list[RawMessage]
    account: int  # whose share of the queue it takes
    size: int
    weight: int  # how many messages it counts for: copies for queues take as long
    will_of: int  # session whose will is its message; 0: none
    remembers: bool  # whether to ask at `submitted`

    @property
    def publishes(self) -> Submitter:
        """Who is told what becomes of it."""

    def without_qos_0(self) -> "Chunk":
        """What has to wait while the store takes nothing; the rest is dropped."""


class Questions(NamedTuple):
    """Of one turn, each with the future that gets the answer."""

    open: list[tuple[Open, Answer]]
    unsubscribe: list[tuple[int, str, str]]
    subscribe: list[tuple[int, Subscribed]]
    queues: list[tuple[tuple[int, int], Answer]]
    retained: list[tuple[list[RetainedAsked], Callable[[Sequence[RetainedPage] | None], None]]]
    written: list[Answer]  # futures that only wait for COMMIT


class Admission:
    """`limits`: of what was taken from clients and is not stored yet. `relax` is called when clients may be
    read again."""

    def __init__(self, store: StoreClient, limits: Limits, relax: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self.limits = limits
        self._relax = relax
        self.queued = 0  # messages, of all accounts
        self.queued_bytes = 0
        self._queued: dict[int, int] = {}  # messages, by account
        self._queued_bytes: dict[int, int] = {}
        self._due = False  # a flush is
        self._gathered: list[Chunk] = []  # in this turn of the loop
        self._gathered_messages = self._gathered_bytes = 0
        self._progress: dict[int, Callable[[], Progress]] = {}
        self._left: list[Disconnected] = []
        self._published: list[int] = []
        self._results: dict[int, str] = {}  # of commands
        self._wills: list[int] = []  # published: their sessions
        self._questions = Questions([], [], [], [], [], [])
        self._asking = False  # some are on their way; those that come up meanwhile go together
        self._written: list[Callable[[], None]] = []  # called once the progress of this turn is committed
        self._waiting: dict[int, deque[Chunk]] = {}  # by account; whose turn is next comes first

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

    def submit(self, chunk: Chunk, wait: bool = False) -> bool:
        """False if the queue is full: QoS 0 is dropped and counted, the rest waits, unacknowledged, and so
        should its client. `wait` keeps QoS 0 as well."""
        if chunk.account not in self._waiting and self._gather(chunk):
            return True
        kept = chunk if wait else chunk.without_qos_0()
        dropped = len(chunk.messages) - len(kept.messages)
        self._store.metrics.dropped += dropped
        chunk.publishes.unacked -= dropped
        if kept.messages:
            self._offer_later()
            self._waiting.setdefault(chunk.account, deque()).append(kept)
        return not kept.messages

    def _gather(self, chunk: Chunk) -> bool:
        """What the clients send in one turn of the loop goes on together: with a thousand clients of one
        message each, one by one would cost more than storing them. A lot of it goes at once, for the store to
        begin. False if there is no room, for anybody or for this account."""
        limits, account, count, size = self.limits, chunk.account, chunk.weight, chunk.size
        messages, bytes_ = self._queued.get(account, 0), self._queued_bytes.get(account, 0)
        full = self.queued >= limits.messages or self.queued_bytes >= limits.bytes
        if full or messages * SHARE >= limits.messages or bytes_ * SHARE >= limits.bytes:
            return False
        self._queued[account], self._queued_bytes[account] = messages + count, bytes_ + size
        self.queued += count
        self.queued_bytes += size
        self._gathered.append(chunk)
        self._gathered_messages += count
        self._gathered_bytes += size
        if self._gathered_messages >= GATHER_MESSAGES or self._gathered_bytes >= GATHER_BYTES:
            self.flush()
        else:
            self._flush_soon()
        return True

    # What is remembered of sessions, behind the messages of this turn

    def note(
        self, session: int, progress: Callable[[], Progress], written: Callable[[], None] | None
    ) -> None:
        """`progress` is asked when it is sent; `written` is called once it is committed."""
        self._progress[session] = progress
        if written:
            self._written.append(written)
        self._flush_soon()

    def leave(self, left: Disconnected) -> None:
        self._left.append(left)
        self._flush_soon()

    def will_published(self, session: int) -> None:
        """At once, since there was nothing to keep. One that is a message of this turn is in its chunk."""
        self._wills.append(session)
        self._flush_soon()

    def published(self, key: int) -> None:
        """What an app has published is among the messages of this turn."""
        self._published.append(key)
        self._flush_soon()

    def command_result(self, command: int, result: str) -> None:
        self._results[command] = result
        self._flush_soon()

    # What is asked about sessions: the answer is as of behind all that has been submitted before

    async def open(self, open: Open, unwanted: Callable[[Open, Opened], None]) -> Opened:
        """Raises DatabaseAway, as do the others. `unwanted` gets what was opened for a caller that does not
        wait any more."""
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
        answer: list[QueuedRow] = await self._ask(self._questions.queues, (session, seq))
        return answer

    def subscribe(
        self,
        subscriptions: Iterable[tuple[int, Subscribed]],
        retained: list[RetainedAsked],
        answered: Callable[[Sequence[RetainedPage] | None], None],
    ) -> None:
        """`answered` gets what there is of the retained messages, before anything that was submitted later is
        routed; or None, if the database can't answer."""
        self._questions.subscribe.extend(subscriptions)
        self._questions.retained.append((retained, answered))
        self._flush_soon()

    async def write_subscriptions(
        self,
        subscribe: Iterable[tuple[int, Subscribed]] = (),
        unsubscribe: Iterable[tuple[int, str, str]] = (),
    ) -> None:
        """Until they are committed, and so is all that was asked before."""
        self._questions.subscribe.extend(subscribe)
        self._questions.unsubscribe.extend(unsubscribe)
        answer: Answer = self._loop.create_future()
        self._questions.written.append(answer)
        self._flush_soon()
        await self._wait(answer)

    async def expire_sessions(self) -> list[tuple[int, int]]:
        """Sessions and their accounts."""
        found = await self._find(Asked(expire=True))
        return list(found.ended)

    async def claim_wills(self, ending: Sequence[int]) -> tuple[Sequence[WaitingWill], float | None]:
        """Those that are due, and of the sessions that are `ending`; and the seconds until the next is."""
        found = await self._find(Asked(wills=ending))
        return found.wills, found.next_will

    async def read_published(self, seen: Iterable[int]) -> list[PublishedMessage]:
        """What is new, but these."""
        found = await self._find(Asked(published=list(seen)))
        return list(found.published)

    async def _find(self, asked: Asked) -> Found:
        work = SessionWork(asked, None)
        await self._wait(self._submit_work(work))
        if work.found is None:
            raise DatabaseAway
        return work.found

    async def _ask(self, questions: list[tuple[Any, Answer]], question: Any) -> Any:
        answer: Answer = self._loop.create_future()
        questions.append((question, answer))
        self._flush_soon()
        return await self._wait(answer)

    async def _wait(self, answer: Answer) -> Any:
        try:
            async with asyncio.timeout(ASKED_SECONDS):
                return await answer
        except TimeoutError:
            raise DatabaseAway from None

    # To the store

    def _flush_soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hands over what this turn of the loop has brought so far."""
        self._due = False
        chunks, self._gathered = self._gathered, []
        self._gathered_messages = self._gathered_bytes = 0
        remembering = [chunk for chunk in chunks if chunk.remembers]
        progress = {each.session: each for chunk in remembering for each in chunk.publishes.submitted(chunk)}
        progress |= {session: ask() for session, ask in self._progress.items()}
        wills = self._wills + [chunk.will_of for chunk in chunks if chunk.will_of]
        behind = Behind(list(progress.values()), self._left, self._published, self._results, wills)
        self._left, self._published, self._results, self._wills = [], [], {}, []
        written, self._written = self._written, []
        self._progress = {}

        def done(outcomes: list[Outcome]) -> None:
            start = 0
            for chunk in chunks:
                end = start + len(chunk.messages)
                self._release(chunk)
                try:
                    chunk.publishes.committed(chunk, outcomes[start:end])
                except Exception:
                    log.exception("A client failed to take its answer")
                start = end
            for each in written:
                each()

        if chunks or any(behind):
            messages = list(chain.from_iterable([chunk.messages for chunk in chunks]))
            self._store.accept(messages, done, SessionWork(None, behind) if any(behind) else None)
        if not self._asking and any(self._questions):
            self._flush_questions()

    def _release(self, chunk: Chunk) -> None:
        account, count = chunk.account, chunk.weight
        self.queued -= count
        self.queued_bytes -= chunk.size
        if self._queued[account] == count:
            del self._queued[account], self._queued_bytes[account]
        else:
            self._queued[account] -= count
            self._queued_bytes[account] -= chunk.size

    def _flush_questions(self) -> None:
        """All that has come up while the ones before were on their way: a statement of many costs little more
        than one of one."""
        questions = self._questions
        self._asking = True
        # Who does not wait any more has perhaps asked again, on another connection.
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
            pairs: list[tuple[Answer, Any]] = [(answer, None) for answer in questions.written]
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

    def _submit_work(self, work: SessionWork) -> Answer:
        answer: Answer = self._loop.create_future()

        def done(outcomes: list[Outcome]) -> None:
            if not answer.done():
                answer.set_result(None)

        self._store.accept([], done, work)
        return answer

    # While the queue is full

    def _offer_later(self) -> None:
        if not self._waiting:
            self._loop.call_later(RETRY_SECONDS, self._offer)

    def _offer(self) -> None:
        """What waited, once there is room again: of each account in order, the accounts in turn."""
        limits = self.limits
        if self.queued < limits.messages // 2 and self.queued_bytes < limits.bytes // 2:
            for account in list(self._waiting):
                waiting = self._waiting.pop(account)
                while waiting and self._gather(waiting[0]):
                    waiting.popleft()
                if waiting:
                    self._waiting[account] = waiting  # at the end
                else:
                    self._relax()
        if self._waiting:
            self._loop.call_later(RETRY_SECONDS, self._offer)
