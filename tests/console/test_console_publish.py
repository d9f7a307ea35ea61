"""Publish: what is sent, to whom, and what is said of it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from arrived import MOST_QUERIES, large
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from support import Account

from thingscale.devices import mqtt_client
from thingscale.devices.commands import record
from thingscale.devices.models import Command, Device, Published

SignIn = Callable[[Account], Client]
COMMAND = {"devices": "d1", "payload": '{"on": true}', "format": "text", "qos": "1"}


def sent() -> list[tuple[str, bytes, int]]:
    """What the gateways get: (topic, payload, QoS)."""
    return [(row.topic, bytes(row.payload), row.qos) for row in Published.objects.order_by("id")]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[str]:
    settings.INGEST_MODE = "broker"
    tried: list[str] = []

    def fail(topic: str, *rest: Any) -> None:
        tried.append(topic)
        raise mqtt_client.Unavailable

    monkeypatch.setattr(mqtt_client, "publish", fail)
    return tried


def publish(client: Client, **changes: str) -> str:
    return client.post("/publish/", COMMAND | changes, follow=True).text


def test_nothing_sent_yet(account: Account, signed_in: SignIn) -> None:
    assert "No command yet." in signed_in(account).get("/publish/").text


def test_several_devices_with_a_result_each(account: Account, signed_in: SignIn) -> None:
    for name in ("d1", "d2"):
        account.device(name)
    page = publish(signed_in(account), devices="d1\r\n d2 \r\n\r\nd3\r\nd1")
    topics = ["d1/subscribe", "d2/subscribe"]
    assert sent() == [(topic, b'{"on": true}', 1) for topic in topics]
    assert "no such device" in page
    assert "No client of its name is connected now." in page
    assert Command.objects.for_account(account.user).count() == 2
    assert "{&quot;on&quot;: true}</textarea>" in page  # to be sent again, changed


def test_an_absent_broker_is_asked_once(account: Account, signed_in: SignIn, away: list[str]) -> None:
    for name in ("d1", "d2"):
        account.device(name)
    page = publish(signed_in(account), devices="d1\nd2")
    assert len(away) == 1
    assert page.count("publish again a little later") == 2
    assert "BROKER_UNAVAILABLE" in page


@pytest.mark.parametrize(
    ("form", "payload", "expected"),
    [
        ("text", "", b""),
        ("text", " {\r\n\t1 }\r\n", b" {\n\t1 }\n"),
        ("text", "grün", "grün".encode()),
        ("hex", "0a FF\r\n10", b"\x0a\xff\x10"),
        ("hex", "", b""),
    ],
)
def test_the_bytes_that_are_sent(
    account: Account, signed_in: SignIn, form: str, payload: str, expected: bytes
) -> None:
    account.device("d1")
    publish(signed_in(account), format=form, payload=payload, qos="0")
    assert sent() == [("d1/subscribe", expected, 0)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"devices": " "}, "Name at least one device"),
        ({"devices": "\n".join(f"d{n}" for n in range(101))}, "These are 101 devices"),
        ({"format": "hex", "payload": "0a f"}, "Hex digits come in pairs"),
        ({"payload": "x" * (64 * 1024 + 1)}, "at most 64 KiB"),
        ({"qos": "3"}, "Select a valid choice"),
        ({"topic": "d1/+/x"}, "has no + and no #"),
        ({"topic": "#"}, "has no + and no #"),
        ({"topic": "x" * 1025}, "at most 1024 characters"),
        ({"topic": "a/b", "devices": "d1\nd2"}, "Name one device"),
    ],
)
def test_bad_input_keeps_what_was_typed(
    account: Account, signed_in: SignIn, changes: dict[str, str], said: str
) -> None:
    page = publish(signed_in(account), **{"payload": "keep me"} | changes)
    assert said in page
    assert changes.get("payload", "keep me")[:1000] in page
    assert not sent()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("topic", ["", "d1/errors", " a/\u5ba4 "])
def test_how_and_where_it_is_sent(
    account: Account, signed_in: SignIn, qos: int, retain: bool, topic: str
) -> None:
    account.device("d1")
    page = publish(signed_in(account), qos=str(qos), topic=topic, **({"retain": "on"} if retain else {}))
    row = Published.objects.get()
    assert (row.topic, row.qos, row.retain) == (topic or "d1/subscribe", qos, retain)
    checked = re.search(r'name="retain"[^>]* checked', page)  # to be sent again, changed
    assert bool(checked) is retain


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (Command.SENT, '<span class="badge">sent</span>'),
        (Command.DELIVERED, '<span class="badge badge-ok">delivered</span>'),
        (Command.ACKNOWLEDGED, '<span class="badge badge-ok">acknowledged</span>'),
        ("BROKER_UNAVAILABLE", '<span class="badge badge-bad">BROKER_UNAVAILABLE</span>'),
    ],
)
def test_what_became_of_what_was_sent_before(
    account: Account, signed_in: SignIn, result: str, shown: str
) -> None:
    account.device("d1")
    client = signed_in(account)
    publish(client)
    Command.objects.update(result=result)
    assert shown in client.get("/publish/").text


def test_no_broker_is_asked_in_gateway_mode(
    account: Account, signed_in: SignIn, away: list[str], settings: Settings
) -> None:
    settings.INGEST_MODE = "gateway"
    account.device("d1")
    assert "BROKER_UNAVAILABLE" not in publish(signed_in(account))
    assert (away, len(sent())) == ([], 1)


def test_it_comes_filled_in_from_a_device_and_from_history(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    client = signed_in(account)
    assert "\nd1</textarea>" in client.get(f"/publish/?device={device.pk}").text
    record(Command(user=account.user, device=device, payload=b"\xff\x00", qos=0, by="console"))
    page = client.get("/publish/").text
    assert "ff 00" in page
    again = client.get(f"/publish/?again={Command.objects.get().pk}").text
    assert "\nff 00</textarea>" in again
    assert re.search(r'value="hex"[^>]* checked', again)


def test_history_has_topic_and_retain_and_fills_them_in_again(
    account: Account, outsider: Account, signed_in: SignIn
) -> None:
    device = account.device("d1")
    client = signed_in(account)
    publish(client, qos="2", retain="on", topic="json/other/<tag>")
    publish(client, qos="0")
    special, own = Command.objects.order_by("pk")
    assert (special.topic, special.retain, special.qos) == ("json/other/<tag>", True, 2)
    assert (own.topic, own.retain, own.qos) == ("", False, 0)
    page = client.get("/publish/").text
    assert "json/other/&lt;tag&gt;</td>" in page
    assert "d1/subscribe</td>" in page
    assert page.count(">retained</span>") == 1
    again = client.get(f"/publish/?again={special.pk}").text
    assert 'value="json/other/&lt;tag&gt;"' in again
    assert re.search(r'name="retain"[^>]* checked', again)
    assert not re.search(r'name="retain"[^>]* checked', client.get(f"/publish/?again={own.pk}").text)
    of_device = client.get(f"/devices/{device.pk}/").text
    assert "to <code>json/other/&lt;tag&gt;</code>, QoS 2, retained, by console" in of_device
    assert "other" not in signed_in(outsider).get("/publish/").text


@pytest.mark.parametrize("result", [Command.SENT, Command.DELIVERED, Command.ACKNOWLEDGED])
def test_what_became_of_a_command_is_good_news_on_the_devices_page_too(
    account: Account, signed_in: SignIn, result: str
) -> None:
    device = account.device("d1")
    record(Command(user=account.user, device=device, payload=b"1", qos=1, by="console", result=result))
    page = signed_in(account).get(f"/devices/{device.pk}/").text
    assert f'<span class="badge badge-ok">{result}</span>' in page


def test_history_is_paged(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    for number in range(51):
        record(Command(user=account.user, device=device, payload=f"n{number}!".encode(), qos=0, by="api"))
    client = signed_in(account)
    answer = client.get("/publish/")
    assert "n50!" in answer.text
    assert "n0!" not in answer.text
    older = client.get("/publish/", {"page": answer.context["history"].next}).text
    assert "n0!" in older
    assert "Newer" in older


def test_devices_are_found(account: Account, outsider: Account, signed_in: SignIn) -> None:
    account.device("pump-1", None)
    outsider.device("pump-2", None)
    page = signed_in(account).get("/publish/devices/?q=PUMP").text
    assert 'value="pump-1"' in page
    assert "pump-2" not in page


def test_an_outsider_sees_and_sends_nothing(account: Account, outsider: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    record(Command(user=account.user, device=device, payload=b"n1!", qos=0, by="api"))
    client = signed_in(outsider)
    assert "n1!" not in client.get("/publish/").text
    assert client.get(f"/publish/?device={device.pk}").status_code == 404
    assert client.get(f"/publish/?again={Command.objects.get().pk}").status_code == 404
    assert "no such device" in publish(client)
    assert not sent()


def test_the_queries_of_a_large_account(account: Account, signed_in: SignIn) -> None:
    large(account)
    device = Device.objects.for_account(account.user).first()
    assert device
    for number in range(60):
        record(Command(user=account.user, device=device, payload=b"%d" % number, qos=0, by="api"))
    client = signed_in(account)
    for path in (f"/publish/?device={device.pk}", "/publish/devices/?q=d99"):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        assert len(queries) <= MOST_QUERIES


def test_c5_a_page_that_is_loaded_again_sends_nothing_again(account: Account, signed_in: SignIn) -> None:
    account.device("d1")
    client = signed_in(account)
    answer = client.post("/publish/", COMMAND)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/publish/")
    assert "What became of it" in client.get("/publish/").text
    assert "What became of it" not in client.get("/publish/").text
    assert len(sent()) == 1
