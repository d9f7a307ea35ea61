"""Handing over together what came in together, without passing the pipeline's limits by much."""

import asyncio
from typing import Any

from ingest.message import Kind, RawMessage
from ingest.mqtt.handover import GATHER_BYTES, GATHER_MESSAGES, Handover
from ingest.mqtt.inbound import Aim, Chunk, Sent
from ingest.pipeline import Limits, Pipeline
from ingest.router import Router
from ingest.topics import Target

AIM = Aim(1, "U000001", "json/d1", Target(Kind.JSON, "d1", None))


class Inbound:
    """Counts what the session is told was dropped."""

    def __init__(self) -> None:
        self.lost = 0

    def dropped(self, count: int) -> None:
        self.lost += count


def chunk(inbound: Any, payload: bytes = b"1", qos: int = 1, messages: int = 1) -> Chunk:
    made = Chunk(inbound)
    for number in range(1, messages + 1):
        made.add(RawMessage(1, "d1", None, Kind.JSON, payload, 0), Sent(AIM, qos, False, number))
    return made


def pipeline(messages: int = 10**9, size: int = 10**9) -> Pipeline:
    """Its writer does not run: all that is accepted stays queued."""
    return Pipeline(lambda: None, Router(), limits=Limits(messages, size))  # type: ignore[arg-type, return-value]


def submit(queue: Pipeline, *chunks: Chunk) -> tuple[Handover, list[bool]]:
    """In one turn of the loop."""

    async def run() -> tuple[Handover, list[bool]]:
        handover = Handover(queue, lambda: None)
        taken = [handover.submit(each) for each in chunks]
        await asyncio.sleep(0)
        return handover, taken

    return asyncio.run(run())


def test_one_turn_is_one_submission() -> None:
    queue = pipeline()
    _, taken = submit(queue, *(chunk(Inbound()) for _ in range(100)))
    assert all(taken)
    assert (len(queue._queue), queue.queued) == (1, 100)


def test_the_queue_is_not_overfilled_by_many_small_reads() -> None:
    queue = pipeline(messages=1000)
    handover, taken = submit(queue, *(chunk(Inbound()) for _ in range(5000)))
    assert queue.queued == 1000
    assert taken.count(True) == 1000
    assert handover.waiting == 4000


def test_nor_by_large_ones() -> None:
    queue = pipeline(messages=1000)
    submit(queue, *(chunk(Inbound(), messages=2000) for _ in range(50)))
    assert queue.queued == 2000


def test_nor_by_large_payloads() -> None:
    queue = pipeline(size=2 * GATHER_BYTES)
    payload = b'"%s"' % (b"x" * 60_000)
    submit(queue, *(chunk(Inbound(), payload) for _ in range(200)))
    assert queue.queued_bytes < 3 * GATHER_BYTES + len(payload)


def test_qos_0_is_dropped_where_there_is_no_room() -> None:
    queue, inbound = pipeline(messages=1), Inbound()
    handover, taken = submit(queue, *(chunk(inbound, qos=0) for _ in range(GATHER_MESSAGES + 7)))
    assert (queue.queued, inbound.lost, queue.metrics.dropped) == (GATHER_MESSAGES, 7, 7)
    assert (all(taken), handover.waiting) == (True, 0)


def test_what_waits_stays_in_order_when_the_pipeline_closes() -> None:
    queue, sent = pipeline(messages=1), [chunk(Inbound(), messages=GATHER_MESSAGES) for _ in range(3)]

    async def run() -> list[Chunk]:
        handover = Handover(queue, lambda: None)
        assert [handover.submit(each) for each in sent] == [True, False, False]
        queue.release(GATHER_MESSAGES, sent[0].size)
        queue.closed = True
        handover._offer()
        return list(handover._waiting)

    waiting = asyncio.run(run())
    assert len(waiting) == 2
    assert [each.messages for each in waiting] == [each.messages for each in sent[1:]]
