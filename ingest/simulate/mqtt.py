"""A simulated device's MQTT 5 client. What is not acknowledged is sent again after a reconnect, with DUP."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from ingest.message import Kind
from ingest.mqtt.codec import FrameReader, decode, encode, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    Ack,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    ProtocolError,
    Publish,
    ReasonCode,
)
from ingest.simulate.devices import Device
from ingest.simulate.tally import Tally

WINDOW = 20  # unacknowledged messages of a device: what bounds the memory
UNSENT_BYTES = 64 * 1024  # QoS 0 is not sent beyond this
KEEP_ALIVE = 60
ANSWER_SECONDS = 10.0
BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0)
AWAY_SECONDS = 0.5  # of a flapping device


class Gone(Exception):
    """The server has closed the connection, or refused it."""


@dataclass
class _Flight:
    """A message on its way; `released`: QoS 2, its PUBREC has come."""

    publish: Publish
    tried: bool = False
    released: bool = False


class MqttSender:
    def __init__(self, device: Device, address: tuple[str, int], user_id: str, token: str, qos: int) -> None:
        self.tally = Tally(device.device_id, acked=qos > 0)
        self._device = device
        self._address = address
        self._token = token
        self._qos = qos
        self._connect = Connect(
            V5, f"{device.device_id}_simulated", True, KEEP_ALIVE, user_id, token.encode(), None, {}
        )
        self._flights: dict[int, _Flight] = {}  # in the order of sending
        self._packet_id = 0
        self._writer: asyncio.StreamWriter | None = None  # while connected
        self._left = device.online  # readings until it goes

    @property
    def waiting(self) -> int:
        return len(self._flights)

    def offer(self) -> bool:
        """Sends the next reading, if there is room for it. Without a connection it is kept until there is
        one again; at QoS 0 there is then nothing to be sent."""
        if self._qos and len(self._flights) >= WINDOW:
            return False
        writer = self._writer
        if not self._qos and (writer is None or writer.transport.get_write_buffer_size() >= UNSENT_BYTES):
            return False
        reading = self._device.take(time.time())
        self.tally.stateful = reading.kind is Kind.STATE
        tail = f"/{reading.tag}" if reading.tag else ""
        kind = "" if reading.kind is Kind.FORM else f"/{reading.kind.value}"
        topic = f"{self._token}{kind}/{self._device.device_id}{tail}"
        packet_id = 0
        if self._qos:
            packet_id = self._packet_id % 65_535 + 1
            while packet_id in self._flights:
                packet_id = packet_id % 65_535 + 1
            self._packet_id = packet_id
        publish = Publish(topic, reading.payload, self._qos, False, False, packet_id, {})
        self.tally.sent += 1
        flight = _Flight(publish)
        if self._qos:
            self._flights[publish.packet_id] = flight
        if writer:
            self._send(flight)
            if self._left is not None:
                self._left -= 1
                if self._left <= 0:  # the radio link of a flapping device breaks in mid-flight
                    self._left = self._device.online
                    writer.close()
        return True

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                await self._session()
                failures = 0
                await asyncio.sleep(AWAY_SECONDS)
            except (OSError, TimeoutError, ProtocolError, Gone):
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def close(self) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.write(encode(Disconnect(0, {}), V5))

    def _send(self, flight: _Flight) -> None:
        """A message that can't be sent any more is sent on the next connection."""
        assert self._writer is not None
        if self._writer.is_closing():
            return
        if flight.released:
            self._writer.write(encode_ack(PUBREL, flight.publish.packet_id, 0, V5))
            return
        self.tally.repeated += flight.tried
        self._writer.write(encode(flight.publish._replace(dup=flight.tried), V5))
        flight.tried = True

    # The connection

    async def _session(self) -> None:
        """From CONNECT to the end of the connection. Returns if the device itself has ended it."""
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*self._address), ANSWER_SECONDS)
        try:
            writer.write(encode(self._connect, V5))
            frames = FrameReader(2**20)
            while data := await self._read(reader, writer):
                for first, body in frames.feed(data):
                    self._on_packet(decode(first, body, V5), writer)
            if not writer.is_closing():
                raise Gone
        finally:
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):  # wait_for() may swallow that the task is cancelled
                    await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Empty at the end. Says that it is still there when nothing comes."""
        if self._writer is None:
            return await asyncio.wait_for(reader.read(65_536), ANSWER_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(reader.read(65_536), KEEP_ALIVE / 2)
            writer.write(b"\xc0\0")

    def _on_packet(self, packet: Packet, writer: asyncio.StreamWriter) -> None:
        match packet:
            case ConnAck(code=0):
                self._writer = writer
                for flight in list(self._flights.values()):
                    self._send(flight)
            case ConnAck() | Disconnect():
                raise Gone
            case Ack():
                self._acknowledged(packet)

    def _acknowledged(self, ack: Ack) -> None:
        flight = self._flights.get(ack.packet_id)
        if flight is None:
            return
        if ack.type in {PUBACK, PUBREC} and not flight.released:
            self._count(ack.code)
        if ack.type in {PUBACK, PUBCOMP} or ack.code >= ReasonCode.UNSPECIFIED_ERROR:
            del self._flights[ack.packet_id]
        elif ack.type == PUBREC:
            flight.released = True
            if self._writer:
                self._send(flight)

    def _count(self, code: int) -> None:
        if code >= ReasonCode.UNSPECIFIED_ERROR:
            self.tally.refused[ReasonCode(code).name] += 1
        else:
            self.tally.acknowledged += 1
