"""What a client publishes. It is admitted in order, acknowledged once it is committed, and then delivered."""

import struct
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ingest import intake_messages, topics
from ingest.device_tokens import TokenOwner
from ingest.gateway import topic_owner
from ingest.gateway.hub import NOWHERE, AccountHub, Route, Sending, Subscriber
from ingest.gateway.outgoing_message import OutgoingMessage
from ingest.intake_cache import KnownIntake
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
from ingest.point_rate import NOT_STORED
from ingest.stored_packet import OWN_RESPONSE, own_response
from ingest.writer import queue_size
from thingscale.devices.mqtt_store.queues import Progress
from thingscale.lib import own_topics
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
    """Whose topic it is, its name relative to the account, and what it means."""

    account: AccountHub | None  # None: of somebody unknown
    user: int
    topic: str
    target: topics.Target
    source: str = ""  # of a message that is refused: the topic as people see it
    intake: KnownIntake | None = None  # that makes datapoints of it


class PublishInfo(NamedTuple):
    """What is known of a message beside what is stored of it."""

    owner: TopicOwner
    qos: int
    retain: bool
    packet_id: int  # 0: not to be acknowledged
    properties: Properties
    route: Route
    command: int


class ClientSubmission:
    """The messages of one read, which are answered together."""

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
        self.weight = len(messages)  # with the copies for the queues of sessions

    def only(self, chosen: list[bool]) -> "ClientSubmission":
        messages, sent = list(compress(self.messages, chosen)), list(compress(self.sent, chosen))
        submission = ClientSubmission(self.publishes, messages, sent, self.remembers, self.will_of)
        submission.weight += sum(len(each.route.copies) for each in sent)
        return submission

    def without_qos_0(self) -> "ClientSubmission":
        return self.only([sent.qos > 0 for sent in self.sent])


class Publisher(Protocol):
    """What Publishes needs of its client. Implemented by Client, DisconnectedClient and SystemClient."""

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


class DisconnectedClient:
    """Stands for a client whose connection has ended. What it has sent is still stored, and keeps only this
    of the client in memory."""

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
    """A message for other gateways."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    command: int


class Publishes:
    """What one client publishes."""

    to_all_gateways = True  # they are forwarded to
    __slots__ = (
        *("_aliases", "_client", "_completed", "_connected_at", "_copies", "_forgotten", "_last_key"),
        *("_lone_id", "_messages", "_owners", "_parts", "_pending", "_seed", "_sent", "_confirmed_at"),
        "received",
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
        # By packet id: the messages that an intake has made of one, and itself, which are not stored yet.
        self._parts: Counter[int] | None = None
        # Packet ids at QoS 2: on their way to storage; and stored or being committed, until PUBREL comes. The
        # sets are made when they are needed: an empty one takes 216 bytes.
        self._pending: set[int] | None = None
        self.received: set[int] | None = None
        self._completed: list[bytes] | None = None  # PUBCOMPs of this read
        self._forgotten = False  # some of their packet ids were known
        self.unacked = 0
        self._confirmed_at = confirmed_at  # microseconds: all that it sent until then was answered
        self._seed = seed  # of its dedupe keys, so that they differ from those of other clients
        self.reused_at = 0  # the same, as far as this connection shows it
        self._lone_id = self._last_key = 0  # the only packet id so far (or _SEVERAL), and its last message

    def end(self, queue: "Queue | None") -> None:
        """With the connection."""
        self.received = self.received or set()
        self._client = DisconnectedClient(self._client, queue, self.received)
        self._owners.clear()
        self._aliases = None

    def forget_topics(self) -> None:
        """Tokens changed."""
        self._owners.clear()

    def accept_plain(self, frames: list[Frame], place: int, end: int) -> int:
        """Takes what most devices send in the shortest way: messages at QoS 1 or 2, not retained, not sent
        again, to a topic that the client has used before, to which nobody subscribes. Returns the place of
        the first frame that is anything else."""
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
            account, user, _, (kind, device_id, tag, refused), source, _ = owner
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
                None,
                "",
            )
            add(new(RawMessage, raw))
            add_sent(new(PublishInfo, (owner, qos, False, packet_id, _NONE, NOWHERE, 0)))
            place += 1
        return place

    def publish(self, first: int, body: bytes) -> None:
        """The second of three readers of a PUBLISH, from the fastest to the one that reads all.

        accept_plain() takes several messages to topics where nobody listens. This one takes an ordinary
        message to a topic that the client has used before, and leaves the rest to decode_publish()."""
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
                self.accept(owner, _new(Publish, ("", payload, qos, False, dup, packet_id, {})), dedupe)
                return
        publish = decode_publish(first, body, version)
        if publish.properties:
            publish = self._own_properties(self._resolve_alias(publish))
        topic = publish.topic.encode()
        owner = self._owners.get(topic) or self._resolve(publish.topic)
        if not publish.qos:
            self.accept(owner, publish)
        elif version != V5:
            self.accept(owner, publish, keys.of_packet(body, self._seed))
        else:
            dedupe = keys.of_packet_5(topic, publish.packet_id, publish.payload, self._seed)
            self.accept(owner, publish, dedupe)

    def reject_too_large(self, first: int, head: bytes) -> None:
        """Only its topic and packet id are there. It is recorded as rejected, and acknowledged."""
        publish = decode_publish(first, head, self._client.version)
        owner = self._resolve(publish.topic)
        if not owner.target.refused:
            target = topics.Target(
                owner.target.kind or Kind.JSON, owner.target.device_id, None, Reason.TOO_LARGE
            )
            owner = owner._replace(target=target, source=topics.shown(publish.topic)[:MAX_SOURCE])
        self.accept(owner, publish._replace(retain=False))

    def deliver_here(self, owner: TopicOwner, publish: Publish, command: int) -> None:
        """To connected clients without a durable session."""
        _, payload, qos, retain, _, packet_id, properties = publish
        self._deliver(PublishInfo(owner, qos, retain, packet_id, properties, NOWHERE, command), payload, ())

    def accept(
        self, owner: TopicOwner, publish: Publish, dedupe: int | None = None, command: int = 0
    ) -> None:
        """`owner` knows the topic. By `dedupe` the message is known when it is sent again."""
        _, payload, qos, retain, dup, packet_id, properties = publish
        if qos == 2 and self._is_repeated(packet_id):
            return
        account, user, topic, (kind, device_id, tag, refused), source, intake = owner
        if retain and not payload and not refused:
            kind = None  # it only clears the retained message
        route = NOWHERE
        if account and account.listeners and not refused:
            route = account.route(topic, qos, self._client.subscriber)
        sent = _new(PublishInfo, (owner, qos, retain, packet_id, properties, route, command))
        kept = None
        if account and (retain or route.copies) and not refused:
            kept = _kept(topic, publish, route, command)
        if intake and payload:
            self._accept_for_intake(intake, sent, publish, kept, dedupe)
            return
        if kind is None:
            # A message with nothing to store comes behind what was sent before it, all the same. A durable
            # session has to remember the packet id at QoS 2. And another gateway may know of a durable
            # session that waits for it.
            has_to_wait = self.unacked or self._messages or (qos == 2 and self._client.session)
            current = not qos or self._client.gateway.durable_sessions.current
            if not kept and not has_to_wait and current:
                if packet_id:
                    self._client.write(self._acknowledge(qos, packet_id, STORED))
                self._deliver(sent, payload, ())
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
            None,
            "",
        )
        self._messages.append(_new(RawMessage, raw))
        self._sent.append(sent)
        if route.copies:
            self._copies += len(route.copies)
            if self._copies > MAX_COPIES:
                self.flush()

    def _accept_for_intake(
        self, intake: KnownIntake, sent: PublishInfo, publish: Publish, kept: Kept | None, dedupe: int | None
    ) -> None:
        """The message goes to subscribers as others do; what the intake makes of it is stored with it, in
        messages of their own that nobody is sent. It is acknowledged once all of them are stored."""
        topic = own_topics.sent("", sent.owner.topic)
        since, now = self._connected_at, now_us()
        user = sent.owner.user
        message = RawMessage(
            user, "", None, Kind.MESSAGE, publish.payload, now, connected_at=since, kept=kept
        )
        self._messages.append(message)
        self._sent.append(sent)
        owner = TopicOwner(None, user, topic, topics.Target(None), intake=intake)
        made, too_fast = self._made_by_intake(intake, user, topic, publish.payload, now, dedupe)
        for each in made:
            if each.kind is not Kind.INTAKE:  # the packet tells whether it was sent before, and no time
                known = each._replace(repeated=publish.dup, connected_at=since)
                self._messages.append(known._replace(confirmed_at=self._confirmed_at))
            else:
                self._messages.append(each)
            self._sent.append(PublishInfo(owner, sent.qos, False, sent.packet_id, _NONE, NOWHERE, 0))
        if sent.packet_id:
            if self._parts is None:
                self._parts = Counter()
            self._parts[sent.packet_id] += 1 + len(made)
        if not made and not too_fast:
            self._client.gateway.intakes.note_nothing(intake, topic, publish.payload)
        if sent.route.copies:
            self._copies += len(sent.route.copies)
            if self._copies > MAX_COPIES:
                self.flush()

    def _made_by_intake(  # noqa: PLR0913, PLR0917  (a message, and who it is of)
        self, intake: KnownIntake, user: int, topic: str, payload: bytes, now: int, dedupe: int | None
    ) -> tuple[list[RawMessage], bool]:
        """And whether more has come than the intake may take: then it makes nothing. By MQTT nobody can be
        told to wait, and the message is for subscribers all the same."""
        gateway, source = self._client.gateway, f"{intake.source}: {topic}"[:MAX_SOURCE]
        at = time.monotonic()
        if gateway.intake_rate.wait(user, intake.pk, intake.rate, at):
            listed = gateway.intakes_too_fast.should_record(user, (intake.pk, topic[:MAX_REMEMBERED]), at)
            return [intake_messages.too_fast(user, source, payload, now)] if listed else [], True
        made = intake_messages.of_publish(intake.mapping, user, source, topic, payload, now, dedupe)
        points = sum(len(each.points.values) for each in made if each.points)
        gateway.intake_rate.count(user, intake.pk, intake.rate, points, at)
        return made, False

    @property
    def counts(self) -> bool:
        """Whether the client has used several packet ids, as most do."""
        return self._lone_id == _SEVERAL

    def _note_use(self, packet_id: int, key: int, dup: bool, now: int) -> None:
        """A client that uses only one packet id, and uses it for another message, has the answer to what it
        sent before. (A client that counts its packet ids reuses one after 65,535 messages, which does not
        matter.)"""
        if not self._lone_id:
            self._lone_id = packet_id
        elif packet_id != self._lone_id:
            self._lone_id = _SEVERAL
        elif not dup and key != self._last_key and not self.unacked and not self._messages:
            self._confirmed_at = self.reused_at = now - 1
        self._last_key = key

    def flush(self, wait: bool = False, will_of: int = 0) -> None:
        """At the end of a read: submits all its messages together. With `wait` they are submitted also if the
        queue is full, since nobody sends them again. `will_of` is the session whose will this is, which keeps
        it until it is committed."""
        client = self._client
        if self._completed:
            answers, forgotten = b"".join(self._completed), self._forgotten
            self._completed, self._forgotten = None, False
            if forgotten and client.session:
                # A durable session forgets the packet ids before the PUBCOMPs go out.
                client.gateway.admission.note(client.session, client.progress, partial(client.write, answers))
            else:
                client.write(answers)
        if not self._messages:
            if will_of:  # it was routed at once
                client.gateway.admission.will_published(will_of)
            return
        remembers = bool(self._pending and client.session)
        submission = ClientSubmission(self, self._messages, self._sent, remembers, will_of)
        submission.weight += self._copies
        self._messages, self._sent, self._copies = [], [], 0
        self.unacked += len(submission.messages)
        if not client.gateway.admission.submit(submission, wait) or self.unacked >= MAX_UNACKED:
            client.pause_reading(True)

    def submitted(self, submission: ClientSubmission) -> Iterable[Progress]:
        """Returns what the client's durable session has to remember with it: the packet ids."""
        if not self._client.session or not self._pending:
            return ()
        ids = [sent.packet_id for sent in submission.sent if sent.qos == 2]
        if not ids:
            return ()
        self._remember(ids)
        return (self._client.progress(),)

    def committed(self, submission: ClientSubmission, outcomes: list[Outcome]) -> None:
        """Acknowledges in the order of arrival, in one write, and delivers then. What the platform failed to
        store is not acknowledged, but offered again a little later."""
        client = self._client
        self.unacked -= len(outcomes)
        all_stored = outcomes.count(STORED) == len(outcomes)
        if not all_stored:
            failed = [outcome.status is Status.FAILED for outcome in outcomes]
            if any(failed):
                self.unacked += sum(failed)
                client.gateway.offer_again(submission.only(failed))
                answered = [not each for each in failed]
                submission, outcomes = submission.only(answered), list(compress(outcomes, answered))
        acks = []
        received = []
        for sent, outcome in zip(submission.sent, outcomes, strict=True):
            qos, packet_id = sent[1], sent[3]
            if not packet_id:  # QoS 0, or a will
                continue
            if self._parts and packet_id in self._parts:
                if not self._is_last_part(packet_id):
                    continue
                outcome = STORED  # noqa: PLW2901  of the message itself; the rest is listed
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
        # All messages of a client that has signed in are of one account, unless they are refused. Mostly
        # nobody subscribes there, and nothing is wrong.
        account = submission.sent[0].owner.account if submission.sent else None
        token_owner = client.token_owner
        by_intake = token_owner is not None and token_owner.intakes
        if token_owner is None or by_intake or not all_stored or (account and account.listeners):
            for message, sent, outcome in zip(submission.messages, submission.sent, outcomes, strict=True):
                account = sent[0][0]
                if account is None:
                    if sent.owner.intake:
                        self._settle(sent.owner.intake, sent.owner.topic, message, outcome)
                    continue
                if outcome.status is Status.REJECTED:
                    if device_id := sent.owner.target.device_id:
                        client.gateway.report(account, device_id, outcome)
                elif account.listeners and outcome.status is not Status.DUPLICATE:
                    self._deliver(sent, message.payload, message.kept.numbers if message.kept else ())
        if client.reading_paused:
            self.resume_reading()

    def _settle(self, intake: KnownIntake, topic: str, message: RawMessage, outcome: Outcome) -> None:
        """What an intake has made of a message for one device."""
        gateway = self._client.gateway
        if message.points and (outcome.status is Status.REJECTED or outcome.held):
            gateway.intake_rate.count(message.user, intake.pk, intake.rate, NOT_STORED, time.monotonic())
        gateway.intakes.note(intake, topic, message, outcome)

    def _is_last_part(self, packet_id: int) -> bool:
        """Of what an intake has made of a message, and of itself."""
        assert self._parts is not None
        self._parts[packet_id] -= 1
        if self._parts[packet_id]:
            return False
        del self._parts[packet_id]
        return True

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

    def resume_reading(self) -> None:
        """If there is room again."""
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

    def publish_will(self, will: Will, session: int) -> None:
        """The will of a client that did not send DISCONNECT, as if the client had published it."""
        topic, payload, qos, retain, properties = will
        properties = {key: value for key, value in properties.items() if key != Property.WILL_DELAY_INTERVAL}
        publish = self._own_properties(Publish(topic, payload, qos, retain, False, 0, properties))
        self.accept(self._resolve(topic), publish)
        self.flush(wait=True, will_of=session)

    def _resolve(self, topic: str) -> TopicOwner:
        found = topic_owner.find(self._client, topic)
        if found is None:  # somebody else's token, or none: recorded for the account that sent it
            _, rest = topics.split(topic)
            target = topics.target(rest)
            target = topics.Target(target.kind or Kind.JSON, target.device_id, None, Reason.AUTH_REQUIRED)
            sender = self._client.token_owner.user if self._client.token_owner else 0
            owner = TopicOwner(None, sender, rest, target, topics.shown(topic)[:MAX_SOURCE])
        else:
            token_owner, name = found
            target = topic_owner.target(name)
            source = topics.shown(topic)[:MAX_SOURCE] if target.refused else ""
            account = self._client.gateway.hub.account(token_owner.user, token_owner.user_id)
            intake = topic_owner.intake_for(token_owner.intakes, name) if target.kind is None else None
            owner = TopicOwner(account, token_owner.user, name, target, source, intake)
        if len(self._owners) >= MAX_TARGETS:
            self._owners.clear()
        if len(topic) <= MAX_REMEMBERED:
            self._owners[topic.encode()] = owner
        return owner

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
        """Takes the token off a response topic of the account."""
        if Property.SUBSCRIPTION_IDENTIFIER in publish.properties:
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "A client sends no subscription identifier.")
        response = publish.properties.get(Property.RESPONSE_TOPIC)
        if response is not None:
            publish.properties[Property.RESPONSE_TOPIC] = own_response(response, self._client.owner)
        return publish

    def _is_repeated(self, packet_id: int) -> bool:
        """At QoS 2: whether the message is here already. Its answer has been sent, or is on its way."""
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
        """The messages with these packet ids are committed."""
        self._remember(packet_ids)
        if self._pending:
            self._pending.difference_update(packet_ids)

    def _remember(self, packet_ids: Sequence[int]) -> None:
        if self.received is None:
            self.received = set()
        self.received.update(packet_ids)

    def _forget(self, packet_id: int) -> bool:
        """Whether it was there."""
        if self.received is None or packet_id not in self.received:
            return False
        self.received.discard(packet_id)
        return True

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
) -> OutgoingMessage:
    """`age`: seconds since it was published."""
    if not properties:
        message = OutgoingMessage(topic, payload, properties)
        message.command = command
        return message
    expiry = properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
    response: str | None = properties.get(Property.RESPONSE_TOPIC)
    own = response is not None and response.startswith(OWN_RESPONSE)
    if response is not None and own:
        properties = properties | {Property.RESPONSE_TOPIC: response.removeprefix(OWN_RESPONSE)}
    expires_at = None if expiry is None else time.monotonic() + expiry - age
    message = OutgoingMessage(topic, payload, properties, expires_at, relative_response=own)
    message.command = command
    return message


def _kept(topic: str, publish: Publish, route: Route, command: int) -> Kept:
    properties = publish.properties
    expiry: Any = properties.get(Property.MESSAGE_EXPIRY_INTERVAL) if properties else None
    written = write_properties(properties, PUBLISH) if properties else _NO_PROPERTIES
    numbers: list[int] = []
    return _new(Kept, (topic, publish.qos, publish.retain, written, route.copies, expiry, command, numbers))
