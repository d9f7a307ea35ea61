"""One client's MQTT connection, from CONNECT to its end."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from django.conf import settings

from ingest.decode import MAX_ARRAY_MQTT
from ingest.grants import Grant
from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.connection import Connection
from ingest.mqtt.durable import longest
from ingest.mqtt.frames import Frame
from ingest.mqtt.inbound import MAX_ALIASES, Inbound
from ingest.mqtt.outbound import Outbound
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
    Subscribe,
    Unsubscribe,
    Version,
    Will,
)
from ingest.mqtt.properties import Property
from thingscale.devices.presence import ClientKey
from thingscale.streams.exactly_once.keys import client_seed

if TYPE_CHECKING:
    from ingest.mqtt.gateway import Gateway

log = logging.getLogger(__name__)

MAX_PACKET = MAX_ARRAY_MQTT + 4096  # room for the topic; a value of 70 kB is answered, not cut off
MAX_BACKLOG = 64 * 1024  # bytes that wait for their turn before reading pauses
FRAME_OVERHEAD = 100  # bytes that a short frame takes in memory
MAX_CLIENT_ID = 256  # bytes: it is part of keys in the database
CONGESTED_SECONDS = 60.0
NOT_MQTT = "The first packet has to be a CONNECT."

# MQTT 3 knows five return codes (3.1.1, section 3.2.2.3).
_V3_CODES = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_BUSY: 3,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: 4,
    ReasonCode.NOT_AUTHORIZED: 5,
    ReasonCode.BAD_AUTHENTICATION_METHOD: 5,
}


class Session:
    def __init__(self, gateway: "Gateway", connection: Connection) -> None:
        self.gateway = gateway
        self.connection = connection
        self.version: Version = V311
        self.connect: Connect | None = None
        self.grant: Grant | None = None  # None with an open session: anonymous
        self.token = ""
        self.client_id = ""
        self.durable = False
        self.is_open = False
        self.ended = False
        self.seen_at = self.began_at = gateway.now()
        self.inbound = Inbound(self)
        self.outbound = Outbound(self)
        self._reader = FrameReader(MAX_PACKET)
        self._backlog: list[Frame] = []
        self._backlog_size = 0
        self._busy: asyncio.Task[None] | None = None  # later frames wait for it
        self.held = self._congested = self._lost = False
        self._congested_at = 0.0
        self._will: Will | None = None
        self._expiry = 0  # seconds that the session lives on, MQTT 5's session expiry
        self._farewell: Properties = {}  # what the broker is to know in the end

    # What the connection tells

    def receive(self, data: bytes) -> None:
        self.seen_at = self.gateway.now()
        try:
            if self.connect is None and not self._reader.buffered and data[0] >> 4 != CONNECT:
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, NOT_MQTT)  # its length may mean anything
            self._take(self._reader.feed(data))
            if self._reader.error:
                raise self._reader.error
        except ProtocolError as error:
            self._refuse(error)

    def congested(self, yes: bool) -> None:
        """The client does not read what it is sent: nothing more is taken from it, or for it."""
        self._congested = yes
        self._congested_at = self.gateway.now()
        self.outbound.pause(yes)
        self._adjust_reading()

    def lost(self) -> None:
        """What the client has sent before still counts."""
        self._lost = True
        if not self._busy:
            self.end(with_will=True)

    # What the gateway and the halves of the session call

    def owner(self, token: str) -> Grant | None:
        """The grant behind a topic's token, if this client may use it."""
        if self.grant and (token == self.token or self.grant.covers(token)):
            return self.grant
        known = self.gateway.grants.known(token)  # anonymous, or a rotation is just on its way to us
        if not isinstance(known, Grant) or (self.grant and self.grant.user != known.user):
            return None
        return known

    @property
    def key(self) -> ClientKey:
        """0: anonymous."""
        return (self.grant.user if self.grant else 0), self.client_id

    @property
    def user_id(self) -> str:
        return self.grant.user_id if self.grant else "anonymous"

    @property
    def lives_on(self) -> int:
        """Seconds that the session is kept after the connection's end."""
        return self._expiry if self.durable else 0

    def write(self, data: bytes) -> None:
        self.connection.write(data)

    def send(self, packet: Packet) -> None:
        self.connection.write(encode(packet, self.version))

    def hold(self, yes: bool) -> None:
        """Back-pressure: too much of this client is on its way to storage."""
        if yes is not self.held:
            self.held = yes
            self.seen_at = self.gateway.now()  # keep-alive counts from when we listen again
            self._adjust_reading()

    def fail(self, reason: ReasonCode, sentence: str) -> None:
        """Ends the connection; MQTT 5 clients are told why."""
        if self.ended:
            return
        log.debug("Closing a connection of %s: %s", self.grant.user_id if self.grant else "-", sentence)
        if self.is_open and self.version == V5:
            with contextlib.suppress(ProtocolError):
                self.send(Disconnect(reason, {}))
        self.end(with_will=True)

    def end(self, with_will: bool) -> None:
        if self.ended:
            return
        self.ended = True
        try:
            if self._busy:
                self._busy.cancel()
            if self._will and with_will:
                self.gateway.leave_will(self, self._will)
            self.outbound.close(self._farewell)
        finally:
            self.gateway.left(self)
            self.connection.close()

    def check(self, now: float) -> None:
        """Once a second: keep-alive, the token's end, no CONNECT in time, a client that never reads."""
        if self.connect is None or not self.is_open:
            if now - self.began_at > settings.CONNECT_SECONDS:
                self.end(with_will=False)
            return
        keep_alive = self.connect.keep_alive
        if keep_alive and not self._paused and now - self.seen_at > keep_alive * 1.5:
            self.fail(ReasonCode.KEEP_ALIVE_TIMEOUT, "keep-alive ran out")
        elif self.grant and not self.grant.valid:
            self.fail(ReasonCode.NOT_AUTHORIZED, "the token has ended")
        elif self.grant and len(self.grant.siblings) > 1:
            self.inbound.forget_topics()  # one of them ends some time
        elif self._congested and now - self._congested_at > CONGESTED_SECONDS:
            self.connection.abort()

    def regrant(self, grant: Grant | None) -> None:
        """The user's tokens have changed."""
        self.inbound.forget_topics()
        if grant is None:
            self.fail(ReasonCode.NOT_AUTHORIZED, "the token was revoked")
        self.grant = grant or self.grant

    # Frames

    def _take(self, frames: list[Frame]) -> None:
        for place, (first, body) in enumerate(frames):
            if self.ended:
                break  # what came before it still counts
            if self._busy or (self.grant is None and self._must_ask(first, body)):
                self._put_off(frames[place:])
                break
            if first >> 4 == PUBLISH and self.is_open:
                self.inbound.publish(first, body)
            else:
                self._handle(first, body)
        self.inbound.flush()

    def _handle(self, first: int, body: bytes) -> None:
        if not self.is_open and (first >> 4 != CONNECT or self.connect):
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, NOT_MQTT)
        packet = decode(first, body, self.version)
        match packet:
            case Connect() if self.connect is None:
                self._do(self._open(packet))
            case PingReq():
                self.send(PingResp())
            case Ack(type=type_) if type_ == PUBREL:
                self.inbound.release(packet)
            case Ack():
                self.outbound.acknowledged(packet)
            case Subscribe():
                self._do(self.outbound.subscribe(packet))
            case Unsubscribe():
                self._do(self.outbound.unsubscribe(packet))
            case Disconnect():
                self._goodbye(packet)
            case _:
                raise ProtocolError(
                    ReasonCode.PROTOCOL_ERROR, f"A client does not send {type(packet).__name__}."
                )

    def _put_off(self, frames: list[Frame]) -> None:
        self._backlog.extend(frames)
        self._backlog_size += sum(len(body) + FRAME_OVERHEAD for _, body in frames)
        self._adjust_reading()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what has to wait for something; frames behind it keep their turn. Reading does not pause at
        once: uvloop loses what a TLS client sends before it closes, if reading is paused just then."""
        self._busy = self.gateway.spawn(work)
        self._busy.add_done_callback(self._go_on)

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._busy = None
        if self.ended or task.cancelled():
            return
        error = task.exception()
        if error:
            log.error("A connection failed", exc_info=error)
            self.end(with_will=True)
            return
        backlog, self._backlog, self._backlog_size = self._backlog, [], 0
        try:
            self._take(backlog)
        except ProtocolError as broken:
            self._refuse(broken)
        if self._lost and not self._busy:
            self.end(with_will=True)
        self._adjust_reading()

    @property
    def _paused(self) -> bool:
        backlogged = self._backlog_size > MAX_BACKLOG
        return self.held or self._congested or backlogged or self.gateway.draining

    def _adjust_reading(self) -> None:
        if self._paused:
            self.connection.pause()
        else:
            self.seen_at = self.gateway.now()  # what it sent meanwhile is still to be read
            self.connection.resume()

    def _refuse(self, error: ProtocolError) -> None:
        """What was in order before the bad packet still counts."""
        with contextlib.suppress(ProtocolError):
            self.inbound.flush()
        if self.is_open or self.connect:
            self.fail(error.reason, str(error))
            return
        version = error.version
        if error.reason == ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            version = V311  # in the form that the most clients read [MQTT-3.1.2-2]
        code = error.reason if version == V5 else _V3_CODES.get(error.reason)
        if version and code is not None:
            self.write(encode(ConnAck(False, code, {}), version))
        self.end(with_will=False)

    # Opening and closing

    async def _open(self, packet: Connect) -> None:
        self.connect = packet
        self.version = packet.version
        code = await self._authenticate(packet) or self._settle(packet)
        if code:
            self.send(ConnAck(False, code if self.version == V5 else _V3_CODES.get(code, 3), {}))
            self.end(with_will=False)
            return
        self._will = packet.will
        present = await self.gateway.joined(self)
        self.is_open = True
        self.send(ConnAck(present, 0, self._connack_properties(packet)))
        self.gateway.opened(self)
        self.outbound.started()

    async def _authenticate(self, packet: Connect) -> ReasonCode | None:
        """The reason to refuse, or None."""
        if len(packet.client_id.encode()) > MAX_CLIENT_ID:
            return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        if Property.AUTHENTICATION_METHOD in packet.properties:
            return ReasonCode.BAD_AUTHENTICATION_METHOD
        if packet.username is None and packet.password is None:
            return None if self.gateway.allow_anonymous else ReasonCode.NOT_AUTHORIZED
        try:
            token = (packet.password or b"").decode()
            grant = await self.gateway.find_grant(token)
        except UnicodeDecodeError:
            grant = None
        except (OSError, TimeoutError):
            return ReasonCode.SERVER_UNAVAILABLE
        if grant is None or packet.username != grant.user_id:
            self.gateway.note_refused_sign_in(packet, grant)
            return ReasonCode.BAD_USER_NAME_OR_PASSWORD
        self.grant, self.token = grant, token
        return None

    def _settle(self, packet: Connect) -> ReasonCode | None:
        """Who it is and what it asks for; the reason to refuse that, or None."""
        self.client_id = packet.client_id or f"auto-{secrets.token_hex(8)}"
        # Who sends no client id is the same client after a reconnect, for all we can know.
        identity = f"{self.key[0]}:{packet.client_id}"
        self.inbound.seed = client_seed(identity)
        self._read_options(packet)
        if self.durable and not self.gateway.durable.has_room(self.key):
            log.info("A durable session of %s was refused: see THINGSCALE_DURABLE_SESSIONS", self.user_id)
            return ReasonCode.QUOTA_EXCEEDED
        return None

    def _read_options(self, packet: Connect) -> None:
        properties = packet.properties
        if self.version == V5:
            asked = properties.get(Property.SESSION_EXPIRY_INTERVAL, 0)
        else:
            asked = 0 if packet.clean_start else longest()
        self._expiry = min(asked, longest())
        self.durable = self._expiry > 0 and self.grant is not None
        self.outbound.receive_maximum = properties.get(Property.RECEIVE_MAXIMUM, 65_535)
        self.outbound.maximum_packet = properties.get(Property.MAXIMUM_PACKET_SIZE, 2**32)

    def _connack_properties(self, packet: Connect) -> Properties:
        if self.version != V5:
            return {}
        properties: Properties = {
            Property.MAXIMUM_PACKET_SIZE: MAX_PACKET,
            Property.TOPIC_ALIAS_MAXIMUM: MAX_ALIASES,
        }
        if packet.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0) != self.lives_on:
            properties[Property.SESSION_EXPIRY_INTERVAL] = self.lives_on
        if not packet.client_id:
            properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = self.client_id
        return properties

    def _goodbye(self, packet: Disconnect) -> None:
        expiry = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
        if expiry and self.connect and not self.connect.properties.get(Property.SESSION_EXPIRY_INTERVAL):
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "No session expiry was asked for at the start.")
        if expiry is not None and min(expiry, longest()) != self._expiry:
            self._expiry = expiry = min(expiry, longest())
            self._farewell = {Property.SESSION_EXPIRY_INTERVAL: expiry} if self.durable else {}
        self.end(with_will=packet.code == ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)

    # Anonymous clients: the token is in each topic

    def _must_ask(self, first: int, body: bytes) -> bool:
        """Whether a publish has to wait until the database has said whose token that is."""
        if not self.is_open or first >> 4 != PUBLISH:
            return False
        token = body[2 : 2 + int.from_bytes(body[:2], "big")].split(b"/", 1)[0].decode("utf-8", "replace")
        if self.gateway.grants.known(token) is not True:
            return False
        self._do(self._ask(token))
        return True

    async def _ask(self, token: str) -> None:
        try:
            await self.gateway.find_grant(token)
        except (OSError, TimeoutError):
            self.fail(ReasonCode.SERVER_UNAVAILABLE, "the database is away")
