"""MQTT over WebSocket (chapter 6)."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest
from brokers import Broker
from client import Limit
from versions import NEW_VERSIONS

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import ConnAck, Packet, PingReq, PingResp, Publish, Version

BINARY, TEXT, CLOSE = 0x82, 0x81, 0x88
UPGRADE = (
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
)


class WebSocket:
    """As little of RFC 6455 as these tests need."""

    def __init__(self, broker: Broker) -> None:
        address = ("127.0.0.1", broker.server.websocket_port)
        self.socket = socket.create_connection(address, Limit.seconds)
        self._data = b""
        self._frames = FrameReader(2**20)
        self._packets: list[tuple[int, bytes]] = []

    def upgrade(self, protocol: str) -> None:
        self.socket.sendall(UPGRADE.format(protocol=protocol).encode())
        head = self._until(b"\r\n\r\n").decode().lower()
        self.accepted = head.startswith("http/1.1 101")
        lines = [line.partition(":") for line in head.splitlines()]
        self.protocol = next(
            (value.strip() for name, _, value in lines if name == "sec-websocket-protocol"), ""
        )

    def send(self, data: bytes, first: int = BINARY) -> None:
        mask = os.urandom(4)
        size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(bytes((first,)) + size + mask + masked)

    def receive(self, version: Version) -> Packet | None:
        """The next packet; None once the server has closed."""
        while not self._packets:
            head = self._take(2)
            if not head or head[0] & 0x0F == CLOSE & 0x0F:
                return None
            size = head[1] if head[1] < 126 else int.from_bytes(self._take(2 if head[1] == 126 else 8), "big")
            data = self._take(size)
            assert head[0] in (BINARY, 0x02, 0x80, 0x00), f"frame 0x{head[0]:02X}"
            self._packets += self._frames.feed(data)
        return decode(*self._packets.pop(0), version)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            more = self._read()
            if not more:
                return b""
            self._data += more
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _until(self, end: bytes) -> bytes:
        while end not in self._data:
            more = self._read()
            if not more:
                break
            self._data += more
        head, _, self._data = self._data.partition(end)
        return head

    def _read(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""


@pytest.fixture
def dial(broker: Broker) -> Iterator[Callable[..., WebSocket]]:
    opened: list[WebSocket] = []

    def dial(protocol: str = "mqtt") -> WebSocket:
        opened.append(WebSocket(broker))
        opened[-1].upgrade(protocol)
        return opened[-1]

    yield dial
    for web in opened:
        web.socket.close()


@NEW_VERSIONS
def test_packets_come_in_binary_frames_of_any_size(
    broker: Broker, dial: Callable[..., WebSocket], version: Version
) -> None:
    """A packet may be in several frames, and a frame may have several packets."""
    web = dial()
    client = broker.client("a", version)
    for byte in encode(client.connect_packet(), version):
        web.send(bytes((byte,)))
    assert isinstance(web.receive(version), ConnAck)
    publish = encode(Publish(broker.topic(), b"x", 0, False, False, 0, {}), version)
    web.send(publish + encode(PingReq(), version) * 3 + publish[:3])
    web.send(publish[3:] + encode(PingReq(), version))
    assert [type(web.receive(version)) for _ in range(4)] == [PingResp] * 4


@NEW_VERSIONS
def test_a_text_frame_ends_the_connection(
    broker: Broker, dial: Callable[..., WebSocket], version: Version
) -> None:
    web = dial()
    client = broker.client("a", version)
    web.send(encode(client.connect_packet(), version))
    assert isinstance(web.receive(version), ConnAck)
    web.send(encode(PingReq(), version), TEXT)
    while (packet := web.receive(version)) is not None:
        assert not isinstance(packet, PingResp)


@pytest.mark.parametrize("offered", ["mqtt", "mqttv3.1, mqtt", "mqtt, other"], ids=["one", "last", "first"])
def test_the_subprotocol_is_mqtt(dial: Callable[..., WebSocket], offered: str) -> None:
    web = dial(offered)
    assert web.accepted
    assert web.protocol == "mqtt"
