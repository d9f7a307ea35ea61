"""B3: what a person sees of the limits of the account, and what they can choose."""

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser
from stack import Stack, wait_until
from support import Account
from test_every_page import AXE, SERIOUS
from visiting import NARROW, WIDE, visit

from ingest.service import connect
from thingscale.accounts.models import User
from thingscale.devices.models import ActivationRule, ClientSession, Device, HeldMessage
from thingscale.devices.presence import Use, enter, update_use
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.limit_warnings import look
from thingscale.streams.models import Channel, Tag
from thingscale.streams.usage import limit_use

SignIn = Callable[[Account], Client]
BANNER = "Limits of your account"


def near(account: Account, **limits: int | str) -> None:
    User.objects.filter(pk=account.user.pk).update(**limits)
    look()


@pytest.mark.parametrize(
    "path", ["/start/", "/devices/", "/channels/0/", "/profile/email/", "/nothing-here/"]
)
def test_b3_every_page_says_that_a_limit_is_near(
    account: Account, outsider: Account, signed_in: SignIn, path: str
) -> None:
    account.device("d1")
    outsider.channel(0)
    near(account, max_devices=1)
    page = signed_in(account).get(path, headers={"Accept": "text/html"}).text
    assert BANNER in page
    assert "Devices: full, 1 of 1 used. What a new device sends is refused now. Delete devices" in page
    assert 'href="/profile/#limits"' in page
    assert BANNER not in signed_in(outsider).get(path, headers={"Accept": "text/html"}).text


def test_b3_nothing_is_said_below_80_percent_nor_to_who_is_not_signed_in(
    account: Account, signed_in: SignIn
) -> None:
    for n in range(3):
        account.device(f"d{n}")
    near(account, max_devices=4)
    assert BANNER not in signed_in(account).get("/devices/").text
    near(account, max_devices=3)
    assert BANNER in signed_in(account).get("/devices/").text
    assert BANNER not in Client().get("/signin/").text
    assert BANNER not in Client().get("/nothing-here/", headers={"Accept": "text/html"}).text


def test_b3_a_limit_that_the_operator_raises_ends_the_banner_at_once(
    account: Account, signed_in: SignIn
) -> None:
    account.device("d1")
    near(account, max_devices=1, max_channels=1)
    client = signed_in(account)
    page = client.get("/devices/").text
    assert "Little or nothing is left: Devices full, Channels full</summary>" in page
    assert "Devices: full" in page
    User.objects.update(max_devices=100)
    page = client.get("/devices/").text
    assert "Channels: full" in page
    assert "Devices: full" not in page


def test_b3_whoever_made_room_sees_that_in_the_profile_at_once(account: Account, signed_in: SignIn) -> None:
    account.device("d1")
    near(account, max_devices=1)
    client = signed_in(account)
    Device.objects.all().delete()
    client.get("/profile/")
    assert BANNER not in client.get("/devices/").text


def test_b3_the_banner_costs_no_query(
    account: Account, signed_in: SignIn, django_assert_num_queries: Any
) -> None:
    """Each page knows the account anyway."""
    account.device("d1")
    client = signed_in(account)
    client.get("/profile/email/")
    with django_assert_num_queries(3):
        client.get("/profile/email/")
    near(account, max_devices=1)
    with django_assert_num_queries(3):
        assert BANNER in client.get("/profile/email/").text


@pytest.mark.e2e
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_b3_the_banner_is_readable_and_opens_by_keyboard(
    stack: Callable[..., Stack], account: Account, browser: Browser, viewport: dict[str, int], theme: str
) -> None:
    """Of more than one limit it says each in a few words first."""
    running = stack("web")
    account.device("d1")
    near(account, max_devices=1, max_channels=1)
    with visit(browser, running, account, viewport, color_scheme=theme) as visitor:
        page = visitor.go("/profile/when-full/")
        banner = page.get_by_role("complementary", name=BANNER)
        sentence = banner.get_by_text("What a new device sends is refused now.")
        assert not sentence.is_visible()
        banner.locator("summary").press("Enter")
        sentence.wait_for()
        page.evaluate(AXE.read_text())
        assert page.evaluate(SERIOUS) == []
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        banner.get_by_role("link", name="Use and limits").click()
        page.wait_for_url("**/profile/#limits")


def test_what_an_account_uses_of_the_gateway_is_on_its_profile(
    account: Account, outsider: Account, signed_in: SignIn
) -> None:
    """Of gateways that live only; queues in bytes as people read them. Near the limit each page says so."""
    with connect() as raw:
        enter(raw, 1)
        update_use(raw, 1, {account.user.pk: Use(90_000, 3 * 2**20)})
        ClientSession.objects.create(account=account.user, client_id="c", expiry=9, queued_bytes=90 * 2**20)
        near(account, max_queued=100 * 2**20)
        page = unescape(signed_in(account).get("/profile/").text).replace("\xa0", " ")
        assert "<dt>Queued MQTT messages</dt><dd>90.0 MB of 100.0 MB</dd>" in page
        assert "<dt>MQTT subscriptions</dt><dd>90,000 of 100,000</dd>" in page
        assert "<dt>Unread by MQTT clients</dt><dd>3.0 MB of 64.0 MB</dd>" in page
        assert (
            "durable MQTT sessions: 90 % used, 90.0 MB of 100.0 MB. Once full, what is published is left"
            in page
        )
        assert (
            "MQTT subscriptions: 90 % used, 90,000 of 100,000. Once full, no further one can be made" in page
        )
        page = unescape(signed_in(outsider).get("/profile/").text)
        assert "<dt>MQTT subscriptions</dt><dd>0 of 100,000</dd>" in page
    wait_until(lambda: limit_use([account.user])[account.user.id]["subscriptions"].used == 0)


# What happens when the storage is full


def test_b3_deleting_when_full_is_chosen_with_open_eyes(
    account: Account, outsider: Account, signed_in: SignIn
) -> None:
    client = signed_in(account)
    page = client.get("/profile/when-full/").text
    assert "refused with QUOTA_EXCEEDED" in page
    assert "be brought back: export first" in page
    answer = client.post("/profile/when-full/", {"when_full": "drop_oldest"})
    assert "Datapoints will be deleted: check this" in answer.text
    assert User.objects.get(pk=account.user.pk).when_full == "refuse"
    answer = client.post("/profile/when-full/", {"when_full": "drop_oldest", "sure": "on"}, follow=True)
    assert answer.redirect_chain == [("/profile/#limits", 302)]
    assert "the oldest datapoints are deleted from now on" in answer.text
    assert dict(User.objects.values_list("pk", "when_full")) == {
        account.user.pk: "drop_oldest",
        outsider.user.pk: "refuse",
    }
    assert client.post("/profile/when-full/", {"when_full": "drop_oldest"}).status_code == 302  # as it is
    answer = client.post("/profile/when-full/", {"when_full": "refuse"}, follow=True)
    assert "new data is refused. Nothing is deleted for it any more" in answer.text
    assert User.objects.get(pk=account.user.pk).when_full == "refuse"


@pytest.mark.parametrize("fields", [{}, {"when_full": ""}, {"when_full": "keep", "sure": "on"}])
def test_b3_a_choice_that_there_is_not_changes_nothing(
    account: Account, signed_in: SignIn, fields: dict[str, str]
) -> None:
    assert signed_in(account).post("/profile/when-full/", fields).status_code == 200
    assert User.objects.get(pk=account.user.pk).when_full == "refuse"


def test_b3_who_chooses_to_delete_now_is_told_that_it_begins_at_once(
    account: Account, signed_in: SignIn
) -> None:
    store_points(account.channel(), Points.of([(None, b"12345", now_us())]))
    client = signed_in(account)
    assert "begins within a minute" not in client.get("/profile/when-full/").text
    near(account, max_storage=3)
    assert "begins within a minute" in client.get("/profile/when-full/").text
    near(account, when_full="drop_oldest")
    page = client.get("/").text
    assert "Storage: full" in page
    assert "The oldest datapoints are deleted now. To keep them" in page


# Every door of the console that a limit refuses something at

MORE = "delete one first, or ask the operator for more."
NO_TAGS = "you can have 0 in all channels. Delete tags that are no longer used, or ask the operator for more."


@pytest.fixture
def full(account: Account, outsider: Account) -> Account:
    """Has two devices, one channel, one rule, and no room for another one of anything. A tag is held."""
    account.channel(0)
    device = account.device("d1", None)
    account.device("d2", 0)
    HeldMessage.objects.create(device=device, tag="attic", value=1, received_at=timezone.now())
    ActivationRule.objects.create(user=account.user, pattern="x*", channel=account.channel(0))
    User.objects.filter(pk=account.user.pk).update(
        max_devices=2, max_channels=1, max_tags=0, max_rules=1, max_keys=1
    )
    return account


def everything(account: Account) -> list[object]:
    return [
        sorted(Device.objects.values_list("device_id", "enabled", "mapped_channel", "description")),
        sorted(Channel.objects.values_list("number", "name")),
        ActivationRule.objects.count(),
        Tag.objects.count(),
        HeldMessage.objects.count(),
        account.stored(),
    ]


DOORS: dict[str, tuple[str, dict[str, str], str]] = {
    "new device": ("/devices/new/", {"device_id": "d3"}, f"You can have 2 devices: {MORE}"),
    "import": (
        "/devices/import/",
        {"text": "device_id,description\nd1,changed\nd8,\nd9,"},
        f"You can have 2 devices: {MORE}",
    ),
    "new channel": ("/channels/new/", {"number": "7", "name": "x"}, f"You can have 1 channel: {MORE}"),
    "new rule": ("/rules/", {"pattern": "y*", "channel": "0"}, f"You can have 1 rule: {MORE}"),
    "edit": ("/devices/{d1}/edit/", {"enabled": "on", "mapped_channel": "0"}, NO_TAGS),
    "map": ("/devices/{d1}/map/", {"to": "existing", "channel": "0"}, NO_TAGS),
    "map to a new one": (
        "/devices/{d1}/map/",
        {"to": "new", "number": "5"},
        f"You can have 1 channel: {MORE}",
    ),
    "start": ("/start/enable/{d1}/", {"number": "0"}, NO_TAGS),
    "start, new channel": ("/start/enable/{d1}/", {"number": "6"}, f"You can have 1 channel: {MORE}"),
}


@pytest.mark.parametrize("door", DOORS)
def test_b3_a_page_that_is_refused_says_which_limit_and_changes_nothing(
    full: Account, signed_in: SignIn, door: str
) -> None:
    path, fields, sentence = DOORS[door]
    before = everything(full)
    path = path.format(d1=Device.objects.get(device_id="d1").pk)
    answer = signed_in(full).post(path, fields)
    assert answer.status_code == 200
    assert sentence in answer.text
    assert everything(full) == before


def test_b3_an_import_names_each_line_that_is_too_many(full: Account, signed_in: SignIn) -> None:
    page = signed_in(full).post("/devices/import/", {"text": "device_id\nd1\nd7\nd8\nd9"}).text
    assert "3 things to mend first" in page
    assert page.count(f"You can have 2 devices: {MORE}") == 3


def test_b3_enabling_what_brings_too_many_tags_is_refused(full: Account, signed_in: SignIn) -> None:
    Device.objects.filter(device_id="d1").update(enabled=False, mapped_channel=full.channel(0))
    before, device = everything(full), Device.objects.get(device_id="d1")
    answer = signed_in(full).post(f"/devices/{device.pk}/enable/", follow=True)
    assert NO_TAGS in answer.text
    assert everything(full) == before


@pytest.mark.parametrize("how", ["bulk", "import"])
def test_b3_what_stays_held_after_many_were_changed_is_said(
    full: Account, outsider: Account, signed_in: SignIn, how: str
) -> None:
    """What the others bring is stored."""
    HeldMessage.objects.create(
        device=(other := Device.objects.get(device_id="d2")), value=2, received_at=timezone.now()
    )
    Device.objects.filter(pk=other.pk).update(mapped_channel=None)
    client = signed_in(full)
    if how == "bulk":
        fields: dict[str, Any] = {"action": "map", "channel": "0"}
        fields["pk"] = list(Device.objects.values_list("pk", flat=True))
        answer = client.post("/devices/bulk/", fields, follow=True)
    else:
        look = client.post("/devices/import/", {"text": "device_id,channel\nd1,0\nd2,0"})
        carried = look.context["carried"]
        answer = client.post("/devices/import/", {"carried": carried, "sure": "on"}, follow=True)
    assert "What is held for 1 device is not stored: it has new tags, and you can have 0 tags" in answer.text
    assert full.stored() == [("2", None)]
    assert HeldMessage.objects.count() == 1
    client = signed_in(outsider)
    look = client.post("/devices/import/", {"text": "device_id\nx"})
    fields = {"carried": look.context["carried"], "sure": "on"}
    answer = client.post("/devices/import/", fields, follow=True)
    assert "Imported: 1 device made" in answer.text
    assert "is held for" not in answer.text
