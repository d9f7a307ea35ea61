"""What a client publishes: topics, acknowledgement after COMMIT, QoS 2, back-pressure."""

import logging
import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest import topics
from ingest.message import STORED, Kind, Outcome, RawMessage, Reason, Status
from ingest.mqtt.codec import decode_publish, encode_ack
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    V5,
    Ack,
    ProtocolError,
    Publish,
    ReasonCode,
    Will,
)
from ingest.mqtt.properties import Property
from thingscale.lib.clock import now_us
from thingscale.lib.reasons import ANSWERS
from thingscale.streams.exactly_once import keys

if TYPE_CHECKING:
    from ingest.mqtt.session import Session

log = logging.getLogger(__name__)

MAX_UNACKED = 2_000  # messages of one client on their way to storage
MAX_ALIASES = 32
MAX_SOURCE = 300  # characters of a topic that is refused
MAX_TARGETS = 1_000  # remembered topics of one client


# first byte -> QoS, DUP: at QoS 1 or 2, not retained
_ORDINARY: Final = {0x32: (1, False), 0x3A: (1, True), 0x34: (2, False), 0x3C: (2, True)}
_puback: Final = struct.Struct(">HH").pack
_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class Aim(NamedTuple):
    """A topic understood: whose it is, its part behind the token, and what it means."""

    user: int
    user_id: str
    rest: str
    target: topics.Target
    source: str = ""  # of what is refused: the topic for people


class Sent(NamedTuple):
    """How a message came, beside what is stored of it."""

    aim: Aim
    qos: int
    retain: bool
    packet_id: int  # 0: not to be acknowledged


class Chunk:
    """The ingest publishes of one read, answered together."""

    __slots__ = ("inbound", "messages", "retains", "sent", "size")

    def __init__(self, inbound: "Inbound") -> None:
        self.inbound = inbound
        self.messages: list[RawMessage] = []
        self.sent: list[Sent] = []
        self.size = 0  # bytes of payload
        self.retains = False  # something

    def add(self, message: RawMessage, sent: Sent) -> None:
        self.messages.append(message)
        self.sent.append(sent)
        self.size += len(message.payload)
        self.retains |= sent.retain

    def without_qos_0(self) -> "Chunk":
        """What has to wait while the store takes nothing; the rest is dropped."""
        kept = Chunk(self.inbound)
        for message, sent in zip(self.messages, self.sent, strict=True):
            if sent.qos:
                kept.add(message, sent)
        return kept

    def done(self, outcomes: list[Outcome]) -> None:
        self.inbound.committed(self, outcomes)


def share_out(chunks: list[Chunk], outcomes: list[Outcome]) -> None:
    """To chunks that were submitted together."""
    start = 0
    for chunk in chunks:
        end = start + len(chunk.messages)
        try:
            chunk.done(outcomes[start:end])
        except Exception:
            log.exception("A session failed to take its answer")
        start = end


class Inbound:
    """One per session."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._connected_at = time.monotonic()
        self._chunk = Chunk(self)
        self._aims: dict[bytes, Aim] = {}
        self._aliases: dict[int, str] = {}
        self._received: set[int] = set()  # QoS 2: committed, waiting for PUBREL
        self._pending: set[int] = set()  # QoS 2: on their way to storage
        self.passed: set[int] = set()  # QoS 2: with the broker
        self.unacked = 0
        self.seed = 0  # of dedupe keys: tells this client from others

    def forget_topics(self) -> None:
        """Tokens changed."""
        self._aims.clear()

    def publish(self, first: int, body: bytes) -> None:
        """What is ordinary, and to a topic that the client has used before, needs no complete decoding."""
        version = self._session.version
        end = 2 + (body[0] << 8 | body[1]) if len(body) > 1 else 2
        start = end + (2 if version != V5 else 3)  # behind the packet id and, in MQTT 5, "no properties"
        aim, flags = self._aims.get(body[2:end]), _ORDINARY.get(first)
        if aim and flags and aim.target.kind and len(body) >= start and (version != V5 or not body[end + 2]):
            packet_id = body[end] << 8 | body[end + 1]
            if packet_id:
                payload = body[start:]
                key = body if version != V5 else keys.packet_parts(body[2:end], packet_id, payload)
                qos, dup = flags
                self._take(_new(Sent, (aim, qos, False, packet_id)), dup, payload, key)
                return
        self._publish(decode_publish(first, body, version), body)

    def _publish(self, publish: Publish, body: bytes) -> None:
        if publish.properties:
            publish = self._resolve_alias(publish)
        topic, payload, qos, retain, dup, packet_id, _ = publish
        aim = self._aims.get(topic.encode()) or self._aim(topic)
        target = aim.target
        if target.kind is None or (retain and not payload and not target.refused):
            self._pass_on(publish, aim)
            return
        key = body if self._session.version != V5 else keys.packet_parts(topic.encode(), packet_id, payload)
        self._take(Sent(aim, qos, retain, packet_id), dup, payload, key)

    def _take(self, sent: Sent, dup: bool, payload: bytes, key: bytes) -> None:
        aim, qos, _, packet_id = sent
        if qos == 2 and self._seen(packet_id):
            return
        dedupe = keys.of_packet(key, self.seed) if qos else None
        kind, device_id, tag, refused = aim.target
        source = aim.source
        now, since = now_us(), self._connected_at
        raw = (aim.user, device_id, tag, kind, payload, now, dedupe, dup, refused, source, since)
        self._chunk.add(_new(RawMessage, raw), sent)

    def flush(self) -> None:
        """At the end of a read: everything of it in one submission."""
        chunk = self._chunk
        if not chunk.messages:
            return
        self._chunk = Chunk(self)
        self.unacked += len(chunk.messages)
        if not self._session.gateway.handover.submit(chunk) or self.unacked >= MAX_UNACKED:
            self._session.hold(True)

    def dropped(self, count: int) -> None:
        self.unacked -= count

    def committed(self, chunk: Chunk, outcomes: list[Outcome]) -> None:
        """Acknowledges in the order of arrival, in one write; then tells subscribers."""
        session = self._session
        self.unacked -= len(outcomes)
        if outcomes.count(STORED) < len(outcomes):
            chunk, outcomes = self._without_failed(chunk, outcomes)
        acks = []
        for (_, qos, _, packet_id), outcome in zip(chunk.sent, outcomes, strict=True):
            if not packet_id:  # QoS 0, or a will
                continue
            stored = outcome is STORED and qos == 1
            acks.append(_puback(0x4002, packet_id) if stored else self._acknowledge(qos, packet_id, outcome))
        if acks:
            session.write(b"".join(acks))
        session.gateway.tell(chunk, outcomes)
        if session.held:
            self.relax()

    def _without_failed(self, chunk: Chunk, outcomes: list[Outcome]) -> tuple[Chunk, list[Outcome]]:
        """What the platform failed to store is offered again a little later, unacknowledged until then."""
        failed, rest = Chunk(self), Chunk(self)
        for message, sent, outcome in zip(chunk.messages, chunk.sent, outcomes, strict=True):
            (failed if outcome.status is Status.FAILED else rest).add(message, sent)
        if failed.messages:
            self.unacked += len(failed.messages)
            self._session.gateway.offer_again(failed)
        return rest, [outcome for outcome in outcomes if outcome.status is not Status.FAILED]

    def relax(self) -> None:
        """Reads on, if there is room for it."""
        if self.unacked < MAX_UNACKED // 2 and not self._session.gateway.handover.waiting:
            self._session.hold(False)

    def release(self, packet: Ack) -> None:
        """PUBREL."""
        if packet.packet_id in self.passed:
            self._session.outbound.send(packet)
            return
        known = packet.packet_id in self._received
        self._received.discard(packet.packet_id)
        code = 0 if known else ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        self._session.write(encode_ack(PUBCOMP, packet.packet_id, code, self._session.version))

    def leave_will(self, will: Will) -> None:
        """The will of a client that went without goodbye, as if it had published it."""
        aim = self._aim(will.topic)
        target, kind = aim.target, aim.target.kind
        if kind is None or (will.retain and not will.payload and not target.refused):
            self._session.gateway.forward(aim, will.payload, will.qos, will.retain)
            return
        message = RawMessage(
            aim.user,
            target.device_id,
            target.tag,
            kind,
            will.payload,
            now_us(),
            refused=target.refused,
            source=aim.source,
        )
        chunk = Chunk(self)
        chunk.add(message, Sent(aim, will.qos, will.retain, 0))
        self.unacked += 1
        self._session.gateway.handover.submit(chunk, wait=True)

    def _aim(self, topic: str) -> Aim:
        token, rest = topics.split(topic)
        owner = self._session.owner(token)
        if owner is None:
            aim = self._foreign(topic, rest)
        else:
            target = topics.target(rest)
            source = topics.shown(topic)[:MAX_SOURCE] if target.refused else ""
            aim = Aim(owner.user, owner.user_id, rest, target, source)
        if len(self._aims) >= MAX_TARGETS:
            self._aims.clear()
        self._aims[topic.encode()] = aim
        return aim

    def _foreign(self, topic: str, rest: str) -> Aim:
        """Somebody else's token, or none: recorded for the account that sent it."""
        target = topics.target(rest)
        refused = topics.Target(target.kind or Kind.JSON, target.device_id, None, Reason.AUTH_REQUIRED)
        grant = self._session.grant
        source = topics.shown(topic)[:MAX_SOURCE]
        return Aim(grant.user if grant else 0, grant.user_id if grant else "", rest, refused, source)

    def _resolve_alias(self, publish: Publish) -> Publish:
        alias = publish.properties.pop(Property.TOPIC_ALIAS, None)
        if alias is None:
            return publish
        if alias > MAX_ALIASES:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"Topic aliases go up to {MAX_ALIASES}.")
        if publish.topic:
            self._aliases[alias] = publish.topic
            return publish
        if alias not in self._aliases:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"Topic alias {alias} is not known.")
        return publish._replace(topic=self._aliases[alias])

    def _seen(self, packet_id: int) -> bool:
        """QoS 2, sent again on the same connection: the first one is answered, or answers this one too."""
        if packet_id in self._received:
            self._session.write(encode_ack(PUBREC, packet_id, 0, self._session.version))
            return True
        if packet_id in self._pending:
            return True
        self._pending.add(packet_id)
        return False

    def _acknowledge(self, qos: int, packet_id: int, outcome: Outcome) -> bytes:
        code = 0
        if outcome.status is Status.REJECTED and outcome.reason:
            code = ANSWERS[outcome.reason].mqtt
        version = self._session.version
        if qos == 1:
            return encode_ack(PUBACK, packet_id, code, version)
        self._pending.discard(packet_id)
        if not code or version != V5:  # MQTT 5: a failure ends the exchange
            self._received.add(packet_id)
        return encode_ack(PUBREC, packet_id, code, version)

    def _pass_on(self, publish: Publish, aim: Aim) -> None:
        """Not ours to store: to the broker, whose acknowledgement goes back to the client. An anonymous
        client has no link of its own there."""
        if not self._session.grant:
            self._session.gateway.forward(aim, publish.payload, publish.qos, publish.retain)
            if publish.qos:
                self._session.write(self._acknowledge(publish.qos, publish.packet_id, STORED))
            return
        if publish.qos == 2:
            self.passed.add(publish.packet_id)
        self._session.outbound.send(publish._replace(topic=f"{aim.user_id}/{aim.rest}"))
