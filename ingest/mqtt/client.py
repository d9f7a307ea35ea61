"""gmqtt as we use it: connects by itself, also the first time, and reconnects for ever."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTv50
from gmqtt.mqtt.handler import MQTTError

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
RETRY_SECONDS = 1.0
KEEP_ALIVE = 30
Address = tuple[str, int, str | None, str | None]


def make(
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
    """Returns once connected; from then on gmqtt reconnects by itself."""
    host, port, _, _ = address
    said = False
    while True:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(host, port, keepalive=KEEP_ALIVE, version=MQTTv50)
            return
        except (OSError, TimeoutError, MQTTError) as error:
            if not said:
                log.warning(
                    "The MQTT broker at %s:%d is away (%s); trying again", host, port, type(error).__name__
                )
            said = True
            await asyncio.sleep(RETRY_SECONDS)


async def disconnect(client: Any) -> None:
    client.stop_reconnect()
    with contextlib.suppress(Exception):  # it is going away either way
        async with asyncio.timeout(2):
            await client.disconnect()
