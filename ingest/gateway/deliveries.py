"""What one connected client is sent, and what it answers: the outgoing half of a session (section 4). Pure.

`Deliveries` is for a clean session, which ends with its connection; `DurableDeliveries` is for one whose
messages the database keeps. Methods return an `Effects`: what is to be written to the client, and what is to
be stored. Times are Unix seconds, as `expires_at` is.

In flight a message needs no memory beyond its packet id: a clean session never sends it again, and a durable
one reads it again.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

from ingest.mqtt.codec_publish import encode_ack, encode_publish
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    V5,
    Ack,
    Properties,
    ProtocolError,
    Publish,
    ReasonCode,
    Version,
)
from ingest.mqtt.properties import Property, write_properties

MAX_IN_FLIGHT = 10_000  # whatever Receive Maximum the client states
MAX_WAITING = 10_000  # messages beyond the window, of one client
MAX_WAITING_BYTES = 4 * 1024 * 1024
MAX_WRITE = 64 * 1024  # that are taken from the queue at once, give or take a message
READ_MESSAGES = 100  # of a durable session, at once
READ_BYTES = 256 * 1024
MAX_TOPIC_ALIASES = 32
MAX_ENCODINGS = 4  # of one message, kept for its further receivers

_DUP: Final = 0x08
_FAILURE: Final = 0x80
_PACKET_IDS: Final = 65_535
_MAX_SPREAD: Final = 65_534  # from the oldest open message of a durable session to the newest
_OF_THE_CONNECTION: Final = frozenset(
    (Property.TOPIC_ALIAS, Property.SUBSCRIPTION_IDENTIFIER, Property.MESSAGE_EXPIRY_INTERVAL)
)

_SHORT: Final = 0x80  # a Remaining Length below this is one byte
_pack_id: Final = Struct(">H").pack
_pack_head: Final = Struct(">BBH").pack
_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class Message:
    """One message for all its receivers, who share its encodings.

    `topic` is relative to the account; each receiver's prefix (`TOKEN/`) goes before it, and before the
    response topic if that is relative, too (`relative_response`). `properties` are the publisher's;
    what belongs to its connection (alias, identifiers) is left out, and the expiry interval is counted anew.
    """

    __slots__ = (
        *("_encodings", "_size", "command", "expires_at", "payload", "properties", "relative_response"),
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        properties: Properties,
        expires_at: float | None = None,
        *,
        relative_response: bool = False,
    ) -> None:
        self.topic = topic
        self.command = 0  # what an app has published, see DeliveryTotals.note
        self.payload = payload
        self.properties = properties
        self.expires_at = expires_at
        self.relative_response = relative_response
        self._size = 0
        self._encodings: dict[tuple[object, ...], tuple[bytes, bytes]] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        if not self._size:
            properties = write_properties(self.properties_for("", (), None), PUBLISH)
            self._size = len(self.topic) + len(self.payload) + len(properties)
        return self._size

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def encode(self, delivery: "Delivery", prefix: str, version: Version, now: float) -> tuple[bytes, bytes]:
        """A PUBLISH without DUP: what comes before its packet id, and what comes after. At QoS 0, which has
        no packet id, the first part is all of it."""
        _, qos, retain, identifiers, _ = delivery
        left: int | None = None
        if version == V5:
            if self.expires_at is not None:
                left = self.seconds_left(now)
            key: tuple[object, ...] = (prefix, qos, retain, identifiers, left)
        else:
            key = (prefix, qos, retain)
        if self._encodings is None:
            self._encodings = {}
        encoded = self._encodings.get(key)
        if encoded is None:
            if len(self._encodings) >= MAX_ENCODINGS:
                self._encodings.clear()
            encoded = self._encodings[key] = self._encode(delivery, prefix, version, left)
        return encoded

    def _encode(
        self, delivery: "Delivery", prefix: str, version: Version, left: int | None
    ) -> tuple[bytes, bytes]:
        _, qos, retain, identifiers, _ = delivery
        topic = (prefix + self.topic).encode()
        size = len(topic) + len(self.payload) + 2 * (qos > 0) + 2
        if version != V5 and size < _SHORT:  # most are like that; the topic was checked when it came
            head = _pack_head(0x30 | qos << 1 | retain, size, len(topic)) + topic
            return (head, self.payload) if qos else (head + self.payload, b"")
        properties = self.properties_for(prefix, identifiers, left) if version == V5 else {}
        packet = Publish(prefix + self.topic, self.payload, qos, retain, False, 1, properties)
        return _cut(encode_publish(packet, version), qos)

    def properties_for(self, prefix: str, identifiers: tuple[int, ...], left: int | None) -> Properties:
        properties = {key: value for key, value in self.properties.items() if key not in _OF_THE_CONNECTION}
        if self.relative_response and Property.RESPONSE_TOPIC in properties:
            properties[Property.RESPONSE_TOPIC] = prefix + properties[Property.RESPONSE_TOPIC]
        if left is not None:
            properties[Property.MESSAGE_EXPIRY_INTERVAL] = left
        if identifiers:
            properties[Property.SUBSCRIPTION_IDENTIFIER] = list(identifiers)
        return properties

    def seconds_left(self, now: float) -> int:
        """The Message Expiry Interval [MQTT-3.3.2-6]: 0 only for what has expired since it was first sent."""
        assert self.expires_at is not None
        return max(0 if self.expired(now) else 1, round(self.expires_at - now))


class Delivery(NamedTuple):
    """A message as one client is to get it; receivers who get it alike can share this, too.

    `qos` is the lower of the publish's and the subscription's, `retain` the flag that the client is to see.
    `seq` numbers the stored messages of a durable session, in order; it is 0 at QoS 0 and for a
    clean session.
    """

    message: Message
    qos: int
    retain: bool = False
    identifiers: tuple[int, ...] = ()
    seq: int = 0


class Effects(NamedTuple):
    """`write` goes to the client. The other two are of durable sessions: `done` are messages that can be
    deleted; `received` is one whose PUBREC has to be committed, whereupon `receipt_stored` is called."""

    write: bytes = b""
    done: tuple[int, ...] = ()
    received: int = 0


class Read(NamedTuple):
    """What a durable session needs from the database: messages from `seq` on, in order, as long as they are
    no more than `messages` and `size` bytes (but one in any case)."""

    seq: int
    messages: int
    size: int


class ClientLimits(NamedTuple):
    """What a client's CONNECT says it takes; MQTT 3 clients have these."""

    receive_maximum: int = 65_535
    maximum_packet_size: int = 2**32  # no packet is as large
    topic_alias_maximum: int = 0


class DeliveryTotals:
    """What the clients of one account share: a limit for all their queues together, the same for what they
    were sent and have not taken, and counters."""

    __slots__ = (
        "delayed",
        "dropped",
        "expired",
        "max_waiting_bytes",
        "note",
        "too_large",
        "unexpected",
        "untaken_bytes",
        "waiting_bytes",
    )

    def __init__(
        self,
        max_waiting_bytes: int = 64 * 1024 * 1024,
        note: Callable[[int, bool], None] = lambda command, acknowledged: None,
    ) -> None:
        self.note = note  # what has become of a command: it was sent, or acknowledged
        self.max_waiting_bytes = max_waiting_bytes
        self.waiting_bytes = 0
        self.untaken_bytes = 0  # that the clients' connections have
        self.delayed = False  # something was not sent or read, since there was too much of that
        self.dropped = 0  # no room in the client's queue; at QoS 0: it reads too slowly
        self.expired = 0
        self.too_large = 0  # for the client's Maximum Packet Size [MQTT-3.1.2-25], or for any packet
        self.unexpected = 0  # acknowledgements of what is not in flight

    @property
    def full(self) -> bool:
        """Slow clients are sent nothing more until some have taken something, or were cut off."""
        return self.untaken_bytes >= self.max_waiting_bytes

    def delay(self) -> bool:
        """Whether something has to wait for that."""
        if self.untaken_bytes < self.max_waiting_bytes:
            return False
        self.delayed = True
        return True


class Flow(Enum):
    """What a message in flight waits for: an answer of the client, or that its PUBREC is stored."""

    PUBACK = "PUBACK"
    PUBREC = "PUBREC"
    STORAGE = "storage"
    PUBCOMP = "PUBCOMP"


NO_LIMITS: Final = ClientLimits()
_NOTHING: Final = Effects()
_NO_SEQS: Final[frozenset[int]] = frozenset()  # each empty frozenset of its own takes 216 bytes
_FIRST_FLOW: Final = {1: Flow.PUBACK, 2: Flow.PUBREC}
_NAMES: Final = {PUBACK: "PUBACK", PUBREC: "PUBREC", PUBCOMP: "PUBCOMP"}


class Deliveries:
    """The outgoing half of a connected client with a clean session.

    The caller sets `congested` while the connection's write buffer is full: then nothing is sent but answers,
    and what is at QoS 0 is dropped. Afterwards it calls `advance`, and again while the client is `ready`. It
    sets `slow` while there is anything in that buffer: the same holds then if the account has too much of it.
    `prefix` is what the account's topics begin with for this client.
    """

    __slots__ = (
        "_alias_maximum",
        "_aliases",
        "_commands",
        "_largest",
        "_newest",
        "_open",
        "_totals",
        "_version",
        "_waiting",
        "_waiting_bytes",
        "_window",
        "congested",
        "prefix",
        "slow",
    )

    def __init__(
        self, version: Version, prefix: str, totals: DeliveryTotals, limits: ClientLimits = NO_LIMITS
    ) -> None:
        self.prefix = prefix
        self.congested = False
        self.slow = False
        self._version = version
        self._totals = totals
        self._window = min(limits.receive_maximum, MAX_IN_FLIGHT)
        self._largest = limits.maximum_packet_size
        self._alias_maximum = min(limits.topic_alias_maximum, MAX_TOPIC_ALIASES)
        # Made when they are needed, gone when they are empty: an idle client has none of them.
        self._aliases: dict[str, int] | None = None
        self._open: dict[int, Flow] | None = None  # what is in flight, by packet id
        self._commands: dict[int, int] | None = None  # those among that, by packet id
        self._waiting: deque[Delivery] | None = None
        self._waiting_bytes = 0
        self._newest = 0  # the packet id last used; of a durable session the highest seq in flight

    @property
    def in_flight(self) -> int:
        return len(self._open) if self._open else 0

    @property
    def waiting(self) -> int:
        """Messages in memory that there was no room for in the window."""
        return len(self._waiting) if self._waiting else 0

    @property
    def ready(self) -> bool:
        """Whether `advance` would send something."""
        return self._waiting is not None and self._can_send(self._waiting[0])

    def deliver(self, delivery: Delivery, now: float) -> Effects:
        """Sent, put into the queue, or dropped."""
        if not delivery.qos:
            return self._deliver_at_once(delivery, now)
        if self._waiting or not self._can_send(delivery):
            if not self._wait(delivery):
                self._totals.dropped += 1
            return self.advance(now)
        write, done = self._send(delivery, now)
        return _new(Effects, (write, done, 0))

    def acknowledge(self, ack: Ack, now: float) -> Effects:
        """A PUBACK, PUBREC or PUBCOMP. Raises ProtocolError if the message waits for another of them."""
        kind, packet_id, code, _ = ack
        flow = self._open.get(packet_id) if self._open else None
        if flow is None:
            self._totals.unexpected += 1
            return Effects(self._answer_unknown(ack))
        if (kind == PUBACK and flow is Flow.PUBACK) or (kind == PUBCOMP and flow is Flow.PUBCOMP):
            return self._complete(packet_id, now)
        if kind == PUBREC and flow is not Flow.PUBACK:
            if code >= _FAILURE:  # ends it at once (section 4.3.3)
                return self._complete(packet_id, now)
            if flow is Flow.PUBREC:
                return self._receive(packet_id)
            if flow is Flow.STORAGE:
                return _NOTHING  # sent twice; PUBREL follows when the first is stored
            return Effects(encode_ack(PUBREL, packet_id))
        sentence = f"{_NAMES[kind]} of packet {packet_id}, which waits for {flow.value}."
        raise ProtocolError(ReasonCode.PROTOCOL_ERROR, sentence)

    def advance(self, now: float) -> Effects:
        """Sends what waits, as far as window and connection have room, about MAX_WRITE bytes at most."""
        waiting = self._waiting
        if not waiting or not self._can_send(waiting[0]):
            return _NOTHING
        written: list[bytes] = []
        size = 0
        done: list[int] = []
        while waiting and size < MAX_WRITE and self._can_send(waiting[0]):
            delivery = waiting.popleft()
            self._release_bytes(delivery.message.size)
            data, skipped = self._send(delivery, now)
            written.append(data)
            size += len(data)
            done += skipped
        if not waiting:
            self._waiting = None
        return Effects(b"".join(written), tuple(done))

    def close(self) -> None:
        """The connection is over: the account's limit is given back what waited here."""
        self._waiting = None
        self._release_bytes(self._waiting_bytes)

    def _deliver_at_once(self, delivery: Delivery, now: float) -> Effects:
        message = delivery.message
        if self.congested or (self.slow and self._totals.full):
            self._totals.dropped += 1
            return _NOTHING
        if message.expires_at is not None and message.expires_at <= now:
            self._totals.expired += 1
            return _NOTHING
        encoded = self._encode(delivery, now)
        if encoded and message.command:
            self._totals.note(message.command, False)
        return _new(Effects, (encoded[0], (), 0)) if encoded else _NOTHING

    def _can_send(self, _delivery: Delivery) -> bool:
        return (
            not self.congested
            and (self._open is None or len(self._open) < self._window)
            and not (self.slow and self._totals.delay())
        )

    def _wait(self, delivery: Delivery) -> bool:
        """Whether there was room in the queue."""
        size = delivery.message.size
        totals = self._totals
        if (
            self.waiting >= MAX_WAITING
            or self._waiting_bytes + size > MAX_WAITING_BYTES
            or totals.waiting_bytes + size > totals.max_waiting_bytes
        ):
            return False
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(delivery)
        self._waiting_bytes += size
        totals.waiting_bytes += size
        return True

    def _release_bytes(self, size: int) -> None:
        self._waiting_bytes -= size
        self._totals.waiting_bytes -= size

    def _send(self, delivery: Delivery, now: float) -> tuple[bytes, tuple[int, ...]]:
        """The packet; or nothing and what is done with, if it has expired or the client can't take it."""
        message, seq = delivery.message, delivery.seq
        again = self._sent_before(seq)
        # What may have been sent is sent again even if it has expired: the client may be in the middle of it.
        if message.expires_at is not None and message.expires_at <= now and not again:
            self._totals.expired += 1
            return b"", self._done(seq)
        encoded = self._encode(delivery, now)
        if encoded is None:
            return b"", self._done(seq)
        head, tail = encoded
        packet_id = self._open_id(seq)
        if self._open is None:
            self._open = {}
        self._open[packet_id] = _FIRST_FLOW[delivery.qos]
        if message.command:
            self._totals.note(message.command, False)
            self._commands = self._commands or {}
            self._commands[packet_id] = message.command
        if again:
            head = bytes((head[0] | _DUP,)) + head[1:]
        return head + _pack_id(packet_id) + tail, ()

    def _encode(self, delivery: Delivery, now: float) -> tuple[bytes, bytes] | None:
        """None if the client can't get it, now or ever: larger than it takes, or longer with this prefix than
        MQTT can write. The message then counts as completed: a stored one would break each connection anew.
        """
        try:
            if self._alias_maximum:
                encoded = self._encode_with_alias(delivery, now)
            else:
                encoded = delivery.message.encode(delivery, self.prefix, self._version, now)
        except ProtocolError:
            encoded = None
        if encoded is None or len(encoded[0]) + len(encoded[1]) + 2 * (delivery.qos > 0) > self._largest:
            self._totals.too_large += 1
            return None
        return encoded

    def _encode_with_alias(self, delivery: Delivery, now: float) -> tuple[bytes, bytes]:
        """For a client that has asked for aliases: its first topics get one each, and keep it."""
        message, qos, retain, identifiers, _ = delivery
        if self._aliases is None:
            self._aliases = {}
        topic = self.prefix + message.topic
        alias = self._aliases.get(topic, 0)
        if not alias and len(self._aliases) == self._alias_maximum:
            return message.encode(delivery, self.prefix, self._version, now)
        left = None if message.expires_at is None else message.seconds_left(now)
        properties = message.properties_for(self.prefix, identifiers, left)
        properties[Property.TOPIC_ALIAS] = alias or len(self._aliases) + 1
        packet = Publish("" if alias else topic, message.payload, qos, retain, False, 1, properties)
        data = encode_publish(packet, self._version)
        if len(data) > self._largest:  # perhaps it is not without the alias
            return message.encode(delivery, self.prefix, self._version, now)
        self._aliases[topic] = properties[Property.TOPIC_ALIAS]
        return _cut(data, qos)

    def _answer_unknown(self, ack: Ack) -> bytes:
        """Who sends PUBREC waits for PUBREL; for anything else there is nothing to do."""
        if ack.type != PUBREC or ack.code >= _FAILURE:
            return b""
        return encode_ack(PUBREL, ack.packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, self._version)

    def _complete(self, packet_id: int, now: float) -> Effects:
        if self._commands and (command := self._commands.pop(packet_id, 0)):
            self._totals.note(command, True)
        done = self._done(self._seq(packet_id))
        assert self._open is not None
        del self._open[packet_id]
        if not self._open:
            self._open = None
        if not self._waiting:
            return _new(Effects, (b"", done, 0))
        write, more, _ = self.advance(now)
        return _new(Effects, (write, done + more, 0))

    # What a durable session does otherwise

    def _open_id(self, _seq: int) -> int:
        """The next packet id that is free. Not the lowest: an answer that comes late must not hit another."""
        packet_id = self._newest % _PACKET_IDS + 1
        while self._open and packet_id in self._open:
            packet_id = packet_id % _PACKET_IDS + 1
        self._newest = packet_id
        return packet_id

    def _receive(self, packet_id: int) -> Effects:
        """PUBREC. Nothing is stored: on another connection the message would not be sent again anyway."""
        assert self._open is not None
        self._open[packet_id] = Flow.PUBCOMP
        return Effects(encode_ack(PUBREL, packet_id))

    def _seq(self, _packet_id: int) -> int:
        return 0

    def _done(self, _seq: int) -> tuple[int, ...]:
        return ()

    def _sent_before(self, _seq: int) -> bool:
        return False


class DurableDeliveries(Deliveries):
    """The outgoing half of a connected client with a durable session.

    Its messages at QoS 1 and 2 are committed with a `seq` before `deliver` gets them, in that order. The
    packet id follows from the seq, so that a message has the same one when it is sent again, on whatever
    connection.

    What the queue has no room for stays in the database: then the session is *behind*, and stays so until it
    has read all up to the newest seq it was told of. The caller asks `begin_read` whenever something has been
    acknowledged, sent or resumed, reads, and hands the result to `end_read` (or calls `fail_read`).
    """

    __slots__ = ("_finished", "_floor", "_known", "_read_stopped", "_read_through", "_taken", "sent_through")

    def __init__(
        self, version: Version, prefix: str, totals: DeliveryTotals, limits: ClientLimits = NO_LIMITS
    ) -> None:
        super().__init__(version, prefix, totals, limits)
        self.sent_through = 0  # all up to here may have been sent, on this connection or one before it
        self._taken = 0  # all up to here is done, in flight or waiting here
        self._known = 0  # the highest seq that we were told of; above _taken: we are behind
        self._read_through = 0  # what was known when the read began that is under way; 0: there is none
        self._read_stopped = False  # the last read brought more than there was room for
        self._floor = 0  # nothing in flight has a lower seq
        self._finished = _NO_SEQS  # released or done before we resumed; a read may still bring them

    @property
    def behind(self) -> bool:
        """Whether there are messages that are only in the database."""
        return self._known > self._taken

    def resume(
        self,
        first: int,
        last: int,
        sent_through: int,
        released: Collection[int] = (),
        done: Collection[int] = (),
    ) -> Effects:
        """Once, before anything else: where the session stands, as the database has it.

        `first`: all before it is done; `last`: the highest seq that was given; `sent_through`: all up to
        there may have been sent, and is sent again with DUP; `released`: those at QoS 2 whose PUBREC is
        stored, but not their PUBCOMP. These get PUBREL at once, and count as in flight. The rest is read.
        `done`: what is done from `first` on, if a read may still bring it.
        """
        self._taken = first - 1
        self._known = max(last, self._taken)
        self.sent_through = min(sent_through, self._known)
        self._finished = frozenset((*released, *done)) or _NO_SEQS
        if not released:
            return _NOTHING
        self._newest = max(released)
        self._floor = min(released)
        self._open = {_packet_id(seq): Flow.PUBCOMP for seq in sorted(released)}
        return Effects(b"".join(encode_ack(PUBREL, packet_id) for packet_id in self._open))

    def deliver(self, delivery: Delivery, now: float) -> Effects:
        """Sent, put into the queue, or left to the database. A seq that is known already changes nothing."""
        seq = delivery.seq
        if not delivery.qos:
            return self._deliver_at_once(delivery, now)
        assert seq, "a message of a durable session is stored before it is delivered"
        if seq <= self._known:
            return _NOTHING
        # Those in between came from another gateway.
        behind = self._known > self._taken or seq > self._known + 1
        self._known = seq
        return _NOTHING if behind else self._take(delivery, now)

    def know(self, seq: int) -> None:
        """There are messages up to this one."""
        self._known = max(seq, self._known)

    def begin_read(self) -> Read | None:
        """What is to be read now: something only if we are behind, have room, and no read is under way."""
        if self._known <= self._taken or self._read_through or self.congested:
            return None
        if self.slow and self._totals.delay():
            return None
        if self._read_stopped and (self._open or self._waiting):
            return None  # until one of these has made room
        room = READ_MESSAGES - self.waiting
        if self._totals.waiting_bytes >= self._totals.max_waiting_bytes:
            room = min(room, self._window - self.in_flight)  # none but what can be sent at once
        elif room < READ_MESSAGES // 2 or self._waiting_bytes > READ_BYTES // 2:
            return None
        if room <= 0:
            return None
        self._read_through = self._known
        return Read(self._taken + 1, room, READ_BYTES)

    def end_read(self, deliveries: Iterable[Delivery], more: bool, now: float) -> Effects:
        """What was read, in order; `more`: the read stopped at a limit, so there may be more. It may begin
        earlier than it was asked to, and with what `resume` was told is done: these are passed over."""
        through = self._read_through
        assert through
        self._read_through = 0
        self._read_stopped = False
        written: list[bytes] = []
        done: list[int] = []
        for delivery in deliveries:
            if delivery.seq <= self._taken:
                continue
            if delivery.seq in self._finished:
                self._taken = delivery.seq
                continue
            self._known = max(delivery.seq, self._known)  # committed meanwhile; `deliver` will bring it, too
            write, skipped, _ = self._take(delivery, now)
            written.append(write)
            done += skipped
            if self._taken < delivery.seq:
                self._read_stopped = True
                break
        else:
            if not more:  # what is missing does not exist any more
                self._taken = max(self._taken, through)
        return Effects(b"".join(written), tuple(done))

    def fail_read(self) -> None:
        """The read came to nothing: `begin_read` asks for it again."""
        self._read_through = 0

    def receipt_stored(self, seq: int) -> Effects:
        """A PUBREC is committed."""
        packet_id = _packet_id(seq)
        flow = self._open.get(packet_id) if self._open else None
        if self._open is None or flow is not Flow.STORAGE or self._seq(packet_id) != seq:
            return _NOTHING  # of an earlier connection, or the client has given the message up
        self._open[packet_id] = Flow.PUBCOMP
        return Effects(encode_ack(PUBREL, packet_id))

    def _take(self, delivery: Delivery, now: float) -> Effects:
        """If there is room. Otherwise _taken stays where it is, and so we are behind."""
        if self._waiting or not self._can_send(delivery):
            if self._wait(delivery):
                self._taken = delivery.seq
            return self.advance(now)
        self._taken = delivery.seq
        write, done = self._send(delivery, now)
        return _new(Effects, (write, done, 0))

    def _can_send(self, delivery: Delivery) -> bool:
        open_ = self._open
        if self.congested or (open_ and len(open_) >= self._window):
            return False
        if not open_:
            return True
        seq = delivery.seq
        if seq - self._floor > _MAX_SPREAD:
            self._floor = min(map(self._seq, open_))
        return max(seq, self._newest) - min(seq, self._floor) <= _MAX_SPREAD

    def _open_id(self, seq: int) -> int:
        if self._open:
            self._newest = max(seq, self._newest)
            self._floor = min(seq, self._floor)
        else:
            self._newest = self._floor = seq
        self.sent_through = max(seq, self.sent_through)
        return _packet_id(seq)

    def _seq(self, packet_id: int) -> int:
        """Of a message in flight. No two of them are more than _MAX_SPREAD apart."""
        return self._newest - (_packet_id(self._newest) - packet_id) % _PACKET_IDS

    def _complete(self, packet_id: int, now: float) -> Effects:
        self._read_stopped = False
        return super()._complete(packet_id, now)

    def _receive(self, packet_id: int) -> Effects:
        """PUBREC. If PUBREL were sent before this is stored, a crash would send the message again to a client
        that has forgotten its packet id."""
        assert self._open is not None
        self._open[packet_id] = Flow.STORAGE
        return Effects(received=self._seq(packet_id))

    def _done(self, seq: int) -> tuple[int, ...]:
        return (seq,)

    def _sent_before(self, seq: int) -> bool:
        return seq <= self.sent_through

    def _answer_unknown(self, ack: Ack) -> bytes:
        """A PUBREC of a message that we are still to send again gets no PUBREL: that would make the client
        forget that it has the message. Its PUBREC of the repetition does."""
        next_seq = self._waiting[0].seq if self._waiting else self._taken + 1
        return b"" if next_seq <= self.sent_through else super()._answer_unknown(ack)


def _packet_id(seq: int) -> int:
    return seq % _PACKET_IDS + 1


def _cut(data: bytes, qos: int) -> tuple[bytes, bytes]:
    """A PUBLISH around its packet id."""
    if not qos:
        return data, b""
    topic = 2  # behind the first byte and the remaining length
    while data[topic - 1] & 0x80:
        topic += 1
    packet_id = topic + 2 + (data[topic] << 8 | data[topic + 1])
    return data[:packet_id], data[packet_id + 2 :]
