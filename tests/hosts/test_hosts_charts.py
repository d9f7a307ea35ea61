"""What the charts of a host show, whoever measures it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import host_samples as samples
import pytest
from support import Account

from thingscale.devices.models import Device
from thingscale.hosts import charts
from thingscale.hosts.charts import Series, chart, panel_of_source
from thingscale.lib import clock
from thingscale.lib.ids import ChannelPk
from thingscale.streams import rollups

MakeHost = Callable[..., Device]


def drawn(account: Account, hours: float = 1, pixels: int = 1000) -> dict[tuple[str, str], Series]:
    now = clock.now()
    found = chart(ChannelPk(account.channel().pk), now - timedelta(hours=hours), now, pixels)
    return {(each.title, each.label): each for each in found}


def test_totals_become_rates_and_parts_shares(account: Account, host: MakeHost) -> None:
    for seconds in (100, 110, 120, 130):
        host(account, "node", samples.node_exporter(seconds), ago=200 - seconds)
    found = drawn(account)
    assert [number for number in found["CPU by state (%)", "user"].v if number] == [pytest.approx(9)] * 3
    assert ("CPU by state (%)", "idle") not in found
    network = next(each for each in found.values() if each.label == "eth0 in")
    assert network.v[-1] == pytest.approx({"B/s": 1000, "kB/s": 1}[network.unit], rel=0.01)
    assert found["Disks used (%)", "/srv/data"].v == [pytest.approx(92.5)] * 4
    assert found["Memory used (%)", "memory"].v == [pytest.approx(61)] * 4
    assert found["Load", "5 min"].v == [0.6] * 4


def test_few_pixels_keep_the_lowest_and_the_highest(account: Account, host: MakeHost) -> None:
    value = samples.AGENT[0][1]
    for place in range(120):
        percent = 99.0 if place == 60 else 40.0
        host(account, "web-1", [("", value | {"memory": {"percent": percent}})], ago=3000 - 10 * place)
    series = drawn(account, pixels=100)["Memory used (%)", "memory"]
    assert len(series.v) < 120
    assert max(number for number in series.v if number is not None) == 99


def test_a_long_range_is_read_from_rollups(
    account: Account, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "MAX_ROWS", 30)
    for hours in (50, 49.9, 40, 39.9, 30, 29.9):
        host(account, "web-1", samples.AGENT, ago=hours * 3600)
        host(account, "web-1", samples.AGENT, ago=hours * 3600 - 60)
    for minutes in range(20):
        host(account, "web-1", samples.AGENT, ago=minutes * 10)
    rollups.roll_up(60)
    found = drawn(account, hours=72)
    series = found["Disks used (%)", "/srv/data"]
    assert max(number for number in series.v if number is not None) == 92.5
    assert clock.now().timestamp() * 1000 - series.t[0] > 48 * 3600 * 1000
    assert clock.now().timestamp() * 1000 - series.t[-1] < 3 * 3600 * 1000
    assert found["Network (kB/s)", "eth0 in"].v[0] == pytest.approx(1)


def test_hostile_names_do_not_grow_without_end(account: Account, host: MakeHost) -> None:
    value = {"disk": {f"/{n}": {"percent": n} for n in range(1000)}, "memory": {"percent": 5}}
    host(account, "web-1", [("", value)])
    assert len(drawn(account)) <= charts.MAX_SERIES + 1


@pytest.mark.parametrize(
    ("source", "tags", "expected"),
    [
        ("cpu:idle", (), ("cpu", False)),
        ("cpu:user", (), ("cpu", True)),
        ("disk:fullest", (), ("disk", True)),
        ("disk:/var:percent", (), ("disk", True)),
        ("net:eth0:in", (), ("network", False)),
        ("units:failed", (), ("", False)),
        ("used_percent", ("mem",), ("memory", True)),
        ("", (), ("", False)),
    ],
)
def test_where_an_event_is_drawn(source: str, tags: Any, expected: tuple[str, bool]) -> None:
    assert panel_of_source(source, tags) == expected
