"""/v2/contact, tests of receivers, and the secrets of webhooks."""

from typing import Any

import pytest
from api_calls import Caller, document, refusal

from thingscale.accounts.models import User
from thingscale.events.models import ContactPoint, Delivery, Event

ADDRESS = "tgram://123456789:secret-token/42"


@pytest.fixture
def contact(api: Caller) -> int:
    made: int = document(api.post("contact", {"name": "Phone", "url": ADDRESS}))["contact_id"]
    return made


def test_an_address_can_be_set_and_is_not_shown(api: Caller, contact: int) -> None:
    (row,) = document(api.get("contact"))
    assert row == {"contact_id": contact, "name": "Phone", "address": "tgram://…", "enabled": True}
    assert document(api.get(f"contact/{contact}")) == [row]
    assert "secret" not in api.get("contact").content.decode()
    assert ContactPoint.objects.get().url == ADDRESS
    assert b"secret" not in bytes(ContactPoint.objects.get().ciphertext)


def test_what_a_get_returned_can_be_sent_back(api: Caller, contact: int) -> None:
    (row,) = document(api.get("contact"))
    assert api.put(f"contact/{contact}", row).status_code == 200
    assert document(api.get("contact")) == [row]
    assert ContactPoint.objects.get().url == ADDRESS


def test_changing_and_deleting_a_contact(api: Caller, contact: int) -> None:
    assert api.put(f"contact/{contact}", {"name": "Night", "url": "ntfys://topic"}).status_code == 200
    assert api.put(f"contact/{contact}", {"enabled": "false"}).status_code == 200
    assert document(api.get("contact")) == [
        {"contact_id": contact, "name": "Night", "address": "ntfys://…", "enabled": False}
    ]
    assert api.post("event", {"channels": [contact]}).status_code == 201
    assert api.delete(f"contact/{contact}").status_code == 200
    assert document(api.get("contact")) == []
    assert document(api.get("event/1"))[0]["channels"] == []
    body = {"name": "Off", "url": "ntfys://topic", "enabled": False}
    assert api.post("contact", body).status_code == 201
    assert not ContactPoint.objects.get().enabled


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 101),
        ("name", None),
        ("url", ""),
        ("url", "https://example.com/hook"),
        ("url", "file:///etc/passwd"),
        ("url", "gotify://127.0.0.1/token"),
        ("url", "ntfys://" + "x" * 2000),
        ("url", 7),
        ("enabled", "maybe"),
    ],
)
def test_a_bad_field_is_named(api: Caller, contact: int, field: str, value: Any) -> None:
    good = {"name": "Other", "url": ADDRESS, "enabled": True}
    for response in (
        api.post("contact", good | {field: value}),
        api.put(f"contact/{contact}", {field: value}),
    ):
        assert refusal(response) == (400, "BAD_PARAMETER")
        assert document(response)["detail"].startswith(f"{field}: ")
    assert ContactPoint.objects.get().url == ADDRESS


def test_a_new_contact_needs_both(api: Caller) -> None:
    for body in ({}, {"name": "Phone"}, {"url": ADDRESS}):
        assert refusal(api.post("contact", body)) == (400, "BAD_PARAMETER")
    assert refusal(api.post("contact")) == (411, "LENGTH_REQUIRED")


def test_one_whose_key_is_lost_is_shown_without_its_address(api: Caller, contact: int) -> None:
    ContactPoint.objects.update(ciphertext=b"of another key")
    assert [row["address"] for row in document(api.get("contact"))] == [""]


def test_a_test_is_owed_to_each_receiver(api: Caller, owner: User, contact: int) -> None:
    api.put("user", {"email1": "one@example.com", "email2": "two@example.com"})
    api.post("event", {"channels": [contact]})
    ids = document(api.post("event/1/test"))["delivery_ids"]
    rows = document(api.get("delivery"))
    assert sorted(row["delivery_id"] for row in rows) == sorted(ids)
    assert {(row["transport"], row["about"], row["event_id"]) for row in rows} == {
        ("email", "test", 1),
        ("contact", "test", 1),
    }
    (alone,) = document(api.post(f"contact/{contact}/test"))["delivery_ids"]
    assert Delivery.objects.get(pk=alone).contact_point_id == contact


def test_too_many_tests(api: Caller, contact: int) -> None:
    for _ in range(100):
        response = api.post(f"contact/{contact}/test")
        if response.status_code != 201:
            break
    assert refusal(response) == (429, "TOO_MANY_REQUESTS")
    assert response["Retry-After"] == "60"


def test_a_secret_is_made_once_and_rotated(api: Caller, owner: User) -> None:
    api.post("event", {"notify_type": "http"})
    first = document(api.get("event/1/secret"))["secret"]
    assert len(first) >= 32
    assert document(api.get("event/1/secret"))["secret"] == first
    response = api.post("event/1/secret")
    assert response.status_code == 201
    second = document(response)["secret"]
    assert second != first
    assert document(api.get("event/1/secret"))["secret"] == second
    assert second not in api.get("event").content.decode()
    Event.objects.update(secret_ciphertext=None)  # as an earlier release made it
    assert document(api.get("event/1/secret"))["secret"] not in {first, second}


def test_an_outsider_sees_none_of_it(api: Caller, outsider: Caller, contact: int) -> None:
    api.post("event", {"channels": [contact]})
    assert document(outsider.get("contact")) == []
    for method, path in (
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/test"),
    ):
        body = {"enabled": False} if method == "PUT" else None
        assert refusal(outsider(method, f"contact/{contact}{path}", body)) == (404, "NO_CONTACT")
    for method, path in (("GET", "secret"), ("POST", "secret"), ("POST", "test")):
        assert refusal(outsider(method, f"event/1/{path}")) == (404, "NO_EVENT")
    assert refusal(outsider.post("event", {"channels": [contact]})) == (400, "BAD_PARAMETER")
    assert ContactPoint.objects.get().enabled
    assert not Delivery.objects.exists()
