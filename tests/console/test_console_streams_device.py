"""The stream page of one device: its table, its chart and its files, also after it has been deleted."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from support import Account

from thingscale.devices.actions import delete_device
from thingscale.devices.models import Device
from thingscale.lib.clock import now_us
from thingscale.streams import charts, writer
from thingscale.streams.actions.datapoints import store_rows

SignIn = Callable[[Account], Client]


@pytest.fixture
def page(account: Account, signed_in: SignIn) -> Callable[..., Any]:
    """Two devices share a channel; one of them, with a blank in its id, has been deleted."""
    roof, attic = (account.device(name, 7) for name in ("roof-1", "at tic"))
    now = now_us()
    rows = [
        writer.Row(account.channel(7).id, now - n * 1_000_000, device.id, None, b'{"n": %d}' % n, None)
        for n, device in ((1, roof), (2, attic), (3, roof))
    ]
    with transaction.atomic():
        store_rows(rows)
    delete_device(Device.objects.get(pk=attic.pk))
    client = signed_in(account)
    return lambda what, **query: client.get(f"/streams/7/{what}", {"range": "24h"} | query)


@pytest.mark.parametrize(
    ("device", "values"), [("roof-1", [1, 3]), ("at tic", [2]), ("nobody", []), ("\0", [])]
)
def test_only_its_own(page: Callable[..., Any], device: str, values: list[int]) -> None:
    shown = page("", device=device)
    assert [json.loads(row.value)["n"] for row in shown.context["rows"]] == values
    chart = page("chart.json", device=device).json()
    assert [sorted(series["v"]) for series in chart["series"]] == ([values] if values else [])
    lines = page("data.ndjson", device=device).getvalue().splitlines()
    assert [json.loads(line)["device_id"] for line in lines] == [device] * len(values)
    assert page("data.csv", device=device).getvalue().count(b"\r\n") == len(values) + 1


def test_without_one_all_are_shown(page: Callable[..., Any]) -> None:
    shown = page("", device="")
    assert [row.device_id for row in shown.context["rows"]] == ["roof-1", "at tic", "roof-1"]
    assert "device=at+tic" in shown.text  # a row leads to the device's own
    assert "No data of nobody in this range" in page("", device="nobody").text


def test_the_range_moves_with_the_device(page: Callable[..., Any]) -> None:
    shown = page("", device="at tic")
    assert shown.text.count("&amp;device=at+tic") >= 5
    assert 'value="at tic"' in shown.text


def test_a_chart_of_a_device_is_not_that_of_all(
    page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its version, nor from rollups, which know no devices."""
    monkeypatch.setattr(charts, "ROWS_WITHOUT_ROLLUPS", 0)
    monkeypatch.setattr(charts, "MAX_PIXELS", 1)
    versions = {
        device: page("chart.json", device=device).headers["ETag"] for device in ("", "roof-1", "at tic")
    }
    assert len(set(versions.values())) == 3
    assert page("chart.json", device="at tic").json()["points"] == 1


def test_a_device_of_another_account_is_nobody(
    page: Callable[..., Any], outsider: Account, signed_in: SignIn
) -> None:
    outsider.channel(7)
    for device in ("roof-1", "at tic"):
        shown = signed_in(outsider).get("/streams/7/", {"device": device})
        assert list(shown.context["rows"]) == []
