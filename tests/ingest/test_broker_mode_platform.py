"""Broker mode as a whole: a device at mosquitto, the worker, the web process, an app."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from broker_worker import Broker, Device, Worker, mosquitto
from mosquitto import needs_mosquitto
from stack import Stack, wait_until
from support import Account

pytestmark = [pytest.mark.e2e, needs_mosquitto]


@pytest.fixture
def broker(transactional_db: None) -> Iterator[Broker]:
    with mosquitto() as running:
        yield running


def call(site: Stack, account: Account, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        site.url(path),
        None if body is None else json.dumps(body).encode(),
        {"X-APITOKEN": account.api_token, "X-ENDTIME": "last"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_device_is_heard_and_told_through_the_broker(broker: Broker, account: Account) -> None:
    account.device("d1")
    worker = Worker(broker)
    site = Stack(THINGSCALE_INGEST="broker", MQTT_URL=f"mqtt://127.0.0.1:{broker.port}")
    told: list[tuple[str, bytes | bytearray]] = []
    try:
        worker.start()
        site.ensure("web")
        device = Device(broker)
        device.client.on_message = lambda _client, _data, message: told.append(
            (message.topic, message.payload)
        )
        topic = f"{account.device_token}/d1/subscribe"
        subscribed: list[int] = []
        device.client.on_subscribe = lambda *_: subscribed.append(1)
        device.client.subscribe(topic, 1)
        wait_until(lambda: subscribed, 60, "SUBACK")
        device.publish(f"{account.device_token}/json/d1", b'{"temp": 21.5}')
        wait_until(account.stored, 60, "the datapoint")
        (point,) = call(site, account, "/v2/stream/0")["stream"]
        assert point["value"] == {"temp": 21.5}
        call(site, account, "/v2/publish/d1", {"payload": "on", "qos": 1})
        wait_until(lambda: told == [(topic, b"on")], 60, "the command")
        device.close()
    finally:
        worker.kill()
        site.stop()
