"""One client's MQTT connection, from CONNECT to its end."""

import asyncio
import contextlib
import logging
import math
import secrets
import sys
import time
from collections.abc import Coroutine
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from django.conf import settings

from ingest import topics
from ingest.admission import DatabaseAway
from ingest.decode import MAX_ARRAY_MQTT
from ingest.device_tokens import TokenOwner
from ingest.gateway import topic_owner
from ingest.gateway.connection import Connection
from ingest.gateway.connection_limits import RefusalReason
from ingest.gateway.deliveries import NO_LIMITS, ClientLimits, Deliveries, DurableDeliveries, Effects
from ingest.gateway.fair_scheduler import SLICE_SECONDS, WINDOW_SECONDS, TimeShare, now
from ingest.gateway.hub import AccountHub, Subscriber
from ingest.gateway.outgoing_message import Delivery, OutgoingMessage
from ingest.gateway.publishes import MAX_ALIASES, PLAIN, Publishes
from ingest.gateway.queue import Queue
from ingest.gateway.subscribing import Subscribing, Unread, WantedRetained
from ingest.gateway.subscriptions import Match
from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.frames import TOO_LARGE, Frame
from ingest.mqtt.packets import (
    CONNECT,
    PUBLISH,
    PUBREL,
    V5,
    V311,
    Ack,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolError,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from ingest.mqtt.properties import Property
from thingscale.devices.mqtt_store.queues import Progress
from thingscale.devices.mqtt_store.sessions import Opened
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription
from thingscale.devices.presence import ClientKey, Presence
from thingscale.lib import own_topics
from thingscale.streams.exactly_once.keys import client_seed

if TYPE_CHECKING:
    from ingest.gateway.server import Gateway

log = logging.getLogger(__name__)

MAX_PACKET = MAX_ARRAY_MQTT + 4096  # room for the topic; a value of 70 kB is answered, not cut off
MAX_BACKLOG = 64 * 1024  # bytes that wait for their turn before reading pauses
FRAME_OVERHEAD = 100  # bytes that a short frame takes in memory
LARGE = 1_000  # bytes of a packet that may take long
STEP = 8  # packets between two looks at the clock
MAX_CLIENT_ID = 256  # bytes: it is part of keys in the database
MAX_SUBSCRIPTIONS = 1_000  # of one client
MAX_FILTER = 1_024  # characters
MAX_LEVELS = 64
CONGESTED_SECONDS = 60.0
FAILURE = 0x80
_new = tuple.__new__  # a NamedTuple's own constructor takes twice as long
_ANSWERS = frozenset((0x40, 0x50, 0x62, 0x70))  # first bytes of PUBACK, PUBREC, PUBREL and PUBCOMP
_NO_PROPERTIES: Properties = {}
NOT_MQTT = "The first packet has to be a CONNECT."

# MQTT 3 knows five return codes (3.1.1, section 3.2.2.3).
_V3_CODES = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_BUSY: 3,
    ReasonCode.CONNECTION_RATE_EXCEEDED: 3,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: 4,
    ReasonCode.NOT_AUTHORIZED: 5,
    ReasonCode.BAD_AUTHENTICATION_METHOD: 5,
}
# What counts as a sign-in that failed: not what is our fault, nor what a quota refuses.
_FAILURES = frozenset(
    {
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode.BAD_USER_NAME_OR_PASSWORD,
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.BAD_AUTHENTICATION_METHOD,
    }
)


class State(Enum):
    NEW = auto()  # no CONNECT yet
    OPENING = auto()
    OPEN = auto()
    ENDED = auto()


class Client:
    __slots__ = (
        *("__weakref__", "_asked_to_last", "_backlog", "_backlog_size", "_bridge", "_busy", "_congested"),
        *("_congested_at", "_keep_alive", "_limits", "_lost", "_named", "_reader", "_waits", "_will"),
        *("account", "began_at", "clean_start", "client_id", "connection", "deliveries", "expiry"),
        *("gateway", "handing_over", "publishes", "queue", "reading_paused", "row", "seen_at", "session"),
        *("state", "subscriber", "time_share", "token", "token_owner", "unread", "untaken_bytes"),
        "version",
    )

    def __init__(self, gateway: "Gateway", connection: Connection) -> None:
        self.gateway = gateway
        self.connection = connection
        self.state = State.NEW
        self.version: Version = V311
        self.token_owner: TokenOwner | None = None  # None with an open client: anonymous
        self.token = ""
        self.client_id = ""
        self.clean_start = True
        self._named = False  # it has sent its client id
        self._keep_alive = 0  # seconds
        self._bridge = self._asked_to_last = False
        self.account: AccountHub | None = None
        self.subscriber: Subscriber | None = None
        self.time_share: TimeShare | None = None  # of the event loop's time; None: before CONNECT
        self.session = 0  # key of its durable session
        self.row = 0  # the same, or the key of a session that exists only for its will
        self.expiry = 0  # seconds for which the session is kept after the connection
        self._limits = NO_LIMITS
        self.deliveries: Deliveries | None = None  # once it subscribes
        self.queue: Queue | None = None  # of a durable session
        self.unread: Unread | None = None
        self.publishes: Publishes | None = None  # once it publishes
        self.seen_at = gateway.now()
        self.began_at = time.monotonic()
        self.reading_paused = False
        self.handing_over = False  # it is to go to another gateway
        self._will: Will | None = None
        self._reader = FrameReader(MAX_PACKET)
        self._backlog: list[Frame] | None = None
        self._backlog_size = 0
        self._busy: asyncio.Task[None] | None = None  # a packet that later ones have to wait for
        self._waits = False  # for its account's turn
        self._congested = self._lost = False
        self._congested_at = 0.0
        self.untaken_bytes = 0  # that it was sent and has not taken, when they were last measured

    @property
    def key(self) -> ClientKey:
        """User 0: anonymous."""
        return (self.token_owner.user if self.token_owner else 0), self.client_id

    @property
    def user_id(self) -> str:
        return self.token_owner.user_id if self.token_owner else "anonymous"

    @property
    def presence(self) -> Presence:
        user, client_id = self.key
        ip = self.connection.peer
        return Presence(user, client_id, ip, self.clean_start, self.version, self._keep_alive, self.began_at)

    @property
    def ended(self) -> bool:
        return self.state is State.ENDED

    @property
    def durable(self) -> bool:
        """Whether the session outlives the connection."""
        return self.expiry > 0 and self.token_owner is not None

    # What the connection calls

    def receive(self, data: bytes) -> None:
        self.seen_at = self.gateway.now()
        try:
            if self.state is State.NEW and not self._reader.buffered and data[0] >> 4 != CONNECT:
                # Another protocol: what looks like a length may be anything.
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, NOT_MQTT)
            self._process(self._reader.feed(data))
            if self._reader.error:
                raise self._reader.error
        except ProtocolError as error:
            self._refuse(error)

    def congested(self, yes: bool) -> None:
        """The client does not read what it is sent, so nothing more is taken from it, or for it."""
        self._congested = yes
        self._congested_at = self.gateway.now()
        if self.deliveries:
            self.deliveries.congested = yes
        self._adjust_reading()
        if not yes:
            self.send_waiting()

    def lost(self) -> None:
        """The connection is over. What the client has sent before still counts."""
        self._lost = True
        self.gateway.connection_limits.leave(self.connection)
        if not self._busy and not self._backlog:
            self.end(with_will=True)

    # What the gateway and the other halves of the client call

    def owner(self, token: str) -> TokenOwner | None:
        """The owner of a topic's token, if this client may use it."""
        if self.token_owner and (token == self.token or self.token_owner.covers(token)):
            return self.token_owner
        # The client is anonymous, or we have not heard of a rotation yet.
        known = self.gateway.device_tokens.cached(token)
        if not isinstance(known, TokenOwner) or (self.token_owner and self.token_owner.user != known.user):
            return None
        return known

    def start_publishing(self) -> Publishes:
        """Clients of one user without a client id can't be told apart, so they count as one."""
        confirmed_at = self.gateway.confirmed_clients.at(self.key) if self._named else 0
        seed = client_seed(f"{self.key[0]}:{self.client_id if self._named else ''}")
        self.publishes = Publishes(self, self.began_at, seed, confirmed_at)
        return self.publishes

    def write(self, data: bytes) -> None:
        if data:
            self.connection.write(data)

    def write_acknowledgements(self, data: bytes) -> None:
        self.connection.write_alone(data)

    def measure(self) -> None:
        """Counts the bytes that the client has not taken yet, for the limit of its account."""
        untaken = 0 if self.ended else self.connection.untaken_bytes
        if self.account:
            self.account.totals.untaken_bytes += untaken - self.untaken_bytes
            self.untaken_bytes = untaken
        if self.deliveries:
            self.deliveries.slow = untaken > 0

    def send(self, packet: Packet) -> None:
        self.write(encode(packet, self.version))

    def pause_reading(self, yes: bool) -> None:
        """Back-pressure: too many messages of this client are on their way to storage."""
        if yes is not self.reading_paused:
            self.reading_paused = yes
            self.seen_at = self.gateway.now()  # keep-alive counts from when we listen again
            self._adjust_reading()

    def hand_over(self) -> None:
        """The client is to go to another gateway, so nothing more is taken from it."""
        self.handing_over = True
        self._adjust_reading()

    @property
    def answered(self) -> bool:
        """Whether the client has an answer to all that was taken from it."""
        return not (self._busy or self._backlog or (self.publishes and self.publishes.unacked))

    def fail(self, reason: ReasonCode, sentence: str, reference: str = "") -> None:
        """Ends the connection. MQTT 5 clients are told why, and which server to go to unless that is larger
        than they take."""
        if self.ended:
            return
        log.debug("Closing a connection of %s: %s", self.user_id, sentence)
        if self.state is State.OPEN and self.version == V5:
            with contextlib.suppress(ProtocolError):
                packet = encode(Disconnect(reason, {}), V5)
                if reference:
                    longer = encode(Disconnect(reason, {Property.SERVER_REFERENCE: reference}), V5)
                    packet = longer if len(longer) <= self._limits.maximum_packet_size else packet
                self.write(packet)
        self.end(with_will=True)

    def end(self, with_will: bool) -> None:
        if self.ended:
            return
        was_open = self.state is State.OPEN
        self.state = State.ENDED
        reused_at = self.publishes.reused_at if self.publishes and self._named and self.token_owner else 0
        if reused_at and reused_at > self.gateway.confirmed_clients.at(self.key):
            self.gateway.confirmed_clients.note(self.key, reused_at)
        try:
            if self._busy:
                self._busy.cancel()
            self.gateway.disconnected(self, self._will if with_will and was_open else None)
        finally:
            if self.publishes:
                self.publishes.end(self.queue)
            self.measure()
            self.connection.close()

    def check(self, now: float) -> None:
        """Once a second: ends the connection if the keep-alive or the token has run out, if no CONNECT came
        in time, or if the client never reads."""
        if self.state is not State.OPEN:
            if time.monotonic() - self.began_at > settings.CONNECT_SECONDS:
                self.end(with_will=False)
            return
        keep_alive = self._keep_alive
        if keep_alive and not self._paused and now - self.seen_at > keep_alive * 1.5:
            self.fail(ReasonCode.KEEP_ALIVE_TIMEOUT, "keep-alive ran out")
        elif self.token_owner and not self.token_owner.valid:
            self.fail(ReasonCode.NOT_AUTHORIZED, "the token has ended")
        elif self.token_owner and len(self.token_owner.siblings) > 1:
            self.forget_topics()  # of a token that may have ended
        elif self._congested and now - self._congested_at > CONGESTED_SECONDS:
            self.connection.abort()

    def forget_topics(self) -> None:
        if self.publishes:
            self.publishes.forget_topics()

    def refresh_token(self, token_owner: TokenOwner | None) -> None:
        """The user's tokens have changed."""
        self.forget_topics()
        if token_owner is None:
            self.fail(ReasonCode.NOT_AUTHORIZED, "the token was revoked")
        self.token_owner = token_owner or self.token_owner

    # Frames

    def _process(self, frames: list[Frame], deadline: float = 0.0) -> None:
        """Processes as many as the account has time for. During its turn, `deadline` is the end of that turn.
        The packets that come most often are not decoded completely."""
        share, started = self.time_share, now()
        used = 0.0
        if share is None:
            deadline = math.inf
        elif not deadline:
            if started >= share.renews_at:  # as in TimeShare.used_up, without a call for each read
                windows = 1 + (started - share.renews_at) // WINDOW_SECONDS
                share.used = max(0.0, share.used - windows * SLICE_SECONDS)
                share.renews_at = started + WINDOW_SECONDS
            used, contested = share.used, share.scheduler.contested
            if frames and (self._backlog or share.waiting_work or (contested and used >= SLICE_SECONDS)):
                self._keep_for_later(frames)
                return
            deadline = started + SLICE_SECONDS - used if contested else math.inf
        place, end = 0, len(frames)
        while place < end and self.state is not State.ENDED:
            first, body = frames[place]
            if (
                self._busy
                or (self.token_owner is None and self._asks_for_owner(first, body))
                or (place and (not place % STEP or len(body) > LARGE) and now() >= deadline)
            ):
                self._keep_for_later(frames[place:])
                break
            if first in PLAIN and self.publishes and self.publishes.counts:
                behind = self.publishes.accept_plain(frames, place, min(place - place % STEP + STEP, end))
                if behind > place:
                    place = behind
                    continue
            place += 1
            if self.state is not State.OPEN:
                self._handle(first, body)
            elif first >> 4 == PUBLISH:
                (self.publishes or self.start_publishing()).publish(first, body)
            elif first in _ANSWERS and len(body) == 2 and body != b"\0\0":
                self._on_ack(_new(Ack, (first >> 4, body[0] << 8 | body[1], 0, _NO_PROPERTIES)))
            elif first & TOO_LARGE:
                (self.publishes or self.start_publishing()).reject_too_large(first & ~TOO_LARGE, body)
            else:
                self._handle(first, body)
        if self.publishes:
            self.publishes.flush()
        if self.queue or self.unread:
            self._read_more()
        if share:
            share.used = max(share.used, used + now() - started)

    def _flush(self) -> None:
        """Sends what it has published in this read on to storage."""
        if self.publishes:
            self.publishes.flush()

    def _on_ack(self, packet: Ack) -> None:
        if packet.type == PUBREL:
            (self.publishes or self.start_publishing()).release(packet.packet_id)
        elif self.deliveries:
            self._react(self.deliveries.acknowledge(packet, time.monotonic()))

    def _handle(self, first: int, body: bytes) -> None:
        if self.state is not State.OPEN and (first >> 4 != CONNECT or self.state is not State.NEW):
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, NOT_MQTT)
        packet = decode(first, body, self.version)
        match packet:
            case Connect() if self.state is State.NEW:
                self.state = State.OPENING
                self._run_alone(self._open(packet))
            case PingReq():
                self.send(PingResp())
            case Ack():
                self._on_ack(packet)
            case Subscribe():
                self._run_alone(self._subscribe(packet))
            case Unsubscribe():
                self._run_alone(self._unsubscribe(packet))
            case Disconnect():
                expiry = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
                if expiry and not self._asked_to_last:
                    sentence = "No session expiry was asked for at the start."
                    raise ProtocolError(ReasonCode.PROTOCOL_ERROR, sentence)
                if expiry is not None and self.token_owner:
                    self.expiry = min(expiry, settings.DURABLE_SESSION_DAYS * 86_400)
                self._flush()
                if self.token_owner and not (self.publishes and self.publishes.unacked):
                    self.gateway.confirmed_clients.note(self.key)
                self.end(with_will=packet.code == ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
            case _:
                raise ProtocolError(
                    ReasonCode.PROTOCOL_ERROR, f"A client does not send {type(packet).__name__}."
                )

    def _keep_for_later(self, frames: list[Frame]) -> None:
        if self._backlog is None:
            self._backlog = []
        self._backlog.extend(frames)
        self._backlog_size += sum(len(body) + FRAME_OVERHEAD for _, body in frames)
        self._adjust_reading()
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if self.time_share and not self._busy and not self._waits:
            self._waits = True
            self.time_share.put_off(self._on_turn)

    def _on_turn(self, deadline: float) -> bool:
        self._waits = False
        if not self.ended and not self._busy:  # else _on_done goes on with them
            self._process_backlog(deadline)
        return True

    def _process_backlog(self, deadline: float = 0.0) -> None:
        backlog, self._backlog, self._backlog_size = self._backlog, None, 0
        try:
            self._process(backlog or [], deadline)
        except ProtocolError as broken:
            self._refuse(broken)
        if self._lost and not self._busy and not self._backlog:
            self.end(with_will=True)
        self._adjust_reading()

    def _run_alone(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what has to wait for something; later frames wait until it is done. Reading does not pause at
        once: uvloop loses what a TLS client sends before it closes, if reading is paused just then."""
        self._flush()
        self._busy = self.gateway.spawn(work)
        self._busy.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._busy = None
        if self.ended or task.cancelled():
            return
        error = task.exception()
        if error:
            log.error("A connection failed", exc_info=error)
            self.end(with_will=True)
            return
        if self._backlog and self.time_share:  # else many clients that were busy would all go on at once
            self._wait_for_turn()
        else:
            self._process_backlog()

    @property
    def _paused(self) -> bool:
        backlogged = self._backlog_size > MAX_BACKLOG
        return (
            self.reading_paused or self._congested or backlogged or self.handing_over or self.gateway.draining
        )

    def _adjust_reading(self) -> None:
        if self._paused:
            self.connection.pause()
        else:
            self.seen_at = self.gateway.now()  # what it has sent meanwhile is still to be read
            self.connection.resume()

    def _refuse(self, error: ProtocolError) -> None:
        """The packets before the bad one still count."""
        with contextlib.suppress(ProtocolError):
            self._flush()
        if self.state is not State.NEW:
            self.fail(error.reason, str(error))
            return
        self.gateway.connection_limits.note_failure(self.connection.peer)
        version = error.version
        if error.reason == ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            version = V311  # most clients understand this form [MQTT-3.1.2-2]
        code = error.reason if version == V5 else _V3_CODES.get(error.reason)
        if version and code is not None:
            self.write(encode(ConnAck(False, code, {}), version))
        self.end(with_will=False)

    # Opening and closing

    async def _open(self, packet: Connect) -> None:
        """CONNECT. Takes over an older connection of the same client."""
        self.version = packet.version
        self._reader.reads_over = packet.version != V5  # MQTT 5 clients are told how much we take
        refused = await self._authenticate(packet)
        if refused in _FAILURES:
            self.gateway.connection_limits.note_failure(self.connection.peer)
        if refused:
            self._refuse_connect(refused)
            return
        self.client_id = packet.client_id or f"auto-{secrets.token_hex(8)}"
        self._named = bool(packet.client_id)
        self.clean_start = packet.clean_start
        self._keep_alive = packet.keep_alive
        self._bridge = packet.bridge
        longest = settings.DURABLE_SESSION_DAYS * 86_400
        asked = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0)
        self._asked_to_last = bool(asked)
        if self.version != V5 and not packet.clean_start:
            asked = longest
        self.expiry = min(asked, longest) if self.token_owner else 0
        try:
            opened = await self.gateway.register(self, packet)
        except DatabaseAway:
            self._refuse_connect(ReasonCode.SERVER_UNAVAILABLE)
            return
        if self.ended:
            return
        if opened.refused:
            log.info("A client of %s was refused: the account has as many as it may", self.user_id)
            self._refuse_connect(ReasonCode.QUOTA_EXCEEDED)
        else:
            self._accept_connect(packet, opened)

    def _accept_connect(self, packet: Connect, opened: Opened) -> None:
        options = packet.properties
        self.row = opened.session
        self.session = self.subscriber.session if self.subscriber else 0
        self.time_share = self.account.time_share if self.account else self.gateway.hub.anonymous
        if opened.received:
            self.start_publishing().received = set(opened.received)
        if options:
            self._limits = ClientLimits(
                options.get(Property.RECEIVE_MAXIMUM, 65_535),
                options.get(Property.MAXIMUM_PACKET_SIZE, 2**32),
                options.get(Property.TOPIC_ALIAS_MAXIMUM, 0),
            )
        if self.session and self.account:
            prefix = sys.intern(f"{self.token}/")
            deliveries = DurableDeliveries(self.version, prefix, self.account.totals, self._limits)
            self.deliveries, self.queue = deliveries, Queue(self.session, deliveries, opened)
        self._will = packet.will
        self.state = State.OPEN
        properties: Properties = {}
        if self.version == V5:
            properties[Property.MAXIMUM_PACKET_SIZE] = MAX_PACKET
            properties[Property.TOPIC_ALIAS_MAXIMUM] = MAX_ALIASES
            if options.get(Property.SESSION_EXPIRY_INTERVAL, 0) != self.expiry:
                properties[Property.SESSION_EXPIRY_INTERVAL] = self.expiry
            if not packet.client_id:
                properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = self.client_id
        self.send(ConnAck(opened.present, 0, properties))
        self.gateway.connected(self)
        if self.queue and self.subscriber:
            self._react(self.queue.resume(opened, self.subscriber.newest))
            self._read_more()

    async def _authenticate(self, packet: Connect) -> ReasonCode | None:
        """The reason to refuse, or None."""
        connection_limits, peer = self.gateway.connection_limits, self.connection.peer
        anonymous = packet.username is None and packet.password is None and self.gateway.allow_anonymous
        if connection_limits.fails_too_often(peer) and not anonymous:
            # Of the clients behind this address, those whose tokens we remember come in all the same.
            owner = self.gateway.device_tokens.cached((packet.password or b"").decode(errors="replace"))
            if not isinstance(owner, TokenOwner) or owner.user_id != packet.username:
                connection_limits.refuse(RefusalReason.FAILED_SIGN_INS, peer)
                return ReasonCode.CONNECTION_RATE_EXCEEDED
        if len(packet.client_id.encode()) > MAX_CLIENT_ID:
            return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        if Property.AUTHENTICATION_METHOD in packet.properties:
            return ReasonCode.BAD_AUTHENTICATION_METHOD
        if packet.username is None and packet.password is None:
            return None if self.gateway.allow_anonymous else ReasonCode.NOT_AUTHORIZED
        try:
            token = (packet.password or b"").decode()
            token_owner = await self.gateway.find_token_owner(token)
        except UnicodeDecodeError:
            token_owner = None
        except (OSError, TimeoutError):
            return ReasonCode.SERVER_UNAVAILABLE
        if token_owner is None or packet.username != token_owner.user_id:
            self.gateway.record_refused_sign_in(packet, token_owner)
            return ReasonCode.BAD_USER_NAME_OR_PASSWORD
        self.token_owner, self.token = token_owner, sys.intern(token)  # many have the same token
        return None

    def _refuse_connect(self, code: ReasonCode) -> None:
        if not self.ended:
            self.send(ConnAck(False, code if self.version == V5 else _V3_CODES.get(code, 3), {}))
            self.end(with_will=False)

    # What it subscribes to

    async def _subscribe(self, packet: Subscribe) -> None:
        """To topics of the own account. Others get a failure code, and the connection stays up."""
        account, subscriber = self.account, self.subscriber
        used, started = self.time_share.used if self.time_share else 0.0, now()
        identifier = packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER, [0])[0]
        not_authorized = ReasonCode.NOT_AUTHORIZED if self.version == V5 else FAILURE
        codes: list[int] = []
        allowed: list[tuple[Subscription, StoredSubscription]] = []
        new: set[tuple[str, str]] = set()
        for subscription in packet.subscriptions:
            group, bare = topics.split_group(subscription.filter)
            found = topic_owner.find(self, bare)
            filter_ = found[1] if found else ""
            if account is None or subscriber is None or found is None:
                codes.append(not_authorized)
            elif not filter_.strip("/"):  # no topic is the token alone
                codes.append(ReasonCode.TOPIC_FILTER_INVALID if self.version == V5 else FAILURE)
            elif (
                len(subscription.filter) > MAX_FILTER
                or bare.count("/") > MAX_LEVELS
                or not (
                    account.tree.has(subscriber, filter_, group)
                    or (
                        subscriber.subscriptions + len(new) < MAX_SUBSCRIPTIONS
                        and account.has_room_for_subscriptions(len(new))
                    )
                )
            ):
                codes.append(ReasonCode.QUOTA_EXCEEDED if self.version == V5 else FAILURE)
            elif group and subscription.no_local:
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "A shared subscription can't have No Local.")
            else:
                if not account.tree.has(subscriber, filter_, group):
                    new.add((group, filter_))
                if self._bridge:
                    subscription = subscription._replace(no_local=True, retain_as_published=True)  # noqa: PLW2901
                options = (
                    subscription.qos
                    | subscription.no_local << 2
                    | subscription.retain_as_published << 3
                    | subscription.retain_handling << 4
                )
                subscribed = StoredSubscription(group, filter_, options, identifier)
                codes.append(subscription.qos)
                allowed.append((subscription, subscribed))
        if self.time_share:
            self.time_share.used = max(self.time_share.used, used + now() - started)
        if not allowed or account is None or subscriber is None:
            self.send(SubAck(packet.packet_id, codes, {}))
            return
        if self.deliveries is None:
            prefix = sys.intern(f"{self.token}/")
            self.deliveries = Deliveries(self.version, prefix, account.totals, self._limits)
            self.deliveries.congested = self._congested
        subscribing = Subscribing(self, account, subscriber, SubAck(packet.packet_id, codes, {}), allowed)
        async with self.gateway.peers.subscribing(account, subscriber, allowed):
            await subscribing.run()

    async def _unsubscribe(self, packet: Unsubscribe) -> None:
        account, subscriber = self.account, self.subscriber
        codes: list[int] = []
        removed: list[tuple[str, str]] = []
        for filter_ in packet.filters:
            group, bare = topics.split_group(filter_)
            found = topic_owner.find(self, bare)
            # What the account has switched off meanwhile can be unsubscribed, too.
            relative = found[1] if found else own_topics.kept(bare)
            there = (
                account is not None
                and subscriber is not None
                and account.unsubscribe(subscriber, relative, group)
            )
            codes.append(0 if there else ReasonCode.NO_SUBSCRIPTION_EXISTED)
            if there and subscriber and subscriber.session:
                removed.append((group, relative))
        if removed and account and subscriber:
            try:
                await self.gateway.durable_sessions.write(account, subscriber.session, unsubscribe=removed)
            except DatabaseAway:
                self.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
                return
        self.send(UnsubAck(packet.packet_id, codes, {}))

    # What it is sent

    def deliver(
        self, message: OutgoingMessage, qos: int, retain: bool, match: Match[Subscriber], number: int
    ) -> None:
        """`number`: in the session's queue, or 0."""
        if self.deliveries is None or self.state is not State.OPEN:
            return  # a durable session reads it from its queue
        delivery = _new(Delivery, (message, qos, retain, match.identifiers, number))
        self._react(self.deliveries.deliver(delivery, time.monotonic()))

    def read_retained(self, wanted: WantedRetained) -> None:
        """Reads it once there is room for it."""
        if self.account and self.unread is None:
            self.unread = Unread(self, self.account)
        if self.unread:
            self.unread.add(wanted)

    def progress(self) -> Progress:
        assert self.queue is not None
        received = self.publishes.received if self.publishes else None
        return self.queue.progress(sorted(received or ()))

    def _react(self, outcome: Effects) -> None:
        """Sends the outcome's packets, and has the progress of a durable session stored; at QoS 2 before the
        PUBREL goes out."""
        write, done, received = outcome
        if write:
            self.write(write)
        queue = self.queue
        if queue is None:
            return
        if done:
            queue.finish(done)
            if not queue.changed:
                queue.changed = True
                self.gateway.admission.note(self.session, self.progress, None)
        if received:
            queue.receive(received)
            self.gateway.admission.note(self.session, self.progress, lambda: self._receipt_stored(received))

    def _receipt_stored(self, number: int) -> None:
        if self.queue and self.state is State.OPEN:
            self._react(self.queue.deliveries.receipt_stored(number))

    def catch_up(self, newest: int) -> None:
        """Another gateway may have put messages into the queue, up to this number."""
        if self.queue and self.state is State.OPEN:
            self.queue.deliveries.know(newest)
            self._read_more()

    def send_waiting(self) -> None:
        while self.deliveries and self.deliveries.ready and not self.ended:
            self._react(self.deliveries.advance(time.monotonic()))
        self._read_more()

    def _read_more(self) -> None:
        """Reads messages that memory had no room for, once there is room."""
        if self.queue and self.state is State.OPEN and (read := self.queue.deliveries.begin_read()):
            self.gateway.spawn(self._read_queue(read.seq))
        if self.unread:
            self.unread.read_more()

    async def _read_queue(self, first: int) -> None:
        queue = self.queue
        assert queue is not None
        try:
            rows = await self.gateway.admission.read_queue(self.session, first)
        except DatabaseAway:
            queue.deliveries.fail_read()
            self.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
            return
        if self.state is State.OPEN:
            self._react(queue.deliveries.end_read(queue.read_rows(rows), bool(rows), time.monotonic()))
            self.send_waiting()

    # Anonymous clients, which have the token in each topic

    def _asks_for_owner(self, first: int, body: bytes) -> bool:
        """Whether a publish has to wait until the database says whose token that is; then that is asked."""
        if self.state is not State.OPEN or first >> 4 != PUBLISH:
            return False
        token = body[2 : 2 + int.from_bytes(body[:2], "big")].split(b"/", 1)[0].decode("utf-8", "replace")
        if self.gateway.device_tokens.cached(token):
            return False
        self._run_alone(self._find_owner(token))
        return True

    async def _find_owner(self, token: str) -> None:
        try:
            await self.gateway.find_token_owner(token)
        except (OSError, TimeoutError):
            self.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
