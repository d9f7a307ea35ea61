"""GET and PUT /v2/user."""

from typing import Any

import pytest
from api_calls import Caller, at, document, refusal, store

from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
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
    }


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
