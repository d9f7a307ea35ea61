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
from thingscale.events.actions import create_event
from thingscale.events.models import Event
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


AGENT = {
    "io": {"sda": {"read": 4096.0, "write": 0.0}},
    "net": {"eth0": {"in": 2_500_000.0, "out": 100.0}},
    "processes": {"count": 100, "cpu": {"postgres": 31.5}, "memory": {"postgres": 734003200}},
    "checks": {"failed": 1, "shop": {"up": 0, "certificate_days": 9}, "blog": {"up": 1, "ms": 12.4}},
    "units": {"failed": 1, "nginx.service": {"active": 1, "restarts": 2}, "cron.service": {"active": 0}},
}


def test_the_page_of_a_host(hosts: Account, signed_in: SignIn) -> None:
    device = send(hosts, "full", 2, disk={"/": {"percent": 97.0}, "/srv": {"percent": 40.0}}, **AGENT)
    Device.objects.filter(pk=device.pk).update(state={"os": "Debian 12", "memory": 17179869184})
    page = signed_in(hosts).get(f"/hosts/{device.pk}/").text
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    text = re.sub(" +", " ", text)
    for shown in (
        *("97 %", "disk /", "/srv 40 %", "postgres 31.5 %", "postgres 700.0", "shop certificate 9 d down"),
        *("blog 12 ms up", "nginx.service 2 restarts active", "cron.service not active", "1 failed"),
        *("System Debian 12", "Memory 16.0", "Measured by Servwatch agent", "Nothing has fired"),
    ):
        assert shown in text.replace("\xa0", " "), shown


@pytest.mark.parametrize(
    ("boot", "shown"),
    [
        ("2026-01-31T13:45:30Z", "2026-01-31 22:45:30"),
        ("2026-13-31T13:45:30Z", "2026-13-31T13:45:30Z"),
        ("2026-01-31T13:45:30", "2026-01-31T13:45:30"),
        ("<b>", "&lt;b&gt;"),
        (7, "7"),
    ],
)
def test_when_it_started_is_in_the_zone_of_who_looks(
    hosts: Account, signed_in: SignIn, boot: object, shown: str
) -> None:
    User.objects.update(locale="Asia/Tokyo")
    Device.objects.filter(device_id="calm").update(state={"boot": boot})
    page = signed_in(hosts).get(f"/hosts/{Device.objects.get(device_id='calm').pk}/").text
    assert f">{shown}<" in page


def test_the_charts_of_a_host(hosts: Account, outsider: Account, signed_in: SignIn) -> None:
    device = send(hosts, "full", 2, **AGENT)
    event = {"mapped_channel": hosts.channel(2), "operator": ">", "threshold": "90"}
    create_event(hosts.user, event | {"source": "disk:fullest", "description": "Disk"})
    create_event(hosts.user, event | {"source": "temp", "description": "Elsewhere"})
    client = signed_in(hosts)
    answer = client.get(f"/hosts/{device.pk}/chart.json?range=15m&pixels=600")
    chart = answer.json()
    found = {(each["title"], each["label"]): each["v"][-1] for each in chart["series"]}
    assert found["Disks used (%)", "/"] == 50
    assert found["Network (MB/s)", "eth0 in"] == 2.5
    assert found["Disk reads and writes (kB/s)", "sda read"] == 4.1
    assert [(each["name"], each["panel"], each["lines"]) for each in chart["marks"]["events"]] == [
        ("Disk", "disk", [90.0]),
        ("Elsewhere", "", []),
    ]
    again = client.get(
        f"/hosts/{device.pk}/chart.json?range=15m&pixels=600", headers={"If-None-Match": answer["ETag"]}
    )
    assert again.status_code == 304
    assert signed_in(outsider).get(f"/hosts/{device.pk}/chart.json").status_code == 404
    assert signed_in(outsider).get(f"/hosts/{device.pk}/").status_code == 404


def test_a_device_that_is_no_host_has_no_such_page(hosts: Account, signed_in: SignIn) -> None:
    boiler = Device.objects.get(device_id="boiler")
    assert signed_in(hosts).get(f"/hosts/{boiler.pk}/").status_code == 404


def test_usual_events_are_made_with_one_press(hosts: Account, outsider: Account, signed_in: SignIn) -> None:
    client = signed_in(hosts)
    device = Device.objects.get(device_id="calm")
    page = client.get(f"/hosts/{device.pk}/").text
    names = re.findall(r'type="hidden" name="name" value="(\w+)"', page)
    assert len(names) == 7
    path = f"/hosts/{device.pk}/events/"
    assert "4 events were made" in client.post(path, {"name": names}, follow=True).text
    assert "there already" in client.post(path, {"name": names}, follow=True).text
    assert Event.objects.for_account(hosts.user).count() == 4  # it sends no swap, units and checks
    page = client.get("/hosts/events/").text
    assert "for 3 hosts" in page
    assert "2 events" in page
    assert "not sent" in page
    assert "8 events were made" in client.post("/hosts/events/", {"name": names}, follow=True).text
    assert signed_in(outsider).post(path, {"name": names}).status_code == 404
    assert signed_in(outsider).post("/hosts/events/", {"name": names}).status_code == 302
    assert not Event.objects.for_account(outsider.user).exists()


def test_what_has_no_room_is_said(hosts: Account, signed_in: SignIn) -> None:
    User.objects.filter(pk=hosts.user.pk).update(max_events=1)
    page = signed_in(hosts).post("/hosts/events/", {"name": ["cpu", "nonsense"]}, follow=True).text
    assert "1 event was made" in page
    assert "no room for 2 more" in page
