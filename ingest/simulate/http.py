"""A simulated device's HTTP client: one connection kept alive, one request at a time. What got no answer,
429 or 503, is sent again under the same Idempotency-Key."""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from typing import NamedTuple

from ingest.simulate.devices import Device, Reading
from ingest.simulate.tally import Tally
from thingscale.lib.kinds import ENDPOINTS

WINDOW = 20  # readings that wait: what bounds the memory
ANSWER_SECONDS = 15.0
RETRY_SECONDS = 0.5
PATHS = {kind: f"{each.http_paths[0]}/" for kind, each in ENDPOINTS.items() if each.http_paths}


class HttpReply(NamedTuple):
    status: int
    code: str
    closes: bool


class HttpSender:
    def __init__(self, device: Device, address: tuple[str, int], token: str) -> None:
        self.tally = Tally(device.device_id)
        self._device = device
        self._address = address
        self._token = token
        self._queue: deque[bytes] = deque()
        self._wakeup = asyncio.Event()
        self._run = secrets.token_hex(8)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def offer(self) -> bool:
        """Queues the next reading, if there is room for it."""
        if len(self._queue) >= WINDOW:
            return False
        self._queue.append(self._request(self._device.take(time.time())))
        self.tally.sent += 1
        self._wakeup.set()
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
                await self._session()
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Nothing to be said."""

    def _request(self, reading: Reading) -> bytes:
        """Its key never comes again: a number for each reading, and a word that no other run has."""
        tag = f"X-TAGNAME: {reading.tag}\r\n" if reading.tag else ""
        head = (
            f"POST {PATHS[reading.kind]} HTTP/1.1\r\nHost: {self._address[0]}\r\n"
            f"X-DEVICETOKEN: {self._token}\r\nX-DEVICEID: {self._device.device_id}\r\n{tag}"
            f"Idempotency-Key: {self._run}-{self.tally.sent}\r\n"
            f"Content-Length: {len(reading.payload)}\r\n\r\n"
        )
        return head.encode() + reading.payload

    async def _session(self) -> None:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*self._address), ANSWER_SECONDS)
        try:
            closes = False
            while not closes:
                while not self._queue:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                closes = await self._exchange(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the server closes the connection."""
        writer.write(self._queue[0])
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await read_answer(reader)
        if answer.status in {429, 503}:
            self.tally.repeated += 1
            await asyncio.sleep(RETRY_SECONDS)
        else:
            self._queue.popleft()
            self._count(answer)
        return answer.closes

    def _count(self, answer: HttpReply) -> None:
        if answer.status == 200:
            self.tally.acknowledged += 1
        else:
            self.tally.refused[f"{answer.status} {answer.code}"] += 1


async def read_answer(reader: asyncio.StreamReader) -> HttpReply:
    """Raises EOFError (asyncio's IncompleteReadError is one) where the connection ends first."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    closes = headers.get("connection", "").lower() == "close"
    return HttpReply(int(status_line.split(" ", 2)[1]), body.decode("utf-8", "replace")[:100], closes)
