"""Limits of an account over REST."""

import pytest
from api_calls import Caller, document, refusal
from django.utils import timezone

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import Device, HeldMessage
from thingscale.events.models import Event
from thingscale.streams.models import Channel, Latest, Tag


def limit(user: User, **limits: int | str) -> None:
    User.objects.filter(pk=user.pk).update(**limits)


@pytest.mark.parametrize(
    "body", [{"value": 12345678901}, [{"value": "1"}] * 4, [{"value": {"a": 1}}, {"value": 1234}]]
)
def test_b3_a_full_storage_refuses_points_whole(
    api: Caller, owner: User, channel: Channel, body: object
) -> None:
    limit(owner, max_storage=10)
    response = api.post("stream/0", body)
    assert refusal(response) == (403, "QUOTA_EXCEEDED")
    assert not Latest.objects.exists()
    assert api.post("stream/0", [{"value": 1234567890}]).status_code == 201
    assert refusal(api.post("stream/0", {"value": 1})) == (403, "QUOTA_EXCEEDED")


def test_b3_a_lowered_limit_holds_at_once_and_deleting_makes_room(
    api: Caller, owner: User, channel: Channel
) -> None:
    assert api.post("stream/0", {"value": "x" * 100}).status_code == 201
    limit(owner, max_storage=1)
    assert refusal(api.post("stream/0", {"value": 1})) == (403, "QUOTA_EXCEEDED")
    assert api.delete("channel/0").status_code == 200
    assert api.post("channel/1").status_code == 201
    assert api.post("stream/1", {"value": 1}).status_code == 201


def test_b3_another_account_is_not_limited(
    api: Caller, owner: User, channel: Channel, outsider: Caller
) -> None:
    limit(owner, max_storage=0)
    assert outsider.post("channel/0").status_code == 201
    assert outsider.post("stream/0", {"value": 1}).status_code == 201


@pytest.mark.parametrize("tags", [["a", "b", "c", "d"], ["x", "x", "y", "z", "w", None]])
def test_b4_more_tags_than_allowed_in_one_call_store_nothing(
    api: Caller, owner: User, channel: Channel, tags: list[str | None]
) -> None:
    limit(owner, max_tags=3)
    response = api.post("stream/0", [{"value": 1, "tag": tag} for tag in tags])
    assert refusal(response) == (403, "QUOTA_EXCEEDED")
    assert "tag" in document(response)["detail"]
    assert not Tag.objects.exists()
    assert not Latest.objects.exists()


def test_b4_tags_made_by_hand_are_counted_in_all_channels(api: Caller, owner: User, channel: Channel) -> None:
    limit(owner, max_tags=2)
    api.post("channel/1")
    assert api.post("channel/0", X_TAGNAME="a").status_code == 201
    assert api.post("channel/1", X_TAGNAME="a").status_code == 201
    assert refusal(api.post("channel/0", X_TAGNAME="b")) == (403, "QUOTA_EXCEEDED")
    assert refusal(api.post("channel/0", X_TAGNAME="a")) == (403, "CHANNEL_INUSE")
    assert api.post("stream/0", {"value": 1, "tag": "a"}).status_code == 201


def test_b4_keys_with_a_label(api: Caller, owner: User, channel: Channel) -> None:
    limit(owner, max_keys=2)
    labels = [{"key": key, "label": "x"} for key in "abc"]
    assert refusal(api.put("channel/0", {"streams": labels})) == (400, "BAD_PARAMETER")
    assert api.put("channel/0", {"streams": labels[:2]}).status_code == 200
    assert refusal(api.put("channel/0", {"value1_name": "third"})) == (400, "BAD_PARAMETER")


def test_b4_what_is_used_is_shown(api: Caller, owner: User, channel: Channel, outsider: Caller) -> None:
    api.post("stream/0", {"value": 12345, "tag": "a"})
    api.post("device/d1")
    api.post("event")
    (shown,) = document(api.get("user"))
    used = {
        name: share["used"]
        for name, share in shown["limits"].items()
        if "used" in (share if isinstance(share, dict) else {})
    }
    assert used == {
        "storage": 5,
        "devices": 1,
        "channels": 1,
        "tags": 1,
        "keys": 0,
        "events": 1,
        "activation_rules": 0,
        "held": 0,
        "rejected": 0,
        "retained": 0,
        "connections": 0,
        "durable_sessions": 0,
        "queued": 0,
        "subscriptions": 0,
        "unread": 0,
    }
    (others,) = document(outsider.get("user"))
    assert others["limits"]["storage"]["used"] == others["limits"]["tags"]["used"] == 0


MORE = "or ask the operator for more."


@pytest.mark.parametrize(
    ("path", "headers", "code", "detail"),
    [
        ("device/d2", {}, "MAX_DEVICE_REACH", f"You can have 1 device: delete one first, {MORE}"),
        ("channel/5", {}, "MAX_CHANNEL_REACH", f"You can have 1 channel: delete one first, {MORE}"),
        (
            "channel/0",
            {"X_TAGNAME": "attic"},
            "QUOTA_EXCEEDED",
            "There is no room for 1 more tag: you can have 0 in all channels. Delete tags that are no longer"
            f" used, {MORE}",
        ),
        ("event", {}, "BAD_PARAMETER", f"event: You can have 0 events: delete one first, {MORE}"),
    ],
)
def test_b3_what_can_not_be_made_says_which_limit_is_reached(
    api: Caller,
    owner: User,
    channel: Channel,
    path: str,
    headers: dict[str, str],
    code: str,
    detail: str,
) -> None:
    create_device(owner, "d1")
    limit(owner, max_devices=1, max_channels=1, max_tags=0, max_events=0)
    response = api.post(path, **headers)
    assert refusal(response) == (400 if path == "event" else 403, code)
    assert document(response)["detail"] == detail
    made = (Device.objects.count(), Channel.objects.count(), Tag.objects.count(), Event.objects.count())
    assert made == (1, 1, 0, 0)


def test_b3_a_mapping_whose_held_messages_bring_too_many_tags_changes_nothing(
    api: Caller, owner: User, channel: Channel, outsider: Caller
) -> None:
    device = create_device(owner, "d1")
    HeldMessage.objects.create(device=device, tag="attic", value=1, received_at=timezone.now())
    limit(owner, max_tags=0)
    response = api.put("device/d1", {"mapped_ch": 0, "description": "changed"})
    assert refusal(response) == (403, "QUOTA_EXCEEDED")
    assert "you can have 0 in all channels" in document(response)["detail"]
    device.refresh_from_db()
    assert (device.mapped_channel, device.description, device.held.count()) == (None, "", 1)
    assert outsider.put("device/d1", {"mapped_ch": 0}).status_code == 404
    limit(owner, max_tags=1)
    assert api.put("device/d1", {"mapped_ch": 0}).status_code == 200
    assert device.held.count() == 0
