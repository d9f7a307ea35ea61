"""POST /v2/publish/{device_id}: what the body may be, and what goes out."""

from typing import Any

import pytest
from api_calls import Caller, refusal

from thingscale import mqtt
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import Command


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    sent: list[bytes] = []
    monkeypatch.setattr(mqtt, "publish", lambda topic, payload, qos=0: sent.append(payload))
    return sent


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
    api: Caller, owner: User, published: list[bytes], version: str, body: bytes, payload: bytes
) -> None:
    create_device(owner, "d1")
    api.version = version
    assert api.post("publish/d1", body).status_code == 200
    assert published == [payload]
    assert bytes(Command.objects.get().payload) == payload


@pytest.mark.parametrize("payload", [5, 5.0, True, None, [], ["x"], {}, {"a": "b"}])
def test_r16_what_is_no_string_is_refused(
    api: Caller, owner: User, published: list[bytes], payload: Any
) -> None:
    create_device(owner, "d1")
    assert refusal(api.post("publish/d1", {"payload": payload})) == (400, "BAD_JSON_FORMAT")
    assert published == []


@pytest.mark.parametrize("body", [rb'{"payload": "\ud800"}', b'{"payload": "%s"}' % (b"x" * 65_537), b"{}"])
def test_r16_what_has_no_bytes_or_too_many_is_refused(
    api: Caller, owner: User, published: list[bytes], body: bytes
) -> None:
    create_device(owner, "d1")
    assert refusal(api.post("publish/d1", body)) == (400, "BAD_JSON_FORMAT")
    assert published == []
