"""The HTTP connector, where MQTT does not get through. It takes one message a second from a device."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import math
import queue
from collections.abc import Mapping
from typing import NamedTuple

from servwatch_agent import __version__
from servwatch_agent import config as settings
from servwatch_agent.background import Worker
from servwatch_agent.buffer import Batch
from servwatch_agent.config import Config
from servwatch_agent.connector import SEND_SECONDS, Refused, Unavailable, tls_context, why
from servwatch_agent.facts import Facts

STEP_SECONDS = 20  # of connecting, of each read and write
MOST_RETRY_AFTER = 600.0
PAUSE = 1.1  # seconds between two messages
# Of what can be mended, so the samples wait: codes of the contract, with what to do.
MENDABLE = {
    "AUTH_REQUIRED": "the device token is wrong",
    "QUOTA_EXCEEDED": "the account is full",
    "MAX_DEVICE_REACH": "the account can have no further device",
}
NOT_STORED = {"TOO_MANY_REQUESTS", "TRY_AGAIN", "TOO_MANY_CONNECTIONS"}


class Answer(NamedTuple):
    status: int
    code: str
    held: bool
    retry_after: float


class Http:
    name = settings.HTTP

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lost = asyncio.Event()  # never: each request has a connection of its own
        self._worker = Worker("HTTP")
        self.where = f"HTTP at {config.server}:{config.http_port}"

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self, answered: bool) -> None:
        """Nor to close."""

    async def send(self, batch: Batch) -> None:
        """By its key, the platform knows the same bytes when they are sent again."""
        key = hashlib.blake2b(batch.body, digest_size=16).hexdigest()
        await self._post(batch.body, {"Idempotency-Key": key})

    async def send_facts(self, facts: Facts) -> None:
        try:
            await self._post(json.dumps(facts).encode(), {"X-TAGNAME": "facts"})
        except Refused:
            return
        await asyncio.sleep(PAUSE)

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            answer = await self._worker.call(SEND_SECONDS, self.request, body, headers)
        except (OSError, http.client.HTTPException, asyncio.TimeoutError, queue.Full, ValueError) as error:
            # Nothing has arrived at an address where nobody listens.
            refused = isinstance(error, ConnectionRefusedError)
            raise Unavailable(f"{self.where}: {why(error)}.", not_stored=refused) from None
        # Its words as well: who is in between, such as a WLAN that wants to be signed in to, says 200, too.
        if (answer.status, answer.code) == (200, "OK") or answer.held:
            return
        if answer.status in (408, 429) or answer.status >= 500:
            raise Unavailable(
                f"{self.where}: it answered {answer.status} {answer.code}.",
                answer.retry_after,
                not_stored=answer.code in NOT_STORED,
            )
        if answer.code in MENDABLE:
            why_not = MENDABLE[answer.code]
            raise Unavailable(f"{self.where}: {why_not} ({answer.code}).", 60.0, not_stored=True)
        if answer.code not in _FINAL:  # somebody else's answer, such as a proxy's
            raise Unavailable(f"{self.where}: it answered {answer.status}, as ThingScale would not.")
        raise Refused(f"{self.where}: it answered {answer.status} {answer.code}.")

    def request(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        server, port = self.config.server, self.config.http_port
        context = tls_context(self.config)
        if context:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                server, port, timeout=STEP_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(server, port, timeout=STEP_SECONDS)
        try:
            connection.request(
                "POST",
                "/post_v2/",
                body,
                {
                    "X-DEVICETOKEN": self.config.token,
                    "X-DEVICEID": self.config.host_id,
                    "Content-Type": "application/json",
                    "User-Agent": f"servwatch-agent/{__version__}",
                    **headers,
                },
            )
            response = connection.getresponse()
            return Answer(
                response.status,
                response.read(100).decode(errors="replace").strip(),
                response.getheader("X-Held") == "1",
                _seconds(response.getheader("Retry-After") or ""),
            )
        finally:
            connection.close()


_FINAL = {
    *("BAD_JSON_FORMAT", "BAD_PARAMETER", "DEVICE_ID_ZERO", "DEVICE_DISABLED", "NO_MAPPED_CH", "TOO_LARGE"),
    *("IDEMPOTENCY_KEY_REUSED", "LENGTH_REQUIRED", "UNSUPPORTED_ENCODING"),
}


def _seconds(text: str) -> float:
    """Of Retry-After, within bounds."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return min(MOST_RETRY_AFTER, max(0.0, seconds)) if math.isfinite(seconds) else 0.0
