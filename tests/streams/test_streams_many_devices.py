"""Many devices at once: configured, deleted, imported from a table and exported to one."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from series import count

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device, delete_devices
from thingscale.devices.models import Device, HeldMessage
from thingscale.devices.querysets import DeviceQuerySet
from thingscale.lib import csv_file
from thingscale.lib.csv_file import CsvRow
from thingscale.processes import change_notifications
from thingscale.provisioning import device_csv, held_messages
from thingscale.provisioning.actions import configure_devices, import_devices
from thingscale.provisioning.device_csv import COLUMNS, Report, export_rows
from thingscale.provisioning.tasks import store_left_held
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel, Tag

pytestmark = pytest.mark.slow


@pytest.fixture
def channel(user: User) -> Channel:
    return create_channel(user, 7)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(change_notifications, "announce", lambda *change: found.append(change))
    return found


def many(user: User, number: int, **fields: Any) -> DeviceQuerySet:
    Device.objects.bulk_create(Device(user=user, device_id=f"d{n:05d}", **fields) for n in range(number))
    return Device.objects.for_account(user)


def hold(device: Device, *values: Any, tag: str | None = None) -> None:
    now = timezone.now()
    for n, value in enumerate(values):
        at = now + timedelta(microseconds=n)
        HeldMessage.objects.create(device=device, value=value, tag=tag, received_at=at)


def stored(channel: Channel) -> list[tuple[int, str]]:
    """(device, value), in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT device, value::text FROM datapoint WHERE channel = %s ORDER BY device, at, id",
            [channel.pk],
        )
        return list(cursor.fetchall())


def test_many_are_enabled_and_mapped(user: User, channel: Channel, told: list[tuple[Any, ...]]) -> None:
    devices = many(user, 3, enabled=False)
    first, second, third = devices.order_by("pk")
    hold(second, 1, 2.50)
    hold(first, 3)
    hold(second, "t", tag="t")
    hold(third, 4)
    changes = {"enabled": True, "mapped_channel": channel}
    chosen = devices.with_last_seen().exclude(pk=third.pk).order_by("-device_id")
    assert configure_devices(user, chosen, changes) == 2
    assert stored(channel) == [(first.pk, "3"), (second.pk, "1"), (second.pk, "2.5"), (second.pk, '"t"')]
    assert Tag.objects.get().name == "t"
    assert told == [("devices", user.pk)]
    assert [device.activate_at is None for device in devices.order_by("pk")] == [False, False, True]
    assert HeldMessage.objects.get().device == third


def test_what_is_not_ready_keeps_its_held_messages(user: User, channel: Channel) -> None:
    devices = many(user, 2, enabled=False)
    for device in devices:
        hold(device, 1)
    configure_devices(user, devices, {"mapped_channel": channel})
    configure_devices(user, devices.filter(device_id="d00000"), {"enabled": True})
    assert count(channel.pk) == 1
    assert HeldMessage.objects.count() == 1


def test_held_messages_are_stored_slice_by_slice(
    user: User, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_messages, "BATCH_DEVICES", 2)
    devices = many(user, 5)
    for device in devices:
        hold(device, *range(3), tag=f"t{device.pk % 2}")
    assert configure_devices(user, devices, {"mapped_channel_id": channel.pk}) == 5
    assert [value for _, value in stored(channel)] == ["0", "1", "2"] * 5


def test_what_was_cut_off_before_its_held_messages_were_stored(user: User, channel: Channel) -> None:
    device, other = many(user, 2)
    hold(device, 1)
    hold(other, 2)
    Device.objects.filter(pk=device.pk).update(mapped_channel=channel)
    store_left_held()
    assert stored(channel) == [(device.pk, "1")]


def test_ten_thousand_take_few_queries(user: User, channel: Channel) -> None:
    devices = many(user, 10_000, enabled=False)
    with CaptureQueriesContext(connection) as queries:
        assert configure_devices(user, devices, {"enabled": True, "mapped_channel": channel}) == 10_000
    assert len(queries) < 80
    with CaptureQueriesContext(connection) as queries:
        assert delete_devices(user, devices) == 10_000
    assert len(queries) < 120
    assert not devices.exists()


def test_nobody_changes_what_is_somebody_elses(
    user: User, outsider: User, told: list[tuple[Any, ...]]
) -> None:
    theirs = create_device(outsider, "d1")
    everything = Device.objects.all()
    mine = create_device(user, "d1")
    assert configure_devices(user, everything, {"enabled": False}) == 1
    assert delete_devices(user, everything) == 1
    assert list(everything.values_list("pk", "enabled")) == [(theirs.pk, True)]
    assert told[-2:] == [("devices", user.pk)] * 2
    assert mine.pk != theirs.pk


def sheet_of(*lines: str, header: str = "device_id") -> list[CsvRow]:
    return csv_file.read("\n".join([header, *lines]).encode(), COLUMNS, device_csv.KEY)


def faults(user: User, rows: list[CsvRow]) -> list[tuple[int, str]]:
    report = import_devices(user, rows)
    assert all(fault.message.endswith(".") for fault in report.errors)
    return [(fault.line, fault.field) for fault in report.errors]


def shown(user: User) -> list[dict[str, str]]:
    """The cells of an export that are not empty."""
    rows = export_rows(Device.objects.for_account(user))
    return [{name: cell for name, cell in zip(COLUMNS, row, strict=True) if cell} for row in rows]


def test_an_import_makes_and_changes(
    user: User, outsider: User, channel: Channel, told: list[tuple[Any, ...]]
) -> None:
    create_device(user, "old", description="kept", location="cellar", enabled=False)
    create_device(outsider, "old", description="theirs")
    hold(Device.objects.for_account(user).get(), 1)
    rows = sheet_of("old;yes;7;roof", "new;FALSE; ;", "new2;;7;", header="device_id;enabled;channel;location")
    told.clear()
    assert import_devices(user, rows, dry_run=True) == Report(2, 1, [], channels=[])
    assert (len(shown(user)), told) == (1, [])
    assert import_devices(user, rows) == Report(2, 1, [], channels=[], written=True)
    assert shown(user) == [
        {"device_id": "new", "enabled": "false"},
        {"device_id": "new2", "enabled": "true", "channel": "7"},
        {"device_id": "old", "description": "kept", "enabled": "true", "channel": "7", "location": "roof"},
    ]
    assert told == [("devices", user.pk)]
    assert count(channel.pk) == 1
    assert [d.activate_at is None for d in Device.objects.for_account(user).order_by("device_id")] == [
        *(True, False, False)
    ]
    assert shown(outsider) == [{"device_id": "old", "description": "theirs", "enabled": "true"}]
    assert import_devices(user, rows) == Report(0, 3, [], channels=[], written=True)


def test_columns_that_are_not_there_change_nothing(user: User, channel: Channel) -> None:
    create_device(user, "d1", description="d", location="l", mapped_channel=channel, enabled=False)
    before = shown(user)
    import_devices(user, sheet_of("d1"))
    import_devices(user, sheet_of("d1,", header="device_id,enabled"))
    assert shown(user) == before
    import_devices(user, sheet_of("d1,,", header="device_id,channel,description"))
    assert shown(user) == [{"device_id": "d1", "enabled": "false", "location": "l"}]


def test_an_import_with_an_error_writes_nothing(user: User, outsider: User, channel: Channel) -> None:
    create_channel(outsider, 8)
    rows = sheet_of(
        *("good,true,7,", "0,true,7,", "a/b,,,", "good,,,", "d4,maybe,7,", "d5,,8,", "d6,,x,", "d7,,٧,"),
        *("d8,,7," + "x" * 201, "d9,,7,\0"),
        header="device_id,enabled,channel,location",
    )
    assert faults(user, rows) == [
        *((3, "device_id"), (4, "device_id"), (5, "device_id"), (6, "enabled")),
        *((10, "location"), (11, "location")),
    ]
    report = import_devices(user, rows)
    assert (report.channels, report.written) == (["8", "x", "٧"], False)  # that would be made
    assert not Device.objects.for_account(user).exists()
    assert Channel.objects.for_account(user).get() == channel


def test_an_import_keeps_to_the_quota(user: User) -> None:
    create_device(user, "d1")
    user.max_devices = 3
    user.save()
    assert faults(user, sheet_of("d4", "d1", "d3", "d2")) == [(5, "device_id")]
    assert faults(user, sheet_of("d1", "d3", "d2")) == []
    user.max_devices = 1
    user.save()
    assert faults(user, sheet_of("d1", "d2")) == []


def test_an_export_can_be_imported(user: User, outsider: User, channel: Channel) -> None:
    create_channel(outsider, 7)
    create_device(user, "é b", description='a "b",\r\nc; \t', location="\n", mapped_channel=channel)
    create_device(user, "2", enabled=False, manufacturer="=1+1", device_type="'")
    for device_id in ("=a", "'=a", "-1", "@x", "'b", "''-c"):
        create_device(user, device_id, description="\t=1", location=device_id)
    before = shown(user)
    exported = csv_file.write([COLUMNS, *export_rows(Device.objects.for_account(user))])
    rows = csv_file.read("".join(exported).encode(), COLUMNS, device_csv.KEY)
    assert import_devices(outsider, rows) == Report(8, 0, [], channels=[], written=True)
    assert shown(outsider) == before
    assert import_devices(user, rows) == Report(0, 8, [], channels=[], written=True)
    assert shown(user) == before


def test_ten_thousand_rows_in_a_few_seconds(user: User, channel: Channel) -> None:
    lines = [f"meter-{n:05d},description {n},true,7,type,Room {n}" for n in range(10_000)]
    rows, seconds = sheet_of(*lines, header="device_id,description,enabled,channel,device_type,location"), []
    for created, updated in ((10_000, 0), (0, 10_000)):
        began = time.process_time()
        with CaptureQueriesContext(connection) as queries:
            assert import_devices(user, rows) == Report(created, updated, [], channels=[], written=True)
        seconds.append(time.process_time() - began)
        assert len(queries) < 100
    assert min(seconds) < 5
    assert len(shown(user)) == 10_000
