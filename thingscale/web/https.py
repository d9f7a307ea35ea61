"""The HTTPS listener: the same protocol over TLS, on a port of its own, in each web process."""

import asyncio
import logging
import os
import time
from typing import Any

from django.conf import settings
from uvicorn.config import Config
from uvicorn.server import ServerState

from thingscale.background.watched import keep_going
from thingscale.web.http_protocol import NO_HEADER, HttpProtocol, connections
from thingscale.web.proxy_listener import ProxyListener
from thingscale.web.tls import Certificate

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5.0  # for the end of a TLS connection


class HttpsListener:
    """Does nothing without a certificate, or with port 0."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._server: ProxyListener | None = None
        self._state = ServerState()
        self._renewals: asyncio.Task[None] | None = None

    async def start(self, app_state: dict[str, Any]) -> None:
        """Raises OSError if the port is taken, or the certificate can't be read."""
        if not settings.TLS_CERT or not settings.HTTPS_PORT:
            return
        certificate = Certificate(settings.TLS_CERT, settings.TLS_KEY, ["http/1.1"])
        config = Config(self._application, log_config=None, lifespan="off", http=HttpProtocol)
        config.load()
        several = int(os.environ.get("WEB_CONCURRENCY") or 1) > 1
        self._server = ProxyListener(
            lambda header: HttpProtocol(config, self._state, app_state, proxy_header=header or NO_HEADER),
            certificate.context,
            connections,  # a client that begins no handshake is counted, too
            ssl_handshake_timeout=settings.HTTP_HEAD_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await self._server.start(settings.BIND, settings.HTTPS_PORT, reuse_port=several)
        self._renewals = asyncio.create_task(keep_going("certificate", certificate.follow))
        log.info("Listening on %s:%d (HTTPS)", settings.BIND, settings.HTTPS_PORT)

    async def stop(self) -> None:
        """Stops as uvicorn does for its own port."""
        if self._server is None:
            return
        assert self._renewals
        self._renewals.cancel()
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        deadline = time.monotonic() + settings.DRAIN_SECONDS
        # As in uvicorn: there is no event for the end of the last connection.
        while (self._state.connections or self._state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
