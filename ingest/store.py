"""The gateway's end of the store, which has a process of its own (store_process.py).

Python runs one thread of a process at a time: what talks to the devices and what decodes, routes and copies
would take turns, and PostgreSQL would wait for both.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import cast

from django.conf import settings

from ingest.exchange import Answer, Figures, Frames, Report, columns, frame, outcomes
from ingest.grants import Grants
from ingest.message import RawMessage, Status
from ingest.metrics import Metrics
from ingest.pipeline import Bounded, Done, Limits, QueueFull
from ingest.service import connect
from ingest.session_work import SessionWork, found_of, plain
from thingscale.background import watched
from thingscale.invalidation import Change, Listener

log = logging.getLogger(__name__)

LAST_SECONDS = 10  # for the end of a process that was told to stop
SILENT_SECONDS = 10.0  # without a word, after which the store is not ready


class Store(Bounded, asyncio.Protocol):
    """What the pipeline is in other processes: `accept`, and a limit to what waits."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(Limits(settings.QUEUE_MESSAGES, settings.QUEUE_BYTES))
        self.metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._frames = Frames()
        self._number = 0
        self._waiting: dict[int, tuple[Done, Sequence[RawMessage], int, SessionWork | None]] = {}
        self._closed = asyncio.Event()
        self._ready = False
        self._heard = 0.0

    async def start(self) -> None:
        self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=self._connection)

    async def stop(self, seconds: float) -> bool:
        """Stores what was accepted; False if time ran out first."""
        self.closed = True
        self._transport.write(frame(float(seconds)))
        try:
            async with asyncio.timeout(seconds + LAST_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            self._transport.abort()
        return not self.queued

    @property
    def running(self) -> bool:
        return self._ready and self._loop.time() - self._heard < SILENT_SECONDS

    def accept(self, messages: Sequence[RawMessage], done: Done, work: SessionWork | None = None) -> None:
        """As Pipeline.accept(); but what is asked for a session is taken also while the queue is full."""
        if self.full and (messages or not work):
            raise QueueFull
        size = self.take(messages)
        self._number += 1
        self._waiting[self._number] = done, messages, size, work
        asked, behind = (plain(work.asked), plain(work.behind)) if work else (None, None)
        self._transport.write(frame((self._number, columns(messages), asked, behind)))

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        for value in self._frames.feed(data):
            if isinstance(value, tuple):
                figures, self._ready = cast(Report, value)
                self._learn(figures)
                continue
            for number, told, copies, found in cast(list[Answer], value):
                done, messages, size, work = self._waiting.pop(number)
                self.release(len(messages), size)
                if copies:
                    kept = [raw.kept for raw in messages if raw.kept and raw.kept.copies]
                    for each, numbers in zip(kept, copies, strict=True):
                        each.numbers[:] = numbers
                if work:
                    work.failed = found is False
                    work.found = found_of(found) if found else None
                try:
                    done(outcomes(told, len(messages)))
                except Exception:
                    log.exception("A session failed to take its answer")

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()
        if not self.closed:
            log.critical("The store has ended, and so does the gateway: clients will send again")
            os._exit(1)

    def _learn(self, figures: Figures) -> None:
        metrics = self.metrics
        counts, metrics.batches, metrics.messages, total, metrics.batch_size, metrics.commit_seconds = figures
        metrics.commit_seconds_total = total
        for status, count in counts.items():
            metrics.outcomes[Status(status)] = count


class RemoteIngest:
    """As service.Ingest, with the pipeline elsewhere."""

    def __init__(self, connection: socket.socket, on_change: Callable[[Change | None], None]) -> None:
        self.grants = Grants()
        self.pipeline = Store(connection)
        self._on_change = on_change
        self._listener = Listener(connect, self._changed)

    async def start(self) -> None:
        await self.pipeline.start()
        self._listener.start()  # what it tells may be for the store

    @property
    def ready(self) -> bool:
        return self._listener.connected and self.pipeline.running and not watched.failing()

    async def stop(self, seconds: float) -> bool:
        drained = await self.pipeline.stop(seconds)
        await asyncio.to_thread(self._listener.stop)
        return drained

    def _changed(self, change: Change | None) -> None:
        self.grants.on_change(change)
        self._on_change(change)
