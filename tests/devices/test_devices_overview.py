"""Which devices are heard, silent, never heard, new; messages per minute; the figures of the home page."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device, forget_old_activity
from thingscale.devices.models import Activity, Device, MinuteCount, RejectedMessage
from thingscale.devices.overview import MINUTE, Overview, overview
from thingscale.devices.querysets import SILENT, UNHEARD, Counts, DeviceQuerySet
from thingscale.devices.tasks import forget_old_activity as task
from thingscale.lib.points import Points
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_points

NOW = datetime(2026, 3, 1, 12, 30, 20, tzinfo=UTC)


def heard(device: Device, ago: timedelta, now: datetime | None = None) -> Activity:
    last = (now or timezone.now()) - ago
    silent_since = last if device.device_id == "silent" else None
    return Activity.objects.create(device=device, last_seen=last, messages=1, silent_since=silent_since)


def count(user: User, minute: datetime, stored: int = 0, held: int = 0, rejected: int = 0) -> None:
    MinuteCount.objects.create(user=user, minute=minute, stored=stored, held=held, rejected=rejected)


def reject(user: User, reason: str, at: datetime, times: int = 1) -> None:
    RejectedMessage.objects.bulk_create(
        RejectedMessage(user=user, source="json", reason=reason, payload=b"", size=0, received_at=at)
        for _ in range(times)
    )


@pytest.fixture
def some(user: User, outsider: User) -> DeviceQuerySet:
    """Alive, silent, never heard, disabled and heard, new; and an outsider's of each."""
    for owner in (outsider, user):
        alive, silent, _, disabled, _ = (
            create_device(owner, name, enabled=name not in {"disabled", "new"})
            for name in ("alive", "silent", "never", "disabled", "new")
        )
        Device.objects.filter(pk=disabled.pk).update(activate_at=NOW)
        heard(alive, timedelta(hours=23))
        heard(silent, timedelta(hours=25))
        heard(disabled, timedelta())
        alive.mapped_channel = create_channel(owner, 0)
        alive.save()
    return Device.objects.for_account(user)


def names(devices: DeviceQuerySet) -> set[str]:
    found = [device.device_id for device in devices]
    assert len(found) == len(set(found))
    return set(found)


def test_the_filters(some: DeviceQuerySet) -> None:
    assert names(some.enabled()) == {"alive", "silent", "never"}
    assert names(some.new()) == {"new"}
    assert names(some.filter(SILENT)) == {"silent"}
    assert names(some.filter(UNHEARD)) == {"never"}


def test_last_seen_comes_with_the_devices(some: DeviceQuerySet) -> None:
    with CaptureQueriesContext(connection) as queries:
        seen = {device.device_id: device.last_seen for device in some.with_last_seen()}
    assert len(queries) == 1
    assert {name for name, at in seen.items() if at is None} == {"never", "new"}
    assert sorted(filter(None, seen.values())) == [seen["silent"], seen["alive"], seen["disabled"]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("METER", {"meter-1", "b"}),
        ("roof", {"meter-1"}),
        ("Dach", {"b"}),
        ("100%", {"c"}),
        ("_", {"c"}),
        ("温度", {"c"}),
        ("", {"meter-1", "b", "c"}),
        ("a\0b", set()),
        ("nothing", set()),
    ],
)
def test_search(user: User, outsider: User, text: str, found: set[str]) -> None:
    create_device(user, "meter-1", location="on the Roof")
    create_device(user, "b", device_type="Meter", description="auf dem Dach")
    create_device(user, "c", description="100% of_it 温度計")
    create_device(outsider, "meter-1", location="roof", description="100% _ Dach 温度")
    assert names(Device.objects.for_account(user).search(text)) == found


def test_the_overview(user: User, some: DeviceQuerySet) -> None:
    now = timezone.now()
    this = now.replace(second=0, microsecond=0)
    count(user, this, stored=5)
    count(user, this - MINUTE, 1, 2, 3)
    count(user, this - 60 * MINUTE, rejected=10)
    count(user, this - timedelta(hours=25), rejected=100)
    reject(user, "BAD_JSON_FORMAT", now)
    reject(user, "TOO_LARGE", now, times=2)
    reject(user, "TOO_LARGE", now - timedelta(hours=25))
    with CaptureQueriesContext(connection) as queries:
        seen = overview(user, now)
    assert len(queries) == 3
    assert seen._replace(per_minute=[]) == Overview(
        *(5, 3, 1, 1, 1, 1, 4), 13, {"TOO_LARGE": 2, "BAD_JSON_FORMAT": 1}, []
    )
    assert list(seen.rejected_by_reason) == ["TOO_LARGE", "BAD_JSON_FORMAT"]
    assert [minute.minute for minute in seen.per_minute] == [this - MINUTE * age for age in range(59, -1, -1)]
    assert [minute[1:] for minute in seen.per_minute] == [(0, 0, 0)] * 58 + [(1, 2, 3), (5, 0, 0)]


def test_the_overview_of_one_who_has_nothing(outsider: User, user: User) -> None:
    count(user, NOW.replace(second=0), 1, 1, 1)
    reject(user, "TOO_LARGE", NOW)
    heard(create_device(user, "d1"), timedelta(), NOW)
    seen = overview(outsider, NOW)
    assert seen[:9] == (0, 0, 0, 0, 0, 0, 0, 0, {})
    assert not any(sum(minute[1:]) for minute in seen.per_minute)


def test_minutes_are_their_users_own(user: User, outsider: User) -> None:
    minute = NOW.replace(second=0)
    for owner, stored in ((user, 1), (outsider, 2)):
        for age in (2, 1, 0):
            count(owner, minute - MINUTE * age, stored, age)
    assert MinuteCount.objects.for_account(user).since(minute - MINUTE) == {
        minute - MINUTE: Counts(1, 1),
        minute: Counts(1),
    }


def test_points_written_over_rest_are_counted(user: User, outsider: User) -> None:
    channel = create_channel(user, 0)
    now = timezone.now()
    points = [(None, b"1", 1_700_000_000_000_000 + n) for n in range(3)]
    for _ in range(2):
        store_points(channel, Points.of(points), ("once", UUID(int=1)))
    store_points(channel, Points.of(points))
    store_points(channel, Points.of([]))
    counts = MinuteCount.objects.for_account(user).since(now - MINUTE)
    assert sum(count.stored for count in counts.values()) == 6
    assert not MinuteCount.objects.for_account(outsider).exists()


def test_activity_goes_with_its_device(user: User) -> None:
    devices = [Device(user=user, device_id=f"d{n}") for n in range(1000)]
    Device.objects.bulk_create(devices)
    Activity.objects.bulk_create(Activity(device=d, last_seen=NOW, messages=1) for d in devices)
    with CaptureQueriesContext(connection) as queries:
        Device.objects.for_account(user).delete()
    assert len(queries) < 20  # a hundred devices each
    assert not Activity.objects.exists()


def test_what_is_old_or_left_over_goes(user: User) -> None:
    now = timezone.now()
    for age in (32, 30):
        count(user, now - timedelta(days=age), 1)
    kept = heard(create_device(user, "d1"), timedelta())
    Activity(device_id=kept.pk + 10**6, last_seen=now, messages=1).save(force_insert=True)
    task()
    assert [activity.pk for activity in Activity.objects.all()] == [kept.pk]
    assert MinuteCount.objects.get().minute > now - MinuteCount.KEPT
    forget_old_activity()
    assert MinuteCount.objects.count() == 1
