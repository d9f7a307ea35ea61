"""Hosts in the console."""

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.test import Client
from support import Account

from thingscale.accounts.models import User
from thingscale.devices.models import Activity, Device
from thingscale.hosts.look import find, look
from thingscale.lib import clock
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.provisioning.accounts import change_account
from thingscale.streams.actions.datapoints import store_points

SignIn = Callable[[Account], Client]


def send(account: Account, device_id: str, channel: int, **changes: Any) -> Device:
    """A sample of the agent."""
    value = {
        "cpu": {"idle": 80.0},
        "memory": {"percent": 40.0},
        "disk": {"/": {"percent": 50.0}},
        "load": {"1": 0.5},
        "uptime": 90_000,
    } | changes
    device = Device.objects.filter(user=account.user, device_id=device_id).first()
    device = device or account.device(device_id, channel)
    store_points(account.channel(channel), Points.of([(None, orjson.dumps(value), now_us())]))
    Activity.objects.update_or_create(device=device, defaults={"last_seen": clock.now(), "messages": 1})
    return device


@pytest.fixture
def hosts(account: Account) -> Account:
    send(account, "calm", 1)
    send(account, "full", 2, disk={"/": {"percent": 97.0}})
    send(account, "busy", 3, cpu={"idle": 10.0})
    account.device("boiler", 4)
    find()
    return account


def names(client: Client, query: str = "") -> list[str]:
    return re.findall(r'data-host="([^"]+)"', client.get(f"/hosts/{query}").text)


def test_what_hurts_comes_first(hosts: Account, signed_in: SignIn) -> None:
    client = signed_in(hosts)
    assert names(client) == ["full", "busy", "calm"]
    assert names(client, "?sort=name") == ["busy", "calm", "full"]
    assert names(client, "?sort=-cpu") == ["busy", "calm", "full"]
    assert names(client, "?filter=trouble") == ["full"]
    assert names(client, "?filter=silent") == []
    assert names(client, "?q=al") == ["calm"]
    assert "No host matches" in client.get("/hosts/?q=nobody").text
    assert names(client, "?sort=nonsense&filter=nonsense&q=%00") == []
    page = client.get("/hosts/").text
    assert "97 %" in page
    assert "gauge-bad" in page
    assert "1 d" in page


def test_the_page_shows_what_has_come_since_the_last_look(hosts: Account, signed_in: SignIn) -> None:
    send(hosts, "calm", 1, cpu={"idle": 4.0})
    assert "96 %" in signed_in(hosts).get("/hosts/").text
    look()
    assert names(signed_in(hosts)) == ["full", "calm", "busy"]


def test_htmx_gets_the_table_only(hosts: Account, signed_in: SignIn) -> None:
    answer = signed_in(hosts).get("/hosts/", headers={"HX-Request": "true"})
    assert "<html" not in answer.text
    assert 'data-host="full"' in answer.text
    assert "HX-Request" in answer.headers["Vary"]


def test_nobody_sees_hosts_of_others(hosts: Account, outsider: Account, signed_in: SignIn) -> None:
    page = signed_in(outsider).get("/hosts/")
    assert page.status_code == 200
    assert "No host yet" in page.text
    assert not {"calm", "full", "busy"} & set(re.split(r"\W+", page.text))
    assert Client().get("/hosts/").headers["Location"].startswith("/signin/")


def test_the_menu_has_hosts_once_there_are_some(hosts: Account, outsider: Account, signed_in: SignIn) -> None:
    assert 'href="/hosts/"' in signed_in(hosts).get("/devices/").text
    assert 'href="/hosts/"' not in signed_in(outsider).get("/devices/").text


def test_an_account_of_servwatch_has_hosts_and_metrics(
    outsider: Account, account: Account, signed_in: SignIn
) -> None:
    change_account(outsider.user, {"kind": "servwatch"})
    outsider.user.refresh_from_db()
    page = signed_in(outsider).get("/devices/").text
    menu = re.findall(r"</svg> ([A-Z]\w+)", page[page.index('<ul class="nav">') :])
    assert menu[:6] == ["Home", "Hosts", "Intakes", "Channels", "Metrics", "Alerts"]
    assert "No host yet" in page
    assert "device yet" not in page
    assert re.search(r'href="/hosts/" aria-current="page"', page)
    assert "Servwatch" in signed_in(outsider).get("/profile/").text
    assert "ThingScale" in signed_in(account).get("/profile/").text
    assert User.objects.get(pk=account.user.pk).kind == "thingscale"
