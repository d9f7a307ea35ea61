"""An MQTT client for tests: one socket, nothing in the background, every packet in the test's hands.

It checks what it reads: the project's codec refuses a packet that breaks the specification. Nothing sleeps.
That something does not arrive is shown by what arrives after it (`nothing`, or a later message).
"""

import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Ack,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from ingest.mqtt.wire import write_frame

LARGEST_PACKET = 2**24
Kind = TypeVar("Kind", bound=Packet)


class Limit:
    """How long something may take that has to come. A test that is known to fail should not wait long."""

    seconds = 60.0


class Endpoint(NamedTuple):
    """Where a client connects to, and as whom."""

    port: int
    username: str
    password: bytes


class Wire:
    """Packets or bytes on a TCP connection to `port`."""

    def __init__(self, port: int, version: Version = V311) -> None:
        self.version = version
        self.largest = 0  # bytes of the largest packet received so far, without its fixed header
        self.socket = socket.create_connection(("127.0.0.1", port), Limit.seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = FrameReader(LARGEST_PACKET)
        self._received: deque[tuple[int, bytes]] = deque()

    def send(self, *packets: Packet | bytes) -> None:
        """In one segment."""
        self.write(b"".join(p if isinstance(p, bytes) else encode(p, self.version) for p in packets))

    def write(self, data: bytes) -> None:
        """Whether the server has closed meanwhile, what is read next tells."""
        with suppress(ConnectionResetError, BrokenPipeError):
            self.socket.sendall(data)

    def read(self) -> bytes:
        """What has arrived; empty once the server has closed."""
        try:
            return self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""

    def frame(self, seconds: float | None = None) -> tuple[int, bytes] | None:
        """The next packet as its first byte and what follows the length; None once the server has closed."""
        deadline = time.monotonic() + (Limit.seconds if seconds is None else seconds)
        while not self._received:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.read()
            if not data:
                return None
            self._received.extend(self._frames.feed(data))
        first, body = self._received.popleft()
        self.largest = max(self.largest, len(body))
        return first, body

    def close(self) -> None:
        """The connection breaks, without a DISCONNECT."""
        self.socket.close()

    def abort(self) -> None:
        """It breaks, and a thread that reads it is told so."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Client:
    """Its id and what else CONNECT says may be changed before `connect`, which may come again on a new wire.

    What arrives while an answer is awaited keeps its place, for later.
    """

    def __init__(self, endpoint: Endpoint, client_id: str = "", version: Version = V311) -> None:
        self.endpoint = endpoint
        self.client_id = client_id
        self.version = version
        self._wire: Wire | None = None
        self._waiting: deque[Packet] = deque()
        self._last_id = 0

    @property
    def wire(self) -> Wire:
        assert self._wire, "not connected"
        return self._wire

    # Connections

    def connect(
        self,
        *,
        clean: bool = True,
        keep_alive: int = 60,
        will: Will | None = None,
        properties: dict[int, Any] | None = None,
        code: int = 0,
    ) -> ConnAck:
        """On a new wire. `code` is the one that the server has to answer with."""
        self.dial()
        self.send(self.connect_packet(clean=clean, keep_alive=keep_alive, will=will, properties=properties))
        answer = self.expect(ConnAck)
        assert answer.code == code, answer
        return answer

    def dial(self) -> None:
        """A new wire, on which nothing is sent yet."""
        self._waiting.clear()
        self.vanish()
        self._wire = Wire(self.endpoint.port, self.version)

    def connect_packet(
        self,
        *,
        clean: bool = True,
        keep_alive: int = 60,
        will: Will | None = None,
        properties: dict[int, Any] | None = None,
    ) -> Connect:
        _port, username, password = self.endpoint
        return Connect(
            self.version, self.client_id, clean, keep_alive, username, password, will, properties or {}
        )

    def disconnect(self, code: int = 0, properties: dict[int, Any] | None = None) -> None:
        """Waits until the server has closed, and so has seen it."""
        self.send(Disconnect(code, properties or {}))
        while self.receive() is not None:
            pass
        self.wire.close()

    def vanish(self) -> None:
        """The wire breaks, if there is one."""
        if self._wire:
            self._wire.close()

    def abort(self) -> None:
        """For a thread that waits for something to come: nothing does any more."""
        if self._wire:
            self._wire.abort()

    def closed(self, *codes: int) -> int | None:
        """Waits until the server has closed the connection. In MQTT 5 it may say why, in the last packet,
        with one of `codes` if there are any. Returns that code; after a CONNACK, its return code."""
        code = None
        while (packet := self.receive()) is not None:
            assert code is None, f"{packet} came after the reason for the end of the connection"
            assert isinstance(packet, Disconnect | ConnAck), f"{packet} instead of the connection's end"
            assert packet.code, packet
            code = packet.code
        assert code is None or not codes or self.version != V5 or code in codes, f"reason 0x{code:02X}"
        return code

    # Packets

    def send(self, *packets: Packet | bytes) -> None:
        self.wire.send(*packets)

    def receive(self, seconds: float | None = None) -> Packet | None:
        """The next packet; None once the server has closed."""
        if self._waiting:
            return self._waiting.popleft()
        return self._decoded(self.wire.frame(seconds))

    def expect(self, kind: type[Kind]) -> Kind:
        """The next packet, which has to be of that kind."""
        packet = self.receive()
        assert isinstance(packet, kind), f"{packet} instead of {kind.__name__}"
        return packet

    def answer(self, kind: type[Kind], packet_id: int | None = None) -> Kind:
        """The next packet of that kind (and id); what is in front of it keeps its place."""
        passed: deque[Packet] = deque()
        while True:
            packet = self.receive()
            assert packet is not None, f"the connection ended instead of {kind.__name__}; {list(passed)}"
            if isinstance(packet, kind) and packet_id in (None, getattr(packet, "packet_id", None)):
                self._waiting.extendleft(reversed(passed))
                return packet
            passed.append(packet)

    def ack(self, kind: int, packet_id: int) -> Ack:
        """The next packet, which has to be that PUBACK, PUBREC, PUBREL or PUBCOMP."""
        packet = self.expect(Ack)
        assert (packet.type, packet.packet_id) == (kind, packet_id), packet
        return packet

    def ping(self) -> None:
        self.send(PingReq())
        self.answer(PingResp)

    def arrived(self) -> list[Packet]:
        """What came in front of the last answer."""
        packets = list(self._waiting)
        self._waiting.clear()
        return packets

    def nothing(self) -> None:
        """The server had sent this client nothing when it answered a PINGREQ."""
        self.send(PingReq())
        self.expect(PingResp)

    # Whole exchanges

    def subscribe(
        self,
        topic_filter: str,
        qos: int = 2,
        *,
        no_local: bool = False,
        as_published: bool = False,
        handling: int = 0,
        identifier: int | None = None,
    ) -> int:
        """The code of SUBACK."""
        wanted = Subscription(topic_filter, qos, no_local, as_published, handling)
        properties = {} if identifier is None else {0x0B: [identifier]}
        return self.subscribe_all([wanted], properties).codes[0]

    def subscribe_all(self, wanted: list[Subscription], properties: dict[int, Any] | None = None) -> SubAck:
        packet_id = self.next_id()
        self.send(Subscribe(packet_id, wanted, properties or {}))
        return self.answer(SubAck, packet_id)

    def unsubscribe(self, *filters: str) -> list[int]:
        """The codes of UNSUBACK: none before MQTT 5."""
        packet_id = self.next_id()
        self.send(Unsubscribe(packet_id, list(filters), {}))
        return self.answer(UnsubAck, packet_id).codes

    def publish(
        self,
        topic: str,
        payload: bytes = b"1",
        qos: int = 1,
        *,
        retain: bool = False,
        dup: bool = False,
        properties: dict[int, Any] | None = None,
    ) -> int:
        """The whole flow; the reason code of its first answer (0 before MQTT 5). At QoS 0 there is none: what
        the server answers next shows that it has read it."""
        packet_id = self.next_id() if qos else 0
        self.send(Publish(topic, payload, qos, retain, dup, packet_id, properties or {}))
        if not qos:
            self.ping()
            return 0
        first = self.answer(Ack, packet_id)
        assert first.type == (PUBACK if qos == 1 else PUBREC), first
        if qos == 2 and first.code < 0x80:
            self.send(Ack(PUBREL, packet_id, 0, {}))
            last = self.answer(Ack, packet_id)
            assert (last.type, last.code) == (PUBCOMP, 0), last
        return first.code

    def message(self, payload: bytes | None = None, qos: int | None = None) -> Publish:
        """The next packet, which has to be a delivery (of that payload, at that QoS), with its whole flow."""
        packet = self.expect(Publish)
        assert payload in (None, packet.payload), packet
        assert qos in (None, packet.qos), packet
        self.accept(packet)
        return packet

    def accept(self, packet: Publish) -> None:
        """Acknowledges a delivery to the end of its flow."""
        if packet.qos == 1:
            self.send(Ack(PUBACK, packet.packet_id, 0, {}))
        elif packet.qos == 2:
            self.send(Ack(PUBREC, packet.packet_id, 0, {}))
            release = self.answer(Ack, packet.packet_id)
            assert (release.type, release.code) == (PUBREL, 0), release
            self.send(Ack(PUBCOMP, packet.packet_id, 0, {}))

    def messages_until(self, payload: bytes) -> list[Publish]:
        """All deliveries in front of the one with that payload."""
        found: list[Publish] = []
        while (packet := self.message()).payload != payload:
            found.append(packet)
        return found

    def next_id(self) -> int:
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def _decoded(self, frame: tuple[int, bytes] | None) -> Packet | None:
        return decode(*frame, self.version) if frame else None


def text(value: str | bytes) -> bytes:
    """A string as MQTT writes it, whether it may be one or not."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def frame(first: int, *parts: bytes) -> bytes:
    """A packet of any first byte and content."""
    return write_frame(first, b"".join(parts))
