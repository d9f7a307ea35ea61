"""A broker whose every packet is in the test's hands, for what mosquitto can't be made to do."""

import socket
from collections import deque
from types import TracebackType
from typing import TypeVar

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import (
    V5,
    ConnAck,
    Connect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    SubAck,
    Subscribe,
    Version,
)

SECONDS = 60.0  # that a packet may take which has to come
Kind = TypeVar("Kind", bound=Packet)


class Connection:
    """The worker's, seen from the broker."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(SECONDS)
        self._frames = FrameReader(2**20)
        self._received: deque[tuple[int, bytes]] = deque()
        self.version: Version = V5

    def next(self, kind: type[Kind]) -> Kind:
        """The next packet but for pings, which has to be one of these. Raises EOFError."""
        while True:
            while not self._received:
                data = self._socket.recv(65536)
                if not data:
                    raise EOFError
                self._received.extend(self._frames.feed(data))
            packet = decode(*self._received.popleft(), self.version)
            if isinstance(packet, PingReq):
                self.send(PingResp())
                continue
            if isinstance(packet, Connect):
                self.version = packet.version
            assert isinstance(packet, kind), packet
            return packet

    def send(self, packet: Packet) -> None:
        self._socket.sendall(encode(packet, self.version))

    def subscribed(self, count: int, code: int = 1) -> list[str]:
        """Answers so many subscriptions; their filters."""
        filters = []
        for _ in range(count):
            packet = self.next(Subscribe)
            filters += [subscription.filter for subscription in packet.subscriptions]
            self.send(SubAck(packet.packet_id, [code] * len(packet.subscriptions), {}))
        return filters

    def close(self) -> None:
        self._socket.close()


class ScriptedBroker:
    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[Connection] = []

    def accept(self, properties: Properties | None = None, code: int = 0) -> Connection:
        """The next connection, whose CONNECT is answered."""
        accepted, _ = self._listener.accept()
        connection = Connection(accepted)
        self._connections.append(connection)
        connection.next(Connect)
        connection.send(ConnAck(False, code, properties or {}))
        return connection

    def __enter__(self) -> "ScriptedBroker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        self._listener.close()
