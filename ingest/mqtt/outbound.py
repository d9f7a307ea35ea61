"""What a client receives: subscriptions, and deliveries of the upstream broker.

Topics are translated on the way: TOKEN/... here, U000001/... there (ingest/topics.py).
"""

import contextlib
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from ingest import topics
from ingest.mqtt import upstream
from ingest.mqtt.codec import encode
from ingest.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Ack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from ingest.mqtt.properties import Property
from ingest.mqtt.upstream import Link, Refused

if TYPE_CHECKING:
    from ingest.mqtt.session import Session

MAX_SUBSCRIPTIONS = 1_000  # of one client
MAX_FILTER = 1_024  # characters
MAX_WAITING = 1_000  # deliveries beyond the client's receive maximum
MAX_IN_FLIGHT = 1_000  # publishes for the broker that it has not acknowledged
FAILURE = 0x80

# As the broker gets it, with the codes of the client's answer; None: the broker's to give.
Asked = tuple[Subscribe | Unsubscribe, list[int | None]]


class Outbound:
    """One per session."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._link: Link | None = None
        self._subscriptions: dict[str, tuple[Subscription, dict[int, Any]]] = {}  # by the broker's filter
        self._asked: dict[int, Asked] = {}  # by packet id: what the broker has not answered
        self._in_flight: dict[int, bytes] = {}  # publishes the broker has not acknowledged
        self._delivered: set[int] = set()  # deliveries the client has not acknowledged
        self._waiting: deque[Publish] = deque()
        self._early: list[Packet] = []  # came before the client's CONNACK was sent
        self.receive_maximum = 65_535
        self.maximum_packet = 2**32

    # Opening

    async def open(self, packet: Connect, kept: list[list[Any]]) -> None:
        """For a durable session, before its CONNACK, with the subscriptions it had."""
        for fields in kept:
            subscription = Subscription(*fields)
            self._subscriptions[subscription.filter] = (subscription, {})
        self._link = link = self._make_link(packet)
        with contextlib.suppress(Refused):  # then it comes up later; meanwhile the client can publish
            await link.open()

    def started(self) -> None:
        """CONNACK is sent: now the client may get the rest."""
        early, self._early = self._early, []
        for packet in early:
            self._from_broker(packet)

    def _make_link(self, packet: Connect) -> Link:
        """A durable session is never asked for with Clean Start: the embedded broker would not keep it."""
        session = self._session
        version = V5 if session.version == V5 else V311
        properties: Properties = {}
        if Property.RECEIVE_MAXIMUM in packet.properties:
            properties[Property.RECEIVE_MAXIMUM] = packet.properties[Property.RECEIVE_MAXIMUM]
        if version == V5 and session.lives_on:
            properties[Property.SESSION_EXPIRY_INTERVAL] = session.lives_on
        name = upstream.name(session.user_id, session.client_id)
        connect = Connect(version, name, not session.durable, 0, None, None, None, properties)
        return Link(session.gateway.address(version), connect, self._from_broker, self._opened)

    def send(self, packet: Packet) -> None:
        """To the broker. QoS 0 is dropped while that takes too little, or is away."""
        link = self._needed_link()
        if isinstance(packet, Publish) and not packet.qos:
            sent = not link.crowded and link.send(packet)
            self._session.gateway.ingest.pipeline.metrics.dropped += not sent
            return
        sent = self._publish(link, packet) if isinstance(packet, Publish) else link.send(packet)
        if not sent:
            self._session.fail(ReasonCode.SERVER_BUSY, "too much waits for the upstream broker")

    def _needed_link(self) -> Link:
        """Opened when the client first needs it."""
        if self._link is None:
            assert self._session.connect is not None
            self._link = self._make_link(self._session.connect)
            self._link.open_later()
        return self._link

    def _publish(self, link: Link, packet: Publish) -> bool:
        """Kept until the broker has acknowledged it; sent now, or with the rest when the link is up."""
        if packet.packet_id in self._in_flight:
            return True
        data = encode(packet, link.version)
        if link.up:
            link.send_raw(data)
            data = _as_repeated(data)
        self._in_flight[packet.packet_id] = data
        return len(self._in_flight) < MAX_IN_FLIGHT

    def ping(self) -> None:
        if self._link:
            self._link.ping()

    def pause(self, yes: bool) -> None:
        if self._link:
            self._link.pause(yes)

    def close(self, properties: dict[int, Any] | None = None) -> None:
        if self._link:
            self._link.close(properties)

    def _opened(self, session_present: bool) -> None:
        """The link is up, perhaps again: ask again for what the broker lost, send again what it may have."""
        link = self._link
        assert link
        self._delivered.clear()
        self._waiting.clear()
        if not session_present:
            self._resubscribe(link)
        for packet, _ in self._asked.values():
            link.send(packet)
        for packet_id, data in self._in_flight.items():
            link.send_raw(data)
            self._in_flight[packet_id] = _as_repeated(data)

    def _resubscribe(self, link: Link) -> None:
        """But not for what the client has just asked for: that would bring retained messages twice."""
        free = (number for number in range(65_535, 0, -1) if number not in self._asked)
        asked = [packet for packet, _ in self._asked.values() if isinstance(packet, Subscribe)]
        fresh = {subscription.filter for packet in asked for subscription in packet.subscriptions}
        for filter_, (subscription, properties) in self._subscriptions.items():
            if filter_ not in fresh:
                link.send(Subscribe(next(free), [subscription], properties))

    # The client's side

    async def subscribe(self, packet: Subscribe) -> None:
        """Own topics only; the others get a failure code, and the connection stays up."""
        codes: list[int | None] = []
        allowed: list[Subscription] = []
        for subscription in packet.subscriptions:
            translated = self._translate(subscription.filter)
            if translated is None or not self._has_room(subscription.filter, len(allowed)):
                codes.append(ReasonCode.NOT_AUTHORIZED if self._session.version == V5 else FAILURE)
            else:
                codes.append(None)
                allowed.append(subscription._replace(filter=translated))
        if not allowed:
            self._session.send(SubAck(packet.packet_id, [code or 0 for code in codes], {}))
            return
        for subscription in allowed:
            self._subscriptions[subscription.filter] = (subscription, packet.properties)
        await self._watch()
        self._ask(packet._replace(subscriptions=allowed), codes)

    def _has_room(self, filter_: str, more: int) -> bool:
        return len(filter_) <= MAX_FILTER and len(self._subscriptions) + more < MAX_SUBSCRIPTIONS

    async def unsubscribe(self, packet: Unsubscribe) -> None:
        translated = [self._translate(filter_) for filter_ in packet.filters]
        asked = [filter_ for filter_ in translated if filter_]
        absent: int = ReasonCode.NO_SUBSCRIPTION_EXISTED
        if not asked or not self._link:
            self._session.send(UnsubAck(packet.packet_id, [absent] * len(translated), {}))
            return
        for filter_ in asked:
            self._subscriptions.pop(filter_, None)
        await self._watch()
        codes: list[int | None] = [None if filter_ else absent for filter_ in translated]
        self._ask(packet._replace(filters=asked), codes)

    def _ask(self, packet: Subscribe | Unsubscribe, codes: list[int | None]) -> None:
        """Now, or when the link is up; again, if it breaks before the answer."""
        self._asked[packet.packet_id] = (packet, codes)
        link = self._needed_link()
        if link.up:
            link.send(packet)

    def acknowledged(self, packet: Ack) -> None:
        """The client's PUBACK, PUBREC or PUBCOMP of a delivery."""
        if packet.packet_id not in self._delivered:
            return  # of a link that is gone
        if packet.type in {PUBACK, PUBCOMP} or packet.code >= FAILURE:
            self._delivered.discard(packet.packet_id)
        if self._link and self._link.up:  # else the broker delivers it again
            self._link.send(packet)
        while self._waiting and len(self._delivered) < self.receive_maximum:
            self._deliver(self._waiting.popleft())

    def _translate(self, filter_: str) -> str | None:
        share, first, rest = topics.split_filter(filter_)
        owner = self._session.owner(first)
        if owner is None or not self._session.grant:
            return None
        return f"{_own_group(share, owner.user_id, rest)}{owner.user_id}{rest}"

    async def _watch(self) -> None:
        """Whether publishes that the gateway answers itself must also reach the broker."""
        sees = any(topics.sees_ingest(topics.split_filter(filter_)[2]) for filter_ in self._subscriptions)
        kept = [list(subscription) for subscription, _ in self._subscriptions.values()]
        await self._session.gateway.watch(self._session, sees, kept)

    # The broker's side

    def _from_broker(self, packet: Packet) -> None:
        if not self._session.is_open:
            self._early.append(packet)
            return
        match packet:
            case Publish():
                self._delivery(packet)
            case Ack(type=type_):
                self._broker_acknowledged(packet, type_)
            case SubAck() | UnsubAck():
                self._answer(packet)
            case Disconnect(code=ReasonCode.SESSION_TAKEN_OVER):
                self._session.fail(ReasonCode.SESSION_TAKEN_OVER, "the session was taken over")

    def _broker_acknowledged(self, packet: Ack, type_: int) -> None:
        if type_ == PUBREL:
            self._released(packet)
            return
        if packet.packet_id not in self._in_flight:
            return
        if type_ == PUBREC and packet.code < FAILURE and self._link:
            again = Ack(PUBREL, packet.packet_id, 0, {})
            self._in_flight[packet.packet_id] = encode(again, self._link.version)
        else:
            del self._in_flight[packet.packet_id]
            self._session.inbound.passed.discard(packet.packet_id)
        self._session.send(packet)

    def _released(self, packet: Ack) -> None:
        if packet.packet_id in self._delivered:
            self._session.send(packet)
        elif self._link:  # one that the client never got: see _skip
            self._link.send(Ack(PUBCOMP, packet.packet_id, 0, {}))

    def _delivery(self, packet: Publish) -> None:
        user_id, _, rest = packet.topic.partition("/")
        grant = self._session.grant
        if grant is None or user_id != grant.user_id:
            return
        packet = packet._replace(topic=f"{self._session.token}/{rest}" if rest else self._session.token)
        if packet.qos and len(self._delivered) >= self.receive_maximum:
            if len(self._waiting) >= MAX_WAITING:
                self._session.fail(ReasonCode.QUOTA_EXCEEDED, "the client takes too little")
            self._waiting.append(packet)
            return
        self._deliver(packet)

    def _deliver(self, packet: Publish) -> None:
        data = encode(packet, self._session.version)
        if len(data) > self.maximum_packet:
            self._skip(packet)
            return
        if packet.qos:
            self._delivered.add(packet.packet_id)
        self._session.write(data)

    def _skip(self, packet: Publish) -> None:
        """Larger than the client takes: as if it had completed it [MQTT-3.1.2-25]."""
        if packet.qos and self._link:
            type_ = PUBACK if packet.qos == 1 else PUBREC
            self._link.send(Ack(type_, packet.packet_id, 0, {}))

    def _answer(self, packet: SubAck | UnsubAck) -> None:
        _, codes = self._asked.pop(packet.packet_id, (None, None))
        if codes is None:
            return  # our own, after the link came back
        given = iter(packet.codes)
        merged = [next(given, 0) if code is None else code for code in codes]
        self._session.send(packet._replace(codes=merged))


def _own_group(share: str, user_id: str, rest: str) -> str:
    """A share group is the account's, and the filter's: rumqttd deals the messages of a group's filters
    among all its members, whatever they asked for."""
    if not share:
        return ""
    group = share.split("/")[1]
    return f"$share/{user_id}-{group}-{zlib.crc32(rest.encode()):08x}/"


def _as_repeated(data: bytes) -> bytes:
    """The same packet with DUP, if it is a PUBLISH."""
    return bytes((data[0] | 0x08,)) + data[1:] if data[0] >> 4 == PUBLISH else data
