"""How often a device usually sends."""

import random

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from support import Account

from thingscale.devices.models import Device
from thingscale.events.rhythm import Rhythm, rhythm
from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk
from thingscale.streams import writer
from thingscale.streams.actions.datapoints import store_rows

pytestmark = pytest.mark.django_db


def sent(device: Device, *seconds_ago: float) -> None:
    now = now_us()
    assert device.mapped_channel_id
    channel = ChannelPk(device.mapped_channel_id)
    with transaction.atomic():
        store_rows(
            [writer.Row(channel, now - int(ago * 1e6), device.id, None, b"1", None) for ago in seconds_ago]
        )


def of(account: Account, pattern: str = "*") -> Rhythm | None:
    return rhythm(Device.objects.for_account(account.user).matching(pattern))


@pytest.mark.parametrize(
    ("seconds", "period", "grace"),
    [
        *((1, 10, 30), (12, 12, 36), (29.7, 30, 90), (60, 60, 180), (61.5, 60, 180), (300, 300, 900)),
        *((900, 900, 1800), (3601, 3600, 1800), (5400, 5400, 2700), (86_400, 86_400, 43_200)),
    ],
)
def test_the_usual_distance(account: Account, seconds: float, period: int, grace: int) -> None:
    device, chance = account.device("d1"), random.Random(1)  # others may be half a minute off
    sent(device, *(seconds * (n + chance.uniform(-0.02, 0.02)) for n in range(1, 20)))
    assert of(account) == Rhythm(period, grace)


def test_bursts_and_pauses(account: Account) -> None:
    """Five tags at a time, and a night in which it was off."""
    device = account.device("d1")
    sent(device, *(n * 60 + part / 10 + (36_000 if n > 20 else 0) for n in range(1, 40) for part in range(5)))
    assert of(account) == Rhythm(60, 180)


def test_nothing_to_tell(account: Account, outsider: Account) -> None:
    assert of(account) is None
    sent(account.device("d1"), 10, 20, 30)
    account.device("d2", None)
    sent(outsider.device("d1"), *range(10, 100, 10))
    assert of(account) is None
    assert of(outsider) == Rhythm(10, 30)


def test_several_devices_in_two_queries(account: Account) -> None:
    """Most of them are not silent by what is proposed."""
    for number in range(10):
        sent(account.device(f"a{number}", number % 3), *(60 * n for n in range(1, 10)))
    sent(account.device("a10"), *(7200 * n for n in range(1, 10)))
    sent(account.device("b", 1), *(600 * n for n in range(1, 10)))
    with CaptureQueriesContext(connection) as queries:
        assert of(account, "a*") == Rhythm(60, 180)
    assert len(queries) == 2
    assert of(account, "b") == Rhythm(600, 1800)
