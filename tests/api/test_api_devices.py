"""GET, POST, PUT, DELETE /v2/device."""

from typing import Any
from urllib.parse import quote

import pytest
from api_calls import Caller, at, document, refusal

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.fields import FACTS
from thingscale.devices.models import Device, HeldMessage
from thingscale.streams.models import Channel

SHAPE = {
    "device_id": "x",
    "description": "",
    "enabled": True,
    "enable": "true",
    "mapped_ch": None,
    **{fact.name: "" for fact in FACTS},
}


def test_a_device_made_by_a_person(api: Caller) -> None:
    response = api.post("device/x")
    assert (response.status_code, document(response)) == (201, {"result": "OK"})
    (device,) = document(api.get("device/x"))
    assert device.pop("activate_at").endswith("+09:00")
    assert device == SHAPE
    assert document(api.get("device")) == document(api.get("device/x"))


def test_post_takes_the_fields_of_put(api: Caller, channel: Channel) -> None:
    sent = {"description": " é\n", "enabled": False, "mapped_ch": 0, "device_type": "t", "location": "l"}
    assert api.post("device/x", sent).status_code == 201
    (device,) = document(api.get("device/x"))
    assert device == SHAPE | sent | {"enable": "false", "activate_at": None}


@pytest.mark.parametrize("device_id", ["a b", "v1.2.3", ".", "..", "温度計", "a%b", "a?b", "a&b=c", "x" * 64])
def test_device_ids_in_the_path(api: Caller, device_id: str) -> None:
    path = f"device/{quote(device_id, safe='')}"
    assert api.post(path).status_code == 201
    (device,) = document(api.get(f"{path}/"))
    assert device["device_id"] == device_id
    assert api.put(path, {"location": "roof"}).status_code == 200
    assert api.delete(path).status_code == 200
    assert refusal(api.get(path)) == (404, "NO_DEVICE")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("0", "DEVICE_ID_ZERO"),
        ("x" * 65, "BAD_PARAMETER"),
        ("a%2Bb", "BAD_PARAMETER"),
        ("a%23b", "BAD_PARAMETER"),
        ("a%00b", "BAD_PARAMETER"),
        ("a%0Ab", "BAD_PARAMETER"),
    ],
)
def test_impossible_device_ids(api: Caller, path: str, code: str) -> None:
    assert refusal(api.post(f"device/{path}")) == (400, code)
    assert refusal(api.get(f"device/{path}")) == (404, "NO_DEVICE")
    assert refusal(api.put(f"device/{path}", {})) == (404, "NO_DEVICE")
    assert refusal(api.delete(f"device/{path}")) == (404, "NO_DEVICE")


def test_a_device_id_in_use_and_one_too_many(api: Caller, owner: User) -> None:
    create_device(owner, "x")
    assert refusal(api.post("device/x")) == (403, "DEVICE_INUSE")
    User.objects.filter(pk=owner.pk).update(max_devices=1)
    assert refusal(api.post("device/y")) == (403, "MAX_DEVICE_REACH")


def test_the_list_is_in_order(api: Caller, owner: User) -> None:
    for device_id in ("b", "a", "c"):
        create_device(owner, device_id)
    assert [device["device_id"] for device in document(api.get("device"))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"enabled": False}, False),
        ({"enabled": "false"}, False),
        ({"enable": "false"}, False),
        ({"enable": False}, False),
        ({"enable": "true"}, True),
        ({"enable": "false", "enabled": True}, True),
        ({}, True),
    ],
)
def test_both_spellings_of_enabled(api: Caller, owner: User, sent: dict[str, Any], shown: bool) -> None:
    create_device(owner, "x")
    response = api.put("device/x", sent)
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    (device,) = document(api.get("device/x"))
    assert (device["enabled"], device["enable"]) == (shown, str(shown).lower())


def test_what_a_get_returned_can_be_sent_back(api: Caller, owner: User, channel: Channel) -> None:
    create_device(owner, "x", mapped_channel=channel, description="d")
    (device,) = document(api.get("device/x"))
    assert api.put("device/x", device).status_code == 200
    assert document(api.get("device/x")) == [device]


def test_mapping_and_unmapping(api: Caller, owner: User, channel: Channel) -> None:
    create_device(owner, "x")
    for sent in (0, "0"):
        assert api.put("device/x", {"mapped_ch": sent}).status_code == 200
        assert document(api.get("device/x"))[0]["mapped_ch"] == 0
    assert api.put("device/x", {"mapped_ch": None}).status_code == 200
    assert document(api.get("device/x"))[0]["mapped_ch"] is None
    assert refusal(api.put("device/x", {"mapped_ch": 7})) == (404, "NO_CHANNEL")
    assert refusal(api.post("device/y", {"mapped_ch": 7})) == (404, "NO_CHANNEL")
    assert not Device.objects.filter(device_id="y").exists()


def test_mapping_stores_what_was_held(api: Caller, owner: User, channel: Channel) -> None:
    device = create_device(owner, "x", enabled=False)
    for second, tag in ((1, None), (2, "t")):
        HeldMessage.objects.create(
            device=device, tag=tag, value={"n": second}, received_at=at(f"2026-01-31 00:00:0{second}")
        )
    assert api.put("device/x", {"enabled": True, "mapped_ch": 0}).status_code == 200
    stream = document(api.get("stream/0", X_ENDTIME="last", X_PAGELIMIT="9"))["stream"]
    assert [(row["tag"], row["value"], row["at"]) for row in stream] == [
        (None, {"n": 1}, "2026-01-31T09:00:01+0900"),
        ("t", {"n": 2}, "2026-01-31T09:00:02+0900"),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * 1001),
        ("description", None),
        ("description", ["x"]),
        ("location", "a\0b"),
        ("location", "\ud800"),
        ("manufacturer", {"name": "x"}),
        ("device_type", True),
        ("enabled", "maybe"),
        ("enabled", None),
        ("enable", {}),
        ("mapped_ch", -1),
        ("mapped_ch", 2**31),
        ("mapped_ch", 10**400),
        ("mapped_ch", 1.5),
        ("mapped_ch", "one"),
        ("mapped_ch", True),
        ("mapped_ch", [0]),
    ],
)
def test_a_bad_field_is_named(api: Caller, owner: User, channel: Channel, field: str, value: Any) -> None:
    create_device(owner, "x")
    for call, path in ((api.put, "device/x"), (api.post, "device/y")):
        response = call(path, {field: value})
        assert refusal(response) == (400, "BAD_PARAMETER")
        assert document(response)["detail"].startswith(f"{field}: ")


def test_state_is_shown_once_there_is_one(api: Caller, owner: User) -> None:
    device = create_device(owner, "x")
    assert "state" not in document(api.get("device/x"))[0]
    device.state, device.state_at = {"pod_run_current": 3, "s": "ok"}, at("2019-09-06 10:01:38")
    device.activate_at = at("2019-09-06 10:01:38.9")
    device.save()
    (shown,) = document(api.get("device/x"))
    assert shown["state"] == {"pod_run_current": 3, "s": "ok", "last_update": "2019-09-06T19:01:38+09:00"}
    assert shown["activate_at"] == "2019-09-06T19:01:38+09:00"


def test_deleting_keeps_the_datapoints(api: Caller, owner: User, channel: Channel) -> None:
    create_device(owner, "x", mapped_channel=channel)
    api.post("stream/0", {"value": 1})
    response = api.delete("device/x")
    assert (response.status_code, document(response)) == (200, {"result": "OK"})
    assert document(api.get("device")) == []
    assert len(document(api.get("stream/0", X_ENDTIME="last"))["stream"]) == 1
