"""The first datapoint: code that works as it stands on the page, and the way from a device to its chart."""

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest
from arrived import MOST_QUERIES, large, new_device, reject, store
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from stack import Stack
from support import Account

from console.snippets import SNIPPETS
from thingscale.devices.models import Device, HeldMessage
from thingscale.lib.clock import now_us
from thingscale.streams.actions.datapoints import store_rows as write
from thingscale.streams.models import Channel
from thingscale.streams.writer import Row

SignIn = Callable[[Account], Client]
AWKWARD = """it's "1" \\ $HOME `id` °C 温度"""


def code(client: Client, key: str, device_id: str | None = None, host: str = "iot.example.com") -> str:
    """As it would be copied."""
    query = {"with": key} | ({} if device_id is None else {"device": device_id})
    page = client.get("/start/", query, headers={"host": host}).text
    found = re.search(r'<pre id="snippet"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found
    return html.unescape(found[1])


def test_each_piece_of_code_has_what_it_needs(account: Account, signed_in: SignIn) -> None:
    client = signed_in(account)
    for snippet in SNIPPETS:
        text = code(client, snippet.key)
        assert account.device_token in text
        assert account.api_token not in text
        assert "my-first-device" in text
        assert "iot.example.com" in text
        assert ("1883" in text) == snippet.mqtt


def test_the_device_that_is_ready_to_store_is_proposed(account: Account, signed_in: SignIn) -> None:
    account.device("first-device", 0)
    page = signed_in(account).get("/start/").text
    assert "X-DEVICEID: first-device" in page
    assert "on channel 0 already" in page


def test_another_device_id(account: Account, signed_in: SignIn) -> None:
    client = signed_in(account)
    assert "/json/pump" in code(client, "mosquitto", "pump")
    page = client.get("/start/", {"device": "a/b"}).text
    assert 'value="a/b"' in page
    assert "has 1 to 64 characters" in page
    assert "my-first-device" in page


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"TLS_CERT": "a", "TLS_KEY": "b"}, "mqtts://iot.example.com:8883"),
        ({"TLS_CERT": "a", "TLS_KEY": "b", "MQTT_TLS_PORT": 0}, "mqtt://iot.example.com:1883"),
        ({"PUBLIC_URL": "https://things.example.com"}, "mqtt://things.example.com:1883"),
        ({"INGEST_MODE": "broker", "BROKER": ("own", 1885, "u", "secret")}, "mqtt://own:1885"),
        (
            {"INGEST_MODE": "broker", "BROKER": ("::1", 1885, "u", "secret")},
            "mqtt://iot.example.com:1885",
        ),
    ],
)
def test_where_devices_send_to(
    account: Account, signed_in: SignIn, settings: Settings, changes: dict[str, object], expected: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    text = code(signed_in(account), "node")
    assert f'"{expected}"' in text
    assert "secret" not in text


def test_without_mqtt_there_is_http(account: Account, signed_in: SignIn, settings: Settings) -> None:
    settings.MQTT_PORT = 0
    page = signed_in(account).get("/start/?with=arduino").text
    assert "Arduino" not in page
    assert "MQTT is turned off" in page
    assert "curl http" in page


def test_c9_waiting_then_what_came_of_the_device_waited_for(account: Account, signed_in: SignIn) -> None:
    """Whatever the account hears of others."""
    client = signed_in(account)
    store(account)
    reject(account, "other")
    new_device(account, "another")
    assert "Waiting for the first message" in client.get("/start/?device=pump").text
    device = account.device("pump", 7)
    reject(account, "pump")
    value = Row(account.channel(7).id, now_us(), device.id, None, b'{"temp": 22.5}', None)
    with transaction.atomic():
        write([value])
    panel = client.get("/start/arrived/?device=pump").text
    assert "Waiting" not in panel
    assert "another" not in panel
    assert "{&quot;temp&quot;: 22.5}" in panel
    assert "{oops" in panel
    assert "It could not be read" in panel
    assert 'href="/streams/7/?range=1h"' in panel


def test_from_a_new_device_to_its_chart_in_one_click(account: Account, signed_in: SignIn) -> None:
    account.channel(4)
    device = new_device(account, "my-first-device")
    client = signed_in(account)
    page = client.get("/start/").text
    assert "Enable my-first-device and show its chart" in page
    assert 'value="5"' in page  # a number that is free
    answer = client.post(f"/start/enable/{device.pk}/", {"number": "5"}, follow=True)
    assert answer.redirect_chain == [("/streams/5/?range=1h", 302)]
    assert account.stored(5) == [('{"temp": 21.5}', None)]
    assert Device.objects.get(pk=device.pk).enabled
    assert not HeldMessage.objects.exists()


def test_a_channel_that_is_there_is_taken(account: Account, signed_in: SignIn) -> None:
    account.channel(4)
    device = new_device(account)
    signed_in(account).post(f"/start/enable/{device.pk}/", {"number": "4"})
    assert account.stored(4) == [('{"temp": 21.5}', None)]


def test_an_impossible_channel_keeps_what_was_typed(account: Account, signed_in: SignIn) -> None:
    device = new_device(account)
    client = signed_in(account)
    page = client.post(f"/start/enable/{device.pk}/", {"number": "-1"}).text
    assert 'value="-1"' in page
    assert "greater than or equal to 0" in page
    account.user.max_channels = 0
    account.user.save()
    assert "delete one first" in client.post(f"/start/enable/{device.pk}/", {"number": "3"}).text
    assert not Device.objects.get(pk=device.pk).enabled
    assert not Channel.objects.exists()


def test_what_is_old_is_no_news(account: Account, signed_in: SignIn) -> None:
    new_device(account)
    HeldMessage.objects.update(received_at=timezone.now() - timedelta(hours=1))
    assert "Waiting for the first message" in signed_in(account).get("/start/").text


def test_an_outsider_sees_and_changes_nothing(account: Account, outsider: Account, signed_in: SignIn) -> None:
    device = new_device(account)
    reject(account)
    store(account)
    client = signed_in(outsider)
    page = client.get("/start/").text + client.get("/start/arrived/").text
    assert "pump" not in page
    assert account.device_token not in page
    assert client.post(f"/start/enable/{device.pk}/", {"number": "1"}).status_code == 404
    assert not Device.objects.get(pk=device.pk).enabled


def test_the_queries_of_a_large_account(account: Account, signed_in: SignIn) -> None:
    large(account)
    client = signed_in(account)
    for path in ("/start/", "/start/arrived/"):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        assert len(queries) <= MOST_QUERIES


@pytest.mark.parametrize("device_id", ["my-first-device", AWKWARD])
@pytest.mark.parametrize("key", ["esphome", "node", "arduino"])
def test_the_device_id_is_quoted(account: Account, signed_in: SignIn, key: str, device_id: str) -> None:
    text = code(signed_in(account), key, device_id)
    topic = f"{account.device_token}/json/{device_id}"
    assert json.dumps(topic, ensure_ascii=False) in text


def run(key: str, text: str) -> None:
    """As a person would, who has pasted it."""
    python = key in {"paho", "requests"}
    command = [sys.executable, "-c", text] if python else ["sh", "-c", text]
    subprocess.run(command, timeout=60, check=True, capture_output=True)


@pytest.mark.e2e
@pytest.mark.parametrize("device_id", ["my-first-device", AWKWARD])
@pytest.mark.parametrize("key", ["curl", "mosquitto", "paho", "requests"])
def test_the_code_does_what_the_page_says(
    stack: Callable[..., Stack],
    account: Account,
    signed_in: SignIn,
    settings: Settings,
    key: str,
    device_id: str,
) -> None:
    program = {"curl": "curl", "mosquitto": "mosquitto_pub"}.get(key)
    if program and not shutil.which(program):
        pytest.skip(f"there is no {program} here")
    running = stack()
    settings.MQTT_PORT = running.mqtt
    client = signed_in(account)
    host = f"127.0.0.1:{running.http}"
    run(key, code(client, key, device_id, host))
    assert "Enable" in client.get("/start/arrived/", {"device": device_id}).text
    device = Device.objects.get(user=account.user, device_id=device_id)
    client.post(f"/start/enable/{device.pk}/", {"number": "0"})
    run(key, code(client, key, device_id, host))
    assert account.stored(0) == [('{"temp": 21.5}', None)] * 2
