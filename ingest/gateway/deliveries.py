"""What one connected client is sent, and what it answers: the outgoing half of a session (section 4). Pure.

`Deliveries` is for a clean session, which ends with its connection; `DurableDeliveries` is for a durable one,
whose messages the database keeps. Methods return `Effects`: what is to be written to the client, and what is
to be stored. Times are Unix seconds.

A message in flight needs no memory beyond its packet id: a clean session never sends it again, and a durable
session reads it again.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

from ingest.gateway.outgoing_message import Delivery, around_packet_id
from ingest.mqtt.codec_publish import encode_ack, encode_publish
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    ProtocolError,
    Publish,
    ReasonCode,
    Version,
)
from ingest.mqtt.properties import Property
from thingscale.lib import own_topics

MAX_IN_FLIGHT = 10_000  # whatever Receive Maximum the client states
MAX_WAITING = 10_000  # messages beyond the window, of one client
MAX_WAITING_BYTES = 4 * 1024 * 1024
MAX_WRITE = 64 * 1024  # that are taken from the queue at once, give or take a message
READ_MESSAGES = 100  # of a durable session, at once
READ_BYTES = 256 * 1024
MAX_TOPIC_ALIASES = 32

_DUP: Final = 0x08
_FAILURE: Final = 0x80
_PACKET_IDS: Final = 65_535
_MAX_SPREAD: Final = 65_534  # from the oldest open message of a durable session to the newest

_pack_id: Final = Struct(">H").pack
_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class Effects(NamedTuple):
    """`write` goes to the client. The other two are for durable sessions: `done` are messages that can be
    deleted; the PUBREC of `received` has to be committed, and then `receipt_stored` has to be called."""

    write: bytes = b""
    done: tuple[int, ...] = ()
    received: int = 0


class Read(NamedTuple):
    """What is to be read from the queue of a durable session: messages from `seq` on, in order, up to a
    number of `messages` and `size` bytes (but one in any case)."""

    seq: int
    messages: int
    size: int


class ClientLimits(NamedTuple):
    """What a client takes, as its CONNECT says. MQTT 3 clients have the defaults."""

    receive_maximum: int = 65_535
    maximum_packet_size: int = 2**32  # no packet is as large
    topic_alias_maximum: int = 0


class DeliveryTotals:
    """What the clients of one account share: a limit for all their queues together, the same limit for the
    bytes that they were sent and have not taken, and counters."""

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
        self.note = note  # gets each command that was sent or acknowledged
        self.max_waiting_bytes = max_waiting_bytes
        self.waiting_bytes = 0
        self.untaken_bytes = 0  # in the write buffers of the connections
        self.delayed = False  # something was not sent or read, since there are too many of those
        self.dropped = 0  # no room in the client's queue; at QoS 0: it reads too slowly
        self.expired = 0
        self.too_large = 0  # for the client's Maximum Packet Size [MQTT-3.1.2-25], or for any packet
        self.unexpected = 0  # acknowledgements of what is not in flight

    @property
    def full(self) -> bool:
        """Then slow clients are sent nothing more, until some have taken something or were cut off."""
        return self.untaken_bytes >= self.max_waiting_bytes

    def delay(self) -> bool:
        """Whether a slow client has to wait for that."""
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

    The caller sets `congested` while the connection's write buffer is full: then only answers are sent, and
    messages at QoS 0 are dropped. Afterwards the caller calls `advance`, again and again while the client is
    `ready`. It sets `slow` while anything is in that buffer: then the same holds if the account has too much
    in its buffers. For this client the topics of the account begin with `prefix`.
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
        # Each is made when it is needed and dropped when it is empty: an idle client has none of them.
        self._aliases: dict[str, int] | None = None
        self._open: dict[int, Flow] | None = None  # what is in flight, by packet id
        self._commands: dict[int, int] | None = None  # keys of the commands among them, by packet id
        self._waiting: deque[Delivery] | None = None
        self._waiting_bytes = 0
        self._newest = 0  # the packet id last used; of a durable session the highest seq in flight

    @property
    def in_flight(self) -> int:
        return len(self._open) if self._open else 0

    @property
    def waiting(self) -> int:
        """Messages in memory for which the window had no room."""
        return len(self._waiting) if self._waiting else 0

    @property
    def ready(self) -> bool:
        """Whether `advance` would send something."""
        return self._waiting is not None and self._can_send(self._waiting[0])

    def deliver(self, delivery: Delivery, now: float) -> Effects:
        """Sends the message, puts it into the queue, or drops it."""
        if not delivery.qos:
            return self._deliver_at_once(delivery, now)
        if self._waiting or not self._can_send(delivery):
            if not self._wait(delivery):
                self._totals.dropped += 1
            return self.advance(now)
        write, done = self._send(delivery, now)
        return _new(Effects, (write, done, 0))

    def acknowledge(self, ack: Ack, now: float) -> Effects:
        """A PUBACK, PUBREC or PUBCOMP. Raises ProtocolError if the message waits for another one."""
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
        """Sends messages that wait, as far as window and connection have room, up to about MAX_WRITE
        bytes."""
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
        """The connection is over: what waits here no longer counts for the account's limit."""
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
        """Returns the packet; or, if the message has expired or the client can't take it, nothing, and that
        it is done."""
        message, seq = delivery.message, delivery.seq
        again = self._sent_before(seq)
        # A message that may have been sent is sent again even if it has expired: the client may have begun
        # with it.
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
        """None if the client can never get the message: it is larger than the client takes, or the topic with
        this prefix is too long for MQTT. Then the message counts as completed: a stored one would break each
        connection again."""
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
        """For a client that takes aliases. Its first topics get one each, and keep it."""
        message, qos, retain, identifiers, _ = delivery
        if self._aliases is None:
            self._aliases = {}
        topic = own_topics.sent(self.prefix, message.topic)
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
        return around_packet_id(data, qos)

    def _answer_unknown(self, ack: Ack) -> bytes:
        """A PUBREC has to be answered with PUBREL. For other packets there is nothing to do."""
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

    # What DurableDeliveries does in another way

    def _open_id(self, _seq: int) -> int:
        """The next packet id that is free. Not the lowest one: a late answer must not be taken for that of
        another message."""
        packet_id = self._newest % _PACKET_IDS + 1
        while self._open and packet_id in self._open:
            packet_id = packet_id % _PACKET_IDS + 1
        self._newest = packet_id
        return packet_id

    def _receive(self, packet_id: int) -> Effects:
        """PUBREC. It is not stored, since the message is not sent again on another connection."""
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
    packet id follows from the seq, so that a message has the same one when it is sent again on another
    connection.

    Messages for which the queue in memory has no room stay in the database. Then the session is *behind*,
    until it has read all up to the newest seq that it knows. The caller asks `begin_read` whenever something
    has been acknowledged, sent or resumed, reads, and passes the result to `end_read` (or calls `fail_read`).
    """

    __slots__ = ("_finished", "_floor", "_known", "_read_stopped", "_read_through", "_taken", "sent_through")

    def __init__(
        self, version: Version, prefix: str, totals: DeliveryTotals, limits: ClientLimits = NO_LIMITS
    ) -> None:
        super().__init__(version, prefix, totals, limits)
        self.sent_through = 0  # all up to here may have been sent, on this connection or an earlier one
        self._taken = 0  # all up to here are done, in flight or in memory
        self._known = 0  # the highest seq that we know; if it is above _taken, we are behind
        self._read_through = 0  # _known when the present read began; 0: there is no read
        self._read_stopped = False  # the last read brought more than there was room for
        self._floor = 0  # nothing in flight has a lower seq
        self._finished = _NO_SEQS  # were released or done before `resume`, but a read may still bring them

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
        """Called once, before anything else, with what the database has stored.

        All messages before `first` are done. `last` is the highest seq. Messages up to `sent_through` may
        have been sent, and are sent again with DUP. `released` are those at QoS 2 whose PUBREC is stored, but
        not their PUBCOMP; they get PUBREL at once, and count as in flight. `done` are messages from `first`
        on that are done, but that a read may still bring. The rest has to be read.
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
        """Sends the message, puts it into the queue, or leaves it in the database. A seq that is known
        already changes nothing."""
        seq = delivery.seq
        if not delivery.qos:
            return self._deliver_at_once(delivery, now)
        assert seq, "a message of a durable session is stored before it is delivered"
        if seq <= self._known:
            return _NOTHING
        # Messages in between came from another gateway.
        behind = self._known > self._taken or seq > self._known + 1
        self._known = seq
        return _NOTHING if behind else self._take(delivery, now)

    def know(self, seq: int) -> None:
        """The queue has messages up to this one."""
        self._known = max(seq, self._known)

    def begin_read(self) -> Read | None:
        """What is to be read now. None unless we are behind, have room, and no read is under way."""
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
        """The messages that were read, in order. With `more`, the read stopped at a limit, so there may be
        more. It may begin with messages that were not asked for, or that are done: these are skipped."""
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
            if not more:  # messages that are missing do not exist any more
                self._taken = max(self._taken, through)
        return Effects(b"".join(written), tuple(done))

    def fail_read(self) -> None:
        """The read failed: `begin_read` asks for it again."""
        self._read_through = 0

    def receipt_stored(self, seq: int) -> Effects:
        """A PUBREC is committed."""
        packet_id = _packet_id(seq)
        flow = self._open.get(packet_id) if self._open else None
        if self._open is None or flow is not Flow.STORAGE or self._seq(packet_id) != seq:
            return _NOTHING  # it was on an earlier connection, or the client has given the message up
        self._open[packet_id] = Flow.PUBCOMP
        return Effects(encode_ack(PUBREL, packet_id))

    def _take(self, delivery: Delivery, now: float) -> Effects:
        """Takes the message if there is room. Otherwise _taken stays as it is, so that we are behind."""
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
        """The seq of a message in flight. No two of them are more than _MAX_SPREAD apart."""
        return self._newest - (_packet_id(self._newest) - packet_id) % _PACKET_IDS

    def _complete(self, packet_id: int, now: float) -> Effects:
        self._read_stopped = False
        return super()._complete(packet_id, now)

    def _receive(self, packet_id: int) -> Effects:
        """PUBREC. PUBREL is sent once this is stored: otherwise, after a crash, the message would be sent
        again to a client that has forgotten its packet id."""
        assert self._open is not None
        self._open[packet_id] = Flow.STORAGE
        return Effects(received=self._seq(packet_id))

    def _done(self, seq: int) -> tuple[int, ...]:
        return (seq,)

    def _sent_before(self, seq: int) -> bool:
        return seq <= self.sent_through

    def _answer_unknown(self, ack: Ack) -> bytes:
        """A PUBREC of a message that has to be sent again gets no PUBREL, by which the client would forget
        that it has the message. The PUBREC of the repetition gets one."""
        next_seq = self._waiting[0].seq if self._waiting else self._taken + 1
        return b"" if next_seq <= self.sent_through else super()._answer_unknown(ack)


def _packet_id(seq: int) -> int:
    return seq % _PACKET_IDS + 1
