"""GET and PUT /v2/user."""

from datetime import timedelta
from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store

from thingscale.accounts.actions import rotate_token
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import Token, User
from thingscale.streams.models import Channel


def test_one_object_in_an_array(api: Caller, owner: User) -> None:
    (shown,) = document(api.get("user"))
    assert shown == credentials(owner) | {
        "email1": "owner@example.com",
        "email2": "",
        "organization": "",
        "locale": "Asia/Tokyo",
        "user_alias": "",
        "storage": {"count": 0, "usage_bytes": 0, "maxSize": 5_242_880_000, "avg_obj_size": 0},
        "limits": {
            "storage": {"used": 0, "max": 5_242_880_000},
            "devices": {"used": 0, "max": 10_000},
            "channels": {"used": 0, "max": 10_000},
            "tags": {"used": 0, "max": 10_000},
            "keys": {"used": 0, "max": 1_000},
            "events": {"used": 0, "max": 1_000},
            "activation_rules": {"used": 0, "max": 100},
            "held": {"used": 0, "max": 100_000},
            "rejected": {"used": 0, "max": 1_000},
            "retained": {"used": 0, "max": 100_000},
            "connections": {"used": 0, "max": 10_000},
            "durable_sessions": {"used": 0, "max": 10_000},
            "queued": {"used": 0, "max": 2_147_483_648},
            "subscriptions": {"used": 0, "max": 100_000},
            "unread": {"used": 0, "max": 67_108_864},
            "rest_rate": {"max": 1_000_000},
            "when_full": "refuse",
        },
    }


@pytest.mark.parametrize("device_rotated", ["before", "after", "after, without overlap", "never"])
def test_s1_a_call_sees_the_token_it_came_with_and_nothing_newer(
    api: Caller, owner: User, device_rotated: str
) -> None:
    """S1: whoever has a leaked token does not get its successor in the overlap, nor a newer device token."""
    old = credentials(owner)
    if device_rotated == "before":
        rotate_token(owner, Token.Kind.DEVICE)
    expected = old | {"device_token": credentials(owner)["device_token"]}
    rotate_token(owner, Token.Kind.API)
    if device_rotated.startswith("after"):
        rotate_token(owner, Token.Kind.DEVICE, timedelta(0) if "without" in device_rotated else None)
    if "without" in device_rotated:
        expected |= {"device_token": ""}
    rotate_token(owner, Token.Kind.API)  # a third one, so that two are in their overlap
    newest = credentials(owner)
    (seen,) = document(api.get("user"))
    assert {name: seen[name] for name in expected} == expected
    assert api.put("user", {"user_alias": "x"}).status_code == 200
    everything = api.get("user").text + api.get("device").text + api.get("channel").text
    for name in ("api_token", "device_token"):
        assert newest[name] == expected[name] or newest[name] not in everything
    (seen,) = document(Caller(owner).get("user"))
    assert {name: seen[name] for name in newest} == newest


def test_storage_counts_own_datapoints(api: Caller, channel: Channel, outsider: Caller) -> None:
    store(channel, [(at("2026-01-31 12:00:00"), "12345"), (at("2026-01-31 12:00:00"), '"a"', "t")])
    (shown,) = document(api.get("user"))
    assert shown["storage"] == {"count": 2, "usage_bytes": 8, "maxSize": 5_242_880_000, "avg_obj_size": 4}
    assert document(outsider.get("user"))[0]["storage"]["count"] == 0


def test_changing_it(api: Caller, owner: User, channel: Channel) -> None:
    changes = {
        "email1": "",
        "email2": "two@example.com",
        "organization": "Ünï",
        "locale": "America/New_York",
        "user_alias": "me",
    }
    response = api.put("user", changes)
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    (shown,) = document(api.get("user"))
    assert shown.items() >= changes.items()
    store(channel, [(at("2026-07-01 12:00:00"), "1")])
    assert document(api.get("channel"))[0]["last_update"] == "2026-07-01T08:00:00-0400"


def test_tokens_and_user_id_are_read_only(api: Caller, outsider: Caller) -> None:
    (shown,) = document(api.get("user"))
    changed = shown | {"user_id": "U000009", "api_token": "F" * 32, "device_token": "F" * 32, "storage": {}}
    assert api.put("user", changed | {"is_staff": True, "max_devices": 10**9}).status_code == 200
    assert document(api.get("user")) == [shown]
    owner = User.objects.get(pk=int(shown["user_id"][1:]))
    assert (owner.is_staff, owner.max_devices) == (False, 10_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email1", "nobody"),
        ("email1", "closed-4@account.invalid"),
        ("email2", "a@b.ACCOUNT.invalid"),
        ("email2", ["a@example.com"]),
        ("locale", "Mars/Olympus"),
        ("locale", ""),
        ("locale", None),
        ("locale", "Europe"),
        ("locale", "../../etc/passwd"),
        ("locale", "a\0b"),
        ("organization", "x" * 201),
        ("user_alias", "\0"),
    ],
)
def test_a_bad_field_is_named(api: Caller, field: str, value: Any) -> None:
    response = api.put("user", {field: value})
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith(f"{field}: ")
