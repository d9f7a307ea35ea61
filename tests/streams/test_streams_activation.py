"""Auto-activation: new devices are enabled and mapped by the first rule that matches."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone
from series import count

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device, create_rule, delete_device, update_rule
from thingscale.devices.models import ActivationRule, Device, HeldMessage
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk
from thingscale.provisioning.actions import activate_by_rule, configure_device
from thingscale.provisioning.tasks import activate_device, activate_new_devices
from thingscale.streams.actions.channels import create_channel, delete_channel
from thingscale.streams.models import Channel
from thingscale.version import RELEASE


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


def own_rule(user: User, pattern: str = "*") -> None:
    create_rule(user, pattern, None)


def named(user: User) -> dict[int, str]:
    return dict(Channel.objects.for_account(user).values_list("number", "name"))


def test_each_device_its_own_channel(user: User, channels: list[Channel]) -> None:
    own_rule(user, "meter-*")
    first, second, other = (first_contact(user, name, [1]) for name in ("meter-1", "meter-2", "other"))
    activate_device(first.pk)
    activate_new_devices()
    assert [target(device) for device in (first, second, other)] == [3, 4, None]
    assert named(user) == {0: "", 1: "", 2: "", 3: "meter-1", 4: "meter-2"}
    assert [count(ChannelPk(device.mapped_channel_id or 0)) for device in (first, second)] == [1, 1]


def test_its_own_channel_once_however_often(user: User) -> None:
    own_rule(user)
    device = first_contact(user, "d1", [1])
    for _ in range(3):
        activate_device(device.pk)
        activate_new_devices()
    assert named(user) == {0: "d1"}


def test_the_channel_of_the_device_before_is_taken(user: User) -> None:
    """A device that is deleted and comes back goes on where it was."""
    own_rule(user)
    device = first_contact(user, "d1", [1])
    activate_device(device.pk)
    delete_device(device)
    again = first_contact(user, "d1", [2])
    activate_device(again.pk)
    assert (named(user), target(again)) == ({0: "d1"}, 0)


def test_a_channel_of_its_name_that_others_use_is_not(user: User) -> None:
    create_device(user, "other", mapped_channel=create_channel(user, 7, name="d1"))
    own_rule(user)
    device = first_contact(user, "d1")
    activate_device(device.pk)
    assert (named(user), target(device)) == ({7: "d1", 8: "d1"}, 8)


def test_a_channel_that_is_deleted_later_does_not_come_back(user: User) -> None:
    own_rule(user)
    device = first_contact(user, "d1", [1])
    activate_device(device.pk)
    delete_channel(Channel.objects.get())
    activate_device(device.pk)
    activate_new_devices()
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel, named(user)) == (True, None, {})
    assert ActivationRule.objects.exists()


def test_without_room_for_channels_devices_wait(
    user: User, outsider: User, channels: list[Channel], django_assert_max_num_queries: Any
) -> None:
    """Those that need none do not wait, and a round asks the account once."""
    own_rule(user, "meter-*")
    create_rule(user, "*", channels[0].id)
    own_rule(outsider)
    User.objects.filter(pk=user.pk).update(max_channels=4)
    waiting = [first_contact(user, f"meter-{n}", [1]) for n in range(20)]
    plain, elsewhere = first_contact(user, "plain"), first_contact(outsider, "d1")
    with django_assert_max_num_queries(90):
        activate_new_devices()
    found = [target(device) for device in waiting]
    assert sorted(found, key=str) == [3, *[None] * 19]
    assert (target(plain), target(elsewhere)) == (0, 0)
    assert all(device.held.count() == (device.mapped_channel is None) for device in waiting)
    User.objects.filter(pk=user.pk).update(max_channels=100)
    activate_new_devices()
    assert sorted(map(str, map(target, waiting))) == sorted(map(str, range(3, 23)))


def test_the_last_number_leaves_those_below(user: User) -> None:
    create_channel(user, Channel.MAX_NUMBER)
    create_channel(user, 1)
    own_rule(user)
    devices = [first_contact(user, name) for name in ("d1", "d2")]
    activate_new_devices()
    assert [target(device) for device in devices] == [0, 2]


def test_of_a_person_and_a_task_the_first_one_decides(user: User, channels: list[Channel]) -> None:
    own_rule(user)
    device = first_contact(user, "d1")
    (rule,) = ActivationRule.objects.all()
    configure_device(device, {"enabled": True, "mapped_channel": channels[1]})
    activate_by_rule(device, rule)
    assert (target(device), len(named(user))) == (1, 3)


@pytest.mark.django_db(transaction=True)
def test_two_workers_make_one_channel(user: User) -> None:
    """Each with its own connection, and with the device as it was read before."""
    own_rule(user)
    (rule,) = ActivationRule.objects.all()
    devices = [first_contact(user, f"d{number}", [1]) for number in range(4)]
    both = threading.Barrier(2)

    def work() -> None:
        both.wait(30)
        for device in devices:
            activate_by_rule(device, rule)
        connections.close_all()

    with ThreadPoolExecutor(2) as workers:
        for done in [workers.submit(work) for _ in range(2)]:
            done.result(60)
    assert named(user) == {0: "d0", 1: "d1", 2: "d2", 3: "d3"}
    assert [target(device) for device in devices] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("release", "seen", "refused"), [(-1, 0, True), (-1, 61, False), (0, 0, False), (1, 0, False)]
)
def test_such_a_rule_waits_for_the_release_before_to_end(
    user: User, channels: list[Channel], release: int, seen: int, refused: bool
) -> None:
    """Its processes would enable a device, and leave it unmapped."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO processes_process (part, host, pid, version, release, secret_key, seen_at)
            VALUES ('celery', 'here', 1, '', %s, '', now() - make_interval(secs => %s))""",
            [RELEASE + release, seen],
        )
    rule = create_rule(user, "one", channels[0].id)
    for make in (lambda: create_rule(user, "own", None), lambda: update_rule(rule, {"channel_id": None})):
        if refused:
            with pytest.raises(ContractError, match="being updated"):
                make()
        else:
            make()
    update_rule(rule, {"pattern": "other"})
