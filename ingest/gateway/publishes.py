"""What a client publishes: admitted in order, acknowledged once it is committed, then routed."""

import struct
import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ingest import topics
from ingest.device_tokens import TokenOwner
from ingest.gateway.deliveries import Message
from ingest.gateway.hub import NOWHERE, Account, Route, Sending, Subscriber
from ingest.message import STORED, Kept, Kind, Outcome, RawMessage, Reason, Status
from ingest.mqtt.codec import decode_publish, encode_ack
from ingest.mqtt.frames import Frame
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    V5,
    Properties,
    ProtocolError,
    Publish,
    ReasonCode,
    Version,
    Will,
)
from ingest.mqtt.properties import Property, write_properties
from ingest.stored_packet import OWN_RESPONSE, own_response
from ingest.writer import queue_size
from thingscale.devices.mqtt_store.queues import Progress
from thingscale.lib.clock import now_us
from thingscale.lib.reasons import ANSWERS
from thingscale.streams.exactly_once import keys

if TYPE_CHECKING:
    from ingest.gateway.queue import Queue
    from ingest.gateway.server import Gateway

MAX_UNACKED = 2_000  # messages of one client on their way to storage
MAX_COPIES = 5_000  # for the queues of sessions, that go on together
MAX_ALIASES = 32
MAX_SOURCE = 300  # characters of a topic that is refused
MAX_TARGETS = 1_000  # remembered topics of one client
MAX_REMEMBERED = 256  # bytes of such a topic
MAX_PLAIN = 1_000  # bytes of a packet that goes the shortest way

# first byte -> QoS, DUP: at QoS 1 or 2, not retained
_ORDINARY: Final = {0x32: (1, False), 0x3A: (1, True), 0x34: (2, False), 0x3C: (2, True)}
PLAIN: Final = {0x32: 1, 0x34: 2}  # QoS by first byte: not retained, not sent again
_NONE: Final[Properties] = {}
_NO_PROPERTIES: Final = b"\0"
_SEVERAL: Final = -1
_ack: Final = struct.Struct(">HH").pack
_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class TopicOwner(NamedTuple):
    """A topic understood: whose it is, its part behind the token, and what it means."""

    account: Account | None  # None: of somebody unknown
    user: int
    topic: str
    target: topics.Target
    source: str = ""  # of what is refused: the topic for people


class PublishInfo(NamedTuple):
    """How a message came, beside what is stored of it."""

    owner: TopicOwner
    qos: int
    retain: bool
    packet_id: int  # 0: not to be acknowledged
    properties: Properties
    route: Route
    command: int


class Chunk:
    """The publishes of one read, answered together."""

    __slots__ = ("account", "messages", "publishes", "remembers", "sent", "size", "weight", "will_of")

    def __init__(
        self,
        publishes: "Publishes",
        messages: list[RawMessage],
        sent: list[PublishInfo],
        remembers: bool = False,
        will_of: int = 0,
    ) -> None:
        self.publishes = publishes
        self.messages = messages
        self.sent = sent
        self.remembers = remembers  # something is to be committed with it
        self.will_of = will_of  # the session whose will it is
        self.account = messages[0].user if messages else 0  # whose share of the queue it takes
        self.size = queue_size(messages)
        self.weight = len(messages)  # and copies for the queues of sessions

    def only(self, chosen: list[bool]) -> "Chunk":
        messages, sent = list(compress(self.messages, chosen)), list(compress(self.sent, chosen))
        chunk = Chunk(self.publishes, messages, sent, self.remembers, self.will_of)
        chunk.weight += sum(len(each.route.copies) for each in sent)
        return chunk

    def without_qos_0(self) -> "Chunk":
        return self.only([sent.qos > 0 for sent in self.sent])


class Publisher(Protocol):
    """Whose publishes these are."""

    @property
    def gateway(self) -> "Gateway": ...
    @property
    def version(self) -> Version: ...
    @property
    def token_owner(self) -> TokenOwner | None: ...
    @property
    def subscriber(self) -> Subscriber | None: ...
    @property
    def session(self) -> int: ...
    @property
    def reading_paused(self) -> bool: ...
    def owner(self, token: str) -> TokenOwner | None: ...
    def write(self, data: bytes) -> None: ...
    def write_acknowledgements(self, data: bytes) -> None: ...
    def pause_reading(self, yes: bool) -> None: ...
    def progress(self) -> Progress: ...


class Gone:
    """In place of a client whose connection has ended: what it has sent still counts, and holds nothing else
    of it."""

    __slots__ = (
        *("_queue", "_received", "gateway", "reading_paused", "session", "subscriber", "token_owner"),
        "version",
    )

    def __init__(self, client: Publisher, queue: "Queue | None", received: set[int]) -> None:
        self.gateway = client.gateway
        self.version = client.version
        self.token_owner = client.token_owner
        self.subscriber = client.subscriber
        self.session = client.session
        self.reading_paused = False
        self._queue = queue
        self._received = received

    def owner(self, token: str) -> TokenOwner | None:
        known = self.gateway.device_tokens.cached(token)
        if not isinstance(known, TokenOwner) or not self.token_owner or known.user != self.token_owner.user:
            return None
        return known

    def progress(self) -> Progress:
        assert self._queue is not None
        return self._queue.progress(sorted(self._received))

    def write(self, data: bytes) -> None:
        """Nobody is to be answered."""

    write_acknowledgements = write

    def pause_reading(self, yes: bool) -> None:
        """Nothing more comes."""


class Forwarded(NamedTuple):
    """A message that goes to another gateway, too."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    command: int


class Publishes:
    """One per client."""

    to_all_gateways = True  # whose clients subscribe to it
    __slots__ = (
        *("_aliases", "_client", "_completed", "_connected_at", "_copies", "_forgotten", "_last_key"),
        *("_lone_id", "_messages", "_owners", "_pending", "_seed", "_sent", "_confirmed_at", "received"),
        *("reused_at", "unacked"),
    )

    def __init__(
        self, client: Publisher, connected_at: float | None = None, seed: int = 0, confirmed_at: int = 0
    ) -> None:
        self._client = client
        self._connected_at = time.monotonic() if connected_at is None else connected_at
        self._messages: list[RawMessage] = []  # of this read
        self._sent: list[PublishInfo] = []  # how each of them came
        self._copies = 0  # of them, for the queues of sessions
        self._owners: dict[bytes, TopicOwner] = {}
        self._aliases: dict[int, str] | None = None
        # QoS 2: on their way to storage; and taken, waiting for PUBREL, with those that are being committed.
        # Sets that are made when they are needed: an empty one takes 216 bytes.
        self._pending: set[int] | None = None
        self.received: set[int] | None = None
        self._completed: list[bytes] | None = None  # PUBCOMPs of this read
        self._forgotten = False  # some of their packet ids were known
        self.unacked = 0
        self._confirmed_at = confirmed_at  # microseconds: it had an answer to all that it had sent until then
        self._seed = seed  # of dedupe keys: tells this client from others
        self.reused_at = 0  # the same, as far as this connection has told
        self._lone_id = self._last_key = 0  # the only packet id so far (or _SEVERAL), and its last message

    def end(self, queue: "Queue | None") -> None:
        """With the connection."""
        self.received = self.received or set()
        self._client = Gone(self._client, queue, self.received)
        self._owners.clear()
        self._aliases = None

    def forget_topics(self) -> None:
        """Tokens changed."""
        self._owners.clear()

    def take_plain(self, frames: list[Frame], place: int, end: int) -> int:
        """The shortest way, for what most devices send: at QoS 1 or 2, not retained, not sent again, to a
        topic that the client has used before, and for storage only. Returns the place of the first frame that
        is anything else."""
        since, confirmed_at, seed, version_5 = (
            self._connected_at,
            self._confirmed_at,
            self._seed,
            self._client.version == V5,
        )
        find, add, add_sent, new = self._owners.get, self._messages.append, self._sent.append, _new
        while place < end:
            first, body = frames[place]
            qos = PLAIN.get(first)
            if not qos or not 5 <= len(body) <= MAX_PLAIN:
                break
            topic_end = 2 + (body[0] << 8 | body[1])
            owner = find(body[2:topic_end])
            if owner is None or len(body) < topic_end + 3 or (version_5 and body[topic_end + 2]):
                break  # a topic that is new, a packet that is cut short, properties
            account, user, _, (kind, device_id, tag, refused), source = owner
            packet_id = body[topic_end] << 8 | body[topic_end + 1]
            if kind is None or refused or not packet_id or account is None or account.listeners:
                break
            if qos == 2:
                if self._pending is None:
                    self._pending = set()
                if packet_id in self._pending or (self.received and packet_id in self.received):
                    break  # sent again, though it does not say so
                self._pending.add(packet_id)
            if version_5:
                payload = body[topic_end + 3 :]
                dedupe = keys.of_packet_5(body[2:topic_end], packet_id, payload, seed)
            else:
                payload = body[topic_end + 2 :]
                dedupe = keys.of_packet(body, seed)
            now = now_us()
            raw = (
                user,
                device_id,
                tag,
                kind,
                payload,
                now,
                dedupe,
                False,
                None,
                source,
                since,
                None,
                confirmed_at,
            )
            add(new(RawMessage, raw))
            add_sent(new(PublishInfo, (owner, qos, False, packet_id, _NONE, NOWHERE, 0)))
            place += 1
        return place

    def publish(self, first: int, body: bytes) -> None:
        """What is ordinary, and to a topic that the client has used before, needs no complete decoding."""
        version = self._client.version
        end = 2 + (body[0] << 8 | body[1]) if len(body) > 1 else 2
        start = end + (2 if version != V5 else 3)  # behind the packet id and, in MQTT 5, "no properties"
        owner, flags = self._owners.get(body[2:end]), _ORDINARY.get(first)
        if (
            owner
            and flags
            and owner.target.kind
            and len(body) >= start
            and (version != V5 or not body[end + 2])
        ):
            packet_id = body[end] << 8 | body[end + 1]
            if packet_id:
                payload = body[start:]
                if version != V5:
                    dedupe = keys.of_packet(body, self._seed)
                else:
                    dedupe = keys.of_packet_5(body[2:end], packet_id, payload, self._seed)
                qos, dup = flags
                self.take(owner, _new(Publish, ("", payload, qos, False, dup, packet_id, {})), dedupe)
                return
        publish = decode_publish(first, body, version)
        if publish.properties:
            publish = self._own_properties(self._resolve_alias(publish))
        topic = publish.topic.encode()
        owner = self._owners.get(topic) or self._resolve(publish.topic)
        if not publish.qos:
            self.take(owner, publish)
        elif version != V5:
            self.take(owner, publish, keys.of_packet(body, self._seed))
        else:
            dedupe = keys.of_packet_5(topic, publish.packet_id, publish.payload, self._seed)
            self.take(owner, publish, dedupe)

    def too_large(self, first: int, head: bytes) -> None:
        """With its topic and packet id only: recorded as refused, and acknowledged."""
        publish = decode_publish(first, head, self._client.version)
        owner = self._resolve(publish.topic)
        if not owner.target.refused:
            target = topics.Target(
                owner.target.kind or Kind.JSON, owner.target.device_id, None, Reason.TOO_LARGE
            )
            owner = owner._replace(target=target, source=topics.shown(publish.topic)[:MAX_SOURCE])
        self.take(owner, publish._replace(retain=False))

    def deliver_here(self, owner: TopicOwner, publish: Publish, command: int) -> None:
        """To connected clients without a durable session."""
        _, payload, qos, retain, _, packet_id, properties = publish
        self._deliver(PublishInfo(owner, qos, retain, packet_id, properties, NOWHERE, command), payload, ())

    def take(self, owner: TopicOwner, publish: Publish, dedupe: int | None = None, command: int = 0) -> None:
        """`owner` has the topic; `dedupe` tells the message from others, when it is sent again."""
        _, payload, qos, retain, dup, packet_id, properties = publish
        if qos == 2 and self._seen(packet_id):
            return
        account, user, topic, (kind, device_id, tag, refused), source = owner
        if retain and not payload and not refused:
            kind = None  # which clears what is retained, and is no datapoint
        route = NOWHERE
        if account and account.listeners and not refused:
            route = account.route(topic, qos, self._client.subscriber)
        sent = _new(PublishInfo, (owner, qos, retain, packet_id, properties, route, command))
        kept = None
        if account and (retain or route.copies) and not refused:
            kept = _kept(topic, publish, route, command)
        if kind is None:
            if not kept and not self._must_wait(qos):
                self._route_at_once(sent, payload)
                return
            kind, device_id, tag, dedupe = Kind.MESSAGE, "", None, None
        now, since = now_us(), self._connected_at
        if dedupe and self._lone_id >= 0:  # most clients count
            self._note_use(packet_id, dedupe, dup, now)
        raw = (
            user,
            device_id,
            tag,
            kind,
            payload,
            now,
            dedupe,
            dup,
            refused,
            source,
            since,
            kept,
            self._confirmed_at,
        )
        self._messages.append(_new(RawMessage, raw))
        self._sent.append(sent)
        if route.copies:
            self._copies += len(route.copies)
            if self._copies > MAX_COPIES:
                self.flush()

    @property
    def counts(self) -> bool:
        """Whether the client has used several packet ids, as most do."""
        return self._lone_id == _SEVERAL

    def _note_use(self, packet_id: int, key: int, dup: bool, now: int) -> None:
        """A client that has only one packet id, and takes it for another message, has the answer to what it
        sent before. (Who counts takes one again after 65,535 messages, which is too late to matter.)"""
        if not self._lone_id:
            self._lone_id = packet_id
        elif packet_id != self._lone_id:
            self._lone_id = _SEVERAL
        elif not dup and key != self._last_key and not self.unacked and not self._messages:
            self._confirmed_at = self.reused_at = now - 1
        self._last_key = key

    def _must_wait(self, qos: int) -> bool:
        """What has nothing to keep still comes behind what was sent before it. A durable session remembers
        the packet id at QoS 2. And perhaps another gateway knows of a session that waits for it."""
        if self.unacked or self._messages or (qos == 2 and self._client.session):
            return True
        return bool(qos) and not self._client.gateway.durable_sessions.current

    def _route_at_once(self, sent: PublishInfo, payload: bytes) -> None:
        if sent.packet_id:
            self._client.write(self._acknowledge(sent.qos, sent.packet_id, STORED))
        self._deliver(sent, payload, ())

    def flush(self, wait: bool = False, will_of: int = 0) -> None:
        """At the end of a read: everything of it in one submission. `wait`: it goes also while the queue is
        full, since nobody sends it again. `will_of`: the session whose will it is, which keeps it until it is
        committed."""
        if self._completed:
            self._write_completed()
        if not self._messages:
            if will_of:  # it was routed at once
                self._client.gateway.admission.will_published(will_of)
            return
        remembers = bool(self._pending and self._client.session)
        chunk = Chunk(self, self._messages, self._sent, remembers, will_of)
        chunk.weight += self._copies
        self._messages, self._sent, self._copies = [], [], 0
        self.unacked += len(chunk.messages)
        if not self._client.gateway.admission.submit(chunk, wait) or self.unacked >= MAX_UNACKED:
            self._client.pause_reading(True)

    def submitted(self, chunk: Chunk) -> Iterable[Progress]:
        """The packet ids of a durable session are committed with the messages."""
        if not self._client.session or not self._pending:
            return ()
        ids = [sent.packet_id for sent in chunk.sent if sent.qos == 2]
        if not ids:
            return ()
        self._remember(ids)
        return (self._client.progress(),)

    def committed(self, chunk: Chunk, outcomes: list[Outcome]) -> None:
        """Acknowledges in the order of arrival, in one write; then routes."""
        client = self._client
        self.unacked -= len(outcomes)
        all_stored = outcomes.count(STORED) == len(outcomes)
        if not all_stored:
            chunk, outcomes = self._without_failed(chunk, outcomes)
        acks = []
        received = []
        for sent, outcome in zip(chunk.sent, outcomes, strict=True):
            qos, packet_id = sent[1], sent[3]
            if not packet_id:  # QoS 0, or a will
                continue
            if outcome is not STORED:
                acks.append(self._acknowledge(qos, packet_id, outcome))
            elif qos == 1:
                acks.append(_ack(0x4002, packet_id))
            else:
                received.append(packet_id)
                acks.append(_ack(0x5002, packet_id))
        if received:
            self._receive(received)
        if acks:
            client.write_acknowledgements(b"".join(acks))
        # Of clients that have signed in, all that is not refused is of one account. In ordinary times nobody
        # subscribes there, and nobody is to be told what is wrong.
        account = chunk.sent[0].owner.account if chunk.sent else None
        if client.token_owner is None or not all_stored or (account and account.listeners):
            self._route(chunk, outcomes)
        if client.reading_paused:
            self.relax()

    def _route(self, chunk: Chunk, outcomes: list[Outcome]) -> None:
        for message, sent, outcome in zip(chunk.messages, chunk.sent, outcomes, strict=True):
            account = sent[0][0]
            if account is None:
                continue
            if outcome.status is Status.REJECTED:
                if device_id := sent.owner.target.device_id:
                    self._client.gateway.report(account, device_id, outcome)
            elif account.listeners and outcome.status is not Status.DUPLICATE:
                self._deliver(sent, message.payload, message.kept.numbers if message.kept else ())

    def _deliver(self, sent: PublishInfo, payload: bytes, numbers: Sequence[int]) -> None:
        owner, qos, retain, _, properties, route, command = sent
        account = owner.account
        if account and account.listeners:
            if account.peer_subscriptions is not None or route.groups:
                forwarded = Forwarded(owner.topic, payload, qos, retain, properties, command)
                self._client.gateway.peers.forward(account, forwarded, route.groups, self.to_all_gateways)
            message = new_message(owner.topic, payload, properties, command)
            sending = _new(Sending, (qos, retain, route, numbers, self._client.subscriber))
            account.deliver(message, sending)

    def _without_failed(self, chunk: Chunk, outcomes: list[Outcome]) -> tuple[Chunk, list[Outcome]]:
        """What the platform failed to store is offered again a little later, unacknowledged until then."""
        failed = [outcome.status is Status.FAILED for outcome in outcomes]
        if not any(failed):
            return chunk, outcomes
        self.unacked += sum(failed)
        self._client.gateway.offer_again(chunk.only(failed))
        answered = [not each for each in failed]
        return chunk.only(answered), list(compress(outcomes, answered))

    def relax(self) -> None:
        """Reads on, if there is room for it."""
        user = self._client.token_owner.user if self._client.token_owner else 0
        if self.unacked < MAX_UNACKED // 2 and not self._client.gateway.admission.holds(user):
            self._client.pause_reading(False)

    def release(self, packet_id: int) -> None:
        """PUBREL."""
        known = self._forget(packet_id)
        code = 0 if known else ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        if self._completed is None:
            self._completed = []
        self._completed.append(encode_ack(PUBCOMP, packet_id, code, self._client.version))
        self._forgotten |= known

    def _write_completed(self) -> None:
        """PUBCOMPs. A durable session forgets the packet ids before they go out."""
        client, answers = self._client, b"".join(self._completed or ())
        forgotten, self._forgotten, self._completed = self._forgotten, False, None
        if forgotten and client.session:
            client.gateway.admission.note(client.session, client.progress, partial(client.write, answers))
        else:
            client.write(answers)

    def leave_will(self, will: Will, session: int) -> None:
        """The will of a client that went without goodbye, as if it had published it."""
        topic, payload, qos, retain, properties = will
        properties = {key: value for key, value in properties.items() if key != Property.WILL_DELAY_INTERVAL}
        publish = self._own_properties(Publish(topic, payload, qos, retain, False, 0, properties))
        self.take(self._resolve(topic), publish)
        self.flush(wait=True, will_of=session)

    def _resolve(self, topic: str) -> TopicOwner:
        token, rest = topics.split(topic)
        token_owner = self._client.owner(token)
        if token_owner is None:
            owner = self._foreign(topic, rest)
        else:
            target = topics.target(rest)
            source = topics.shown(topic)[:MAX_SOURCE] if target.refused else ""
            account = self._client.gateway.hub.account(token_owner.user, token_owner.user_id)
            owner = TopicOwner(account, token_owner.user, rest, target, source)
        if len(self._owners) >= MAX_TARGETS:
            self._owners.clear()
        if len(topic) <= MAX_REMEMBERED:
            self._owners[topic.encode()] = owner
        return owner

    def _foreign(self, topic: str, rest: str) -> TopicOwner:
        """Somebody else's token, or none: recorded for the account that sent it."""
        target = topics.target(rest)
        refused = topics.Target(target.kind or Kind.JSON, target.device_id, None, Reason.AUTH_REQUIRED)
        token_owner = self._client.token_owner
        source = topics.shown(topic)[:MAX_SOURCE]
        return TopicOwner(None, token_owner.user if token_owner else 0, rest, refused, source)

    def _resolve_alias(self, publish: Publish) -> Publish:
        alias = publish.properties.pop(Property.TOPIC_ALIAS, None)
        if alias is None:
            return publish
        if alias > MAX_ALIASES:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"Topic aliases go up to {MAX_ALIASES}.")
        if self._aliases is None:
            self._aliases = {}
        if publish.topic:
            self._aliases[alias] = publish.topic
            return publish
        if alias not in self._aliases:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"Topic alias {alias} is not known.")
        return publish._replace(topic=self._aliases[alias])

    def _own_properties(self, publish: Publish) -> Publish:
        """A response topic of the account is kept without its token."""
        if Property.SUBSCRIPTION_IDENTIFIER in publish.properties:
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "A client sends no subscription identifier.")
        response = publish.properties.get(Property.RESPONSE_TOPIC)
        if response is not None:
            publish.properties[Property.RESPONSE_TOPIC] = own_response(response, self._client.owner)
        return publish

    def _seen(self, packet_id: int) -> bool:
        """QoS 2, sent again: the first one is answered, or its answer is that of this one too."""
        if self._pending and packet_id in self._pending:
            return True
        if self.received and packet_id in self.received:
            self._client.write(encode_ack(PUBREC, packet_id, 0, self._client.version))
            return True
        if packet_id:  # a will has none
            if self._pending is None:
                self._pending = set()
            self._pending.add(packet_id)
        return False

    def _receive(self, packet_ids: Sequence[int]) -> None:
        """Committed."""
        self._remember(packet_ids)
        if self._pending:
            self._pending.difference_update(packet_ids)

    def _remember(self, packet_ids: Sequence[int]) -> None:
        if self.received is None:
            self.received = set()
        self.received.update(packet_ids)

    def _forget(self, packet_id: int) -> bool:
        """Whether it was there."""
        known = self.received is not None and packet_id in self.received
        if known and self.received is not None:
            self.received.discard(packet_id)
        return known

    def _acknowledge(self, qos: int, packet_id: int, outcome: Outcome) -> bytes:
        code = 0
        if outcome.status is Status.REJECTED and outcome.reason:
            code = ANSWERS[outcome.reason].mqtt
        version = self._client.version
        if qos == 1:
            return encode_ack(PUBACK, packet_id, code, version)
        if code and version == V5:  # a failure ends the exchange
            if self._pending:
                self._pending.discard(packet_id)
            self._forget(packet_id)
            if self._client.session:
                self._client.gateway.admission.note(self._client.session, self._client.progress, None)
        else:
            self._receive((packet_id,))
        return encode_ack(PUBREC, packet_id, code, version)


def new_message(
    topic: str, payload: bytes, properties: Properties, command: int = 0, age: float = 0
) -> Message:
    """`age`: seconds since it was published."""
    if not properties:
        message = Message(topic, payload, properties)
        message.command = command
        return message
    expiry = properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
    response: str | None = properties.get(Property.RESPONSE_TOPIC)
    own = response is not None and response.startswith(OWN_RESPONSE)
    if response is not None and own:
        properties = properties | {Property.RESPONSE_TOPIC: response.removeprefix(OWN_RESPONSE)}
    expires_at = None if expiry is None else time.time() + expiry - age
    message = Message(topic, payload, properties, expires_at, relative_response=own)
    message.command = command
    return message


def _kept(topic: str, publish: Publish, route: Route, command: int) -> Kept:
    properties = publish.properties
    expiry: Any = properties.get(Property.MESSAGE_EXPIRY_INTERVAL) if properties else None
    written = write_properties(properties, PUBLISH) if properties else _NO_PROPERTIES
    numbers: list[int] = []
    return _new(Kept, (topic, publish.qos, publish.retain, written, route.copies, expiry, command, numbers))
