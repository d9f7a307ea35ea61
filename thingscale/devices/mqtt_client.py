"""Clients of the MQTT broker, in broker mode, and the function that publishes to devices through it."""

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import gmqtt
from django.conf import settings
from gmqtt.mqtt.constants import MQTTv50
from gmqtt.storage import PersistentStorage

from thingscale.background.watched import WatchedThread

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
RETRY_SECONDS = 1.0
LOG_SECONDS = 60.0  # between two lines in the log about refusals
KEEP_ALIVE = 30
PUBLISH_SECONDS = 5.0
Address = tuple[str, int, str | None, str | None]


class Unavailable(Exception):
    """The broker is away, or did not take the message in time."""


class UnacknowledgedPublishes(PersistentStorage):  # type: ignore[misc]
    """Those of a gmqtt client. `acknowledged` has futures by packet id, which are done when the broker
    acknowledges."""

    def __init__(self) -> None:
        super().__init__()
        self.newest = 0  # packet id of the publish just sent
        self.acknowledged: dict[int, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def __bool__(self) -> bool:
        return True

    def push_message(self, mid: int, raw_package: bytes) -> None:
        self.newest = mid
        super().push_message(mid, raw_package)

    def remove_message_by_mid(self, mid: int) -> None:
        super().remove_message_by_mid(mid)
        waiting = self.acknowledged.pop(mid, None)
        if waiting and not waiting.done():
            waiting.set_result(None)


def make_client(
    address: Address, client_id: str, on_connect: Callable[..., None] | None = None, **options: Any
) -> Any:
    client = gmqtt.Client(client_id, **options)
    client.set_config({"reconnect_retries": -1, "reconnect_delay": RETRY_SECONDS})
    if on_connect:
        client.on_connect = on_connect
    _, _, username, password = address
    if username:
        client.set_auth_credentials(username, password)
    return client


async def connect(client: Any, address: Address) -> None:
    """Returns once connected, however long that takes. From then on gmqtt reconnects by itself, also to a
    broker that refuses us: its server for authentication may just be away."""
    host, port, _, _ = address
    logged_away, logged_at = False, -math.inf

    def retry_refused(code: int) -> bool:
        nonlocal logged_at
        if time.monotonic() - logged_at >= LOG_SECONDS:
            logged_at = time.monotonic()
            log.warning("The MQTT broker at %s:%d refuses us (0x%02X); trying again", host, port, code)
        return True

    handler = client._package_handler
    handler._is_retryable_connack = lambda code: False  # the loop below tries again
    while True:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(host, port, keepalive=KEEP_ALIVE, version=MQTTv50)
            handler._is_retryable_connack = retry_refused
            return
        except Exception as error:  # of any kind, since nothing else would try again
            if not logged_away:
                name = type(error).__name__
                log.warning("The MQTT broker at %s:%d is away (%s); trying again", host, port, name)
            logged_away = True
            await asyncio.sleep(RETRY_SECONDS)


async def disconnect(client: Any, **properties: int) -> None:
    client.stop_reconnect()
    with contextlib.suppress(Exception):  # it ends either way
        async with asyncio.timeout(2):
            await client.disconnect(**properties)


class _Publisher:
    """A client on an event loop in a thread of its own, for synchronous callers."""

    def __init__(self) -> None:
        self._address: Address = settings.BROKER5
        self._loop = asyncio.new_event_loop()
        self._thread = WatchedThread("publisher", self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._connect(), self._loop)

    async def _connect(self) -> None:
        self._store = UnacknowledgedPublishes()
        name = f"thingscale-web-{secrets.token_hex(4)}"
        self._client = make_client(self._address, name, persistent_storage=self._store)
        self._connecting = self._loop.create_task(connect(self._client, self._address))

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        sent = asyncio.run_coroutine_threadsafe(self._publish(topic, payload, qos, retain), self._loop)
        try:
            sent.result(PUBLISH_SECONDS + 1)
        except (TimeoutError, OSError, Unavailable):
            sent.cancel()
            raise Unavailable from None

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        async with asyncio.timeout(PUBLISH_SECONDS):
            await asyncio.shield(self._connecting)
            if not self._client.is_connected:
                raise Unavailable  # gmqtt is reconnecting
            self._client.publish(topic, payload, qos=qos, retain=retain)
            if not qos:
                return
            packet_id = self._store.newest
            acknowledged = self._store.acknowledged[packet_id] = self._loop.create_future()
            try:
                await acknowledged
            finally:
                if not acknowledged.done() or acknowledged.cancelled():
                    # The caller gets Unavailable, so the message must not be sent later either.
                    self._store.remove_message_by_mid(packet_id)


@cache
def _publisher() -> _Publisher:
    return _Publisher()


def publish(topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
    """Returns when the broker has taken the message (QoS 1) or it is on its way there (QoS 0).
    Raises Unavailable."""
    _publisher().publish(topic, payload, qos, retain)
