"""What an MQTT server owes its clients: a reference, pure, against which a real server is held.

One client, the observer, is always connected and subscribed to everything. What it is sent is what the server
has routed, in that order; so the model need not guess whether a message that was cut off has been taken.
Where the specification leaves a choice, a delivery is `optional` and the model follows what it sees.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from ingest.mqtt.packets import V5, Properties, Publish, Version, topic_matches
from ingest.mqtt.properties import Property

OBSERVER = "observer"
NEVER = 0xFFFF_FFFF
EARLY, LATE = 1.0, 2.5  # seconds by which a server that counts whole seconds may be wrong
LAG = 5  # steps: acknowledgements of so recent ones may be lost when the server is killed
PER_RECEIVER = (Property.SUBSCRIPTION_IDENTIFIER, Property.MESSAGE_EXPIRY_INTERVAL, Property.TOPIC_ALIAS)


class Divergence(AssertionError):
    """The server did what it must not; `kind` is one word for it."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(f"{kind}: {sentence}")
        self.kind = kind


class Presence(Enum):
    ABSENT = auto()
    PRESENT = auto()
    EITHER = auto()


class State(Enum):
    """Of a delivery, as its receiver knows it."""

    WAITING = auto()  # not sent yet
    SENT = auto()
    RECEIVED = auto()  # QoS 2: PUBREC has been sent
    RELEASED = auto()  # QoS 2: PUBREL has come


@dataclass(eq=False)
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    expiry: int | None
    publisher: str
    published_at: float
    place: int = 0  # among those of its publisher, as it was sent last
    required: bool = False  # acknowledged, so it must be routed
    unfinished: bool = False  # may still be routed in a later step
    routed_at: float | None = None
    crossed_loss: bool = False  # the server was killed since, so that it may have been sent unseen


@dataclass(eq=False)
class PendingWill:
    client: str
    message: Message
    due: float
    latest: float  # that it is due: after a kill the server may count from its start
    certain: bool = True


@dataclass(frozen=True)
class Subscription:
    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int
    identifier: int


@dataclass(eq=False)
class Claim:
    """A message of a shared subscription: one of the group gets it."""

    required: bool  # all of the group can take it now
    taken: bool = False


@dataclass(eq=False)
class Delivery:
    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    optional: bool = False
    on_subscribe: bool = False  # a retained message
    claim: Claim | None = None
    state: State = State.WAITING
    lost: bool = False  # it was on its way on a connection that has ended: it has to be sent again, with DUP
    maybe_sent: bool = False  # the same, if it had been sent at all: DUP or not
    packet_id: int = 0

    @property
    def order(self) -> tuple[str, int, int]:
        """Deliveries that have this in common stay in order (section 4.6)."""
        return self.message.topic, self.message.qos, self.qos


@dataclass(eq=False)
class Session:
    client: str
    version: Version
    clean: bool
    expiry: int
    receive_maximum: int
    resumed: bool = False
    connected: bool = True
    released: bool = False  # it was held a moment ago
    held: bool = False  # the client answers nothing, so the server may run out of its window
    closed_at: float = 0.0
    closed_by: float = 0.0  # at the latest, as the server knows
    doubtful: bool = False  # whether it has survived a crash
    will: Message | None = None
    will_delay: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    owed: list[Delivery] = field(default_factory=list)
    recent: deque[tuple[int, Delivery]] = field(default_factory=deque)

    def unnoticed(self, message: Message) -> bool:
        """It came while the server may not have known that the process of the client had been killed: what
        had been sent until then nobody knows."""
        return self.closed_at < (message.routed_at or 0.0) < self.closed_by

    def in_flight(self, packet_id: int) -> Delivery | None:
        sent = (one for one in self.owed if one.state is not State.WAITING and one.packet_id == packet_id)
        return next(sent, None)


# What a server is known to do wrong: kind of the divergence, session, what was sent, what was owed.
Tolerates = Callable[[str, Session, Publish | None, Delivery | None], bool]


class Model:
    def __init__(
        self, one_delivery: bool, wills_survive: bool, tolerates: Tolerates, several: bool = False
    ) -> None:
        """`several` processes: what the observer gets at different QoS tells no order.
        `one_delivery`: of overlapping subscriptions, the other choice is one for each. `wills_survive` a
        kill, and keep their delay; the other choice is that they may be lost, or published at once."""
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, Message] = {}
        self._last_retained: dict[str, Message] = {}  # with those that clear
        self.pending: list[Message] = []  # published, not routed yet
        self.wills: list[PendingWill] = []
        self.claims: list[Claim] = []
        self._crossing: list[Message] = []  # not routed when the server was killed
        self._unnoticed: list[Session] = []  # ended with their process, which the server may not know yet
        self.step = self._places = 0
        self._one_delivery, self._wills_survive = one_delivery, wills_survive
        self._tolerates = tolerates
        self._several = several

    def next_place(self) -> int:
        """Of a message that is sent, among all."""
        self._places += 1
        return self._places

    # Sessions

    def presence(self, client: str, clean: bool, now: float) -> Presence:
        """Whether CONNACK must say that there is a session."""
        session = self.sessions.get(client)
        if session is None or clean:
            return Presence.ABSENT
        if session.expiry == 0:  # a connection that is being taken over
            return Presence.EITHER if session.version == V5 else Presence.ABSENT
        if session.doubtful:
            return Presence.EITHER
        expiry = session.expiry
        if session.connected or expiry == NEVER or now < session.closed_at + expiry - EARLY:
            return Presence.PRESENT
        return Presence.EITHER if now < session.closed_by + expiry + LATE else Presence.ABSENT

    def starts_afresh(self, client: str, now: float) -> None:
        """Its CONNECT has Clean Start: its session ends, so that a will need not wait any longer."""
        for will in self.wills:
            if will.client == client:
                will.due = min(will.due, now)

    def connected(self, new: Session, present: bool) -> None:
        old = self.sessions.get(new.client)
        new.resumed = present
        if old and present:
            new.subscriptions, new.owed, new.recent = old.subscriptions, old.owed, old.recent
            new.closed_at, new.closed_by = old.closed_at, old.closed_by
            for will in [
                will for will in self.wills if will.client == new.client
            ]:  # cancelled, if not gone out
                self.wills.remove(will)
                self.pending.append(will.message)
        elif old:
            self._end(old)
        self.sessions[new.client] = new

    def closed(
        self, client: str, now: float, *, publish_will: bool, crash: bool = False, taken_over: bool = False
    ) -> None:
        """No more is sent on the connection; what it was sent may not all have been looked at."""
        session = self.sessions[client]
        session.connected, session.held = False, False
        session.closed_at = session.closed_by = now
        will, session.will = session.will, None
        if will and publish_will:
            will.published_at, will.place = now, self.next_place()
            delay = min(session.will_delay, session.expiry)
            if delay and (self._wills_survive or not crash):
                self.wills.append(PendingWill(client, will, now + delay, now + delay))
            else:
                keeps = taken_over and session.expiry and self._tolerates("will kept", session, None, None)
                will.required = not keeps and (self._wills_survive or not crash)
                self.pending.append(will)
        for delivery in session.owed:
            if delivery.claim:
                delivery.claim.required = False

    def lost(self, client: str, crash: bool = False) -> None:
        """All that the ended connection was sent has been looked at."""
        session = self.sessions[client]
        for delivery in session.owed:
            delivery.lost = delivery.state is not State.WAITING
            delivery.maybe_sent = not delivery.lost and delivery.qos > 0
            delivery.optional |= delivery.qos == 0
        if crash:
            again = [one for step, one in session.recent if step >= self.step - LAG]
            for delivery in again:
                delivery.optional = delivery.lost = True
            session.owed = again + session.owed
        session.recent.clear()
        if session.expiry == 0:
            if crash:
                self._unnoticed.append(session)
            self._end(session)

    def crashed(self, now: float) -> None:
        for will in self.wills:
            will.certain &= self._wills_survive
            will.message.crossed_loss |= now > will.due - EARLY
        for session in self.sessions.values():
            session.doubtful |= self._tolerates("not saved", session, None, None)
            if self._tolerates("shared not saved", session, None, None):
                kept = {
                    key: one for key, one in session.subscriptions.items() if not key.startswith("$share/")
                }
                session.subscriptions = kept
        for message in self.pending:
            message.required &= message.qos > 0
            message.crossed_loss = True
        self._crossing = [*self.pending, *(will.message for will in self.wills)]

    def restarted(self, killed_at: float, now: float) -> None:
        """`now`: when the server knows for certain that the process had been killed."""
        for will in self.wills:
            will.latest += now - killed_at
        for session in self.sessions.values():
            if session.closed_at == killed_at:
                session.closed_by = now

    def observer_is_back(self, now: float) -> set[str]:
        """After a kill: what is at QoS 0, or expires soon, may have been routed unseen, or have passed what
        waited for the observer. Returns topics of which so nobody knows what is retained."""
        due = [will for will in self.wills if now > will.due - EARLY]
        unseen = {
            one
            for one in (*self.pending, *(will.message for will in due))
            if one.qos == 0 or _may_expire(one, now)
        }
        for will in due:
            will.certain &= will.message not in unseen
        for message in self.pending:
            message.required &= message not in unseen
            message.unfinished |= message in unseen  # it may also come later, if others notice the kill later
        passed = {one for one in self._crossing if one.qos == 0 and one.routed_at is not None}
        return {one.topic for one in unseen | passed if one.retain}

    def _end(self, session: Session) -> None:
        if self.sessions.get(session.client) is session:
            del self.sessions[session.client]
        for will in [will for will in self.wills if will.client == session.client]:
            if self._tolerates("delayed will", session, None, None):
                will.certain = False
                continue
            self.wills.remove(will)
            will.message.required = will.certain
            self.pending.append(will.message)

    def passed(self, now: float) -> None:
        """Time: wills that are due, sessions that are over."""
        for will in [will for will in self.wills if now > will.latest + LATE]:
            self.wills.remove(will)
            will.message.required = will.certain
            self.pending.append(will.message)
        for session in list(self.sessions.values()):
            if not session.connected and self.presence(session.client, False, now) is Presence.ABSENT:
                self._end(session)

            for delivery in session.owed:
                delivery.optional |= delivery.state is State.WAITING and _may_expire(delivery.message, now)

    # Subscriptions

    def subscribed(self, client: str, subscription: Subscription, now: float) -> None:
        session = self.sessions[client]
        known = session.subscriptions.get(subscription.filter)
        if known and self._tolerates("kept options", session, None, None):
            published = known.retain_as_published
            subscription = replace(subscription, no_local=known.no_local, retain_as_published=published)
        session.subscriptions[subscription.filter] = subscription
        handling = subscription.retain_handling
        shared = subscription.filter.startswith("$share/")
        if shared and not self._tolerates("shared retained", session, None, None):
            return
        if handling == 2 or (handling == 1 and known):
            return
        for message in self.retained.values():
            if topic_matches(subscription.filter, message.topic) and not self._expired(message, now):
                delivery = self._owe(session, message, subscription, retain=True)
                own = subscription.no_local and message.publisher == client
                delivery.optional = own or shared or _may_expire(message, now)

    def unsubscribed(self, client: str, filter_: str) -> bool:
        """Whether there was one. What waits in the queue may be sent or not."""
        session = self.sessions[client]
        for delivery in session.owed:
            delivery.optional |= delivery.state is State.WAITING
        return session.subscriptions.pop(filter_, None) is not None

    # Messages on their way in

    def route(self, message: Message, now: float) -> None:
        message.routed_at = now
        last = self._last_retained.get(message.topic)
        own = last and last.publisher == message.publisher
        overtaken = self._several and own and last and last.place > message.place
        if message.retain and not overtaken:
            self._last_retained[message.topic] = message
            self.retained.pop(message.topic, None)
            if message.payload:
                self.retained[message.topic] = message
        groups: dict[str, list[tuple[Session, Subscription]]] = {}
        self._unnoticed = [one for one in self._unnoticed if now < one.closed_by]
        for session in self._unnoticed:  # may be chosen in vain
            for subscription in session.subscriptions.values():
                shared = subscription.filter.startswith("$share/")
                if shared and topic_matches(subscription.filter, message.topic):
                    groups.setdefault(subscription.filter, []).append((session, subscription))
        for session in self.sessions.values():
            matching = []
            for subscription in session.subscriptions.values():
                if not topic_matches(subscription.filter, message.topic):
                    continue
                if subscription.filter.startswith("$share/"):
                    groups.setdefault(subscription.filter, []).append((session, subscription))
                elif not (subscription.no_local and message.publisher == session.client):
                    matching.append(subscription)
            if matching and self._one_delivery:
                self._owe(session, message, *matching)
            else:
                for subscription in matching:
                    self._owe(session, message, subscription)
        for members in groups.values():
            if len(members) == 1:
                self._owe(members[0][0], message, members[0][1])
                continue
            claim = Claim(required=all(one.connected and not one.held for one, _ in members))
            self.claims.append(claim)
            for session, subscription in members:
                delivery = self._owe(session, message, subscription)
                delivery.claim, delivery.optional = claim, True

    def _owe(
        self, session: Session, message: Message, *matching: Subscription, retain: bool = False
    ) -> Delivery:
        delivery = Delivery(
            message,
            min(message.qos, max(one.qos for one in matching)),
            retain or (message.retain and any(one.retain_as_published for one in matching)),
            tuple(sorted(one.identifier for one in matching if one.identifier)),
            on_subscribe=retain,
            maybe_sent=message.crossed_loss or session.unnoticed(message),
        )
        delivery.optional = delivery.qos == 0 and (not session.connected or message.crossed_loss)
        session.owed.append(delivery)
        return delivery

    # Messages on their way out

    def waits_for_observer(self, packet: Publish) -> bool:
        return any(_same(message, packet) for message in self._routable())

    def acknowledged_publish(self, message: Message, now: float) -> None:
        """The server has answered its PUBLISH for the last time."""
        message.required = message.routed_at is None and not _may_expire(message, now - EARLY)
        message.unfinished = False

    def fits(self, client: str, packet: Publish) -> bool:
        """Whether it is owed already, for certain."""
        session = self.sessions[client]
        if packet.qos and session.in_flight(packet.packet_id):
            return True
        waiting = (one for one in session.owed if one.state is State.WAITING and not one.optional)
        return any(_same(one.message, packet) and self._matches(session, one, packet) for one in waiting)

    def _routable(self) -> Iterator[Message]:
        yield from self.pending
        yield from (will.message for will in self.wills)

    def delivered(self, client: str, packet: Publish, now: float) -> None:
        session = self.sessions[client]
        known = session.in_flight(packet.packet_id) if packet.qos else None
        if known:
            self._sent_again(session, packet, known)
            return
        fitting = [one for one in session.owed if one.state is State.WAITING and _same(one.message, packet)]
        if client == OBSERVER and not fitting:
            message = next(
                (one for one in self._routable() if _same(one, packet) and one.qos == packet.qos), None
            )
            if message:
                self._take(message, now)
                self.route(message, now)
                fitting = session.owed[-1:]
        if not fitting:
            self._differs("unexpected", session, packet, None)
            message = Message(
                packet.topic, packet.payload, packet.qos, packet.retain, packet.properties, None, "", now
            )
            session.owed.append(
                Delivery(message, packet.qos, True, (), state=State.SENT, packet_id=packet.packet_id)
            )
            if packet.qos == 0:
                session.owed.pop()
            return
        # Several messages without payload, or several copies of one, may look alike.
        delivery = min(
            fitting,
            key=lambda one: (
                not self._matches(session, one, packet),
                bool(self._overtaken(session, one)),
                packet.retain != one.retain,
                one.optional,
            ),
        )
        for first in fitting[: fitting.index(delivery)]:
            alike = first.retain == delivery.retain and self._matches(session, first, packet)
            if alike and first.optional and not first.claim and not delivery.claim:
                # One of the two: as long as the other one does not come, nobody can tell which.
                delivery.optional = True
                delivery = first
                break
        self._check_first(session, packet, delivery, now)
        delivery.state, delivery.packet_id, delivery.optional = State.SENT, packet.packet_id, False
        self._keep_order(session, packet, delivery)
        if delivery.claim:
            delivery.claim.taken = True
            for other in self.sessions.values():
                other.owed = [one for one in other.owed if one.claim is not delivery.claim or one is delivery]
            delivery.claim = None
        if packet.qos == 0:
            session.owed.remove(delivery)
        else:
            self._check_window(session, packet)

    def _take(self, message: Message, now: float) -> None:
        if message in self.pending:
            self.pending.remove(message)
            return
        will = next(will for will in self.wills if will.message is message)
        self.wills.remove(will)
        if now < will.due - EARLY:
            raise Divergence("early will", f"{message.topic} {will.due - now:.1f} s before its time")

    def _matches(self, session: Session, delivery: Delivery, packet: Publish) -> bool:
        identifiers = tuple(sorted(packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER, ())))
        wanted = delivery.identifiers if session.version == V5 else ()
        same = (packet.qos, identifiers) == (delivery.qos, wanted) and self._same_properties(
            session, delivery, packet
        )
        return same and self._retain_is_right(session, delivery, packet)

    def _same_properties(self, session: Session, delivery: Delivery, packet: Publish) -> bool:
        properties = {key: value for key, value in packet.properties.items() if key not in PER_RECEIVER}
        return session.version != V5 or properties == delivery.message.properties

    def _retain_is_right(self, session: Session, delivery: Delivery, packet: Publish) -> bool:
        """A session that was made by MQTT 5 may know Retain As Published; an MQTT 3 client does not."""
        unknown = session.version != V5 and not delivery.on_subscribe
        return packet.retain == delivery.retain or (unknown and not packet.retain)

    def _check_first(self, session: Session, packet: Publish, delivery: Delivery, now: float) -> None:
        message, five = delivery.message, session.version == V5
        if packet.qos != delivery.qos:
            self._differs("QoS", session, packet, delivery)
        if not self._retain_is_right(session, delivery, packet):
            self._differs("retain flag", session, packet, delivery)
        identifiers = sorted(packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER, ()))
        if five and tuple(identifiers) != delivery.identifiers:
            self._differs("subscription identifiers", session, packet, delivery)
        if not self._same_properties(session, delivery, packet):
            self._differs("properties", session, packet, delivery)
        if packet.dup and not delivery.maybe_sent:
            self._differs("DUP", session, packet, delivery)
        if self._expired(message, now) and not packet.dup:  # else it may have been on its way before that
            self._differs("expired", session, packet, delivery)
        left = packet.properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
        if five and (left is None) != (message.expiry is None):
            self._differs("expiry", session, packet, delivery)
        elif left is not None and message.expiry is not None:
            age = now - message.published_at
            if not message.expiry - age - LATE <= left <= message.expiry:
                self._differs("expiry", session, packet, delivery)

    def _keep_order(self, session: Session, packet: Publish, delivery: Delivery) -> None:
        """Nothing before it that it must not overtake; what was optional there will not come any more."""
        for one in self._overtaken(session, delivery):
            self._differs("order", session, packet, one)
        if self._tolerates("order", session, packet, delivery):
            return
        for one in session.owed[: session.owed.index(delivery)]:
            if (
                one.order == delivery.order
                and one.message is not delivery.message
                and one.state is State.WAITING
            ):
                session.owed.remove(one)

    def _overtaken(self, session: Session, delivery: Delivery) -> list[Delivery]:
        """What has to come before it."""
        before = session.owed[: session.owed.index(delivery)]
        alike = (one for one in before if one.order == delivery.order and one.message is not delivery.message)
        unsent = (State.SENT, State.WAITING)
        return [
            one
            for one in alike
            if not one.optional and one.state in unsent and (one.lost or one.state is State.WAITING)
        ]

    def _check_window(self, session: Session, packet: Publish) -> None:
        open_ = (State.SENT, State.RECEIVED)
        sent = [one for one in session.owed if one.state in open_ and not one.lost]
        if session.receive_maximum and len(sent) > session.receive_maximum:
            self._differs("receive maximum", session, packet, None)

    def _sent_again(self, session: Session, packet: Publish, delivery: Delivery) -> None:
        if not (delivery.lost and _same(delivery.message, packet) and delivery.state is not State.RELEASED):
            self._differs("packet identifier", session, packet, delivery)
        if not packet.dup:
            self._differs("DUP", session, packet, delivery)
        if not self._matches(session, delivery, packet):
            self._differs("sent again otherwise", session, packet, delivery)
        delivery.lost, delivery.optional = False, False
        delivery.state = State.SENT
        self._keep_order(session, packet, delivery)
        self._check_window(session, packet)

    def received(self, client: str, packet_id: int) -> None:
        """The client has sent PUBREC."""
        if delivery := self.sessions[client].in_flight(packet_id):
            delivery.state = State.RECEIVED

    def released(self, client: str, packet_id: int) -> None:
        """The server has sent PUBREL."""
        session = self.sessions[client]
        delivery = session.in_flight(packet_id)
        if (
            delivery is None
            or delivery.state not in (State.RECEIVED, State.RELEASED)
            or (delivery.state is State.RELEASED and not delivery.lost)
        ):
            self._differs("PUBREL", session, None, delivery)
        if delivery:
            delivery.state, delivery.lost, delivery.optional = State.RELEASED, False, False

    def acknowledged(self, client: str, packet_id: int) -> None:
        """The client has sent PUBACK or PUBCOMP."""
        session = self.sessions[client]
        if delivery := session.in_flight(packet_id):
            session.owed.remove(delivery)
            session.recent.append((self.step, delivery))
            while session.recent[0][0] < self.step - LAG:
                session.recent.popleft()

    # What a step must have brought

    def outstanding(self) -> list[str]:
        """What the server still has to send now, a sentence each."""
        missing = [f"{one.topic} {one.payload!r} is not routed" for one in self.pending if one.required]
        for session in self.sessions.values():
            if session.connected and not session.held:
                missing += [
                    f"{session.client} lacks {_text(one)}" for one in session.owed if not one.optional
                ]
        if any(claim.required and not claim.taken for claim in self.claims):
            missing.append("nobody has got a message of a shared subscription")
        return missing

    def drop_unrouted(self) -> None:
        """What was not routed by now is not, unless its publisher can go on with it."""
        self.pending = [one for one in self.pending if one.required or one.unfinished]

    def ended_step(self) -> None:
        self.drop_unrouted()
        self.claims.clear()
        for session in self.sessions.values():
            session.released = session.held
            if session.connected and not session.held:  # what came at QoS 0 while it was away is not kept
                # Nor does the server repeat later what it did not repeat at once.
                session.owed = [
                    one
                    for one in session.owed
                    if not one.optional or (not one.lost and (one.qos or one.claim))
                ]
        self.step += 1

    def _expired(self, message: Message, now: float) -> bool:
        at = message.routed_at
        return message.expiry is not None and at is not None and now > at + message.expiry + LATE

    def _differs(
        self, kind: str, session: Session, packet: Publish | None, delivery: Delivery | None
    ) -> None:
        if not self._tolerates(kind, session, packet, delivery):
            sentence = (
                f"{session.client} (MQTT {session.version.name}) was sent {packet}, owed {_text(delivery)}"
            )
            raise Divergence(kind, sentence)


def _may_expire(message: Message, now: float) -> bool:
    return message.expiry is not None and now > message.published_at + message.expiry - EARLY


def _same(message: Message, packet: Publish) -> bool:
    return message.payload == packet.payload and message.topic == packet.topic


def _text(one: Delivery | None) -> str:
    if one is None:
        return "nothing"
    about = f"QoS {one.qos}, retain {one.retain}, identifiers {one.identifiers}, {one.state.name}"
    return f"{one.message.topic} {one.message.payload!r} ({about}{', lost' * one.lost})"
