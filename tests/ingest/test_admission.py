"""Handing over together what came in together, in order, without passing the queue's limits by much."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from ingest.admission import GATHER_BYTES, GATHER_MESSAGES, SHARE, Admission
from ingest.gateway.hub import NOWHERE
from ingest.gateway.publishes import ClientSubmission, PublishInfo, TopicOwner
from ingest.gateway.publishes import Publishes as ClientPublishes
from ingest.message import STORED, Kind, Outcome, RawMessage
from ingest.metrics import Metrics
from ingest.session_work import SessionWork
from ingest.topics import Target
from ingest.writer import QueueLimits
from thingscale.devices.mqtt_store.queues import Progress
from thingscale.devices.mqtt_store.sessions import Disconnected

_accounts = itertools.count(1)
OWNER = TopicOwner(None, 1, "json/d1", Target(Kind.JSON, "d1", None))


class Publishes:
    """Of a client with an account of its own. Counts what it is told was dropped; its session has
    `remembered`."""

    def __init__(self, *remembered: Progress) -> None:
        self.unacked = 0
        self.account = next(_accounts)
        self._remembered = remembered

    def submitted(self, _chunk: ClientSubmission) -> Iterable[Progress]:
        return self._remembered

    def committed(self, _chunk: ClientSubmission, _outcomes: list[Outcome]) -> None: ...


def chunk(publishes: Any, payload: bytes = b"1", qos: int = 1, messages: int = 1) -> ClientSubmission:
    raw = RawMessage(publishes.account, "d1", None, Kind.JSON, payload, 0)
    sent = [PublishInfo(OWNER, qos, False, number + 1, {}, NOWHERE, 0) for number in range(messages)]
    return ClientSubmission(publishes, [raw] * messages, sent, remembers=True)


class Submission(NamedTuple):
    messages: Sequence[RawMessage]
    done: Callable[[list[Outcome]], None]
    work: SessionWork | None


class Store:
    """Keeps what it accepts until it is told to answer."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.accepted: list[Submission] = []

    def accept(
        self,
        messages: Sequence[RawMessage],
        done: Callable[[list[Outcome]], None],
        work: SessionWork | None = None,
    ) -> None:
        self.accepted.append(Submission(messages, done, work))

    def answer(self, submission: Submission) -> None:
        submission.done([STORED] * len(submission.messages))


def admission(
    store: Any, messages: int = 10**9, size: int = 10**9, resume_reading: Callable[[], None] = lambda: None
) -> Admission:
    return Admission(store, QueueLimits(messages, size), resume_reading)


def submit(
    *chunks: ClientSubmission, store: Store | None = None, messages: int = 10**9, size: int = 10**9
) -> tuple[Admission, list[bool]]:
    """In one turn of the loop."""

    async def run() -> tuple[Admission, list[bool]]:
        made = admission(store or Store(), messages, size)
        taken = [made.submit(each) for each in chunks]
        await asyncio.sleep(0)
        return made, taken

    return asyncio.run(run())


def test_one_turn_is_one_submission() -> None:
    store = Store()
    _, taken = submit(*(chunk(Publishes()) for _ in range(100)), store=store)
    assert all(taken)
    assert [len(each.messages) for each in store.accepted] == [100]


def test_a_lot_does_not_wait_for_the_end_of_the_turn() -> None:
    store = Store()
    submit(*(chunk(Publishes()) for _ in range(GATHER_MESSAGES + 1)), store=store)
    assert [len(each.messages) for each in store.accepted] == [GATHER_MESSAGES, 1]


def test_the_queue_is_not_overfilled_by_many_small_reads() -> None:
    made, taken = submit(*(chunk(Publishes()) for _ in range(5000)), messages=1000)
    assert made.queued == 1000
    assert taken.count(True) == 1000
    assert made.waiting == 4000


def test_nor_by_large_ones() -> None:
    made, _ = submit(*(chunk(Publishes(), messages=2000) for _ in range(50)), messages=1000)
    assert made.queued == 2000


def test_nor_by_large_payloads() -> None:
    payload = b'"%s"' % (b"x" * 60_000)
    made, _ = submit(*(chunk(Publishes(), payload) for _ in range(200)), size=2 * GATHER_BYTES)
    assert made.queued_bytes < 2 * GATHER_BYTES + len(payload)


def test_qos_0_is_dropped_where_there_is_no_room() -> None:
    store, clients = Store(), [Publishes() for _ in range(107)]
    made, taken = submit(*(chunk(client, qos=0) for client in clients), store=store, messages=100)
    assert (made.queued, store.metrics.dropped) == (100, 7)
    assert [client.unacked for client in clients] == [0] * 100 + [-1] * 7
    assert (all(taken), made.waiting) == (True, 0)


def test_what_is_answered_makes_room() -> None:
    store = Store()

    async def run() -> None:
        made, client = admission(store, messages=8), Publishes()
        assert [made.submit(chunk(client)) for _ in range(3)] == [True, True, False]  # it has its share
        assert made.holds(client.account)
        await asyncio.sleep(0)
        store.answer(store.accepted[0])
        assert (made.queued, made.queued_bytes, made.pending) == (0, 0, True)
        made._offer()
        assert (made.queued, made.holds(client.account)) == (1, False)
        await asyncio.sleep(0)
        store.answer(store.accepted[1])
        assert not made.pending

    asyncio.run(run())


def test_what_waits_is_offered_until_it_has_room() -> None:
    """In the order of each client, and each account has its turn."""
    store, clients = Store(), [Publishes() for _ in range(3)]

    async def run() -> None:
        read_on = asyncio.Event()
        made = admission(store, 1, resume_reading=lambda: None if made.waiting else read_on.set())
        assert made.submit(chunk(clients[0]))
        await asyncio.sleep(0)
        for client, text in itertools.product(clients, (b"1", b"2")):
            assert not made.submit(chunk(client, text))
        made.limits = made.limits._replace(messages=10**9)
        async with asyncio.timeout(60):
            await read_on.wait()
        await asyncio.sleep(0)

    asyncio.run(run())
    sent = [raw for submission in store.accepted[1:] for raw in submission.messages]
    for client in clients:
        assert [raw.payload for raw in sent if raw.user == client.account] == [b"1", b"2"]


def test_one_account_takes_its_share_of_the_queue_only() -> None:
    flood, quiet = Publishes(), Publishes()
    made, taken = submit(*(chunk(flood) for _ in range(1_000)), chunk(quiet), messages=1_000)
    assert taken.count(True) == 1_000 // SHARE + 1
    assert taken[-1]
    assert made.queued == 1_000 // SHARE + 1


def test_what_sessions_remember_goes_with_the_messages_of_the_turn() -> None:
    store = Store()
    with_chunk, alone = Progress(1, 5, [], [], []), Progress(2, 7, [9], [], [])
    asked: list[str] = []

    def progress() -> Progress:
        asked.append("when it is sent")
        return alone

    async def run() -> None:
        made = admission(store)
        assert made.submit(chunk(Publishes(with_chunk)))
        made.note(2, progress, None)
        made.note(2, progress, None)
        made.note_disconnected(Disconnected(3, 60, None))
        made.command_result(4, "delivered")
        assert asked == []
        await asyncio.sleep(0)

    asyncio.run(run())
    (submission,) = store.accepted
    assert len(submission.messages) == 1
    assert submission.work
    assert submission.work.asked is None
    behind = submission.work.behind
    assert behind
    assert (behind.progress, behind.disconnected, behind.results) == (
        [with_chunk, alone],
        [Disconnected(3, 60, None)],
        {4: "delivered"},
    )
    assert len(asked) == 1


def test_a_session_keeps_its_will_until_that_is_on_its_way() -> None:
    """While the queue is full the will waits, and a gateway that is killed leaves it to the next one."""
    store = Store()

    async def run() -> None:
        made = admission(store, 1)
        client: Any = SimpleNamespace(gateway=SimpleNamespace(admission=made), session=0)
        will = chunk(Publishes())
        will.publishes, will.will_of = ClientPublishes(client), 7
        assert made.submit(chunk(Publishes()))
        await asyncio.sleep(0)
        assert not made.submit(will, wait=True)
        await asyncio.sleep(0)
        assert len(store.accepted) == 1
        made.limits = made.limits._replace(messages=10**9)
        made._offer()
        await asyncio.sleep(0)

    asyncio.run(run())
    _, submission = store.accepted
    assert len(submission.messages) == 1
    assert submission.work
    assert submission.work.behind
    assert submission.work.behind.wills == [7]


def test_what_is_left_of_a_chunk_is_still_its_sessions_will() -> None:
    """Where storing it failed, it is offered again, and the session keeps it until then."""
    will = chunk(Publishes())
    will.will_of = 7
    assert will.only([True]).will_of == 7
