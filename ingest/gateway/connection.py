"""Byte transports of a session: plain or TLS TCP, and WebSocket. Both end in Client.receive()."""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Protocol, cast

from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

WRITE_LIMIT = 256 * 1024  # bytes not yet taken by the client before the session stops serving it
WRITE_BYTES = 64 * 1024  # that are gathered in one turn of the loop
SMALL_WRITE = 4 * 1024  # the client's limits see less than this once a second
MAX_FRAME = 512 * 1024
CLOSE_SECONDS = 2.0  # for the client to take what it was sent last


class Receiver(Protocol):
    """What a connection needs of its session."""

    def receive(self, data: bytes) -> None: ...
    def congested(self, yes: bool) -> None: ...
    def measure(self) -> None:
        """Large writes are with the system, as far as that takes them."""

    def lost(self) -> None: ...


class Connection(asyncio.Protocol):
    """TCP. `new_session` is called when the client has connected; if it returns None, there is no room, and
    the connection is closed."""

    __slots__ = (
        *("_closing", "_measuring", "_new_session", "_outgoing", "_outgoing_size", "_session", "_transport"),
        "peer",
    )

    def __init__(self, new_session: Callable[["Connection"], Receiver | None], peer: str = "") -> None:
        """`peer` is the client's address, if the transport has the address of a proxy."""
        self._new_session = new_session
        self._session: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._outgoing: list[bytes] | None = None  # of this turn of the loop
        self._outgoing_size = 0
        self._measuring = False  # soon
        self.peer = peer

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(WRITE_LIMIT)
        if not self.peer:
            try:
                self.peer = str(ipaddress.ip_address(transport.get_extra_info("peername")[0]))
            except (TypeError, IndexError, ValueError):  # the client has gone already
                self.peer = ""
        self._session = self._new_session(self)
        if self._session is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if data and self._session and not self._closing:  # a WebSocket frame may be empty
            self._session.receive(data)

    def pause_writing(self) -> None:
        if self._session:
            self._session.congested(True)

    def resume_writing(self) -> None:
        if self._session:
            self._session.congested(False)

    def connection_lost(self, error: Exception | None) -> None:
        if self._session:
            self._session.lost()
        self._session = self._transport = None

    # the session's side; all of it is harmless after the end

    def write(self, data: bytes) -> None:
        """What is written in one turn of the loop goes out together: a system call for each would cost
        more."""
        if self._outgoing is None:
            self._outgoing = []
            asyncio.get_running_loop().call_soon(self.write_out)
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        if self._outgoing_size >= WRITE_BYTES:  # more than the client takes, perhaps
            self.write_out()

    def write_alone(self, data: bytes) -> None:
        """The same for what is usually the only write of its turn. It goes out at once."""
        if self._outgoing is not None or len(data) > SMALL_WRITE:
            self.write(data)
        elif self._transport and not self._closing:
            self._transport.write(data)

    def write_out(self) -> None:
        outgoing, self._outgoing, self._outgoing_size = self._outgoing, None, 0
        if outgoing and self._transport and not self._closing:
            data = b"".join(outgoing)
            self._transport.write(data)
            if len(data) > SMALL_WRITE:
                self._measure_soon()

    def _measure_soon(self) -> None:
        """A turn later, when the system has taken what it can."""
        if not self._measuring:
            self._measuring = True
            asyncio.get_running_loop().call_soon(self._measure)

    def _measure(self) -> None:
        self._measuring = False
        if self._session:
            self._session.measure()

    @property
    def untaken_bytes(self) -> int:
        """Bytes that were written, and that the system has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def close(self) -> None:
        """Sends what is buffered, then closes, whether the client reads it or not. What the client still
        sends is read and dropped: otherwise the connection would be reset, and our last packet lost."""
        self.write_out()
        transport = self._transport
        if transport is None or self._closing:
            return
        self._closing = True
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)
        if transport.can_write_eof():
            self.resume()
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()


class WebSocketConnection(Connection):
    """MQTT over WebSocket: binary frames, subprotocol `mqtt` (MQTT 5, section 6)."""

    def __init__(self, new_session: Callable[[Connection], Receiver | None], peer: str = "") -> None:
        super().__init__(new_session, peer)
        self._socket = ServerProtocol(
            subprotocols=[Subprotocol("mqtt"), Subprotocol("mqttv3.1")],
            select_subprotocol=_choose,
            max_size=MAX_FRAME,
        )

    def data_received(self, data: bytes) -> None:
        try:
            self._socket.receive_data(data)
            events = self._socket.events_received()
        except (WebSocketException, EOFError):
            self.abort()
            return
        for event in events:
            if isinstance(event, Request):
                self._socket.send_response(self._socket.accept(event))
            elif isinstance(event, Frame) and event.opcode in {Opcode.BINARY, Opcode.CONT}:
                super().data_received(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode == Opcode.TEXT:
                self._socket.fail(1003, "MQTT is binary")
            # A Close is answered by the protocol. Behind that answer, _flush ends the connection.
        self._flush()

    def write_alone(self, data: bytes) -> None:
        self.write(data)

    def write_out(self) -> None:
        outgoing, self._outgoing, self._outgoing_size = self._outgoing, None, 0
        if outgoing and self._socket.state is State.OPEN:
            self._socket.send_binary(b"".join(outgoing))
            self._flush()
            self._measure_soon()

    def close(self) -> None:
        self.write_out()
        if self._socket.state is State.OPEN:
            self._socket.send_close(1000)
            self._flush()
        super().close()

    def _flush(self) -> None:
        for data in self._socket.data_to_send():
            if not data:  # the protocol's way to say: close
                super().close()
            elif self._transport and not self._closing:
                self._transport.write(data)
        if self._socket.close_expected() and self._socket.state is State.CLOSED:
            super().close()


def _choose(server: ServerProtocol, offered: object) -> Subprotocol | None:
    """A client that names no subprotocol, or another one, is served all the same."""
    names = list(offered) if isinstance(offered, list | tuple) else []
    return next((name for name in ("mqtt", "mqttv3.1") if name in names), None)  # type: ignore[return-value]
