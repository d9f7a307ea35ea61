"""Broker mode: devices talk to the user's own broker, this worker subscribes there (DESIGN, Parts).

The broker acknowledges a device when it has the message; the worker acknowledges the broker after COMMIT,
so what waits for storage waits in the broker. After a crash it is delivered again in the kept session,
under the same packet id, and stored once. Several workers share the messages, each in a session of its own. A
broker without shared subscriptions serves one worker. That is RabbitMQ, which gives new packet ids when it
delivers again: its repetitions are stored again, since otherwise new messages might be taken for repetitions.

gmqtt's own PUBLISH handler starts a task a message and tells no packet id, so ours takes its place in the
handler table; connection, subscriptions and reconnects stay gmqtt's (docs/decisions/0005-gmqtt.md).
"""

import asyncio
import contextlib
import itertools
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from django.conf import settings
from django.db import Error

from ingest import topics
from ingest.device_tokens import Denied, TokenOwner
from ingest.message import Outcome, RawMessage, Status
from ingest.mqtt.codec import decode_publish, encode_ack
from ingest.mqtt.packets import PUBACK, PUBLISH, PUBREC, V5, ProtocolError, Publish, Version
from ingest.service import Ingest
from ingest.writer import Completion, QueueFull
from thingscale.background.watched import AGAIN_SECONDS, Part
from thingscale.devices import mqtt_client
from thingscale.devices.listening import Door
from thingscale.lib.clock import now_us
from thingscale.streams.exactly_once import keys

log = logging.getLogger(__name__)

NEVER = 0xFFFFFFFF
FAILURE = 0x80
RETRY_SECONDS = 0.05
FAILED_SECONDS = 1.0
LEAVE_SECONDS = 5.0  # without a message, until a session counts as empty
SUBSCRIBE_SECONDS = 2.0  # until a subscription that was refused is asked for again
MAX_UNKNOWN = 1_000  # messages that wait for the database to know their token
MAX_UNSENT = 50_000  # QoS 0 has no back-pressure: beyond this it is dropped and counted


class Waiting(NamedTuple):
    """A message whose token the database has to be asked about."""

    connection: Any
    publish: Publish
    rest: str
    target: topics.Target
    received_at: int


class BrokerWorker:
    """The client id names the session that the broker keeps: several workers need one each, and share the
    messages of their group. One that is `leaving` takes no part in that any more, and reads what its session
    still has."""

    def __init__(self, group: str = "ingest", *, leaving: bool = False) -> None:
        client_id: str = settings.BROKER_CLIENT_ID
        self._loop = asyncio.get_running_loop()
        self._address: mqtt_client.Address = settings.BROKER5
        self._group = group
        self._leaving = leaving
        self._heard_at = -math.inf  # monotonic
        self._seed = keys.client_seed(client_id)
        self.ingest = Ingest(self._dispatch, door=Door.MQTT, hears=self._hears)
        self._lookups = ThreadPoolExecutor(2, thread_name_prefix="tokens")
        self._unsent: list[tuple[RawMessage, Publish, Any]] = []  # and the connection it came on
        self._unknown: dict[str, list[Waiting]] = {}  # by token
        self._asking: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._part = Part("broker worker")
        self._connected_at = 0.0
        self._shared = True  # whether the broker has shared subscriptions
        self._subscribe_timer: asyncio.TimerHandle | None = None
        self._refused = False  # a subscription, on this connection
        self._due: dict[int, bytes] = {}  # packet id -> its acknowledgement, empty until committed; in order
        self._client = mqtt_client.make_client(
            self._address,
            client_id,
            self._connected,
            clean_session=False,
            session_expiry_interval=NEVER,
            receive_maximum=settings.BROKER_WINDOW,
        )
        self._client._package_handler._handler_cache[PUBLISH << 4] = self._on_publish
        self._client.on_subscribe = self._subscribed
        self._connecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.ingest.start()
        self._connecting = asyncio.create_task(mqtt_client.connect(self._client, self._address))
        await asyncio.wait({self._connecting}, timeout=mqtt_client.CONNECT_SECONDS)

    def gauges(self) -> dict[str, int]:
        own = {"unacknowledged": len(self._due), "unknown_tokens": len(self._unknown)}
        return self.ingest.writer.gauges() | own

    async def leave(self) -> None:
        """Ends the session once it seems to be empty: nothing has come for a while, and all that came is
        stored."""
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < LEAVE_SECONDS:
            await asyncio.sleep(0.1)
            if self._due or self._unsent or self._unknown or not self._client.is_connected:
                idle_since = time.monotonic()
            idle_since = max(idle_since, self._heard_at)
        await mqtt_client.disconnect(self._client, session_expiry_interval=0)

    async def stop(self) -> None:
        """Messages that are not acknowledged stay with the broker."""
        if self._connecting:
            self._connecting.cancel()
        await asyncio.to_thread(self.ingest.stop)
        await asyncio.sleep(0)  # the last acknowledgements are written
        await mqtt_client.disconnect(self._client)
        self._lookups.shutdown(wait=False)

    def _hears(self) -> bool:
        """In the writer's thread."""
        return bool(self._client.is_connected) and not self._refused

    def _connected(self, connected: Any, flags: int, code: int, properties: dict[str, list[Any]]) -> None:
        self._due.clear()
        self._connected_at = time.monotonic()
        self._refused = False
        version = Version(connected._connection_state.protocol_version)
        self._shared = version == V5 and properties.get("shared_subscription_available") != [0]
        if not self._shared:
            log.warning(
                "The broker has no shared subscriptions: only one worker can read here, "
                "and what is delivered to it again is stored again"
            )
        if self._leaving:
            connected.unsubscribe(self._filters)
            log.info("Leaving %s:%d", *self._address[:2])
            return
        self._subscribe(connected)
        log.info("Subscribed at %s:%d", *self._address[:2])

    @property
    def _filters(self) -> list[str]:
        """Each has a share group of its own: rumqttd mixes up filters of one group."""
        if not self._shared:
            return list(topics.BROKER_FILTERS.values())
        return [f"$share/{self._group}-{name}/{filter_}" for name, filter_ in topics.BROKER_FILTERS.items()]

    def _subscribe(self, connected: Any) -> None:
        self._subscribe_timer = None
        if not connected.is_connected:
            return
        connected.subscriptions.clear()  # gmqtt's memory of earlier ones
        for filter_ in self._filters:
            connected.subscribe(filter_, qos=2)

    def _subscribed(self, connected: Any, packet_id: int, codes: tuple[int, ...], properties: Any) -> None:
        """Asks again for a subscription that is refused: the broker may ask a server that is away."""
        if max(codes) < FAILURE or self._subscribe_timer:
            return
        if not self._refused:
            log.warning("The broker refuses a subscription (0x%02X); trying again", max(codes))
        self._refused = True
        self._subscribe_timer = self._loop.call_later(SUBSCRIBE_SECONDS, self._subscribe, connected)

    # From the broker to the writer

    def _on_publish(self, first: int, body: bytes) -> None:
        version = Version(self._client._connection_state.protocol_version)
        try:
            publish = decode_publish(first, body, version)
        except ProtocolError as error:
            log.warning("The broker sent a bad PUBLISH: %s", error)
            return
        if publish.qos:
            self._due[publish.packet_id] = b""
        self._heard_at = time.monotonic()
        token, rest = topics.split(publish.topic)
        target = topics.target(rest)
        owner = self.ingest.device_tokens.cached(token)
        if target.kind is None or owner is Denied.TOKEN:
            self.ingest.writer.metrics.unauthorized += owner is Denied.TOKEN
            self._ignore(publish)
        elif isinstance(owner, TokenOwner):
            message = self._message(owner, publish, rest, target, now_us())
            self._queue(message, publish, self._client._connection)
        else:
            if not publish.qos and sum(map(len, self._unknown.values())) >= MAX_UNKNOWN:
                self.ingest.writer.metrics.dropped += 1
                return
            waiting = Waiting(self._client._connection, publish, rest, target, now_us())
            self._unknown.setdefault(token, []).append(waiting)
            if len(self._unknown[token]) == 1:
                task = self._loop.create_task(self._ask(token))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)

    async def _ask(self, token: str) -> None:
        """Waits while the database is away. The messages that wait keep their order and time of arrival."""
        while True:
            try:
                owner = await self._loop.run_in_executor(self._lookups, self.ingest.device_tokens.find, token)
                break
            except Error:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # else what waits for this token would wait for ever
                self._part.failed(error)
                await asyncio.sleep(AGAIN_SECONDS)
        for connection, publish, rest, target, received_at in self._unknown.pop(token):
            if connection is not self._client._connection:
                continue  # the broker delivers it again
            if owner:
                self._queue(self._message(owner, publish, rest, target, received_at), publish, connection)
            else:
                self._ignore(publish)

    def _ignore(self, publish: Publish) -> None:
        """Not for storage, or with a token that is nobody's: the broker need not keep it."""
        self._acknowledge(self._client._connection, [publish])

    def _message(
        self, owner: TokenOwner, publish: Publish, rest: str, target: topics.Target, received_at: int
    ) -> RawMessage:
        assert target.kind is not None
        topic = publish.topic.encode()
        numbered = publish.qos > 0 and self._shared  # else its packet id means nothing when it comes again
        return RawMessage(
            owner.user,
            target.device_id,
            target.tag,
            target.kind,
            publish.payload,
            received_at,
            keys.of_packet_5(topic, publish.packet_id, publish.payload, self._seed) if numbered else None,
            publish.dup,
            target.refused,
            f"TOKEN/{rest}"[:300] if target.refused else "",
            self._connected_at,
        )

    def _queue(self, message: RawMessage, publish: Publish, connection: Any) -> None:
        if not publish.qos and len(self._unsent) >= MAX_UNSENT:
            self.ingest.writer.metrics.dropped += 1
            return
        self._unsent.append((message, publish, connection))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Submits together what has come in one read."""
        unsent = self._unsent

        def done(outcomes: list[Outcome]) -> None:
            current = self._client._connection
            ended = [
                (entry, outcome.status is Status.FAILED)
                for entry, outcome in zip(unsent, outcomes, strict=True)
                if entry[2] is current
            ]
            self._acknowledge(current, [publish for (_, publish, _), failed in ended if not failed])
            if again := [entry for entry, failed in ended if failed]:
                self._loop.call_later(FAILED_SECONDS, self._queue_again, again)

        try:
            self.ingest.writer.accept([message for message, _, _ in unsent], done)
        except QueueFull:
            self._loop.call_later(RETRY_SECONDS, self._flush)
            return
        except Exception as error:  # else all would wait for ever
            self._part.failed(error)
            self._loop.call_later(AGAIN_SECONDS, self._flush)
            return
        self._unsent = []
        self._flushing = False

    def _queue_again(self, entries: list[tuple[RawMessage, Publish, Any]]) -> None:
        """Messages that the platform failed to store, unless the broker delivers them again by itself."""
        for message, publish, connection in entries:
            if connection is self._client._connection:
                self._queue(message, publish, connection)

    # Back to the broker

    def _acknowledge(self, connection: Any, publishes: list[Publish]) -> None:
        """Only on the connection that delivered them: on another one the packet ids mean something else. In
        the order of delivery [MQTT-4.6.0-2], on which rumqttd insists."""
        if connection is not self._client._connection or not self._client.is_connected:
            return
        due = self._due
        for publish in publishes:
            if publish.qos:
                due[publish.packet_id] = encode_ack(PUBACK if publish.qos == 1 else PUBREC, publish.packet_id)
        acks = list(itertools.takewhile(bool, due.values()))
        for packet_id in list(itertools.islice(due, len(acks))):
            del due[packet_id]
        if acks:
            connection.send_package(b"".join(acks))

    def _dispatch(self, completions: list[Completion]) -> None:
        writer = self.ingest.writer
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(writer.acknowledge, completions, writer.received)
