"""Channels and tags: made, renamed, deleted, with what belongs to them."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from series import count, fill, totals

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import Device
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk
from thingscale.provisioning.actions import configure_device
from thingscale.streams import retention, writer
from thingscale.streams.actions.channels import create_channel, delete_channel, update_channel
from thingscale.streams.actions.datapoints import store_rows
from thingscale.streams.actions.tags import create_tag, rename_tag
from thingscale.streams.models import Channel, DeletedChannel, Latest, Tag
from thingscale.streams.tasks import purge_deleted_channels


def refusal(*arguments: Any) -> str:
    with pytest.raises(ContractError) as caught:
        create_channel(*arguments)
    assert caught.value.detail.endswith(".")
    return caught.value.code


def test_a_channel_number_is_unique_within_a_user(user: User, outsider: User) -> None:
    create_channel(user, 0, name="sensor")
    assert refusal(user, 0) == "CHANNEL_INUSE"
    create_channel(outsider, 0)
    assert [Channel.objects.for_account(owner).get().name for owner in (user, outsider)] == ["sensor", ""]


@pytest.mark.parametrize("number", [-1, 2**31, 10**30])
def test_an_impossible_channel_number(user: User, number: int) -> None:
    assert refusal(user, number) == "BAD_PARAMETER"


def test_the_greatest_channel_number(user: User) -> None:
    assert create_channel(user, 2**31 - 1).number == 2**31 - 1


def test_the_quota_is_the_users_own(user: User, outsider: User) -> None:
    user.max_channels = 1
    user.save()
    create_channel(outsider, 0)
    create_channel(user, 0)
    assert refusal(user, 1) == "MAX_CHANNEL_REACH"


def test_a_deleted_channel_leaves_its_devices_unmapped(user: User) -> None:
    channel, other = create_channel(user, 0), create_channel(user, 1)
    mapped = [create_device(user, name) for name in ("d1", "d2", "d3")]
    for device, target in zip(mapped, (channel, channel, other), strict=True):
        configure_device(device, {"mapped_channel": target})
    delete_channel(channel)
    found = dict(Device.objects.values_list("device_id", "mapped_channel"))
    assert found == {"d1": None, "d2": None, "d3": other.pk}


def test_a_deleted_channel_is_purged_with_everything_of_it(user: User) -> None:
    channel, other = create_channel(user, 0), create_channel(user, 1)
    for each in (channel, other):
        fill(each, 5, tag="t")
        fill(each, 2, at=timezone.now() - timedelta(days=900))
    key = channel.pk
    delete_channel(channel)
    assert not Channel.objects.for_account(user).filter(number=0).exists()
    assert DeletedChannel.objects.get().channel == key
    assert not Tag.objects.filter(channel=key).exists()
    purge_deleted_channels()
    assert (count(key), count(other.pk)) == (0, 7)
    assert sum(totals(other).values()) == 7


def test_a_number_can_be_used_again_before_the_purge(user: User) -> None:
    channel = create_channel(user, 0)
    fill(channel, 3)
    delete_channel(channel)
    again = create_channel(user, 0)
    fill(again, 2)
    retention.purge_deleted_channels()
    assert (count(channel.pk or 0), count(again.pk)) == (0, 2)


def test_rows_that_were_on_their_way_are_purged_too(user: User) -> None:
    """A batch that was routed before the channel was deleted is committed after the first purge."""
    channel = create_channel(user, 0)
    key = channel.pk
    delete_channel(channel)
    assert retention.purge_deleted_channels() == 0
    assert DeletedChannel.objects.exists()
    store_rows([writer.Row(ChannelPk(key), 1_700_000_000_000_000, None, None, b"1", None)])
    assert retention.purge_deleted_channels() == 1
    DeletedChannel.objects.update(deleted_at=timezone.now() - timedelta(hours=2))
    assert retention.purge_deleted_channels() == 0
    assert not DeletedChannel.objects.exists()
    assert not Latest.objects.filter(channel=key).exists()
    assert count(key) == 0


def run(command: str, *arguments: object, **options: object) -> str:
    out = StringIO()
    call_command(command, *map(str, arguments), stdout=out, **options)
    return out.getvalue().strip()


def test_the_commands_create_a_channel_and_a_device(user: User) -> None:
    assert run("create_channel", user.user_id, 0, name="sensor_1") == "Channel 0 created."
    assert run("create_device", user.user_id, "d1", channel=0, description="first") == "Device d1 created."
    device = Device.objects.get()
    assert device.mapped_channel == Channel.objects.get(name="sensor_1")
    assert (device.enabled, device.description) == (True, "first")
    run("create_device", user.user_id, "d2")
    assert Device.objects.get(device_id="d2").mapped_channel is None


@pytest.mark.parametrize(
    ("name", "arguments", "options", "said"),
    [
        ("create_channel", ("U999999", 1), {}, "There is no account U999999."),
        ("create_channel", ("", 0), {}, "CHANNEL_INUSE: "),
        ("create_channel", ("", -1), {}, "BAD_PARAMETER: "),
        ("create_device", ("U999999", "d1"), {}, "There is no account U999999."),
        ("create_device", ("", "d1"), {}, "DEVICE_INUSE: "),
        ("create_device", ("", "0"), {}, "DEVICE_ID_ZERO: "),
        ("create_device", ("", "a/b"), {}, "BAD_PARAMETER: "),
        (
            "create_device",
            ("", "d2"),
            {"channel": 7},
            "There is no channel 7: create it first, by create_channel.",
        ),
    ],
)
def test_what_is_wrong_with_a_command_is_said(
    user: User, name: str, arguments: tuple[str, Any], options: dict[str, Any], said: str
) -> None:
    run("create_channel", user.user_id, 0)
    run("create_device", user.user_id, "d1")
    with pytest.raises(CommandError, match=said.replace(".", r"\.")):
        run(name, arguments[0] or user.user_id, "--", arguments[1], **options)
    assert (Channel.objects.count(), Device.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "options", "said"),
    [
        ("create_channel", (1,), {}, "MAX_CHANNEL_REACH: You can have 1 channel: delete one first, or ask"),
        ("create_device", ("d2",), {}, "MAX_DEVICE_REACH: You can have 1 device: delete one first, or ask"),
        ("create_device", ("d2",), {"channel": 0}, "MAX_DEVICE_REACH: You can have 1 device: delete one"),
    ],
)
def test_b3_a_command_says_which_limit_is_reached(
    user: User, name: str, arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    run("create_channel", user.user_id, 0)
    run("create_device", user.user_id, "d1")
    User.objects.filter(pk=user.pk).update(max_channels=1, max_devices=1)
    with pytest.raises(CommandError, match=said):
        run(name, user.user_id, *arguments, **options)
    assert (Channel.objects.count(), Device.objects.count()) == (1, 1)


def test_a_command_can_not_map_to_anothers_channel(user: User, outsider: User) -> None:
    create_channel(outsider, 5)
    with pytest.raises(CommandError, match="no channel 5"):
        run("create_device", user.user_id, "d1", channel=5)


def test_what_was_deleted_meanwhile_can_not_be_changed(user: User) -> None:
    channel = create_channel(user, 0)
    create_tag(channel, "a")
    tag, device = Tag.objects.get(), create_device(user, "pump")
    Device.objects.all().delete()
    delete_channel(Channel.objects.get())
    with pytest.raises(ContractError) as caught:
        configure_device(device, {"location": "roof"})
    assert caught.value.code == "NO_DEVICE"
    with pytest.raises(ContractError) as caught:
        update_channel(channel, {"name": "Lab"})
    assert caught.value.code == "NO_CHANNEL"
    with pytest.raises(ContractError) as caught:
        rename_tag(tag, "b")
    assert caught.value.code == "NO_CHANNEL"
