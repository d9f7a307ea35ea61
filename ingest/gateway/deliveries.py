"""What one client is sent. Pure: methods return the bytes to write.

A message of a session that lasts has its number in the session's queue, from which its packet id follows: what
is sent again after a crash has the same one. What there is no room for in memory stays in the queue, and is
read from there (`behind`). A message without a number is gone with the connection.
"""

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from ingest.gateway.subscriptions import Match
from ingest.mqtt.codec import encode_ack
from ingest.mqtt.packets import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, Ack, Properties, Version
from ingest.mqtt.properties import Property, write_properties
from ingest.mqtt.wire import write_frame, write_text
from thingscale.devices.mqtt_store import Opened

MAX_IN_FLIGHT = 1_000  # beyond which a client's own Receive Maximum plays no part
MAX_WAITING = 1_000  # messages
MAX_WAITING_BYTES = 2**20
MAX_SPREAD = 5_000  # numbers between the oldest message that is not acknowledged and the newest one sent
PACKET_IDS = 65_535
FAILURE = 0x80


class Message:
    """On its way to its subscribers, who share it. The topic is without the token."""

    __slots__ = ("_encoded", "expires_at", "payload", "properties", "qos", "retain", "topic", "command")

    def __init__(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties, age: float = 0.0
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        expiry = properties.get(Property.MESSAGE_EXPIRY_INTERVAL) if properties else None
        self.expires_at = None if expiry is None else time.monotonic() + expiry - age
        self.command = 0  # what an app has published
        self._encoded: dict[Any, bytes] | None = None

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.monotonic()

    def at_qos_0(self, version: Version, token: str, retain: bool, identifiers: tuple[int, ...]) -> bytes:
        key = version, token, retain, identifiers
        if self._encoded is None:
            self._encoded = {}
        data = self._encoded.get(key)
        if data is None:
            first = PUBLISH << 4 | retain
            body = self._head(token) + self._tail(version, identifiers)
            data = write_frame(first, body)
            if self.expires_at is None:
                self._encoded[key] = data
        return data

    def encode(
        self,
        version: Version,
        token: str,
        qos: int,
        retain: bool,
        dup: bool,
        packet_id: int,
        match: Match[Any],
    ) -> bytes:
        first = PUBLISH << 4 | dup << 3 | qos << 1 | retain
        body = self._head(token) + packet_id.to_bytes(2, "big") + self._tail(version, match.identifiers)
        return write_frame(first, body)

    def _head(self, token: str) -> bytes:
        return write_text(f"{token}/{self.topic}")

    def _tail(self, version: Version, identifiers: tuple[int, ...]) -> bytes:
        if version != V5:
            return self.payload
        if not self.properties and not identifiers:
            return b"\0" + self.payload
        properties = dict(self.properties)
        if self.expires_at is not None:
            properties[Property.MESSAGE_EXPIRY_INTERVAL] = max(0, round(self.expires_at - time.monotonic()))
        if identifiers:
            properties[Property.SUBSCRIPTION_IDENTIFIER] = list(identifiers)
        return write_properties(properties, PUBLISH) + self.payload


Waiting = tuple[Message, Match[Any], int]


class Deliveries:
    __slots__ = (
        *("_bytes", "_done", "_done_seq", "_free", "_in_flight", "_maximum_packet", "_newest", "_received"),
        *(
            "_sent_before",
            "_token",
            "_version",
            "_commands",
            "_note",
            "_waiting",
            "_window",
            "behind",
            "dropped",
            "sent_seq",
        ),
    )

    def __init__(
        self,
        version: Version,
        token: str,
        receive_maximum: int,
        maximum_packet: int,
        note: Callable[[int, bool], None],
    ) -> None:
        """`note`: of a command, that it has been sent, or acknowledged."""
        self._note = note
        self._commands: dict[int, int] | None = None  # by packet id
        self._version = version
        self._token = token
        self._window = min(receive_maximum, MAX_IN_FLIGHT)
        self._maximum_packet = maximum_packet
        self._in_flight: dict[int, int] = {}  # packet id -> number in the queue, or 0
        self._received: set[int] | None = None  # packet ids whose PUBREC has come
        self._free = 1  # where to look for a free packet id
        self._waiting: deque[Waiting] | None = None
        self._bytes = 0  # of those
        self._done_seq = 0
        self._done: set[int] | None = None  # beyond that
        self._newest = 0  # number that we have heard of
        self._sent_before = 0  # up to this number what is sent may have been sent before
        self.behind = 0  # number of the first message that is to be read from the queue, or 0
        self.dropped = 0
        self.sent_seq = 0

    # What is to be sent

    def add(self, message: Message, match: Match[Any], number: int) -> bytes:
        if number:
            self._newest = max(self._newest, number)
        qos = min(message.qos, match.qos)
        if not qos:
            data = message.at_qos_0(
                self._version, self._token, message.retain and match.retain_as_published, match.identifiers
            )
            if len(data) > self._maximum_packet:
                self.dropped += 1
                return b""
            if message.command:
                self._note(message.command, False)
            return data
        if self.behind:
            if not number:
                return self._queue(message, match, number)
            return b""  # it comes from the queue
        if self._waiting or not self._may_send(number):
            return self._queue(message, match, number)
        return self._send(message, match, number)

    def fill(self, message: Message, match: Match[Any], number: int) -> bytes:
        """From the queue, from `behind` on, in order."""
        if not self.behind or number < self.behind:
            return b""
        out = b""
        if not self._is_done(number) and number not in self._in_flight.values():
            if self._waiting or not self._may_send(number):
                self._queue(message, match, number)
                if self.behind == number:
                    return b""  # no room
            else:
                out = self._send(message, match, number)
        self.behind = number + 1 if number < self._newest else 0
        return out

    def caught_up(self) -> None:
        """There is nothing more in the queue: the rest was left out, or has expired."""
        self.behind = 0

    @property
    def has_room(self) -> bool:
        return not self._waiting or (
            len(self._waiting) < MAX_WAITING // 2 and self._bytes < MAX_WAITING_BYTES // 2
        )

    def _may_send(self, number: int) -> bool:
        return len(self._in_flight) < self._window and number <= self._done_seq + MAX_SPREAD

    def send_waiting(self) -> bytes:
        out = []
        while self._waiting and self._may_send(self._waiting[0][2]):
            message, match, number = self._waiting.popleft()
            self._bytes -= len(message.payload) + 200
            out.append(self._send(message, match, number))
        return b"".join(out)

    def _queue(self, message: Message, match: Match[Any], number: int) -> bytes:
        """What does not fit is dropped, or stays in the session's queue."""
        if self._waiting is None:
            self._waiting = deque()
        size = len(message.payload) + 200
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            if number:
                self.behind = number
            else:
                self.dropped += 1
            return b""
        self._waiting.append((message, match, number))
        self._bytes += size
        return b""

    def _send(self, message: Message, match: Match[Any], number: int) -> bytes:
        if message.expired:
            self._finish(number)
            return b""
        packet_id = self._packet_id(number)
        qos = min(message.qos, match.qos)
        dup = bool(number) and number <= self._sent_before
        retain = message.retain and match.retain_as_published
        data = message.encode(self._version, self._token, qos, retain, dup, packet_id, match)
        if len(data) > self._maximum_packet:  # as if it had been completed [MQTT-3.1.2-25]
            self.dropped += 1
            self._finish(number)
            return b""
        self._in_flight[packet_id] = number
        self.sent_seq = max(self.sent_seq, number)
        if message.command:
            self._note(message.command, False)
            self._commands = self._commands or {}
            self._commands[packet_id] = message.command
        return data

    def _packet_id(self, number: int) -> int:
        if number:
            return number % PACKET_IDS + 1
        for packet_id in count(self._free):
            packet_id = (packet_id - 1) % PACKET_IDS + 1
            if packet_id not in self._in_flight:
                self._free = packet_id + 1
                return packet_id
        raise AssertionError

    # What the client answers

    def acknowledged(self, packet: Ack) -> tuple[bytes, bytes, bool]:
        """What to write now, and once what has changed is stored; whether something has."""
        kind, packet_id, code, _ = packet
        if packet_id not in self._in_flight:
            if kind == PUBREC and code < FAILURE:  # [MQTT-4.3.3]: it is ended all the same
                return encode_ack(PUBREL, packet_id, 0x92, self._version), b"", False
            return b"", b"", False
        number = self._in_flight[packet_id]
        if kind == PUBREC and code < FAILURE:
            if self._received is None:
                self._received = set()
            self._received.add(packet_id)
            return b"", encode_ack(PUBREL, packet_id, 0, self._version), bool(number)
        if kind not in {PUBACK, PUBREC, PUBCOMP}:
            return b"", b"", False
        del self._in_flight[packet_id]
        if self._commands and (command := self._commands.pop(packet_id, 0)):
            self._note(command, True)
        if self._received:
            self._received.discard(packet_id)
        self._finish(number)
        return b"", b"", bool(number)

    def _finish(self, number: int) -> None:
        if not number:
            return
        if self._done is None:
            self._done = set()
        self._done.add(number)
        while self._done_seq + 1 in self._done:
            self._done_seq += 1
            self._done.discard(self._done_seq)

    def _is_done(self, number: int) -> bool:
        return number <= self._done_seq or bool(self._done and number in self._done)

    # The session

    def progress(self) -> tuple[int, list[int], list[int]]:
        """All up to the first number is acknowledged, and the second list; PUBREC has come for the third."""
        received = [self._in_flight[packet_id] for packet_id in self._received or ()]
        return self._done_seq, sorted(self._done or ()), sorted(filter(None, received))

    def resume(self, opened: Opened) -> bytes:
        """With what the session has; its queue is to be read from `behind` on."""
        self._done_seq = opened.done_seq
        self._done = set(opened.done) or None
        self._newest = opened.next_seq - 1
        self._sent_before = self._newest if opened.sent_seq is None else opened.sent_seq
        self.sent_seq = self._sent_before
        self.behind = opened.done_seq + 1 if opened.next_seq - 1 > opened.done_seq else 0
        out = []
        for number in opened.received_seq:
            packet_id = number % PACKET_IDS + 1
            self._in_flight[packet_id] = number
            self._received = self._received or set()
            self._received.add(packet_id)
            out.append(encode_ack(PUBREL, packet_id, 0, self._version))
        return b"".join(out)
