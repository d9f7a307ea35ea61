"""The HTTP/1.1 protocol of a connection: all requests arrive here (docs/decisions/0024-http-door.md).

uvicorn's server loads it (`--http thingscale.web.http_protocol:HttpProtocol`). Requests that the connector
takes directly have no ASGI scope and no task; each other request is a Cycle of the ASGI application. Every
state has a time limit, and the memory of a connection is bounded, whatever its client does.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from enum import Enum, auto
from typing import Any, Protocol, cast

from django.conf import settings
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from thingscale.lib import proxy_protocol
from thingscale.lib.proxy_protocol import MAX_SIZE, Address, BadHeader, Header
from thingscale.web import http_response, tcp
from thingscale.web.asgi_cycle import Cycle
from thingscale.web.http_parser import BadRequest, BodyReader, Request, head_end, parse_head
from thingscale.web.http_response import CLOSE, KEEP_ALIVE, Response
from thingscale.web.proxy_listener import (
    HEADER_SECONDS,
    MAX_WAITING,
    ClientTransport,
    is_proxy,
    log_refused,
)
from thingscale.web.request_body import BODY_SECONDS

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25  # by which a time limit may be late
BODY_LATE_SECONDS = 2 * BODY_SECONDS  # the application answers 408 itself, after BODY_SECONDS
HALF_CLOSED_SECONDS = 30.0  # for an answer to a client that has closed its side
LINGER_SECONDS = 2.0  # for the client to read an answer to a request that was not read whole
CLOSE_SECONDS = 5.0
UNREAD_SECONDS = 20.0  # for an answer to be read, and one second more for each READ_RATE bytes of it
READ_RATE = 4096
MAX_READ_PAST = 64 * 1024  # bytes of a refused body that are read to keep its connection
MAX_REMEMBERED_HEAD = 1024  # bytes; a device sends the same head with each datapoint
MAX_REFUSED_AT_ONCE = 100  # connections that get an answer why; more are just closed
MAX_BUFFERED = 64 * 1024  # bytes of a body, or of the next requests
NEVER = float("inf")
NO_HEADER = Header(0, None)  # of a connection that comes from no proxy


class DirectExchange(Protocol):
    """A request that is answered without ASGI."""

    max_body: int  # of a larger body, take() gets one byte more than that

    def take(self, body: bytes) -> None: ...
    def give_up(self) -> Response:
        """Called if the answer is late. Returns the answer to give instead; no other will come."""


class DirectHandler(Protocol):
    """Takes requests without ASGI. The lifespan puts it into the state of the server, as `direct`."""

    store_seconds: float
    too_slow: Response  # the answer if the body does not come

    def admit(self, request: Request, answer: Callable[[Response], None]) -> DirectExchange | Response | None:
        """Called before the body comes. Returns the exchange, or a refusal, or None to leave the request to
        the ASGI application. The exchange has to call `answer` once, after take(), unless it was given up."""


class ConnectionState(Enum):
    PROXY_HEADER = auto()  # waits for it, before everything else
    HEAD = auto()  # waits for a head, or for the rest of one
    BODY = auto()
    ANSWERING = auto()  # the request is here; what comes now is the next one
    READING_PAST = auto()  # answered; the rest of the body is thrown away
    LINGERING = auto()  # answered, our side closed; all that comes is thrown away
    CLOSED = auto()


class Connections:
    """The connections of this process, and the one timer that looks at their time limits."""

    def __init__(self) -> None:
        self.open: set[HttpProtocol] = set()
        self.by_address: Counter[str] = Counter()  # with those in their TLS handshake
        self._in_handshake: dict[asyncio.Protocol, str] = {}  # and the address that each is counted under
        self.without_header: set[HttpProtocol] = set()  # from proxies, whose header has not come yet
        self.servers: list[ServerState] = []  # these know the WebSockets, too
        self.date = b""
        self.stop_at = NEVER
        self._loop: asyncio.AbstractEventLoop | None = None

    def excess(self, address: str) -> int:
        """By how many connections one more from this address would be above the limits. If the process is
        full, closes the connection that is idle for longest, since it is needed least."""
        together = sum(len(server.connections) for server in self.servers) + 1 - settings.HTTP_CONNECTIONS
        if together > 0 and (idle := [each for each in self.open if each.idle]):
            min(idle, key=lambda each: each.due).close()
        own = self.by_address[address] + 1 - settings.HTTP_CONNECTIONS_PER_ADDRESS if address else 0
        return max(together, own, 0)

    def enter(self, connection: asyncio.Protocol, host: str) -> bool:
        """Counts a connection before its TLS handshake, which may take long. False if its address has too
        many."""
        assert isinstance(connection, HttpProtocol)
        address = connection.counted_address(host)
        if address and self.by_address[address] >= settings.HTTP_CONNECTIONS_PER_ADDRESS:
            return False
        self._in_handshake[connection] = address
        self._count(address, 1)
        return True

    def leave(self, connection: asyncio.Protocol) -> None:
        """To be called when the handshake is over, if there was one."""
        self._count(self._in_handshake.pop(connection, ""), -1)

    def _count(self, address: str, more: int) -> None:
        if address:
            self.by_address[address] += more
            if not self.by_address[address]:
                del self.by_address[address]

    def add(self, connection: "HttpProtocol", address: str) -> None:
        self.open.add(connection)
        self._count(address, 1)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the first connection, or another server in the same process
            self._loop = loop
            self._tick()

    def remove(self, connection: "HttpProtocol", address: str) -> None:
        self.open.discard(connection)
        self._count(address, -1)

    def _tick(self) -> None:
        assert self._loop
        if not self.open:
            self._loop = None
            return
        self._loop.call_later(TICK_SECONDS, self._tick)  # first, since without the next tick no limit holds
        self.date = b"Date: %s\r\n" % formatdate(usegmt=True).encode()
        now = self._loop.time()
        for each in [each for each in self.open if each.due <= now or each.unread_due <= now]:
            try:
                each.on_due(now)
            except Exception:  # the limits of the others still hold
                log.exception("A connection failed")
                each.abort()
        if now >= self.stop_at:
            for each in list(self.open):
                each.abort()


connections = Connections()


class HttpProtocol(asyncio.Protocol):
    __slots__ = (
        *("_address", "_body", "_buffer", "_client", "_config", "_cycle", "_direct", "_drained", "_eof"),
        *("_exchange", "_head", "_https", "_keep", "_loop", "_proxy_header", "_reader", "_reading_paused"),
        *("_remembered", "_request", "_searched", "_server", "_state", "_tls", "_transport", "_app_state"),
        *("_advancing", "due", "unread_due"),
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        proxy_header: Header | None = None,
    ) -> None:
        """`proxy_header`: if it was read before there was a transport."""
        self._config = config
        self._server = server_state
        self._app_state = app_state
        self._direct: DirectHandler | None = app_state.get("direct")
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._tls = False
        self._https = False  # whether the client uses TLS, perhaps with a proxy
        self._proxy_header = proxy_header
        self._client: Address | None = None
        self._address = ""  # under which it is counted; empty: not counted
        self._state = ConnectionState.HEAD
        self.due = NEVER  # when the state has lasted too long
        self.unread_due = NEVER  # when the answer has been unread for too long
        self._buffer = bytearray()
        self._searched = 0  # bytes of it that have no end of a head
        self._eof = False
        self._reading_paused = False
        self._advancing = False
        self._drained: asyncio.Future[None] | None = None
        self._head = b""  # of the last request, if it was a direct one
        self._remembered: Request | None = None
        self._request: Request | None = None
        self._reader: BodyReader | None = None
        self._keep = False
        self._body = bytearray()  # of a direct request
        self._exchange: DirectExchange | None = None
        self._cycle: Cycle | None = None

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        # So that pause_writing() is called for every answer that is not read.
        self._transport.set_write_buffer_limits(1, 0)
        self._tls = self._https = transport.get_extra_info("sslcontext") is not None
        tcp.keep_alive(transport)
        if self._server not in connections.servers:
            connections.servers.append(self._server)
        self._client = _address(transport.get_extra_info("peername"))
        if self._proxy_header or not self._client or not is_proxy(self._client[0]):
            self._admit(self._proxy_header or NO_HEADER)
        elif len(connections.without_header) < MAX_WAITING:
            self._state = ConnectionState.PROXY_HEADER
            self.due = self._loop.time() + HEADER_SECONDS
            connections.add(self, "")
            connections.without_header.add(self)
        else:
            self.abort()

    def _refuse_proxy(self, why: str) -> None:
        """Gives no answer: a proxy would not understand it."""
        assert self._client
        log_refused(self._client[0], why)
        self.abort()

    def _admit(self, header: Header) -> None:
        """Counts the connection, for its client. Closes it if there are too many."""
        if header.client:
            self._client = header.client
            seen = ClientTransport(self._transport, header.client, header.tls)
            self._transport = cast(asyncio.Transport, seen)
            self._https = self._tls or header.tls
        connections.leave(self)
        address = self.counted_address(self._client[0]) if self._client else ""
        excess = connections.excess(address)
        self._address = address
        connections.add(self, address)
        cast(set[Any], self._server.connections).add(self)
        self.due = self._loop.time() + settings.HTTP_HEAD_SECONDS
        if excess > MAX_REFUSED_AT_ONCE:
            self.abort()
        elif excess:
            detail = "This server has as many connections as it takes: try again, or close others first."
            self._refuse(BadRequest(503, "TOO_MANY_CONNECTIONS", detail))

    def counted_address(self, host: str) -> str:
        """Empty if it is not counted."""
        return counted_address(host, self._config.loaded_app)

    def connection_lost(self, error: Exception | None) -> None:
        self._state = ConnectionState.CLOSED
        self._forget()
        if self._cycle:
            self._cycle.disconnect()
        self._exchange = self._cycle = None
        if self._drained and not self._drained.done():
            self._drained.set_result(None)

    def _forget(self) -> None:
        self.due = self.unread_due = NEVER
        connections.without_header.discard(self)
        if self in connections.open:
            connections.remove(self, self._address)
        cast(set[Any], self._server.connections).discard(self)

    def pause_writing(self) -> None:
        size = self._transport.get_write_buffer_size()
        self.unread_due = self._loop.time() + UNREAD_SECONDS + size / READ_RATE
        if self._drained is None or self._drained.done():
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        self.unread_due = NEVER
        if self._drained and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        if (
            self._state is ConnectionState.HEAD
            and self._head
            and not self._buffer
            and data.startswith(self._head)
        ):
            request = self._remembered
            assert request
            assert self._direct
            start, end = len(self._head), len(data)
            exchange = self._direct.admit(request, self._answer)
            if request.length == end - start and exchange and not isinstance(exchange, Response):
                # Most requests: whole, with the same head as the last one.
                self._server.total_requests += 1
                self._request, self._keep = request, True
                self._reader = None
                self._exchange = exchange
                self._state = ConnectionState.ANSWERING
                self.due = self._loop.time() + self._direct.store_seconds
                exchange.take(data[start:])
                return
            self._buffer += data[start:]
            self._begin(request, self._head, exchange)
            self._advance()
            return
        self._buffer += data
        if self._state is ConnectionState.HEAD and len(self._buffer) == len(data):  # until now it was idle
            self.due = min(self.due, self._loop.time() + settings.HTTP_HEAD_SECONDS)
        self._advance()

    def eof_received(self) -> bool:
        """True while an answer is being made: some clients close their side after their request."""
        self._eof = True
        # With TLS, asyncio has no half-closed connections.
        if self._state is ConnectionState.ANSWERING and not self._tls:
            self.due = min(self.due, self._loop.time() + HALF_CLOSED_SECONDS)
            return True
        self.close()
        return False

    # Requests

    def _advance(self) -> None:
        """Goes on with the data that have come."""
        if self._advancing:  # within the loop below, which goes on
            return
        self._advancing = True
        try:
            while self._step():
                pass
        except BadRequest as error:
            self._refuse(error)
        finally:
            self._advancing = False
        if self._state is ConnectionState.ANSWERING:
            if len(self._buffer) > MAX_BUFFERED:
                self._pause_reading()
        elif self._eof and self._state in {
            ConnectionState.HEAD,
            ConnectionState.BODY,
            ConnectionState.READING_PAST,
        }:
            self.close()  # no more will come

    def _step(self) -> bool:
        """False if more data have to come first. Raises BadRequest."""
        match self._state:
            case ConnectionState.PROXY_HEADER:
                try:
                    header = proxy_protocol.read(bytes(self._buffer[:MAX_SIZE]))
                except BadHeader as error:
                    self._refuse_proxy(str(error))
                    return False
                if header is None:
                    return False
                del self._buffer[: header.size]
                connections.without_header.discard(self)
                self._state = ConnectionState.HEAD
                self._admit(header)
                return True
            case ConnectionState.HEAD:
                return self._take_head()
            case ConnectionState.BODY:
                return self._take_body()
            case ConnectionState.READING_PAST:
                assert self._reader
                self._reader.feed(self._buffer)
                if self._reader.complete:
                    self._next_request()
                return self._reader.complete
            case ConnectionState.LINGERING | ConnectionState.CLOSED:
                self._buffer.clear()
        return False

    def _take_head(self) -> bool:
        while self._buffer.startswith((b"\r", b"\n")):  # some clients send an empty line after a body
            del self._buffer[:1]
            self._searched = 0
        if not self._buffer:
            return False
        end = head_end(self._buffer, self._searched)
        if not end:
            self._searched = len(self._buffer)
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        request = parse_head(head)
        if request.websocket and self._config.ws_protocol_class is not None:
            self._upgrade(request)
            return False
        direct = self._direct
        self._begin(request, head, direct.admit(request, self._answer) if direct else None)
        return True

    def _begin(self, request: Request, head: bytes, admitted: DirectExchange | Response | None) -> None:
        self._server.total_requests += 1
        self._request = request
        self._reader = BodyReader(request)
        self._keep = request.keep_alive
        self._state = ConnectionState.ANSWERING if self._reader.complete else ConnectionState.BODY
        if admitted is None:
            self._head, self._remembered = b"", None
            self._start_cycle(request)
            return
        if len(head) <= MAX_REMEMBERED_HEAD and request.keep_alive and request.minor:
            self._head, self._remembered = head, request
        if isinstance(admitted, Response):
            self._answer(admitted)
            return
        self._exchange = admitted
        self.due = self._loop.time() + BODY_SECONDS
        if request.expects_continue and not self._buffer:
            self._transport.write(http_response.CONTINUE)
        if self._reader.complete:
            self._hand_over(admitted)

    def _take_body(self) -> bool:
        assert self._reader
        part = self._reader.feed(self._buffer)
        if self._reader.complete:
            self._state = ConnectionState.ANSWERING
        if self._cycle:
            if part or self._reader.complete:
                self._cycle.feed(part, self._reader.complete)
            if self._reader.complete:
                self.due = NEVER
            elif self._cycle.buffered > MAX_BUFFERED:
                self._pause_reading()
        elif self._exchange:
            self._body += part
            if self._reader.complete or len(self._body) > self._exchange.max_body:
                self._hand_over(self._exchange)
        return self._state is not ConnectionState.BODY

    def _hand_over(self, exchange: DirectExchange) -> None:
        assert self._direct
        body, self._body = bytes(self._body[: exchange.max_body + 1]), bytearray()
        self._state = ConnectionState.ANSWERING
        self.due = self._loop.time() + self._direct.store_seconds
        exchange.take(body)

    def _start_cycle(self, request: Request) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": f"1.{request.minor}",
            "server": _address(self._transport.get_extra_info("sockname")),
            "client": self._client,
            "scheme": "https" if self._https else "http",
            "root_path": "",
            "method": request.method,
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "state": self._app_state.copy(),
        }
        self.due = (
            NEVER
            if request.length in {None, 0} and not request.chunked
            else (self._loop.time() + BODY_LATE_SECONDS)
        )
        self._cycle = Cycle(self, request, scope)
        task = self._loop.create_task(self._cycle.run(cast(Any, self._config.loaded_app)))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _upgrade(self, request: Request) -> None:
        """Hands the connection over to uvicorn's WebSocket, which expects header names in lower case."""
        target = request.raw_path + (b"?" + request.query if request.query else b"")
        lines = [b"%s: %s\r\n" % header for header in request.headers]
        head = b"".join((b"GET ", target, b" HTTP/1.1\r\n", *lines, b"\r\n"))
        rest, self._buffer = bytes(self._buffer), bytearray()
        self._state = ConnectionState.CLOSED
        self._forget()
        self._transport.set_write_buffer_limits()
        factory = cast(Callable[..., asyncio.Protocol], self._config.ws_protocol_class)
        websocket = factory(config=self._config, server_state=self._server, app_state=self._app_state)
        websocket.connection_made(self._transport)
        websocket.data_received(head + rest)
        self._transport.set_protocol(websocket)

    # Answers

    def _answer(self, answer: Response) -> None:
        """Sends the answer to a direct request."""
        self._exchange = None
        if self._state not in {ConnectionState.ANSWERING, ConnectionState.BODY}:
            return
        assert self._request
        line = b"" if self._request.minor else KEEP_ALIVE
        if not self.keeps(True):
            line = CLOSE
        self._transport.write(b"".join((answer.head, connections.date, line, b"\r\n", answer.body)))
        self.answered()

    def _refuse(self, error: BadRequest) -> None:
        """Answers data that are no request, and ends the connection."""
        if self._cycle:  # its body will not come
            self._cycle.disconnect()
            if self._cycle.started:
                self.abort()
                return
        path = self._request.path if self._request and self._state is ConnectionState.BODY else None
        answer = http_response.refusal(error, path)
        self._transport.write(b"".join((answer.head, connections.date, CLOSE, b"\r\n", answer.body)))
        self._linger()

    # A cycle's side, see asgi_cycle.HttpConnection

    @property
    def date(self) -> bytes:
        return connections.date

    def keeps(self, possible: bool) -> bool:
        reader = self._reader
        if reader and not reader.complete:
            assert self._request
            left = reader.left
            possible &= left is not None and left <= MAX_READ_PAST and not self._request.expects_continue
        self._keep &= possible and connections.stop_at == NEVER
        return self._keep

    def write(self, data: bytes, *, more: bool) -> None:
        if self._state is ConnectionState.CLOSED or self._state is ConnectionState.LINGERING:
            return
        self._transport.write(data)
        if more and self._state is ConnectionState.ANSWERING and not self._eof and self.due == NEVER:
            self.due = self._loop.time() + settings.HTTP_ANSWER_SECONDS

    def want_body(self) -> None:
        self._resume_reading()

    async def drained(self) -> None:
        if self._drained and not self._drained.done():
            await self._drained

    def answered(self) -> None:
        self._cycle = None
        if self._state in {ConnectionState.LINGERING, ConnectionState.CLOSED}:
            return
        complete = self._reader is None or self._reader.complete
        if self._keep and complete:
            self._next_request()
        elif self._keep:
            self._state = ConnectionState.READING_PAST
            self.due = self._loop.time() + BODY_SECONDS
        elif complete and not self._buffer:
            self.close()
        else:
            self._linger()
        self._resume_reading()
        if self._buffer or self._eof:
            self._advance()

    def _next_request(self) -> None:
        self._state = ConnectionState.HEAD
        self._request = None
        idle = settings.HTTP_HEAD_SECONDS if self._buffer else settings.HTTP_KEEP_ALIVE_SECONDS
        self.due = self._loop.time() + idle

    # The end

    @property
    def idle(self) -> bool:
        return self._state is ConnectionState.HEAD and not self._buffer and self.unread_due == NEVER

    def on_due(self, now: float) -> None:
        match self._state:
            case _ if self.unread_due <= now:
                self.abort()
            case ConnectionState.PROXY_HEADER:
                self._refuse_proxy(f"no PROXY header came within {HEADER_SECONDS:.0f} seconds.")
            case ConnectionState.HEAD if self._buffer:
                detail = f"A request's head has to come within {settings.HTTP_HEAD_SECONDS} seconds."
                self._refuse(BadRequest(408, "REQUEST_TIMEOUT", detail))
            case ConnectionState.BODY if self._exchange and self._direct:
                self._keep = False
                self._answer(self._direct.too_slow)
            case ConnectionState.ANSWERING if self._exchange:
                self._answer(self._exchange.give_up())
            case ConnectionState.HEAD | ConnectionState.READING_PAST | ConnectionState.LINGERING:
                self.close()
            case _:
                self.abort()

    def shutdown(self) -> None:
        """Called when the server stops. Requests that have come are answered within a time; no others are
        read."""
        if connections.stop_at == NEVER:
            connections.stop_at = self._loop.time() + settings.DRAIN_SECONDS
        if self._state is ConnectionState.HEAD:
            self.close()

    def close(self) -> None:
        """Closes once the client has read what was written, or the time for that is over."""
        if self._state is not ConnectionState.CLOSED:
            self._state = ConnectionState.CLOSED
            if self._cycle:
                self._cycle.disconnect()
            self.due = self._loop.time() + CLOSE_SECONDS if self.unread_due == NEVER else self.unread_due
            self._transport.close()

    def abort(self) -> None:
        self.due = self.unread_due = NEVER
        self._transport.abort()

    def _linger(self) -> None:
        """Closes our side only. If we closed both while the client is still sending, the connection would be
        reset, and the client might lose our answer."""
        self._state = ConnectionState.LINGERING
        self._buffer.clear()
        self._resume_reading()
        self.due = self._loop.time() + LINGER_SECONDS
        if self._eof:
            self.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()


def counted_address(host: str, application: object) -> str:
    """The address under which a connection is counted. Empty for a trusted proxy, which speaks for many
    clients."""
    if isinstance(application, ProxyHeadersMiddleware) and host in application.trusted_hosts:
        return ""
    return tcp.counted_address(host)


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
