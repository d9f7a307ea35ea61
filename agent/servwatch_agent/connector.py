"""What the two ways to the platform, mqtt.py and http.py, have in common."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Protocol

from servwatch_agent.buffer import Batch
from servwatch_agent.config import Config
from servwatch_agent.facts import Facts
from servwatch_agent.tls import trusting

OPEN_SECONDS = 20.0
SEND_SECONDS = 60.0


class Unavailable(Exception):
    """It does not take anything now, and says why in a sentence."""

    def __init__(self, why: str, retry_after: float = 0.0, not_stored: bool = False) -> None:
        super().__init__(why)
        self.retry_after = retry_after
        self.not_stored = not_stored  # what was sent; else it may have been


class Refused(Exception):
    """It will never take this batch."""


class Connector(Protocol):
    name: str
    lost: asyncio.Event

    async def open(self) -> None:
        """Raises Unavailable."""

    async def send(self, batch: Batch) -> None:
        """Returns once it is stored. Raises Unavailable and Refused."""

    async def send_facts(self, facts: Facts) -> None:
        """Raises Unavailable."""

    async def close(self, answered: bool) -> None:
        """`answered`: nothing that was sent waits for its answer."""


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Raises OSError."""
    return trusting(config.ca_file) if config.tls else None


def why(error: BaseException) -> str:
    """In words, of what went wrong with a connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"it speaks no TLS that we know ({error.reason})"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "no answer in time"
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
