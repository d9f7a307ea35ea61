"""Handing over together what came in together, in order, without passing the queue's limits by much."""

import asyncio
import itertools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ingest.admission import GATHER_BYTES, GATHER_MESSAGES, SHARE, Admission
from ingest.gateway.hub import NOWHERE
from ingest.gateway.publishes import Chunk, PublishInfo, TopicOwner
from ingest.gateway.publishes import Publishes as ClientPublishes
from ingest.message import Kind, RawMessage
from ingest.pipeline import Limits, Pipeline
from ingest.router import Router
from ingest.topics import Target
from thingscale.devices.mqtt_store import Left, Progress

_accounts = itertools.count(1)
OWNER = TopicOwner(None, 1, "json/d1", Target(Kind.JSON, "d1", None))


class Publishes:
    """Of a client with an account of its own. Counts what it is told was dropped; its session has
    `remembered`."""

    def __init__(self, *remembered: Progress) -> None:
        self.unacked = 0
        self.account = next(_accounts)
        self._remembered = remembered

    def submitted(self, _chunk: Chunk) -> Iterable[Progress]:
        return self._remembered


def chunk(publishes: Any, payload: bytes = b"1", qos: int = 1, messages: int = 1) -> Chunk:
    made = Chunk(publishes)
    for number in range(1, messages + 1):
        sent = PublishInfo(OWNER, qos, False, number, {}, NOWHERE, 0)
        made.add(RawMessage(publishes.account, "d1", None, Kind.JSON, payload, 0), sent)
    return made


def pipeline(messages: int = 10**9, size: int = 10**9) -> Pipeline:
    """Its writer does not run: all that is accepted stays queued."""
    return Pipeline(lambda: None, Router(), limits=Limits(messages, size))  # type: ignore[arg-type, return-value]


def admission(queue: Pipeline) -> Admission:
    """The store of the gateway is in another process; it takes the same, and has the same limits."""
    store: Any = queue
    return Admission(store, lambda: None)


def submit(queue: Pipeline, *chunks: Chunk) -> tuple[Admission, list[bool]]:
    """In one turn of the loop."""

    async def run() -> tuple[Admission, list[bool]]:
        made = admission(queue)
        taken = [made.submit(each) for each in chunks]
        await asyncio.sleep(0)
        return made, taken

    return asyncio.run(run())


def test_one_turn_is_one_submission() -> None:
    queue = pipeline()
    _, taken = submit(queue, *(chunk(Publishes()) for _ in range(100)))
    assert all(taken)
    assert (len(queue._queue), queue.queued) == (1, 100)


def test_the_queue_is_not_overfilled_by_many_small_reads() -> None:
    queue = pipeline(messages=1000)
    made, taken = submit(queue, *(chunk(Publishes()) for _ in range(5000)))
    assert queue.queued == 1000
    assert taken.count(True) == 1000
    assert made.waiting == 4000


def test_nor_by_large_ones() -> None:
    queue = pipeline(messages=1000)
    submit(queue, *(chunk(Publishes(), messages=2000) for _ in range(50)))
    assert queue.queued == 2000


def test_nor_by_large_payloads() -> None:
    queue = pipeline(size=2 * GATHER_BYTES)
    payload = b'"%s"' % (b"x" * 60_000)
    submit(queue, *(chunk(Publishes(), payload) for _ in range(200)))
    assert queue.queued_bytes < 3 * GATHER_BYTES + len(payload)


def test_qos_0_is_dropped_where_there_is_no_room() -> None:
    queue, clients = pipeline(messages=1), [Publishes() for _ in range(GATHER_MESSAGES + 7)]
    made, taken = submit(queue, *(chunk(client, qos=0) for client in clients))
    assert (queue.queued, queue.metrics.dropped) == (GATHER_MESSAGES, 7)
    assert [client.unacked for client in clients] == [0] * GATHER_MESSAGES + [-1] * 7
    assert (all(taken), made.waiting) == (True, 0)


def test_what_waits_stays_in_order_when_the_pipeline_closes() -> None:
    queue, sent = pipeline(messages=1), [chunk(Publishes(), messages=GATHER_MESSAGES) for _ in range(3)]

    async def run() -> list[Any]:
        made = admission(queue)
        assert [made.submit(each) for each in sent] == [True, False, False]
        queue.release(GATHER_MESSAGES, sent[0].size)
        queue.closed = True
        made._offer()
        return [each for waiting in made._waiting.values() for each in waiting]

    waiting = asyncio.run(run())
    assert len(waiting) == 2
    assert [each.messages for each in waiting] == [each.messages for each in sent[1:]]


def test_what_waits_is_offered_until_it_has_room() -> None:
    """In the order of each client, and each account has its turn."""
    queue, clients = pipeline(messages=1), [Publishes() for _ in range(3)]

    async def run() -> None:
        store: Any = queue
        read_on = asyncio.Event()
        made = Admission(store, lambda: None if made.waiting else read_on.set())
        assert made.submit(chunk(clients[0]))
        await asyncio.sleep(0)
        for client, text in itertools.product(clients, (b"1", b"2")):
            assert not made.submit(chunk(client, text))
        queue.limits = queue.limits._replace(messages=10**9)
        queue.release(1, 1)
        async with asyncio.timeout(10):
            await read_on.wait()
        await asyncio.sleep(0)

    asyncio.run(run())
    sent = [item.raw for submission in list(queue._queue)[1:] for item in submission.items]
    for client in clients:
        assert [raw.payload for raw in sent if raw.user == client.account] == [b"1", b"2"]


def test_one_account_takes_its_share_of_the_queue_only() -> None:
    queue, flood, quiet = pipeline(messages=1_000), Publishes(), Publishes()
    _, taken = submit(queue, *(chunk(flood) for _ in range(1_000)), chunk(quiet))
    assert taken.count(True) == 1_000 // SHARE + 1
    assert taken[-1]
    assert queue.queued == 1_000 // SHARE + 1


def test_what_sessions_remember_goes_with_the_messages_of_the_turn() -> None:
    queue = pipeline()
    with_chunk, alone = Progress(1, 5, [], [], []), Progress(2, 7, [9], [], [])
    asked: list[str] = []

    def progress() -> Progress:
        asked.append("when it is sent")
        return alone

    async def run() -> None:
        made = admission(queue)
        assert made.submit(chunk(Publishes(with_chunk)))
        made.note(2, progress, None)
        made.note(2, progress, None)
        made.leave(Left(3, 60, True))
        made.command_result(4, "delivered")
        assert asked == []
        await asyncio.sleep(0)

    asyncio.run(run())
    (submission,) = queue._queue
    assert len(submission.items) == 1
    assert submission.work
    assert submission.work.asked is None
    behind = submission.work.behind
    assert behind
    assert (behind.progress, behind.left, behind.results) == (
        [with_chunk, alone],
        [Left(3, 60, True)],
        {4: "delivered"},
    )
    assert len(asked) == 1


def test_a_session_keeps_its_will_until_that_is_on_its_way() -> None:
    """While the queue is full the will waits, and a gateway that is killed leaves it to the next one."""
    queue = pipeline(messages=1)

    async def run() -> None:
        made = admission(queue)
        client: Any = SimpleNamespace(gateway=SimpleNamespace(admission=made), session=0)
        will = chunk(Publishes())
        will.publishes, will.will_of = ClientPublishes(client), 7
        assert made.submit(chunk(Publishes()))
        await asyncio.sleep(0)
        assert not made.submit(will, wait=True)
        await asyncio.sleep(0)
        assert len(queue._queue) == 1
        queue.limits = queue.limits._replace(messages=10**9)
        queue.release(1, 1)
        made._offer()
        await asyncio.sleep(0)

    asyncio.run(run())
    _, submission = queue._queue
    assert len(submission.items) == 1
    assert submission.work
    assert submission.work.behind
    assert submission.work.behind.wills == [7]
