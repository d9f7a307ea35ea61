"""Publish: what is sent, to whom, and what is said of it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from arrived import MOST_QUERIES, large
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from support import Account

from thingscale import mqtt
from thingscale.devices.commands import record
from thingscale.devices.models import Command, Device

SignIn = Callable[[Account], Client]
COMMAND = {"devices": "d1", "payload": '{"on": true}', "format": "text", "qos": "1"}
Sent = list[tuple[str, bytes, int]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What the broker gets: (topic, payload, QoS)."""
    taken: Sent = []
    monkeypatch.setattr(mqtt, "publish", lambda *message: taken.append(message))
    return taken


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    tried: list[str] = []

    def fail(topic: str, *rest: Any) -> None:
        tried.append(topic)
        raise mqtt.Unavailable

    monkeypatch.setattr(mqtt, "publish", fail)
    return tried


def publish(client: Client, **changes: str) -> str:
    return client.post("/publish/", COMMAND | changes, follow=True).text


def test_nothing_sent_yet(account: Account, signed_in: SignIn) -> None:
    assert "No command yet." in signed_in(account).get("/publish/").text


def test_several_devices_with_a_result_each(account: Account, signed_in: SignIn, sent: Sent) -> None:
    for name in ("d1", "d2"):
        account.device(name)
    page = publish(signed_in(account), devices="d1\r\n d2 \r\n\r\nd3\r\nd1")
    topics = [f"{account.user_id}/{name}/subscribe" for name in ("d1", "d2")]
    assert sent == [(topic, b'{"on": true}', 1) for topic in topics]
    assert "no such device" in page
    assert "No client of its name is connected now." in page
    assert Command.objects.for_user(account.user).count() == 2
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
    account: Account, signed_in: SignIn, sent: Sent, form: str, payload: str, expected: bytes
) -> None:
    account.device("d1")
    publish(signed_in(account), format=form, payload=payload, qos="0")
    assert [(message[1], message[2]) for message in sent] == [(expected, 0)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"devices": " "}, "Name at least one device"),
        ({"devices": "\n".join(f"d{n}" for n in range(101))}, "These are 101 devices"),
        ({"format": "hex", "payload": "0a f"}, "Hex digits come in pairs"),
        ({"payload": "x" * (64 * 1024 + 1)}, "at most 64 KiB"),
        ({"qos": "2"}, "Select a valid choice"),
    ],
)
def test_bad_input_keeps_what_was_typed(
    account: Account, signed_in: SignIn, sent: Sent, changes: dict[str, str], said: str
) -> None:
    page = publish(signed_in(account), **{"payload": "keep me"} | changes)
    assert said in page
    assert changes.get("payload", "keep me")[:1000] in page
    assert not sent


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


def test_an_outsider_sees_and_sends_nothing(
    account: Account, outsider: Account, signed_in: SignIn, sent: Sent
) -> None:
    device = account.device("d1")
    record(Command(user=account.user, device=device, payload=b"n1!", qos=0, by="api"))
    client = signed_in(outsider)
    assert "n1!" not in client.get("/publish/").text
    assert client.get(f"/publish/?device={device.pk}").status_code == 404
    assert client.get(f"/publish/?again={Command.objects.get().pk}").status_code == 404
    assert "no such device" in publish(client)
    assert not sent


def test_the_queries_of_a_large_account(account: Account, signed_in: SignIn) -> None:
    large(account)
    device = Device.objects.for_user(account.user).first()
    assert device
    for number in range(60):
        record(Command(user=account.user, device=device, payload=b"%d" % number, qos=0, by="api"))
    client = signed_in(account)
    for path in (f"/publish/?device={device.pk}", "/publish/devices/?q=d99"):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        assert len(queries) <= MOST_QUERIES


def test_c5_a_page_that_is_loaded_again_sends_nothing_again(
    account: Account, signed_in: SignIn, sent: Sent
) -> None:
    account.device("d1")
    client = signed_in(account)
    answer = client.post("/publish/", COMMAND)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/publish/")
    assert "What became of it" in client.get("/publish/").text
    assert "What became of it" not in client.get("/publish/").text
    assert len(sent) == 1
