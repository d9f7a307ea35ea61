"""Pages next to each other make up the sorted list, forward and back, with ties and missing values."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core import signing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from console.paging import Page, page
from thingscale.accounts.models import User
from thingscale.devices.models import Activity, Device
from thingscale.devices.querysets import DeviceQuerySet

START = datetime(2026, 3, 1, tzinfo=UTC)
ORDERS = ["device_id", "-device_id", "last_seen", "-last_seen", "created_at", "-created_at"]
_moments = st.integers(0, 4).map(lambda n: START + timedelta(microseconds=n))
_rows = st.lists(st.tuples(_moments, st.none() | _moments), max_size=14)


def devices(rows: list[tuple[datetime, datetime | None]]) -> DeviceQuerySet:
    """Of (created_at, last_seen); an outsider has the same."""
    for owner in (User.objects.create(email=f"{name}@example.com") for name in ("outsider", "owner")):
        made = Device.objects.bulk_create(
            Device(user=owner, device_id=f"d{n * 7 % 16:x}", created_at=created)
            for n, (created, _) in enumerate(rows)
        )
        Activity.objects.bulk_create(
            Activity(device=device, last_seen=seen, messages=1)
            for device, (_, seen) in zip(made, rows, strict=True)
            if seen
        )
    return Device.objects.for_account(owner).with_last_seen()


def plainly_sorted(rows: DeviceQuerySet, order: str) -> list[int]:
    """In Python."""
    field, falling = order.removeprefix("-"), order.startswith("-")
    found = sorted(rows, key=lambda row: row.pk)
    have = [row for row in found if getattr(row, field) is not None]
    have.sort(key=lambda row: getattr(row, field), reverse=falling)
    return [row.pk for row in have] + [row.pk for row in found if getattr(row, field) is None]


def keys(shown: Page[Device]) -> list[int]:
    return [row.pk for row in shown.rows]


class Walking(TestCase):
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_rows, st.sampled_from(ORDERS), st.integers(1, 5))
    def test_there_and_back(
        self, rows: list[tuple[datetime, datetime | None]], order: str, size: int
    ) -> None:
        found = devices(rows)
        expected = plainly_sorted(found, order)
        pages = [page(found, order, size)]
        while following := pages[-1].next:
            pages.append(page(found, order, size, following))
        assert [key for shown in pages for key in keys(shown)] == expected
        assert all(len(shown.rows) == size for shown in pages[:-1])
        back = [pages[-1]]
        while previous := back[-1].previous:
            back.append(page(found, order, size, previous))
        assert [keys(shown) for shown in reversed(back)] == [keys(shown) for shown in pages]
        assert back[-1] == pages[0]


@pytest.fixture
def ten(db: None) -> DeviceQuerySet:
    return devices([(START + timedelta(seconds=n), None) for n in range(10)])


def test_rows_that_come_and_go_shift_no_page(ten: DeviceQuerySet) -> None:
    first = page(ten, "created_at", 4)
    assert first.next
    ten.filter(pk__in=keys(first)[1:3]).delete()
    second = page(ten, "created_at", 4, first.next)
    assert keys(second) == plainly_sorted(ten, "created_at")[2:6]
    assert second.previous
    assert keys(page(ten, "created_at", 4, second.previous)) == plainly_sorted(ten, "created_at")[:4]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "a:b:c",
        "\0",
        "é",
        pytest.param(signing.Signer().sign_object([False, "d1", 1]), id="unsalted"),
    ],
)
def test_what_is_no_cursor_leads_to_the_first_page(ten: DeviceQuerySet, cursor: str) -> None:
    assert page(ten, "device_id", 4, cursor) == page(ten, "device_id", 4)


def test_a_cursor_is_good_for_its_order_only(ten: DeviceQuerySet) -> None:
    other = page(ten, "created_at", 4).next
    assert other
    assert page(ten, "device_id", 4, other) == page(ten, "device_id", 4)


def test_beyond_the_end_is_the_first_page(ten: DeviceQuerySet) -> None:
    cursor = page(ten, "device_id", 9).next
    assert cursor
    ten.filter(device_id=ten.order_by("device_id").last()).delete()
    assert keys(page(ten, "device_id", 9, cursor)) == plainly_sorted(ten, "device_id")


def test_a_cursor_shows_an_outsider_nothing(ten: DeviceQuerySet) -> None:
    cursor = page(ten, "device_id", 4).next
    assert cursor
    outsider = User.objects.create(email="else@example.com")
    assert page(Device.objects.for_account(outsider), "device_id", 4, cursor) == Page([], None, None)
