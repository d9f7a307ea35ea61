"""Devices made and deleted by people, and durable MQTT sessions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device, delete_device, end_session, keep_session, session_left
from thingscale.devices.models import Device, DurableSession, HeldMessage
from thingscale.lib.errors import Refused


def refusal(user: User, device_id: str) -> str:
    with pytest.raises(Refused) as caught:
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


@pytest.mark.parametrize("device_id", ["00", "x" * 64, "a b.c", " ", "é", "$SYS", "a:b"])
def test_possible_device_ids(user: User, device_id: str) -> None:
    create_device(user, device_id)
    assert Device.objects.get().device_id == device_id


def test_a_device_id_is_unique_within_a_user(user: User, outsider: User) -> None:
    create_device(user, "d1")
    assert refusal(user, "d1") == "DEVICE_INUSE"
    create_device(outsider, "d1")
    assert [Device.objects.for_user(owner).count() for owner in (user, outsider)] == [1, 1]


def test_the_quota_is_the_users_own(user: User, outsider: User) -> None:
    user.max_devices = 1
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


def session(user: User, client_id: str = "c1") -> tuple[list[Any], datetime | None]:
    found = DurableSession.objects.for_user(user).get(client_id=client_id)
    return found.subscriptions, found.expires_at


def test_a_durable_session_lives_from_keep_to_end(user: User, outsider: User) -> None:
    ends = datetime(2026, 1, 2, tzinfo=UTC)
    keep_session(user.pk, "c1", [["T/#", 1]])
    keep_session(outsider.pk, "c1", [])
    keep_session(user.pk, "c2", [])
    assert session(user) == ([["T/#", 1]], None)
    session_left(user.pk, "c1", ends)
    assert session(user) == ([["T/#", 1]], ends)
    keep_session(user.pk, "c1", [["T/a", 0], ["T/b", 2]])
    assert session(user) == ([["T/a", 0], ["T/b", 2]], None)
    end_session(user.pk, "c1")
    assert DurableSession.objects.for_user(user).get().client_id == "c2"
    assert session(outsider) == ([], None)


def test_a_session_that_was_not_kept_neither_leaves_nor_ends(user: User) -> None:
    session_left(user.pk, "c1", None)
    end_session(user.pk, "c1")
    assert not DurableSession.objects.exists()
