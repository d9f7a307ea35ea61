"""POST /v2/publish/{device_id}: what the body may be, and what goes out."""

from typing import Any

import pytest
from api_calls import Caller, refusal
from pytest_django import Settings

from thingscale.accounts.actions import choose_own_topics
from thingscale.accounts.models import Token, User
from thingscale.devices import mqtt_client
from thingscale.devices.actions import create_device
from thingscale.devices.models import Command, Published
from thingscale.lib.own_topics import kept


def published() -> list[bytes]:
    return [bytes(row.payload) for row in Published.objects.order_by("id")]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (rb'{"payload": "a\u0000b"}', b"a\0b"),
        (b'{"payload": ""}', b""),
        (b'{"payload": " \\r\\n\\t"}', b" \r\n\t"),
        (rb'{"payload": "\ud83d\ude00\ufeff"}', "😀\ufeff".encode()),
        (b'{"payload": "\xc2\x85\x7f"}', b"\xc2\x85\x7f"),
        (b'\xef\xbb\xbf{"payload": "5"}', b"5"),
    ],
)
def test_r16_a_payload_goes_out_byte_for_byte(
    api: Caller, owner: User, version: str, body: bytes, payload: bytes
) -> None:
    create_device(owner, "d1")
    api.version = version
    assert api.post("publish/d1", body).status_code == 200
    assert published() == [payload]
    assert bytes(Command.objects.get().payload) == payload


@pytest.mark.parametrize("payload", [5, 5.0, True, None, [], ["x"], {}, {"a": "b"}])
def test_r16_what_is_no_string_is_refused(api: Caller, owner: User, payload: Any) -> None:
    create_device(owner, "d1")
    assert refusal(api.post("publish/d1", {"payload": payload})) == (400, "BAD_JSON_FORMAT")
    assert published() == []


@pytest.mark.parametrize("body", [rb'{"payload": "\ud800"}', b'{"payload": "%s"}' % (b"x" * 65_537), b"{}"])
def test_r16_what_has_no_bytes_or_too_many_is_refused(api: Caller, owner: User, body: bytes) -> None:
    create_device(owner, "d1")
    assert refusal(api.post("publish/d1", body)) == (400, "BAD_JSON_FORMAT")
    assert published() == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("d1/subscribe", 0, False)),
        ({"qos": 0}, ("d1/subscribe", 0, False)),
        ({"qos": 1}, ("d1/subscribe", 1, False)),
        ({"qos": 2}, ("d1/subscribe", 2, False)),
        ({"retain": True}, ("d1/subscribe", 0, True)),
        ({"retain": False, "topic": "d1/errors"}, ("d1/errors", 0, False)),
        ({"topic": "a/\u5ba4 x//c", "qos": 2, "retain": True}, ("a/\u5ba4 x//c", 2, True)),
        ({"topic": "x" * 1024}, ("x" * 1024, 0, False)),
        ({"topic": " d1 / x "}, (" d1 / x ", 0, False)),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_how_and_where_it_goes_out(
    api: Caller, owner: User, version: str, more: dict[str, Any], expected: tuple[str, int, bool]
) -> None:
    create_device(owner, "d1")
    api.version = version
    assert api.post("publish/d1", {"payload": "on"} | more).status_code == 200
    row, command = Published.objects.get(), Command.objects.get()
    assert (row.topic, row.qos, row.retain) == expected
    assert (row.account_id, row.command, row.qos) == (owner.pk, command.pk, command.qos)
    assert command.result == "sent"


@pytest.mark.parametrize(
    "more",
    [
        {"qos": 3},
        {"qos": -1},
        {"qos": "high"},
        {"qos": None},
        {"qos": [1]},
        {"retain": "maybe"},
        {"retain": None},
        {"retain": 5},
        {"topic": ""},
        {"topic": "a/+/b"},
        {"topic": "#"},
        {"topic": "events/1"},
        {"topic": "a\0b"},
        {"topic": "\2/cmnd/plug/POWER"},  # as one without a token is kept
        {"topic": "x" * 1025},
        {"topic": "\u5ba4" * 22_000},
        {"topic": 5},
        {"topic": None},
        {"topic": ["a"]},
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(api: Caller, owner: User, more: dict[str, Any]) -> None:
    create_device(owner, "d1")
    assert refusal(api.post("publish/d1", {"payload": "on"} | more)) == (400, "BAD_JSON_FORMAT")
    assert published() == []
    assert not Command.objects.exists()


@pytest.mark.parametrize(
    "topic", ["cmnd/plug/POWER", "json/d1/cmnd/POWER", "d1/subscribe", "zigbee2mqtt/lamp/set"]
)
def test_topics_without_a_token_of_an_account_that_has_them(
    api: Caller, owner: User, outsider: Caller, topic: str
) -> None:
    """Where the firmware listens as it was made, unless the topic means something below the token."""
    create_device(owner, "d1")
    own = topic in {"cmnd/plug/POWER", "zigbee2mqtt/lamp/set"}
    for own_topics in (False, True, False):
        choose_own_topics(owner, own_topics)
        assert api.post("publish/d1", {"payload": "on", "topic": topic}).status_code == 200
        row = Published.objects.latest("id")
        assert row.topic == (kept(topic) if own and own_topics else topic)
        assert row.account_id == owner.pk
        assert Command.objects.latest("id").topic == topic
    choose_own_topics(owner, True)
    assert refusal(outsider.post("publish/d1", {"payload": "on", "topic": topic})) == (404, "NO_DEVICE")


def test_an_outsider_publishes_nothing(api: Caller, owner: User, outsider: Caller) -> None:
    create_device(owner, "d1")
    body = {"payload": "on", "topic": "d1/subscribe", "retain": True}
    assert refusal(outsider.post("publish/d1", body)) == (404, "NO_DEVICE")
    assert published() == []


def test_the_gateway_needs_no_broker(api: Caller, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*message: Any) -> None:
        raise mqtt_client.Unavailable

    monkeypatch.setattr(mqtt_client, "publish", away)
    create_device(owner, "d1")
    assert api.post("publish/d1", {"payload": "on"}).status_code == 200


def test_in_broker_mode_the_broker_gets_it(
    api: Caller, owner: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.INGEST_MODE = "broker"
    sent: list[Any] = []
    monkeypatch.setattr(mqtt_client, "publish", lambda *message: sent.append(message))
    create_device(owner, "d1")
    assert (
        api.post("publish/d1", {"payload": "on", "qos": 2, "retain": True, "topic": "a/b"}).status_code == 200
    )
    (token,) = Token.objects.live().filter(user=owner, kind=Token.Kind.DEVICE)
    assert sent == [(f"{token.plain}/a/b", b"on", 2, True)]
    assert published() == []
