"""Devices made and deleted by people."""

from datetime import UTC, datetime

import pytest

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device, delete_device
from thingscale.devices.models import Device, HeldMessage
from thingscale.lib.errors import ContractError


def refusal(user: User, device_id: str) -> str:
    with pytest.raises(ContractError) as caught:
        create_device(user, device_id)
    assert caught.value.detail.endswith(".")
    return caught.value.code


def test_a_device_made_by_a_person_is_enabled_and_unmapped(user: User) -> None:
    device = create_device(user, "温度計 1", description="first")
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel, device.description) == (True, None, "first")
    assert device.activate_at is not None


def test_one_made_disabled_is_still_new(user: User) -> None:
    assert create_device(user, "d1", enabled=False).activate_at is None


@pytest.mark.parametrize(
    ("device_id", "code"),
    [
        *(
            ("", "DEVICE_ID_ZERO"),
            ("0", "DEVICE_ID_ZERO"),
            ("x" * 65, "BAD_PARAMETER"),
            ("a/b", "BAD_PARAMETER"),
        ),
        *(
            ("a+", "BAD_PARAMETER"),
            ("#", "BAD_PARAMETER"),
            ("a\0", "BAD_PARAMETER"),
            ("\x85", "BAD_PARAMETER"),
        ),
        ("\ud800", "BAD_PARAMETER"),
    ],
)
def test_impossible_device_ids(user: User, device_id: str, code: str) -> None:
    assert refusal(user, device_id) == code


@pytest.mark.parametrize("device_id", ["00", "x" * 64, "a b.c", "é", "$SYS", "a:b"])
def test_possible_device_ids(user: User, device_id: str) -> None:
    create_device(user, device_id)
    assert Device.objects.get().device_id == device_id


def test_a_device_id_is_unique_within_a_user(user: User, outsider: User) -> None:
    create_device(user, "d1")
    assert refusal(user, "d1") == "DEVICE_INUSE"
    create_device(outsider, "d1")
    assert [Device.objects.for_account(owner).count() for owner in (user, outsider)] == [1, 1]


def test_the_quota_is_the_users_own(user: User, outsider: User) -> None:
    user.max_devices = 1
    user.save()
    create_device(outsider, "d1")
    create_device(user, "d1")
    assert refusal(user, "d2") == "MAX_DEVICE_REACH"


def test_a_deleted_device_takes_its_held_messages_along(user: User) -> None:
    device, other = create_device(user, "d1"), create_device(user, "d2")
    now = datetime.now(UTC)
    HeldMessage.objects.bulk_create(
        [HeldMessage(device=d, value=1, received_at=now) for d in (device, other)]
    )
    delete_device(device)
    assert list(Device.objects.values_list("device_id", flat=True)) == ["d2"]
    assert HeldMessage.objects.get().device == other
