"""The gateway's end of the store, which has a process of its own (store_server.py).

Python runs one thread of a process at a time: what talks to the devices and what decodes, routes and copies
would take turns, and PostgreSQL would wait for both.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import cast

from ingest.device_tokens import DeviceTokens
from ingest.message import RawMessage, Status
from ingest.metrics import Metrics
from ingest.service import connect
from ingest.session_work import SessionWork
from ingest.store_protocol import (
    RECEIVED_AT,
    Answer,
    Frames,
    Report,
    columns,
    found_of,
    frame,
    outcomes,
    plain,
    plain_behind,
)
from ingest.writer import Done
from thingscale.background import watched
from thingscale.lib.clock import now_us
from thingscale.processes.change_notifications import Change, Listener

log = logging.getLogger(__name__)

LAST_SECONDS = 10  # for the end of a process that was told to stop
SILENT_SECONDS = 10.0  # without a word, after which the store is not ready


class StoreClient(asyncio.Protocol):
    """Takes the place that the writer has in other processes. How much may wait is up to admission.py."""

    def __init__(self, connection: socket.socket) -> None:
        self.metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._frames = Frames()
        self._number = 0
        self._waiting: dict[int, tuple[Done, Sequence[RawMessage], SessionWork | None, Sequence[int]]] = {}
        self._stopping = False
        self._closed = asyncio.Event()
        self._ready = False
        self._heard = 0.0

    async def start(self) -> None:
        self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=self._connection)

    async def stop(self, seconds: float) -> bool:
        """Returns once what was accepted is stored; False if time ran out first."""
        self._stopping = True
        self._transport.write(frame(float(seconds)))
        try:
            async with asyncio.timeout(seconds + LAST_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            self._transport.abort()
        return not self._waiting

    @property
    def running(self) -> bool:
        return self._ready and self._loop.time() - self._heard < SILENT_SECONDS

    def accept(self, messages: Sequence[RawMessage], done: Done, work: SessionWork | None = None) -> None:
        self._number += 1
        fields = columns(messages)
        self._waiting[self._number] = done, messages, work, fields[RECEIVED_AT] if fields else ()
        asked = plain(work.asked) if work and work.asked else None
        behind = plain_behind(work.behind) if work and work.behind else None
        self._transport.write(frame((self._number, fields, asked, behind)))

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        for value in self._frames.feed(data):
            if isinstance(value, tuple):
                figures, self._ready = cast(Report, value)
                self.metrics.learn(figures)
                continue
            for number, plain_outcomes, copies, found in cast(list[Answer], value):
                done, messages, work, received_at = self._waiting.pop(number)
                if copies:
                    kept = [raw.kept for raw in messages if raw.kept and raw.kept.copies]
                    for each, numbers in zip(kept, copies, strict=True):
                        each.numbers[:] = numbers
                if work:
                    work.failed = found is False
                    work.found = found_of(found) if found else None
                try:
                    became = outcomes(plain_outcomes, len(messages))
                    done(became)
                    if plain_outcomes:  # what failed is offered again, and has no acknowledgement yet
                        received_at = [
                            at
                            for at, outcome in zip(received_at, became, strict=True)
                            if outcome.status is not Status.FAILED
                        ]
                    self.metrics.acknowledged.observe_ages(received_at, now_us())
                except Exception:
                    log.exception("A session failed to take its answer")

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()
        if not self._stopping:
            log.critical("The store has ended, and so does the gateway: clients will send again")
            os._exit(1)


class RemoteIngest:
    """Like service.Ingest, with the writer in another process."""

    def __init__(
        self,
        connection: socket.socket,
        on_change: Callable[[Change | None], None],
        on_patrol: Callable[[float], None],
    ) -> None:
        self.device_tokens = DeviceTokens()
        self.writer = StoreClient(connection)
        self._on_change = on_change
        self._listener = Listener(connect, self._changed, on_patrol)

    async def start(self) -> None:
        await self.writer.start()
        self._listener.start()  # second, since a change may be for the store

    @property
    def ready(self) -> bool:
        return self._listener.connected and self.writer.running and not watched.failing()

    async def stop(self, seconds: float) -> bool:
        drained = await self.writer.stop(seconds)
        await asyncio.to_thread(self._listener.stop)
        return drained

    def _changed(self, change: Change | None) -> None:
        self.device_tokens.on_change(change)
        self._on_change(change)
