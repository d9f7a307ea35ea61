"""Tokens, the error shape, paths and verbs: what holds for every call."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from api_calls import Caller, document, refusal
from django.db import OperationalError
from django.test import Client

from thingscale.accounts.actions import revoke_rotated_tokens, rotate_token
from thingscale.accounts.models import Token, User
from thingscale.devices.actions import create_device
from thingscale.devices.models import Device
from thingscale.streams.models import Channel

pytestmark = pytest.mark.slow
CALLS = [
    ("GET", "device", None),
    ("GET", "device/x", None),
    ("POST", "device/x", None),
    ("PUT", "device/x", {"description": "changed"}),
    ("DELETE", "device/x", None),
    ("GET", "channel", None),
    ("GET", "channel/0", None),
    ("POST", "channel/0", None),
    ("PUT", "channel/0", {"channel_name": "changed"}),
    ("DELETE", "channel/0", None),
    ("GET", "stream/0?endtime=last", None),
    ("POST", "stream/0", {"value": 1}),
    ("GET", "event", None),
    ("GET", "event/1", None),
    ("POST", "event", None),
    ("PUT", "event/1", {"description": "changed"}),
    ("DELETE", "event/1", None),
    ("GET", "user", None),
    ("PUT", "user", {"organization": "changed"}),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call[:2]))
@pytest.mark.parametrize("token", [None, "F" * 32, "nonsense", "\x00", "é" * 32, "lower", "device"])
def test_without_the_right_token(owner: User, call: tuple[str, str, Any], token: str | None) -> None:
    plain = Token.objects.current(owner, Token.Kind.API).plain
    if token == "lower":
        token = plain.lower()
    if token == "device":
        token = Token.objects.current(owner, Token.Kind.DEVICE).plain
    headers = {} if token is None else {"X-APITOKEN": token}
    response = Client().generic(call[0], f"/v2/{call[1]}", headers=headers)
    assert refusal(response) == (401, "AUTH_REQUIRED")
    assert response["WWW-Authenticate"] == "X-APITOKEN"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (("GET", "device/x", None), (404, "NO_DEVICE")),
        (("PUT", "device/x", {"description": "changed"}), (404, "NO_DEVICE")),
        (("DELETE", "device/x", None), (404, "NO_DEVICE")),
        (("GET", "channel/0", None), (404, "NO_CHANNEL")),
        (("PUT", "channel/0", {"channel_name": "changed"}), (404, "NO_CHANNEL")),
        (("DELETE", "channel/0", None), (404, "NO_CHANNEL")),
        (("GET", "stream/0?endtime=last", None), (404, "NO_CHANNEL")),
        (("GET", "stream/0?endtime=2026-01-01 00:00", None), (404, "NO_CHANNEL")),
        (("POST", "stream/0", {"value": 1}), (404, "NO_CHANNEL")),
    ],
)
def test_an_outsider_sees_nothing(
    owner: User, channel: Channel, outsider: Caller, call: tuple[str, str, Any], answer: tuple[int, str]
) -> None:
    create_device(owner, "x", mapped_channel=channel)
    assert refusal(outsider(*call)) == answer
    assert Device.objects.get(user=owner).description == ""
    assert Channel.objects.get(user=owner).name == "sensor_1"


def test_an_outsider_s_lists_are_empty(owner: User, channel: Channel, outsider: Caller) -> None:
    create_device(owner, "x", mapped_channel=channel)
    assert document(outsider.get("device")) == []
    assert document(outsider.get("channel")) == []
    assert document(outsider.get("channel", X_WITHTAG="true")) == []
    (user,) = document(outsider.get("user"))
    assert user["user_id"] != owner.user_id
    assert user["storage"]["count"] == 0


def test_an_outsider_has_the_same_ids_for_his_own(owner: User, channel: Channel, outsider: Caller) -> None:
    create_device(owner, "x", mapped_channel=channel)
    assert outsider.post("device/x").status_code == 201
    assert refusal(outsider.put("device/x", {"mapped_ch": 0})) == (404, "NO_CHANNEL")
    assert outsider.post("channel/0").status_code == 201
    assert outsider.put("device/x", {"mapped_ch": 0}).status_code == 200
    assert outsider.delete("channel/0").status_code == 200
    assert Device.objects.get(user=owner).mapped_channel == channel


def test_a_rotated_token_works_until_its_overlap_ends(api: Caller, owner: User) -> None:
    new = rotate_token(owner, Token.Kind.API)
    assert api.get("user").status_code == 200
    assert Caller(owner, new.plain).get("user").status_code == 200
    revoke_rotated_tokens(owner, Token.Kind.API)
    assert refusal(api.get("user")) == (401, "AUTH_REQUIRED")


def test_an_inactive_user_is_out(api: Caller, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert refusal(api.get("user")) == (401, "AUTH_REQUIRED")


@pytest.mark.parametrize("path", ["nope", "", "stream", "device/a/b", "devices", "channel/0/x", "user/1"])
def test_an_unknown_path(api: Caller, path: str) -> None:
    assert refusal(api.get(path)) == (404, "NOT_FOUND")
    assert refusal(api.put(path, b"{")) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "device", {"GET", "HEAD"}),
        ("PATCH", "device/x", {"GET", "HEAD", "POST", "PUT", "DELETE"}),
        ("DELETE", "channel", {"GET", "HEAD"}),
        ("PUT", "stream/0", {"GET", "HEAD", "POST"}),
        ("OPTIONS", "user", {"GET", "HEAD", "PUT"}),
    ],
)
def test_a_wrong_verb_names_the_right_ones(api: Caller, method: str, path: str, allowed: set[str]) -> None:
    response = api(method, path)
    assert refusal(response) == (405, "METHOD_NOT_ALLOWED")
    assert set(response["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["device", "device/x", "channel", "channel/0", "stream/0", "user"])
def test_a_slash_at_the_end_is_optional(api: Caller, owner: User, channel: Channel, path: str) -> None:
    create_device(owner, "x")
    without, with_slash = (document(api.get(p, X_ENDTIME="last")) for p in (path, f"{path}/"))
    assert without == with_slash


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png;q=x", "*/*", ""])
def test_the_answer_is_json_whatever_is_accepted(api: Caller, accept: str) -> None:
    response = api.get("device?format=html", Accept=accept)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "content_type",
    ["", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain", "nonsense"],
)
def test_a_body_is_json_whatever_it_is_called(api: Caller, owner: User, content_type: str) -> None:
    create_device(owner, "x")
    sent = {"X-APITOKEN": api.token}
    body = '{"description": "é"}'.encode()
    response = Client().generic("PUT", "/v2/device/x", body, content_type, headers=sent)
    assert response.status_code == 200
    assert Device.objects.get().description == "é"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"12",
        b"a=1",
        b'{"description": "\xe9"}',
        b'{"location": NaN}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_the_object_expected(
    api: Caller, owner: User, channel: Channel, body: bytes
) -> None:
    create_device(owner, "x")
    for path in ("device/x", "channel/0", "user"):
        assert refusal(api.put(path, body)) == (400, "BAD_JSON_FORMAT")
        assert refusal(api.put(path, body, Content_Type="application/json")) == (400, "BAD_JSON_FORMAT")


def test_a_chunked_body_is_not_taken_for_none(api: Caller) -> None:
    """Under a WSGI server that does not read one."""
    response = api.post("device/x", Transfer_Encoding="chunked")
    assert refusal(response) == (411, "LENGTH_REQUIRED")


def test_a_body_beyond_the_limit(api: Caller, channel: Channel) -> None:
    body = b'{"value": "' + b"x" * 2**24 + b'"}'
    assert refusal(api.post("stream/0", body)) == (413, "TOO_LARGE")


@pytest.mark.parametrize("error", [OperationalError("gone"), psycopg.OperationalError("gone")])
@pytest.mark.parametrize("place", ["thingscale.accounts.querysets.tokens.digest", "api.streams.stream_time"])
def test_the_database_is_away(
    api: Caller, channel: Channel, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    def away(*args: Any) -> None:
        raise error

    monkeypatch.setattr(place, away)
    response = api.get("stream/0", X_ENDTIME="last")
    assert refusal(response) == (503, "TRY_AGAIN")
    assert response["Retry-After"] == "5"


def test_a_failure_of_ours_is_logged_with_its_actor_and_keeps_the_shape(
    api: Caller, owner: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.v2.views.DeviceViewSet.get_queryset", lambda self: 1 / 0)
    assert refusal(api.get("device")) == (500, "SERVER_ERROR")
    assert "ZeroDivisionError" in caplog.text
    assert f"/v2/device failed, asked by {owner.user_id}" in caplog.text


def test_few_queries(
    api: Caller, owner: User, channel: Channel, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for number in range(20):
        create_device(owner, f"d{number}", mapped_channel=channel)
    with django_assert_max_num_queries(2):  # the token; the devices with their channels
        assert len(document(api.get("device"))) == 20
    with django_assert_max_num_queries(2):
        api.get("device/d1")
