"""A listener that looks at each connection before asyncio gets it, and so before a TLS handshake.

A connection from a network of THINGSCALE_PROXY_NETWORKS begins with a PROXY header, which is read from the
socket, and not a byte more. Then a gate decides whether the client may connect.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from django.conf import settings

from thingscale.lib import env, proxy_protocol
from thingscale.lib.proxy_protocol import MAX_SIZE, Address, BadHeader, Header
from thingscale.web import tcp

log = logging.getLogger(__name__)

HEADER_SECONDS = 5.0  # for the whole header
MAX_WAITING = 10_000  # connections whose header, or whose handshake, has not come yet
BACKLOG = 4096
ACCEPTED_AT_ONCE = 100
NO_ROOM_SECONDS = 1.0  # until the next try, where no file can be opened
LOG_SECONDS = 10.0  # between two lines in the log about connections that are refused

_logged_at = -LOG_SECONDS


@lru_cache(1024)
def is_proxy(host: str) -> bool:
    """Whether connections from there begin with a PROXY header."""
    return env.is_in(host, settings.PROXY_NETWORKS)


def log_refused(host: str, why: str) -> None:
    """Logs one of them now and then: a proxy that is not set up causes many."""
    if _may_log():
        log.warning("A connection from %s, which is in THINGSCALE_PROXY_NETWORKS, was closed: %s", host, why)


def _may_log() -> bool:
    global _logged_at  # noqa: PLW0603
    if time.monotonic() - _logged_at < LOG_SECONDS:
        return False
    _logged_at = time.monotonic()
    return True


class Gate(Protocol):
    """Counts connections from before their handshake on."""

    def enter(self, connection: asyncio.Protocol, host: str) -> bool: ...
    def leave(self, connection: asyncio.Protocol) -> None: ...


class ProxyListener:
    """Used like an asyncio.Server. `make(header)` makes a connection's protocol; the header is None if it
    does not come from a proxy. `gate` may refuse the connection, and is told if it fails before its protocol
    has it."""

    def __init__(
        self,
        make: Callable[[Header | None], asyncio.Protocol],
        context: ssl.SSLContext | None = None,
        gate: Gate | None = None,
        **limits: float,
    ) -> None:
        """`limits`: asyncio's time limits for TLS."""
        self._loop = asyncio.get_running_loop()
        self._make = make
        self._gate = gate
        self._tls: dict[str, Any] = {"ssl": context, **limits} if context else {}
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: dict[socket.socket, asyncio.TimerHandle] = {}

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Raises OSError."""
        found = await self._loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, address in dict.fromkeys((each[0], each[4]) for each in found):
                listening = socket.create_server(
                    address[:2], family=family, backlog=BACKLOG, reuse_port=reuse_port
                )
                self._sockets.append(listening)
                listening.setblocking(False)
                tcp.set_keep_alive(listening)
        except OSError:
            self.close()
            raise
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Accepts no more connections, and closes those that wait for their header or handshake."""
        for later in self._later.values():
            later.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
        for task in self._tasks:
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("No connection can be taken: %s", error.strerror)
                self._loop.remove_reader(listening)
                self._later[listening] = self._loop.call_later(
                    NO_ROOM_SECONDS, self._loop.add_reader, listening, self._accept, listening
                )
                return
            connection.setblocking(False)
            if len(self._tasks) >= MAX_WAITING:
                connection.close()
                if _may_log():
                    log.warning("A connection was closed: %d others have not come in yet", MAX_WAITING)
                continue
            task = self._loop.create_task(self._connect(connection, str(address[0])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket, host: str) -> None:
        header: Header | None = None
        try:
            if is_proxy(host):
                async with asyncio.timeout(HEADER_SECONDS):
                    header = await self._read_header(connection)
            protocol = self._make(header)
            client = header.client[0] if header and header.client else host
            if self._gate and not self._gate.enter(protocol, client):
                connection.close()
                return
            try:
                await self._loop.connect_accepted_socket(lambda: protocol, connection, **self._tls)
            except BaseException:
                if self._gate:
                    self._gate.leave(protocol)
                raise
        except BadHeader as error:
            log_refused(host, str(error))
            connection.close()
        except TimeoutError:
            if is_proxy(host) and header is None:
                log_refused(host, f"no PROXY header came within {HEADER_SECONDS:.0f} seconds.")
            connection.close()
        except OSError:  # the client has gone, or its handshake failed
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        except Exception:
            log.exception("A connection failed")
            connection.close()

    async def _read_header(self, connection: socket.socket) -> Header:
        """Raises BadHeader, OSError."""
        data = b""
        while True:
            arrived = asyncio.Event()
            self._loop.add_reader(connection, arrived.set)
            try:
                await arrived.wait()
            finally:
                self._loop.remove_reader(connection)
            try:
                coming = connection.recv(MAX_SIZE - len(data), socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                continue
            if not coming:
                raise ConnectionResetError
            header = proxy_protocol.read(data + coming)
            data += connection.recv(header.size - len(data) if header else len(coming))
            if header:
                return header


class ClientTransport:
    """Makes the proxy's client the peer of a transport."""

    def __init__(self, transport: asyncio.Transport, client: Address, tls: bool) -> None:
        self._transport = transport
        self._client = client
        self._tls = tls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "peername":
                return self._client
            case "socket":  # uvicorn would ask the socket for the proxy's address
                return default
            case "sslcontext" if self._tls:  # by which uvicorn sees whether there is TLS
                return True
        return self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
