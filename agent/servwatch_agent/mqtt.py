"""One MQTT connection, by gmqtt. When it ends, sender.py makes a new one, and gmqtt does not: nothing is sent
that the buffer has not recorded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import gmqtt
from gmqtt.mqtt.constants import MQTTv311
from gmqtt.mqtt.handler import MQTTConnectError
from gmqtt.storage import PersistentStorage

from servwatch_agent import config as settings
from servwatch_agent.buffer import Batch
from servwatch_agent.config import Config
from servwatch_agent.connector import OPEN_SECONDS, SEND_SECONDS, Unavailable, tls_context, why
from servwatch_agent.facts import Facts

KEEP_ALIVE = 60
NEVER = -2  # reconnect: gmqtt compares it with the number of its attempts
REFUSALS = {
    2: "the client id is refused",
    3: "it is not ready",
    4: "user or device token is wrong",
    5: "user or device token is wrong",
}
logging.getLogger("gmqtt").setLevel(logging.CRITICAL + 1)  # it would log topics, which begin with the token


class _Unacknowledged(PersistentStorage):  # type: ignore[misc]
    """gmqtt removes from it what is acknowledged."""

    def __init__(self, acknowledged: Callable[[int], None]) -> None:
        super().__init__()
        self.acknowledged = acknowledged

    def remove_message_by_mid(self, mid: int) -> None:
        super().remove_message_by_mid(mid)
        self.acknowledged(mid)


class Mqtt:
    name = settings.MQTT

    def __init__(self, config: Config, client: str, on_message: Callable[[str, bytes], None]) -> None:
        self.config = config
        self.client_id = f"{config.host_id}_{client}"
        self.on_message = on_message  # last level of the topic, payload
        self.lost = asyncio.Event()
        self._client: Any = None
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def open(self) -> None:
        self.lost.clear()
        config, where = self.config, f"{self.config.server}:{self.config.mqtt_port}"
        self._client = client = gmqtt.Client(
            self.client_id, clean_session=True, persistent_storage=_Unacknowledged(self._acknowledged)
        )
        client.set_config({"reconnect_retries": NEVER})
        client.set_auth_credentials(config.user, config.token)
        client.on_message = self._on_message
        client.on_disconnect = lambda *_: self.lost.set()
        client.on_subscribe = lambda *_: self._acknowledged(0)
        lost = asyncio.ensure_future(self.lost.wait())
        try:
            connected = asyncio.ensure_future(
                client.connect(
                    config.server,
                    config.mqtt_port,
                    ssl=tls_context(config) or False,
                    keepalive=KEEP_ALIVE,
                    version=MQTTv311,
                )
            )
            await asyncio.wait({connected, lost}, timeout=OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not connected.done():
                connected.cancel()
                reason = "it closed the connection" if lost.done() else "no answer in time"
                raise Unavailable(f"MQTT at {where}: {reason}.")
            connected.result()
            below = f"{config.token}/{config.host_id}"
            subscriptions = [gmqtt.Subscription(f"{below}/{last}", qos=1) for last in ("subscribe", "errors")]
            client.subscribe(subscriptions)
            await self._wait_for(0, OPEN_SECONDS)
        except MQTTConnectError as error:
            reason = REFUSALS.get(error._code, f"it refuses the connection (code {error._code})")
            raise Unavailable(f"MQTT at {where}: {reason}.") from None
        except (OSError, ValueError) as error:
            raise Unavailable(f"MQTT at {where}: {why(error)}.") from None
        finally:
            lost.cancel()

    async def send(self, batch: Batch) -> None:
        """The packet id is the recorded one: with it, the platform knows a message that is sent again."""
        message = gmqtt.Message(f"{self.config.token}/json/{self.config.host_id}", batch.body, qos=1)
        message.dup = batch.again
        ids = self._client._package_handler.id_generator
        ids._used_ids.clear()
        ids._last_used_id = batch.packet_id - 1
        self._client.publish(message)
        await self._wait_for(batch.packet_id, SEND_SECONDS)

    async def send_facts(self, facts: Facts) -> None:
        topic = f"{self.config.token}/state/{self.config.host_id}"
        self._client.publish(topic, urlencode(facts), qos=0)

    async def close(self, answered: bool) -> None:
        """A DISCONNECT would say that all before it is answered, so that it counts as new when it is sent
        again: without an answer there is none."""
        client, self._client = self._client, None
        if client is None:
            return
        if answered and not self.lost.is_set():
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.disconnect(), 5)
        connection, client._package_handler._connection = client._connection, None  # it says nothing any more
        if connection:
            connection._transport.abort()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 5)

    async def _wait_for(self, packet_id: int, seconds: float) -> None:
        """For its acknowledgement; 0 is that of the subscriptions."""
        answer = self._waiting[packet_id] = asyncio.get_running_loop().create_future()
        lost = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait({answer, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                reason = "the connection was lost" if lost.done() else "no answer in time"
                raise Unavailable(f"MQTT at {self.config.server}:{self.config.mqtt_port}: {reason}.")
        finally:
            lost.cancel()
            del self._waiting[packet_id]

    def _acknowledged(self, packet_id: int) -> None:
        answer: asyncio.Future[None] | None = self._waiting.get(packet_id)
        if answer and not answer.done():
            answer.set_result(None)

    def _on_message(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        self.on_message(topic.rpartition("/")[2], payload)
        return 0
