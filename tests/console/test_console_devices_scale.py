"""Ten thousand devices and a thousand channels: how many queries a page costs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from support import Account

from thingscale.devices.models import Activity, Device
from thingscale.streams.models import Channel

SignIn = Callable[[Account], Client]
DEVICES, CHANNELS = 10_000, 1_000


@pytest.fixture
def fleet(account: Account) -> Device:
    channels = Channel.objects.bulk_create(
        Channel(user=account.user, number=n, name=f"Channel of hall {n}") for n in range(CHANNELS)
    )
    now = timezone.now()
    devices = Device.objects.bulk_create(
        Device(
            user=account.user,
            device_id=f"sensor-{n:05}",
            location=f"Hall {n % 40}",
            enabled=n % 7 > 0,
            activate_at=now if n % 5 else None,
            mapped_channel=channels[n % CHANNELS] if n % 9 else None,
        )
        for n in range(DEVICES)
    )
    Activity.objects.bulk_create(
        Activity(device=device, last_seen=now - timedelta(seconds=n), messages=n)
        for n, device in enumerate(devices[:9000])
    )
    return devices[4321]


@pytest.fixture
def client_of(account: Account, signed_in: SignIn) -> Client:
    return signed_in(account)


def test_pages_cost_at_most_twelve_queries(
    fleet: Device, client_of: Client, django_assert_max_num_queries: Any
) -> None:
    following = client_of.get("/devices/?sort=-last_seen").context["page"].next
    paths = [
        "/devices/",
        "/devices/?filter=silent&sort=last_seen",
        "/devices/?q=hall+7&filter=unmapped",
        "/devices/?q=nothing+of+this",
        f"/devices/?sort=-last_seen&page={following}",
        "/devices/new/",
        f"/devices/{fleet.pk}/",
        f"/devices/{fleet.pk}/edit/",
        f"/devices/{fleet.pk}/map/",
    ]
    for path in paths:
        with django_assert_max_num_queries(12):
            assert client_of.get(path).status_code == 200


def test_all_of_them_at_once(fleet: Device, client_of: Client, account: Account) -> None:
    fields = {"action": "activate", "channel": "7", "all": "on", "confirmed": "on"}
    assert (
        "10,000 devices are enabled and mapped." in client_of.post("/devices/bulk/", fields, follow=True).text
    )
    assert Device.objects.filter(mapped_channel__number=7, enabled=True).count() == DEVICES
    fields = {"action": "delete", "all": "on", "confirmed": "on", "typed": "10,000"}
    assert "10,000 devices are gone." in client_of.post("/devices/bulk/", fields, follow=True).text
