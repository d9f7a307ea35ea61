"""One client's connection to the upstream broker: subscriptions, deliveries, and publishes that are not ours.

Opened when the client first needs it. A broken link comes back by itself: with a new connection the
session's subscriptions are asked for again and what the broker has not acknowledged is sent again.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote

from django.conf import settings

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import V311, ConnAck, Connect, Disconnect, Packet, ProtocolError, Version
from thingscale.background.watched import log_failure

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
KEEP_ALIVE = 120  # seconds; some brokers refuse 0
MAX_PACKET = 2 * 2**20
MAX_QUEUED = 1000  # packets while the link is down
MAX_UNSENT = 256 * 1024  # bytes that the broker has not taken
CLOSE_SECONDS = 2.0  # for the broker to take them, and to close its side

_leaving: dict[str, asyncio.Future[None]] = {}  # by client id, until the broker has closed its side


class Refused(Exception):
    """The broker is away or does not take this client."""


def name(user_id: str, client_id: str) -> str:
    """Client id with the broker: one user can't take over another's session. The embedded broker refuses some
    characters, such as a slash."""
    return f"{user_id}:{quote(client_id, safe='')}"


async def forget(user_id: str, client_id: str) -> None:
    """Ends the session that the broker keeps for this client: a clean one takes its place [MQTT-3.1.2-6].
    Raises Refused."""
    connect = Connect(V311, name(user_id, client_id), True, 0, None, None, None, {})
    link = Link(settings.MQTT_UPSTREAM, connect, lambda packet: None, lambda present: None)
    try:
        await link.open()
    finally:
        link.close()


class Link(asyncio.Protocol):
    """`deliver` gets every packet of the broker but CONNACK; `opened` is called after each connection with
    whether the broker still has the session."""

    def __init__(
        self,
        address: tuple[str, int, str | None, str | None],
        connect: Connect,
        deliver: Callable[[Packet], None],
        opened: Callable[[bool], None],
    ) -> None:
        host, port, username, password = address
        secret = password.encode() if password is not None else None
        self._address = (host, port)
        self._connect = connect._replace(username=username, password=secret, keep_alive=KEEP_ALIVE)
        self._client_id = connect.client_id
        self.version: Version = connect.version
        self._deliver = deliver
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(MAX_PACKET)
        self._connack: asyncio.Future[ConnAck] | None = None
        self._queue: list[bytes] = []
        self._retry: asyncio.Task[None] | None = None
        self._closed = False
        self._left: asyncio.Future[None] | None = None
        self._heard = True
        self.up = False

    # The session's side

    async def open(self) -> bool:
        """Whether the broker has a session. Raises Refused; the link then goes on trying by itself."""
        try:
            return await self._open()
        except Refused:
            self._reconnect()
            raise

    def open_later(self) -> None:
        self._reconnect(at_once=True)

    def send(self, packet: Packet) -> bool:
        """False if too much waits already."""
        return self.send_raw(encode(packet, self.version))

    def send_raw(self, data: bytes) -> bool:
        if self.up and self._transport:
            self._transport.write(data)
        elif len(self._queue) < MAX_QUEUED:
            self._queue.append(data)
        else:
            return False
        return True

    @property
    def crowded(self) -> bool:
        """The broker takes less than it is sent."""
        return self._transport is not None and self._transport.get_write_buffer_size() > MAX_UNSENT

    def ping(self) -> None:
        """Ends a link over which nothing has come, not even an answer to the last ping."""
        if self.up and self._transport and not self._heard:
            self._transport.abort()
        elif self.up and self._transport:
            self._heard = False
            self._transport.write(b"\xc0\x00")

    def pause(self, yes: bool) -> None:
        """Stops reading while the client does not take what there is."""
        transport = self._transport
        if transport and not self._left and not transport.is_closing() and transport.is_reading() is yes:
            (transport.pause_reading if yes else transport.resume_reading)()

    def close(self, properties: dict[int, Any] | None = None) -> None:
        """The broker then ends or keeps the session by its rules. `properties`: what it does not know yet."""
        self._closed = True
        if self._retry:
            self._retry.cancel()
        self._leave(properties if self.up else None)

    def _leave(self, properties: dict[int, Any] | None = None) -> None:
        """By a DISCONNECT or the end of our side, not both: the embedded broker would end a connection for
        each, the second one being whichever has taken the place of the first (decision 0021)."""
        self.up = False
        if self._transport is None or self._left:
            return
        self.pause(False)  # to see the end
        if properties:
            self._transport.write(encode(Disconnect(0, properties), self.version))
        elif not self._transport.is_closing():
            self._transport.write_eof()
        loop = asyncio.get_running_loop()
        self._left = _leaving[self._client_id] = loop.create_future()
        timer = loop.call_later(CLOSE_SECONDS, self._transport.abort)
        self._left.add_done_callback(lambda left: timer.cancel())

    # The broker's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        if self._closed:
            self._transport.abort()
            return
        self._reader = FrameReader(MAX_PACKET)
        self._transport.write(encode(self._connect, self.version))

    def data_received(self, data: bytes) -> None:
        if self._left:
            return
        self._heard = True
        try:
            for first, body in self._reader.feed(data):
                self._take(decode(first, body, self.version))
        except ProtocolError as error:
            log.warning("The upstream broker broke the protocol: %s", error)
            if self._transport:
                self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.up = False
        if self._left:
            self._left.set_result(None)
            if _leaving.get(self._client_id) is self._left:
                del _leaving[self._client_id]
            self._left = None
        if self._connack and not self._connack.done():
            self._connack.set_exception(Refused("closed"))
        elif not self._closed:
            self._reconnect()

    def _take(self, packet: Packet) -> None:
        if not isinstance(packet, ConnAck):
            self._deliver(packet)
        elif self._connack and not self._connack.done():
            self._connack.set_result(packet)
            self._connected(packet)

    def _connected(self, packet: ConnAck) -> None:
        """At once, before the packets that may follow in the same read."""
        if packet.code or not self._transport:
            return
        self.up = True
        self._opened(packet.session_present)
        for data in self._queue:
            self._transport.write(data)
        self._queue.clear()

    async def _open(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while leaving := _leaving.get(self._client_id):  # one that was of the same client
                    await asyncio.wait([leaving])
                self._connack = loop.create_future()  # after its own last one, which tells this
                await loop.create_connection(lambda: self, *self._address)
                answer = await self._connack
        except (OSError, TimeoutError) as error:
            self._give_up()
            raise Refused(str(error)) from None
        if answer.code:
            self._give_up()
            raise Refused(f"code {answer.code}")
        return answer.session_present

    def _give_up(self) -> None:
        self._connack = None
        self._leave()

    def _reconnect(self, at_once: bool = False) -> None:
        if not self._closed and (self._retry is None or self._retry.done()):
            self._retry = asyncio.get_running_loop().create_task(self._keep_trying(at_once), name="upstream")
            self._retry.add_done_callback(log_failure)

    async def _keep_trying(self, at_once: bool) -> None:
        attempt = 0
        while not self._closed:
            if attempt or not at_once:
                await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
            attempt += 1
            try:
                await self._open()
            except Refused as error:
                log.debug("The upstream broker is away: %s", error)
            if self.up:  # it may have gone again already
                return
