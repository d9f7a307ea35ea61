"""The one ordered way from the clients to the store: what came in together in a turn of the loop, and what
has to wait while the queue is full."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, TypeVar

from ingest.message import Outcome, RawMessage
from ingest.session_work import Asked, Behind, Found, RetainedAsked, RetainedPage, SessionWork
from ingest.store import Store
from thingscale.devices.mqtt_store import (
    Left,
    Open,
    Opened,
    Progress,
    PublishedMessage,
    QueuedRow,
    Subscribed,
)

RETRY_SECONDS = 0.02  # how often what waits for room in the queue is offered again
GATHER_MESSAGES = 500  # that go on together, with the read that reaches this
GATHER_BYTES = 256 * 1024  # of payload, the same
SHARE = 4  # one account has at most one part in so many of the queue
QUEUES = 100  # read at once: each answer may have 256 kB
ASKED_SECONDS = 10.0  # that an answer about a session may take

log = logging.getLogger(__name__)
T = TypeVar("T")

Answer = asyncio.Future[Any]


class Refused(Exception):
    """The database can't answer, or not in time."""


class Chunk(Protocol):
    """Messages of one client."""

    messages: list[RawMessage]
    size: int

    @property
    def account(self) -> int:
        """Whose share of the queue it takes."""

    def without_qos_0(self) -> "Chunk":
        """What has to wait while the store takes nothing; the rest is dropped."""

    def submitted(self) -> Iterable[Progress]:
        """It is on its way: what the client's session has to remember with it."""

    def dropped(self, count: int) -> None: ...
    def done(self, outcomes: list[Outcome]) -> None: ...


class Queued:
    """Of an account."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = self.bytes = 0


class Questions(NamedTuple):
    """Of one turn, each with the future that gets the answer."""

    open: list[tuple[Open, Answer]]
    unsubscribe: list[tuple[int, str, str]]
    subscribe: list[tuple[int, Subscribed]]
    queues: list[tuple[tuple[int, int], Answer]]
    retained: list[tuple[list[RetainedAsked], Callable[[Sequence[RetainedPage] | None], None]]]
    written: list[Answer]  # futures that only wait for COMMIT


class Admission:
    """`relax` is called when clients may be read again."""

    def __init__(self, store: Store, relax: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._relax = relax
        self._due = False  # a flush is
        self._gathered: list[Chunk] = []  # in this turn of the loop
        self._messages = self._bytes = 0  # of those
        self._progress: dict[int, Callable[[], Progress]] = {}
        self._left: list[Left] = []
        self._published: list[int] = []
        self._wills: list[int] = []
        self._results: dict[int, str] = {}  # of commands
        self._questions = Questions([], [], [], [], [], [])
        self._asking = False  # some are on their way; those that come up meanwhile go together
        self._written: list[Callable[[], None]] = []  # called once the progress of this turn is committed
        self._waiting: dict[int, deque[Chunk]] = {}  # by account; whose turn is next comes first
        self._queued: dict[int, Queued] = {}  # by account: what the store has, and what this turn has brought

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def holds(self, account: int) -> bool:
        """Whether messages of this account wait for room."""
        return account in self._waiting

    @property
    def pending(self) -> bool:
        """Whether something taken from a client is not stored yet."""
        return bool(self._gathered or self._waiting or self._store.queued)

    # Messages

    def submit(self, chunk: Chunk, wait: bool = False) -> bool:
        """False if the queue is full: QoS 0 is dropped and counted, the rest waits, unacknowledged, and so
        should its client. `wait` keeps QoS 0 as well."""
        if chunk.account not in self._waiting and self._gather(chunk):
            return True
        kept = chunk if wait else chunk.without_qos_0()
        dropped = len(chunk.messages) - len(kept.messages)
        self._store.metrics.dropped += dropped
        chunk.dropped(dropped)
        if kept.messages:
            self._offer_later()
            self._waiting.setdefault(chunk.account, deque()).append(kept)
        return not kept.messages

    def _gather(self, chunk: Chunk) -> bool:
        """What the clients send in one turn of the loop goes on together: with a thousand clients of one
        message each, one by one would cost more than storing them. Little of it, since the store's limits do
        not see it yet."""
        if self._store.full or self._has_its_share(chunk.account):
            return False
        queued = self._queued.setdefault(chunk.account, Queued())
        queued.messages += len(chunk.messages)
        queued.bytes += chunk.size
        self._gathered.append(chunk)
        self._messages += len(chunk.messages)
        self._bytes += chunk.size
        if self._messages >= GATHER_MESSAGES or self._bytes >= GATHER_BYTES:
            self.flush()
        else:
            self._flush_soon()
        return True

    def _has_its_share(self, account: int) -> bool:
        queued = self._queued.get(account)
        limits = self._store.limits
        return queued is not None and (
            queued.messages * SHARE >= limits.messages or queued.bytes * SHARE >= limits.bytes
        )

    def _release(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            queued = self._queued[chunk.account]
            queued.messages -= len(chunk.messages)
            queued.bytes -= chunk.size
            if not queued.messages:
                del self._queued[chunk.account]

    # What is remembered of sessions, behind the messages of this turn

    def note(
        self, session: int, progress: Callable[[], Progress], written: Callable[[], None] | None
    ) -> None:
        """`progress` is asked when it is sent; `written` is called once it is committed."""
        self._progress[session] = progress
        if written:
            self._written.append(written)
        self._flush_soon()

    def leave(self, left: Left) -> None:
        self._left.append(left)
        self._flush_soon()

    def will_published(self, session: int) -> None:
        """It is among the messages of this turn."""
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

    async def open(self, open: Open) -> Opened:
        """Raises Refused, as do the others."""
        answer: Opened = await self._ask(self._questions.open, open)
        return answer

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

    async def unsubscribe(self, filters: list[tuple[int, str, str]]) -> None:
        self._questions.unsubscribe.extend(filters)
        answer: Answer = self._loop.create_future()
        self._questions.written.append(answer)
        self._flush_soon()
        await self._wait(answer)

    async def end_those_over(self) -> list[tuple[int, int]]:
        """Sessions and their accounts."""
        found = await self._find(Asked(end=True))
        return list(found.ended)

    async def read_published(self, seen: Iterable[int]) -> list[PublishedMessage]:
        """What is new, but these."""
        found = await self._find(Asked(published=list(seen)))
        return list(found.published)

    async def _find(self, asked: Asked) -> Found:
        work = SessionWork(asked, None)
        await self._wait(self._submit_work(work))
        if work.found is None:
            raise Refused
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
            raise Refused from None

    # To the store

    def _flush_soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hands over what this turn of the loop has brought so far."""
        self._due = False
        self._flush_messages()
        self._flush_questions()

    def _flush_messages(self) -> None:
        chunks, self._gathered = self._gathered, []
        self._messages = self._bytes = 0
        if self._store.full and chunks:
            self._release(chunks)
            self._offer_later()
            for chunk in reversed(chunks):  # they came before what waits already
                self._waiting.setdefault(chunk.account, deque()).appendleft(chunk)
            chunks = []
        progress = {each.session: each for chunk in chunks for each in chunk.submitted()}
        progress |= {session: ask() for session, ask in self._progress.items()}
        behind = Behind(list(progress.values()), self._left, self._published, self._results, self._wills)
        self._left, self._published, self._results, self._wills = [], [], {}, []
        written, self._written = self._written, []
        self._progress = {}
        if not chunks and not any(behind):
            return
        work = SessionWork(None, behind) if any(behind) else None
        messages = list(chain.from_iterable([chunk.messages for chunk in chunks]))

        def done(outcomes: list[Outcome]) -> None:
            self._release(chunks)
            share_out(chunks, outcomes)
            for each in written:
                each()

        self._store.accept(messages, done, work)

    def _flush_questions(self) -> None:
        """All that has come up while the ones before were on their way: a statement of many costs little more
        than one of one."""
        questions = self._questions
        if self._asking or not any(questions):
            return
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
                run(answered, list(islice(pages, len(retained))) if found else None)
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
                    answer.set_exception(Refused())
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
        if self._store.nearly_empty:
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


def run(answered: Callable[[T], None], value: T) -> None:
    try:
        answered(value)
    except Exception:
        log.exception("A client failed to take its answer")


def share_out(chunks: list[Chunk], outcomes: list[Outcome]) -> None:
    """To chunks that were submitted together."""
    start = 0
    for chunk in chunks:
        end = start + len(chunk.messages)
        run(chunk.done, outcomes[start:end])
        start = end
