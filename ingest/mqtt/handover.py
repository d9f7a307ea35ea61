"""From the sessions to the pipeline: what came in together, and what has to wait while the queue is full."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import chain

from ingest.message import Outcome
from ingest.mqtt.inbound import Chunk, share_out
from ingest.pipeline import Pipeline, QueueFull
from ingest.store import Store

RETRY_SECONDS = 0.02  # how often what waits for room in the queue is offered again
GATHER_MESSAGES = 500  # that go on together, with the read that reaches this
GATHER_BYTES = 256 * 1024  # of payload, the same


class Handover:
    """`relax` is called when sessions may be read again."""

    def __init__(self, pipeline: Pipeline | Store, relax: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipeline = pipeline
        self._relax = relax
        self._gathered: list[Chunk] = []  # in this turn of the loop
        self._messages = self._bytes = 0  # of those
        self._waiting: deque[Chunk] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def pending(self) -> bool:
        """Whether something taken from a client is not stored yet."""
        return bool(self._gathered or self._waiting or self._pipeline.queued)

    def submit(self, chunk: Chunk, wait: bool = False) -> bool:
        """False if the queue is full: QoS 0 is dropped and counted, the rest waits, unacknowledged, and so
        should its session. `wait` keeps QoS 0 as well."""
        if not self._waiting and self._gather(chunk):
            return True
        kept = chunk if wait else chunk.without_qos_0()
        dropped = len(chunk.messages) - len(kept.messages)
        self._pipeline.metrics.dropped += dropped
        chunk.inbound.dropped(dropped)
        if kept.messages:
            self._offer_later()
            self._waiting.append(kept)
        return not kept.messages

    def _gather(self, chunk: Chunk) -> bool:
        """What the clients send in one turn of the loop goes on together: with a thousand clients of one
        message each, one by one would cost more than storing them. Little of it, since the pipeline's limits
        do not see it yet."""
        if self._pipeline.full:
            return False
        self._gathered.append(chunk)
        self._messages += len(chunk.messages)
        self._bytes += chunk.size
        if self._messages >= GATHER_MESSAGES or self._bytes >= GATHER_BYTES:
            self.flush()
        elif len(self._gathered) == 1:
            self._loop.call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Hands over what this turn of the loop has brought so far."""
        chunks, self._gathered = self._gathered, []
        self._messages = self._bytes = 0
        if not chunks:
            return
        messages = list(chain.from_iterable([chunk.messages for chunk in chunks]))

        def done(outcomes: list[Outcome]) -> None:
            share_out(chunks, outcomes)

        try:
            self._pipeline.accept(messages, done)
        except QueueFull:
            self._offer_later()
            self._waiting.extendleft(reversed(chunks))  # they came before what waits already

    def _offer_later(self) -> None:
        if not self._waiting:
            self._loop.call_later(RETRY_SECONDS, self._offer)

    def _offer(self) -> None:
        """What waited, in order, once there is room again."""
        if self._pipeline.nearly_empty:
            while self._waiting and not self._pipeline.full:
                self._gather(self._waiting.popleft())
        if self._waiting:
            self._loop.call_later(RETRY_SECONDS, self._offer)
        else:
            self._relax()
