"""Sends what the buffer has, in order, one batch at a time, by the connector that works.

So that a platform that comes back is not drowned by all that waited for it: not all agents come at the same
moment, and after each batch of a backlog an agent rests four times as long as the platform took for it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
from collections.abc import Sequence

from servwatch_agent.background import Worker
from servwatch_agent.buffer import Buffer
from servwatch_agent.clock import Clock
from servwatch_agent.connector import Connector, Refused, Unavailable
from servwatch_agent.facts import Facts

log = logging.getLogger(__name__)

DISK_SECONDS = 30.0
FAILURES = 5  # in a row, until the other connector is tried
FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0  # after a failure
BACK_SECONDS = 900.0  # until the preferred connector is tried again
PAUSE = 1.1  # seconds, at least, between batches of a backlog
REST = 4.0  # times as long as the batch before took
LOG_SECONDS = 600.0  # between two lines about the same failure
FACTS_SECONDS = (10.0, 110.0, 3600.0)  # after the start, after the first time, and from then on


class Sender:
    def __init__(self, buffer: Buffer, disk: Worker, connectors: Sequence[Connector], clock: Clock) -> None:
        self.buffer = buffer
        self.disk = disk
        self.connectors = connectors  # the preferred one first
        self.connector = connectors[0]
        self.clock = clock
        self.new = asyncio.Event()  # set when the buffer has something new
        self.facts: Facts | None = None
        self._facts_sent = 0
        self._facts_at = clock.monotonic() + FACTS_SECONDS[0]
        self._failures = 0
        self._back_at = 0.0
        self._logged: dict[str, float] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.connector.open()
                await self._send_all()
            except Unavailable as error:  # noqa: PERF203
                await self._after_failure(error)
            except (asyncio.TimeoutError, queue.Full):
                self._say("The disk of the buffer does not answer.")
                await self.close()
                await self.clock.sleep(LONGEST_WAIT)

    async def close(self) -> None:
        await self.connector.close(answered=self.connector.name not in self.buffer.sent)

    async def _send_all(self) -> None:
        """Until the preferred connector is to be tried again. Raises Unavailable."""
        connector, arrives = self.connector, False
        while True:
            if connector is not self.connectors[0] and self.clock.monotonic() >= self._back_at:
                await self.close()
                self.connector, self._failures = self.connectors[0], FAILURES - 1  # it has one try
                return
            if self.facts and self.clock.monotonic() >= self._facts_at:
                await connector.send_facts(self.facts)
                self._facts_sent += 1
                self._facts_at = self.clock.monotonic() + FACTS_SECONDS[min(self._facts_sent, 2)]
            self.new.clear()
            batch = await self.disk.call(
                DISK_SECONDS, self.buffer.next_batch, connector.name, self.clock.wall()
            )
            if batch is None:
                await self._wait_for_new()
                continue
            started = self.clock.monotonic()
            try:
                await connector.send(batch)
            except Refused as error:
                self._say(f"{error} What is refused like that is not sent again.")
            except Unavailable as error:
                if error.not_stored:
                    await self.disk.call(DISK_SECONDS, self.buffer.release, batch)
                raise
            await self.disk.call(DISK_SECONDS, self.buffer.confirm, batch)
            if not arrives:
                arrives = True
                log.info("Samples arrive, by %s. %d wait.", connector.name.upper(), self.buffer.waiting)
            self._failures = 0
            if self.buffer.waiting:
                took = self.clock.monotonic() - started
                await self.clock.sleep(max(PAUSE, REST * took) * random.uniform(1, 1.5))  # noqa: S311

    async def _wait_for_new(self) -> None:
        """Or until it is time for something else."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.new, self.connector.lost)]
        try:
            await asyncio.wait(waits, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if self.connector.lost.is_set():
            raise Unavailable(f"{self.connector.name.upper()}: the connection was lost.")

    async def _after_failure(self, error: Unavailable) -> None:
        self._failures += 1
        self._say(str(error))
        await self.close()
        if len(self.connectors) > 1 and self._failures % FAILURES == 0:
            self.connector = self.connectors[self.connector is self.connectors[0]]
            self._back_at = self.clock.monotonic() + BACK_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311
            log.warning("From now on by %s.", self.connector.name.upper())
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures - 1, 10))
        await self.clock.sleep(max(error.retry_after, wait * random.uniform(0.5, 1.5)))  # noqa: S311

    def _say(self, sentence: str) -> None:
        now = self.clock.monotonic()
        if now - self._logged.get(sentence, -LOG_SECONDS) >= LOG_SECONDS:
            if len(self._logged) > 100:
                self._logged.clear()
            self._logged[sentence] = now
            log.warning("%s", sentence)
