"""The platform's own connection to the upstream broker: forwarded publishes, and errors to devices.

What it carries is a courtesy, not a promise: the datapoint is stored before. So its queue is bounded and
what does not fit, or comes while the broker is away, is dropped and counted.
"""

import asyncio
import json
import secrets
from typing import Any

from django.conf import settings

from ingest.message import Outcome
from thingscale import mqtt

MAX_IN_FLIGHT = 10_000


class Publisher:
    def __init__(self) -> None:
        self.dropped = 0
        self._address: mqtt.Address = settings.MQTT5_UPSTREAM
        self._store = mqtt.Store()
        self._client: Any = mqtt.make_client(
            self._address, f"thingscale-gateway-{secrets.token_hex(4)}", persistent_storage=self._store
        )
        self._connecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Does not wait for a broker that is away."""
        self._connecting = asyncio.create_task(mqtt.connect(self._client, self._address))
        await asyncio.wait({self._connecting}, timeout=1)

    async def stop(self) -> None:
        if self._connecting:
            self._connecting.cancel()
        await mqtt.disconnect(self._client)

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        connection = self._client._connection
        if connection is None or not self._client.is_connected or len(self._store) >= MAX_IN_FLIGHT:
            self.dropped += 1
            return
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def report(self, user_id: str, device_id: str, outcome: Outcome) -> None:
        """Why a message was rejected, to whoever listens on `TOKEN/DEVICE_ID/errors`."""
        code = outcome.reason.value if outcome.reason else "REJECTED"
        told = {"error": code} | ({"detail": outcome.detail} if outcome.detail else {})
        self.publish(f"{user_id}/{device_id}/errors", json.dumps(told).encode())
