"""Limits for connections that have not signed in: how many one address may have open, and how often its
sign-ins may fail.

Anybody can open connections and send anything in CONNECT. The limits of accounts only help once we know whose
a connection is. Trusted proxies speak for many clients, and are not counted."""

import asyncio
import logging
import time
from collections import Counter
from enum import StrEnum

from django.conf import settings

from thingscale.lib.rate_limiter import FailureLimiter
from thingscale.web import tcp

log = logging.getLogger(__name__)

LOG_SECONDS = 60.0
FAILURE_SECONDS = 60.0


class RefusalReason(StrEnum):
    """Why a connection is refused."""

    MAX_CONNECTIONS = "max_connections"
    CONNECTING = "connecting"  # too many of its address have not signed in yet
    FAILED_SIGN_INS = "failed_sign_ins"  # of its address, of late


_IN_WORDS = {
    RefusalReason.MAX_CONNECTIONS: "there are as many as there may be",
    RefusalReason.CONNECTING: "too many of one address have not signed in",
    RefusalReason.FAILED_SIGN_INS: "too many sign-ins from one address failed",
}


class ConnectionLimits:
    """`refused` counts them for the metrics. It is a Gate of ProxyListener."""

    def __init__(self, refused: Counter[str]) -> None:
        self.refused = refused
        refused.update(dict.fromkeys(RefusalReason, 0))  # so that they are shown from the start
        self._most = settings.CONNECTING_PER_ADDRESS
        self._failures = FailureLimiter(settings.FAILED_SIGN_INS, FAILURE_SECONDS)
        self._proxies = tcp.Proxies(settings.TRUSTED_PROXIES)
        self._address: dict[asyncio.Protocol, str] = {}  # of connections that have not signed in
        self._count: Counter[str] = Counter()  # of these connections, by address
        self._unlogged = 0
        self._log_at = 0.0

    def enter(self, connection: asyncio.Protocol, host: str) -> bool:
        """False if it is one too many. With TLS it is called before the handshake, and again after it."""
        address = self._counted(host)
        if not address or not self._most or connection in self._address:
            return True
        if self._count[address] >= self._most:
            self.refuse(RefusalReason.CONNECTING, host)
            return False
        self._address[connection] = address
        self._count[address] += 1
        return True

    def leave(self, connection: asyncio.Protocol) -> None:
        """The connection has signed in or is closed. May be called for both."""
        address = self._address.pop(connection, "")
        if address:
            self._count[address] -= 1
            if not self._count[address]:
                del self._count[address]

    def note_failure(self, host: str) -> None:
        if address := self._counted(host):
            self._failures.note(address, time.monotonic())

    def fails_too_often(self, host: str) -> bool:
        address = self._counted(host)
        return bool(address) and self._failures.too_many(address, time.monotonic())

    def refuse(self, reason: RefusalReason, address: str) -> None:
        """Counts it, and logs once a minute that connections are refused."""
        self.refused[reason] += 1
        self._unlogged += 1
        now = time.monotonic()
        if now >= self._log_at:
            log.warning(
                "MQTT connections are refused: %s; %d since the last such line, the last one from %s",
                _IN_WORDS[reason],
                self._unlogged,
                address,
            )
            self._unlogged, self._log_at = 0, now + LOG_SECONDS

    def _counted(self, host: str) -> str:
        """The address under which a host is counted; empty if it is not counted."""
        return "" if host in self._proxies else tcp.counted_address(host)
