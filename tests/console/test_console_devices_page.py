"""The page of a device: what it sent, what became of it, how it sends."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from support import Account

from thingscale.devices.models import Activity, Command, Device, HeldMessage, MqttSession, RejectedMessage
from thingscale.lib.clock import to_us
from thingscale.lib.excerpts import excerpt
from thingscale.streams.actions.datapoints import store_rows
from thingscale.streams.models import Tag
from thingscale.streams.writer import Row

SignIn = Callable[[Account], Client]


@transaction.atomic
def send(device: Device, count: int, value: str = '{{"temp": {n}}}', tag: str | None = None) -> None:
    """As ingest stores it."""
    assert device.mapped_channel
    now = to_us(timezone.now()) - 1_000_000
    key = Tag.objects.get_or_create(channel=device.mapped_channel, name=tag)[0].id if tag else None
    store_rows(
        [
            Row(device.mapped_channel.id, now + n, device.id, key, value.format(n=n).encode(), None)
            for n in range(count)
        ]
    )


def reject(account: Account, device_id: str, reason: str, payload: bytes, size: int | None = None) -> None:
    RejectedMessage.objects.create(
        user=account.user,
        device_id=device_id,
        source="json",
        reason=reason,
        payload=payload,
        size=len(payload) if size is None else size,
        received_at=timezone.now(),
    )


def test_the_newest_datapoints_of_this_device(account: Account, signed_in: SignIn) -> None:
    device, other = account.device("d1"), account.device("d2")
    send(device, 30, tag="kitchen")
    send(other, 5, '{{"other": {n}}}')
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "{&quot;temp&quot;: 29}" in text
    assert "{&quot;temp&quot;: 9}" not in text  # 20 rows
    assert "other&quot;:" not in text
    assert "kitchen" in text
    assert 'href="/streams/0/"' in text


def test_a_device_drowned_in_its_channel_says_so(account: Account, signed_in: SignIn) -> None:
    device, other = account.device("d1"), account.device("d2")
    send(device, 1)
    Activity.objects.create(device=device, last_seen=timezone.now(), messages=1)
    send(other, 600)
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "None of it is among the newest 500 datapoints of channel 0" in text


def test_a_long_value_is_cut(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    send(device, 1, '"' + "x" * 5000 + '"')
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "x" * 299 + " …" in text
    assert "x" * 300 not in text


def test_what_is_held_and_why(account: Account, signed_in: SignIn) -> None:
    device = Device.objects.create(user=account.user, device_id="d1", enabled=False)
    HeldMessage.objects.create(
        device=device, tag="t1", value={"n": 12345678901234567890123}, received_at=timezone.now()
    )
    client = signed_in(account)
    text = client.get(f"/devices/{device.pk}/").text
    assert "is not enabled and has no channel" in text
    assert "12345678901234567890123" in text
    Device.objects.filter(pk=device.pk).update(mapped_channel=account.channel())
    assert "Enable, and store 1" in client.get(f"/devices/{device.pk}/").text
    client.post(f"/devices/{device.pk}/enable/")
    assert account.stored() == [('{"n": 12345678901234567890123}', "t1")]


def test_what_was_rejected_in_words(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    reject(account, "d1", "BAD_JSON_FORMAT", b'{"temp": <b>')
    reject(account, "d1", "TOO_LARGE", b"\x00\xff\x10", 70_000)
    reject(account, "d2", "UNKNOWN_TOPIC", b"not of this device")
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "It could not be read: send a whole JSON object" in text
    assert "{&quot;temp&quot;: &lt;b&gt;" in text
    assert "00 ff 10 …" in text
    assert "68.4\xa0KB" in text
    assert "not of this device" not in text


def test_another_users_messages_of_the_same_id(
    account: Account, outsider: Account, signed_in: SignIn
) -> None:
    device, foreign = account.device("d1"), outsider.device("d1")
    reject(outsider, "d1", "BAD_JSON_FORMAT", b"foreign payload")
    Command.objects.create(user=outsider.user, device=foreign, payload=b"foreign", qos=0, by="api")
    assert "foreign" not in signed_in(account).get(f"/devices/{device.pk}/").text


def test_commands_sent(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    Command.objects.create(user=account.user, device=device, payload=b'{"set": 4}', qos=1, by="console")
    Command.objects.create(
        user=account.user, device=device, payload=b"", qos=0, by="api", result="BROKER_UNAVAILABLE"
    )
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "{&quot;set&quot;: 4}" in text
    assert "QoS 1, by console" in text
    assert "BROKER_UNAVAILABLE" in text


def test_the_published_state(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    Device.objects.filter(pk=device.pk).update(
        state={"pod_run_current": 3, "door": "open<"}, state_at=timezone.now()
    )
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "<dt>pod_run_current</dt><dd>3</dd>" in text
    assert "<dt>door</dt><dd>open&lt;</dd>" in text


def test_connections_by_the_recommended_client_id(
    account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = account.device("d1")
    for client_id in ("d1", "d1_4f2a", "d12_4f2a"):
        MqttSession.objects.create(
            user=account.user,
            gateway=1,
            client_id=client_id,
            ipaddress="192.0.2.7",
            clean_sess=True,
            proto_ver=5,
            keepalive=60,
            connected_at=timezone.now(),
        )
    monkeypatch.setattr("console.views.device_page.connected", MqttSession.objects.for_account)
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "<code>d1_4f2a</code>" in text
    assert "<code>d12_4f2a</code>" not in text


def test_how_it_sends(account: Account, signed_in: SignIn) -> None:
    device = account.device("it's")
    text = signed_in(account).get(f"/devices/{device.pk}/").text
    assert "http://testserver/post_v2/" in text
    assert f"X-DEVICETOKEN: {account.device_token}" in text
    shown = re.sub(r"<pre [^>]*hidden>.*?</pre>", "", text, flags=re.DOTALL)
    assert account.device_token not in shown
    assert "X-DEVICETOKEN: ••••••••" in shown
    assert f"{account.device_token}/json/it&#x27;&quot;&#x27;&quot;&#x27;s" in text


def test_last_seen_and_messages(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    client = signed_in(account)
    assert "<b data-seen>never</b>" in client.get(f"/devices/{device.pk}/").text
    Activity.objects.create(device=device, last_seen=timezone.now() - timedelta(minutes=3), messages=1234)
    text = client.get(f"/devices/{device.pk}/").text
    assert "3 min ago" in text
    assert ">1,234</b>" in text


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", ""),
        (b"plain", "plain"),
        ("ß".encode() + "ß".encode()[:1], "ß"),  # cut within a character
        (b"\xff\xfe", "ff fe"),
        (b"a\x00b", "61 00 62"),
        (b"line\r\nend\t.", "line\r\nend\t."),
    ],
)
def test_an_excerpt_is_text_or_hex(payload: bytes, shown: str) -> None:
    assert excerpt(payload) == shown


def test_it_sends_to_where_devices_are_taken(account: Account, signed_in: SignIn, settings: Settings) -> None:
    path, client = f"/devices/{account.device('pump').pk}/", signed_in(account)
    settings.MQTT_PORT, settings.TLS_CERT, settings.MQTT_TLS_PORT = 1883, "a", 8883
    assert "-p 8883 --tls-use-os-certs" in client.get(path).text
    settings.INGEST_MODE, settings.BROKER = "broker", ("own.example", 1885, "u", "secret")
    text = client.get(path).text
    assert "mosquitto_pub -h own.example -p 1885" in text
    assert "secret" not in text
    settings.INGEST_MODE, settings.TLS_CERT, settings.MQTT_PORT = "gateway", "", 0
    text = client.get(path).text
    assert "mosquitto_pub" not in text
    assert "curl " in text
