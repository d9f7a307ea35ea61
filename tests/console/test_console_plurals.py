"""C14: one is singular, and none is plural, on every page and in every sentence that counts."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from django.utils import timezone
from intake_history import intake_history
from support import Account
from test_every_page import PAGES, PUBLIC, fill

from thingscale.devices.actions import create_device, create_rule
from thingscale.devices.models import (
    ActivationRule,
    Activity,
    Device,
    HeldMessage,
    MqttSession,
    RejectedMessage,
)
from thingscale.devices.presence import LOCK
from thingscale.events.actions import create_contact_point, create_event
from thingscale.hosts.models import Host
from thingscale.lib.clock import now_us
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk
from thingscale.lib.points import Points
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_points

SignIn = Callable[[Account], Client]
NO_NOUNS = {"is", "was", "has", "days"}  # and after the number of a channel: "channel 1 is"
LIMITS = (
    *("max_devices", "max_channels", "max_tags", "max_keys", "max_events", "max_rules", "max_held"),
    *("max_rejected", "rest_rate"),
)


def wrong(text: str, words: str) -> list[str]:
    """What has one of several, or none of one: of the sentences, titles and labels of a page."""
    titles = " ".join(re.findall(r'(?:title|aria-label|placeholder)="([^"]*)"', text))
    plain = re.sub(r"(?s)<(script|style|svg).*?</\1>|<option.*?</option>", " ", text)
    plain = unescape(re.sub(r"\s+", " ", f"{re.sub('<[^>]*>', ' ', plain)} . {titles}"))
    return [found for found in re.findall(words, plain) if found.split()[1] not in NO_NOUNS]


ONE = r"(?<![\w.,:-])1 [a-z]+s\b(?! ago)"
NONE = r"(?<![\w.,:-])0 (?:device|channel|datapoint|message|tag|rule|session|event|browser|code|key)\b"


@pytest.fixture
def one_of_each(account: Account) -> Account:
    account.device("boiler-1", channel=7)
    store_points(account.channel(7), Points.of([("hall", b'{"temp": 1}', now_us())]))
    ActivationRule.objects.create(user=account.user, pattern="pump*", channel=account.channel(7))
    common = {"payload": b"{", "size": 1, "received_at": timezone.now()}
    RejectedMessage.objects.create(
        user=account.user, device_id="boiler-1", source="json", reason="BAD_JSON_FORMAT", **common
    )
    new = Device.objects.create(user=account.user, device_id="pump", enabled=False)
    HeldMessage.objects.create(device=new, value=1, size=1, received_at=timezone.now())
    for device in Device.objects.all():
        Activity.objects.create(device=device, last_seen=timezone.now(), messages=1)
    boiler = Device.objects.get(device_id="boiler-1")
    Host.objects.create(
        device=boiler, user=account.user, sender="agent", at=0, cpu=1, load=1, cores=1, uptime=86_400, pain=0
    )
    MqttSession.objects.create(
        user=account.user,
        gateway=LOCK,
        client_id="boiler-1",
        ipaddress="10.0.0.1",
        clean_sess=True,
        proto_ver=4,
        keepalive=60,
        connected_at=timezone.now(),
    )
    create_event(account.user, {"mapped_channel": account.channel(7), "source": "temp", "threshold": "1"})
    intake_history(account.user)
    create_contact_point(account.user, "phone", "ntfy://ntfy.sh/phone")
    for name in LIMITS:
        setattr(account.user, name, 1)
    account.user.save()
    return account


# Without pages of a host, which would be a second device.
@pytest.mark.parametrize("name", [name for name, path in PAGES.items() if "{host}" not in path])
def test_c14_one_of_each(one_of_each: Account, signed_in: SignIn, name: str) -> None:
    pages = [fill(PAGES[name], one_of_each)]
    if name == "device":
        pages += [f"/devices/{pk}/" for pk in Device.objects.values_list("pk", flat=True)]
    if name == "devices":
        pages += [f"/devices/?filter={state}" for state in ("new", "enabled", "unmapped", "silent")]
        pages += ["/devices/?q=boiler-1"]
    for path in pages:
        answer = signed_in(one_of_each).get(path)
        assert answer.status_code == 200
        assert wrong(answer.text, ONE) == [], path


@pytest.mark.parametrize(
    "name", [*PUBLIC, *(name for name, path in PAGES.items() if not set(path) & set("{17"))]
)
def test_c14_none_of_any(account: Account, signed_in: SignIn, name: str) -> None:
    client = Client() if name in PUBLIC else signed_in(account)
    answer = client.get({**PUBLIC, **PAGES}[name], follow=True)
    assert answer.status_code == 200
    assert wrong(answer.text, NONE) == []


def test_c14_the_scan_finds_what_is_wrong() -> None:
    assert wrong("<b>1</b> <span>devices</span>", ONE) == ["1 devices"]
    assert wrong('<a title="about 1 minutes">21 devices, v1.1 keys, channel 1 is</a>', ONE) == ["1 minutes"]
    assert wrong("10 device, 0 device, 0 devices", NONE) == ["0 device"]


def test_c14_limits_of_one(one_of_each: Account, signed_in: SignIn) -> None:
    """Sentences of REST and of forms, as both show what actions say."""
    user = one_of_each.user
    refused: list[str] = []
    for action in (
        lambda: create_device(user, "second"),
        lambda: create_channel(user, 8),
        lambda: create_rule(user, "second*", ChannelPk(0)),
        lambda: [create_event(user, {}) for _ in range(2)],
    ):
        with pytest.raises(ContractError) as refusal, transaction.atomic():
            action()
        refused.append(refusal.value.detail)
    client = signed_in(one_of_each)
    labels = {f"streams-{n}-{field}": f"k{n}" for n in range(2) for field in ("key", "label")}
    counts = {"streams-TOTAL_FORMS": "2", "streams-INITIAL_FORMS": "0"}
    refused.append(client.post("/channels/7/", {"name": "", **counts, **labels}).text)
    streams = {"streams": [{"key": key, "label": key, "unit": ""} for key in "ab"]}
    headers = {"X-APITOKEN": one_of_each.api_token}
    refused.append(client.put("/v2/channel/7", streams, "application/json", headers=headers).text)
    sheet = SimpleUploadedFile("devices.csv", b"device_id,description\nthird,x\n1\n")
    refused.append(client.post("/devices/import/", {"file": sheet}).text)
    for text in refused:
        assert wrong(text, ONE) == []
        assert re.search(r"\b1 (device|channel|rule|event|key|column)\b", text), text[:3000]
