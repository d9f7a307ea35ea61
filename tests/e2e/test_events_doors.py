"""Whatever door a datapoint comes by, its events see it once: real processes, MQTT, HTTP and REST."""

import json
import urllib.request

import pytest
from mqtt_clients import V5_PAHO, V311_PAHO, Device, Start, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from stack import Stack, wait_until
from support import Account

from thingscale.events.actions import create_event, update_event
from thingscale.events.models import Event, Observation
from thingscale.lib.clock import now_us, utc_text

pytestmark = pytest.mark.e2e

MATCHED, CLEARED = Observation.What.MATCHED, Observation.What.CLEARED


def watch(account: Account) -> Event:
    fields = {"mapped_channel": account.channel(0), "source": "t", "operator": ">", "threshold": "30"}
    return create_event(account.user, fields)


def seen() -> list[tuple[int, str]]:
    return list(Observation.objects.order_by("id").values_list("what", "value"))


def post(running: Stack, path: str, body: str, **headers: str) -> int:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(running.url(path), body.encode(), named)
    with urllib.request.urlopen(request, timeout=60) as response:
        status: int = response.status
        return status


@pytest.mark.parametrize("version", [pytest.param(V311_PAHO, id="3.1.1"), pytest.param(V5_PAHO, id="5")])
def test_mqtt(stack: Start, account: Account, version: MQTTProtocolVersion) -> None:
    running = gateway(stack)
    account.device("d1")
    event = watch(account)
    with Device(running, account, version=version) as device:
        for payload in (b'{"t":20}', b'{"t":31}', b'[{"value":{"t":32}},{"value":{"t":1}}]', b'{"t":2}'):
            assert device.publish("json/d1", payload, qos=1) == 0
        assert seen() == [(MATCHED, "31"), (MATCHED, "32"), (CLEARED, "1")]  # as soon as it is acknowledged
        update_event(event, {"threshold": "10"})

        def follows() -> bool:
            assert device.publish("json/d1", b'{"t":20}', qos=1) == 0
            return len(seen()) > 3

        wait_until(follows)
    assert seen()[3] == (MATCHED, "20")


def test_http_and_rest(stack: Start, account: Account) -> None:
    """The connector of the web process has a writer of its own."""
    running = gateway(stack)
    account.device("d1")
    watch(account)
    device = {"X_DEVICETOKEN": account.device_token, "X_DEVICEID": "d1"}
    assert post(running, "/post_v2/", '{"t":31}', **device) == 200
    again = {"Idempotency_Key": "k", **device}
    for _ in range(2):
        assert post(running, "/post_v2/", '{"t":32}', **again) == 200
    assert post(running, "/post_v2/", '[{"value":{"t":1}},{"value":{"t":2}}]', **device) == 200
    assert seen() == [(MATCHED, "31"), (MATCHED, "32"), (CLEARED, "1")]
    body = json.dumps([{"value": {"t": 33}}, {"value": {"t": 3}}])
    assert post(running, "/v2/stream/0", body, X_APITOKEN=account.api_token) == 201
    assert seen()[3:] == [(MATCHED, "33"), (CLEARED, "3")]


def test_a_sample_of_the_agent(stack: Start, account: Account) -> None:
    """As it sends them: an array, with its own times."""
    running = gateway(stack)
    account.device("web-1")
    fields = {"mapped_channel": account.channel(0), "source": "cpu:idle", "operator": "<", "threshold": "5"}
    create_event(account.user, fields)
    with Device(running, account) as device:
        for idle in (90, 3.5, 4, 60):
            value = {"cpu": {"idle": idle, "user": 100 - idle}, "disk": {"/": {"percent": 40}}}
            sample = [{"at": utc_text(now_us()), "value": value}]
            assert device.publish("json/web-1", json.dumps(sample).encode(), qos=1) == 0
    assert seen() == [(MATCHED, "3.5"), (MATCHED, "4"), (CLEARED, "60")]
