"""Which devices are hosts, and what their gauges show."""

from collections.abc import Callable
from typing import Any

import host_samples as samples
import pytest
from support import Account

from thingscale.accounts.models import User
from thingscale.devices.actions import delete_device
from thingscale.devices.models import Device
from thingscale.hosts import look as looking
from thingscale.hosts.look import find, look, refresh
from thingscale.hosts.metrics import SILENT
from thingscale.hosts.models import Host

MakeHost = Callable[..., Device]


def busy(idle: float) -> list[tuple[str, Any]]:
    return [("", samples.AGENT[0][1] | {"cpu": {"idle": idle}})]


def test_a_device_becomes_a_host_by_what_it_sends(
    account: Account, outsider: Account, host: MakeHost
) -> None:
    host(account, "web-1", samples.AGENT, channel=1)
    host(account, "db-1", samples.TELEGRAF, channel=2)
    host(account, "boiler", [("", {"temp": 21.5}), ("cpu", 7)], channel=3)
    find()
    found = {each.device.device_id: each for each in Host.objects.for_account(account.user)}
    assert {name: each.sender for name, each in found.items()} == {"web-1": "agent", "db-1": "telegraf"}
    assert (found["web-1"].cpu, found["web-1"].disk_name) == (12, "/srv/data")
    assert User.objects.get(pk=account.user.pk).has_hosts
    assert not User.objects.get(pk=outsider.user.pk).has_hosts
    assert not Host.objects.for_account(outsider.user).exists()


def test_the_look_follows_what_comes(account: Account, host: MakeHost) -> None:
    device = host(account, "web-1", busy(90), ago=20)
    find()
    host(account, "web-1", busy(3), ago=10)
    shown = Host.objects.get()
    refresh([shown])
    assert shown.cpu == 97  # a page shows it before the look has saved it
    assert Host.objects.get().cpu == 10
    look()
    kept = Host.objects.get()
    assert (kept.cpu, kept.silent, kept.pk) == (97, False, device.pk)
    assert kept.pain > 200  # with its disk


def test_a_look_that_takes_long_goes_on_where_it_was(
    account: Account, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "BATCH", 2)
    monkeypatch.setattr(looking, "LOOK_SECONDS", 0.0)
    for n in range(5):
        host(account, f"web-{n}", busy(50), channel=n, ago=20)
    find()
    after, seen = 0, []
    for ago in (15, 10, 5):
        for n in range(5):
            host(account, f"web-{n}", busy(100 - ago), channel=n, ago=ago)
        after = look(after)
        shown = Host.objects.order_by("pk").values_list("cpu", flat=True)
        seen.append([n for n, cpu in enumerate(shown) if cpu == ago])
    assert seen == [[0, 1], [2, 3], [0, 4]]


def test_counters_become_rates(account: Account, host: MakeHost) -> None:
    host(account, "node", samples.node_exporter(100), ago=20)
    find()
    assert not Host.objects.exclude(cpu=None).exists()
    host(account, "node", samples.node_exporter(110), ago=10)
    look()
    assert Host.objects.get().cpu == pytest.approx(12)
    look()
    assert Host.objects.get().cpu == pytest.approx(12)


def test_who_is_not_heard_is_silent_and_hurts_most(account: Account, host: MakeHost) -> None:
    host(account, "web-1", samples.AGENT, ago=600)
    find()
    look()
    assert Host.objects.get().silent
    assert Host.objects.get().pain > SILENT
    look()
    assert Host.objects.get().pain < 2 * SILENT
    host(account, "web-1", samples.AGENT)
    look()
    assert not Host.objects.get().silent
    assert Host.objects.get().pain < SILENT


def test_devices_that_share_a_channel_are_no_hosts(account: Account, host: MakeHost) -> None:
    """Nobody could tell whose the newest value is."""
    host(account, "web-1", samples.AGENT, channel=1)
    host(account, "web-2", samples.AGENT, channel=1)
    find()
    assert not Host.objects.exists()


def test_nothing_is_left_of_a_device_that_is_gone(account: Account, host: MakeHost) -> None:
    delete_device(host(account, "web-1", samples.AGENT))
    host(account, "web-2", samples.AGENT, channel=2)
    find()
    Device.objects.filter(device_id="web-2")._raw_delete("default")  # as the release before does
    find()
    assert not Host.objects.exists()
    assert not User.objects.get(pk=account.user.pk).has_hosts


def test_a_disk_that_is_gone_is_not_shown_for_ever(account: Account, host: MakeHost) -> None:
    host(account, "db-1", samples.TELEGRAF, ago=2000)
    find()
    left = [(tag, value) for tag, value in samples.TELEGRAF if "data" not in tag]
    host(account, "db-1", left)
    look()
    assert Host.objects.get().disk_name == "/"
