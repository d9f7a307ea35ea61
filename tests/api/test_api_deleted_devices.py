"""A device that has been deleted is still named by its datapoints, and found by its id."""

import json
from typing import Any

import pytest
from api_calls import Caller, document, refusal
from django.utils import timezone

from thingscale.accounts.models import User
from thingscale.devices import actions
from thingscale.devices.models import DeletedDevice, Device
from thingscale.lib.clock import to_us
from thingscale.streams import recent_messages, writer
from thingscale.streams.actions.datapoints import store_rows
from thingscale.streams.datapoint_table import table_page
from thingscale.streams.models import Channel
from thingscale.streams.queries import Selection

LAST = {"X_ENDTIME": "last", "X_PAGELIMIT": "9", "X_WITHDEVICE": "true"}


def send(device: Device, channel: Channel, value: int) -> None:
    store_rows([writer.Row(channel.id, to_us(timezone.now()), device.id, None, b"%d" % value, None)])


@pytest.fixture
def gone(owner: User, channel: Channel) -> Device:
    device = actions.create_device(owner, "d1", mapped_channel=channel)
    send(device, channel, 1)
    key = device.id
    actions.delete_device(device)
    device.id = key
    return device


def rows(api: Caller, **options: str) -> list[tuple[str | None, Any]]:
    return [
        (row["device_id"], row["value"]) for row in document(api.get("stream/0", **LAST | options))["stream"]
    ]


def test_rows_go_on_naming_it(api: Caller, owner: User, channel: Channel, gone: Device) -> None:
    assert rows(api) == [("d1", 1)]
    (line,) = api.get("stream/0?endtime=last&format=ndjson").content.splitlines()
    assert json.loads(line)["device_id"] == "d1"
    assert b',"d1",1,' in api.get("stream/0?endtime=last&format=csv").content
    assert [row.device_id for row in table_page(Selection(channel.id, "UTC"), 9)] == ["d1"]
    assert [message.device for message in recent_messages.stored(owner, 9)] == ["d1"]


def test_it_is_found_with_the_one_that_came_after_it(
    api: Caller, owner: User, channel: Channel, gone: Device
) -> None:
    assert rows(api, X_DEVICEID="d1") == [("d1", 1)]
    other = actions.create_device(owner, "d2", mapped_channel=channel)
    again = actions.create_device(owner, "d1", mapped_channel=channel)
    send(again, channel, 2)
    send(other, channel, 3)
    assert rows(api, X_DEVICEID="d1") == [("d1", 1), ("d1", 2)]
    assert rows(api) == [("d1", 1), ("d1", 2), ("d2", 3)]
    (result,) = document(
        api.get(
            "stream/0", X_STARTTIME="2000-01-01", X_ENDTIME="2099-12-31", X_DEVICEID="d1", X_AGGREGATE="sum"
        )
    )["result"]
    assert result["value"] == 3


def test_those_of_a_bulk_deletion(api: Caller, owner: User, channel: Channel) -> None:
    for number in range(3):
        send(actions.create_device(owner, f"d{number}", mapped_channel=channel), channel, number)
    assert actions.delete_devices(owner, Device.objects.all()) == 3
    assert rows(api) == [("d0", 0), ("d1", 1), ("d2", 2)]


def test_who_was_never_enabled_leaves_nothing(owner: User) -> None:
    actions.delete_device(actions.create_device(owner, "d1", enabled=False))
    assert not DeletedDevice.objects.exists()


def test_another_account_finds_nothing_by_it(outsider: Caller, gone: Device) -> None:
    outsider.post("channel/0")
    assert rows(outsider, X_DEVICEID="d1") == []
    assert refusal(outsider.get("device/d1")) == (404, "NO_DEVICE")


def test_the_newest_are_kept(owner: User, outsider: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeletedDevice, "KEPT", 2)
    assert outsider.user
    for user, count in ((owner, 3), (outsider.user, 2)):
        for number in range(count):
            actions.delete_device(actions.create_device(user, f"d{number}"))
    actions.forget_old_activity()
    for user in (owner, outsider.user):
        kept = DeletedDevice.objects.for_account(user).order_by("pk").values_list("device_id", flat=True)
        assert list(kept) == (["d1", "d2"] if user == owner else ["d0", "d1"])


def test_ids_go_with_their_account(owner: User) -> None:
    actions.delete_device(actions.create_device(owner, "d1"))
    DeletedDevice.objects.create(device=10**9, user_id=10**9, device_id="of nobody")
    actions.forget_old_activity()
    assert [row.device_id for row in DeletedDevice.objects.all()] == ["d1"]
    owner.delete()
    assert not DeletedDevice.objects.exists()
