"""Auto-activation: new devices are enabled and mapped by the first rule that matches."""

from collections.abc import Iterable
from typing import Any

import pytest
from django.utils import timezone
from series import count

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import ActivationRule, Device, HeldMessage
from thingscale.provisioning.actions import configure_device
from thingscale.provisioning.tasks import activate_device, activate_new_devices
from thingscale.streams.actions.channels import create_channel, delete_channel
from thingscale.streams.models import Channel


@pytest.fixture
def channels(user: User) -> list[Channel]:
    return [create_channel(user, number) for number in range(3)]


def rules(user: User, *patterns: tuple[str, Channel]) -> None:
    for position, (pattern, channel) in enumerate(patterns):
        ActivationRule.objects.create(user=user, pattern=pattern, channel=channel, position=position)


def first_contact(user: User, device_id: str, values: Iterable[Any] = ()) -> Device:
    """As ingest leaves it."""
    device = create_device(user, device_id, enabled=False)
    for value in values:
        HeldMessage.objects.create(device=device, value=value, received_at=timezone.now())
    return device


def target(device: Device) -> int | None:
    """The number of the channel that the device is mapped to."""
    device.refresh_from_db()
    assert device.enabled == (device.activate_at is not None) == (device.mapped_channel is not None)
    return device.mapped_channel.number if device.mapped_channel else None


@pytest.mark.parametrize(
    ("device_id", "channel"),
    [
        ("meter-7", 0),
        ("meter-77", 1),
        ("METER-7", None),
        ("x-meter-7", None),
        ("rack.a[1]", 2),
        ("rack.a1", None),
        ("other", None),
    ],
)
def test_the_first_rule_that_matches(
    user: User, channels: list[Channel], device_id: str, channel: int | None
) -> None:
    rules(user, ("meter-?", channels[0]), ("meter-*", channels[1]), ("rack.a[1]", channels[2]))
    device = first_contact(user, device_id)
    activate_device(device.pk)
    assert target(device) == channel


def test_position_counts_and_not_age(user: User, channels: list[Channel]) -> None:
    ActivationRule.objects.create(user=user, pattern="*", channel=channels[0], position=5)
    ActivationRule.objects.create(user=user, pattern="*", channel=channels[1], position=1)
    device = first_contact(user, "d1")
    activate_device(device.pk)
    assert target(device) == 1


def test_what_was_held_is_stored(user: User, channels: list[Channel]) -> None:
    rules(user, ("*", channels[0]))
    device = first_contact(user, "d1", [1, {"temp": 2.50}])
    activate_device(device.pk)
    assert count(channels[0].pk) == 2
    assert not device.held.exists()


def test_a_rule_is_its_users_own(user: User, outsider: User, channels: list[Channel]) -> None:
    rules(user, ("*", channels[0]))
    device = first_contact(outsider, "d1")
    activate_device(device.pk)
    activate_new_devices()
    assert target(device) is None


def test_the_periodic_task_catches_up(user: User, outsider: User, channels: list[Channel]) -> None:
    """On rules that came after the device, and on first contacts whose task was lost."""
    new = [first_contact(user, name, [1]) for name in ("meter-1", "meter-2", "other")]
    activate_new_devices()
    assert [target(device) for device in new] == [None] * 3
    rules(user, ("meter-*", channels[2]))
    activate_new_devices()
    assert [target(device) for device in new] == [2, 2, None]
    assert count(channels[2].pk) == 2


def test_what_a_person_decided_stays(user: User, channels: list[Channel]) -> None:
    """Neither a device that was disabled later, nor one enabled and left unmapped, is new."""
    disabled, unmapped = create_device(user, "d1"), create_device(user, "d2")
    configure_device(disabled, {"enabled": False})
    rules(user, ("*", channels[0]))
    for device in (disabled, unmapped):
        activate_device(device.pk)
    activate_new_devices()
    assert list(Device.objects.order_by("device_id").values_list("enabled", flat=True)) == [False, True]
    assert not Device.objects.exclude(mapped_channel=None).exists()


def test_a_device_that_is_gone_is_no_error(user: User) -> None:
    activate_device(10**9)


def test_a_rule_goes_with_its_channel(user: User, channels: list[Channel]) -> None:
    rules(user, ("*", channels[0]))
    delete_channel(channels[0])
    device = first_contact(user, "d1")
    activate_device(device.pk)
    activate_new_devices()
    assert target(device) is None


def test_b3_a_device_without_room_for_its_tags_waits_and_keeps_no_other_waiting(
    user: User, outsider: User, channels: list[Channel], caplog: pytest.LogCaptureFixture
) -> None:
    """The next round tries it again."""
    rules(user, ("*", channels[0]))
    User.objects.filter(pk=user.pk).update(max_tags=0)
    crowded, plain = first_contact(user, "d1"), first_contact(user, "d2", [2])
    HeldMessage.objects.create(device=crowded, tag="attic", value=1, received_at=timezone.now())
    activate_device(crowded.pk)
    with caplog.at_level("INFO", "thingscale.provisioning.tasks"):
        activate_new_devices()
    assert "There is no room for 1 more tag: you can have 0 in all channels." in caplog.text
    assert (target(crowded), target(plain), crowded.held.count()) == (None, 0, 1)
    User.objects.filter(pk=user.pk).update(max_tags=1)
    activate_new_devices()
    assert (target(crowded), crowded.held.count(), count(channels[0].pk)) == (0, 0, 2)
