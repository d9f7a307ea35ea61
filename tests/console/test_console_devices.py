"""Pages of devices: the list, forms, mapping, what another user sees."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from support import Account

from thingscale.devices.actions import create_device
from thingscale.devices.models import Activity, Device, HeldMessage
from thingscale.provisioning.actions import configure_device
from thingscale.streams.models import Channel

SignIn = Callable[[Account], Client]
STRANGE = ["..", "<script>x", " blank ", '"quoted"', "ünï·温度", "?q=1&a=b", "%2e"]


def new(account: Account, device_id: str = "newcomer", held: int = 0) -> Device:
    """As its first message leaves it."""
    device = Device.objects.create(user=account.user, device_id=device_id, enabled=False)
    for n in range(held):
        HeldMessage.objects.create(device=device, value={"temp": n}, received_at=timezone.now())
    return device


def heard(device: Device, ago: timedelta) -> Device:
    Activity.objects.create(device=device, last_seen=timezone.now() - ago, messages=12)
    return device


def silent(device: Device) -> Device:
    """An event fires for it."""
    Activity.objects.filter(device=device).update(silent_since=timezone.now())
    return device


@pytest.fixture
def six(account: Account) -> dict[str, Device]:
    """One in each state."""
    off = account.device("off")
    return {
        "enabled": heard(account.device("well"), timedelta(minutes=1)),
        "silent": silent(heard(account.device("quiet"), timedelta(hours=1))),
        "never heard": account.device("unknown"),
        "unmapped": account.device("loose", None),
        "disabled": configure_device(off, {"enabled": False}),
        "new": new(account),
    }


def shown(text: str) -> list[str]:
    """Device ids of the table's rows."""
    return [part.split('"', 1)[0] for part in text.split('<tr data-device="')[1:]]


def test_an_empty_list_says_what_to_do(account: Account, signed_in: SignIn) -> None:
    assert "Make the first device" in signed_in(account).get("/devices/").text


@pytest.mark.usefixtures("six")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("all", ["loose", "newcomer", "off", "quiet", "unknown", "well"]),
        ("enabled", ["loose", "quiet", "unknown", "well"]),
        ("unmapped", ["loose", "newcomer"]),
        ("silent", ["quiet"]),
        ("unheard", ["loose", "unknown"]),
        ("new", ["newcomer"]),
        ("disabled", ["off"]),
        ("nonsense", ["loose", "newcomer", "off", "quiet", "unknown", "well"]),
    ],
)
def test_filters_show_what_they_count(
    account: Account, signed_in: SignIn, state: str, expected: list[str]
) -> None:
    text = signed_in(account).get("/devices/", {"filter": state}).text
    assert shown(text) == expected
    if state != "nonsense":
        words = "Never heard" if state == "unheard" else state.capitalize()
        assert f'{words} <span class="count">{len(expected)}<' in text


def test_each_state_has_its_badge(account: Account, signed_in: SignIn, six: dict[str, Device]) -> None:
    client = signed_in(account)
    for state, device in six.items():
        row = client.get("/devices/", {"q": device.device_id}).text.split("<tr data-device=")[1]
        assert f">{state}</span>" in row
        assert f">{state}</span>" in client.get(f"/devices/{device.pk}/").text


def test_search_looks_at_id_description_type_and_location(account: Account, signed_in: SignIn) -> None:
    create_device(account.user, "a1", description="Freezer")
    create_device(account.user, "b2", device_type="freezer thermometer")
    create_device(account.user, "c3", location="Freezing hall")
    create_device(account.user, "freez-4")
    create_device(account.user, "other")
    client = signed_in(account)
    assert shown(client.get("/devices/?q=FREEZ").text) == ["a1", "b2", "c3", "freez-4"]
    nothing = client.get("/devices/?q=freezing&filter=new").text
    assert "No new device matches “freezing”" in nothing
    assert "Show all devices" in nothing
    assert client.get("/devices/?q=%00").status_code == 200


def test_the_order_and_the_pages(account: Account, signed_in: SignIn) -> None:
    Device.objects.bulk_create(Device(user=account.user, device_id=f"d{n:03}") for n in range(120))
    client = signed_in(account)
    first = client.get("/devices/?sort=-device_id")
    assert shown(first.text) == [f"d{n:03}" for n in range(119, 69, -1)]
    second = client.get("/devices/", {"sort": "-device_id", "page": first.context["page"].next})
    assert shown(second.text) == [f"d{n:03}" for n in range(69, 19, -1)]
    assert 'rel="prev"' in second.text
    back = client.get("/devices/", {"sort": "-device_id", "page": second.context["page"].previous})
    assert shown(back.text) == shown(first.text)
    assert shown(client.get("/devices/?sort=nonsense&page=nonsense").text)[0] == "d000"


def test_htmx_gets_the_table_only_unless_it_restores_history(account: Account, signed_in: SignIn) -> None:
    account.device("d1")
    client = signed_in(account)
    fragment = client.get("/devices/?q=d1", headers={"HX-Request": "true"})
    assert "<html" not in fragment.text
    assert shown(fragment.text) == ["d1"]
    assert "HX-Request" in fragment.headers["Vary"]
    again = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert "<html" in client.get("/devices/", headers=again).text


@pytest.mark.parametrize("device_id", STRANGE)
def test_an_id_may_have_any_character(account: Account, signed_in: SignIn, device_id: str) -> None:
    device = Device.objects.create(user=account.user, device_id=device_id)  # some are older than the rules
    client = signed_in(account)
    pages = ["/devices/", *(f"/devices/{device.pk}/{part}" for part in ("", "edit/", "map/", "delete/"))]
    for page in pages:
        assert "<script>x" not in client.get(page).text
    assert client.get(f"/devices/{device.pk}/").status_code == 200


def test_a_device_made_by_hand(account: Account, signed_in: SignIn) -> None:
    channel = account.channel(7)
    fields = {"device_id": "d1", "mapped_channel": "7 · Whatever", "enabled": "on", "location": "Roof"}
    answer = signed_in(account).post("/devices/new/", fields, follow=True)
    device = Device.objects.for_account(account.user).get(device_id="d1")
    assert answer.redirect_chain == [(f"/devices/{device.pk}/", 302)]
    assert (device.enabled, device.mapped_channel, device.location) == (True, channel, "Roof")
    assert "Device d1 is there" in answer.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device_id": "taken"}, "There is a device taken already"),
        ({"device_id": "0"}, "is not 0"),
        ({"device_id": "a/b"}, "no / + #"),
        ({"device_id": ""}, "This field is required"),
        ({"device_id": "fine", "mapped_channel": "99"}, "You have no channel 99"),
        ({"device_id": "fine", "mapped_channel": "9999999999"}, "You have no channel 9999999999"),
        ({"device_id": "fine", "mapped_channel": "Attic"}, "You have no channel Attic"),
    ],
)
def test_what_is_wrong_stands_beside_the_field(
    account: Account, signed_in: SignIn, fields: dict[str, str], message: str
) -> None:
    account.device("taken")
    answer = signed_in(account).post("/devices/new/", fields | {"location": "Typed here"})
    assert message in answer.text
    assert 'value="Typed here"' in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_no_room_for_another(account: Account, signed_in: SignIn) -> None:
    account.user.max_devices = 0
    account.user.save()
    assert "You can have 0 devices" in signed_in(account).post("/devices/new/", {"device_id": "d1"}).text


def test_editing_sets_all_fields(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    Channel.objects.filter(number=0).update(name="Cold store")
    named = account.channel(3)
    Channel.objects.filter(pk=named.pk).update(name="Roof")
    client = signed_in(account)
    assert 'value="0 · Cold store"' in client.get(f"/devices/{device.pk}/edit/").text
    fields = {"description": "A\r\nB", "device_type": "t", "location": "l", "manufacturer": "m"}
    client.post(f"/devices/{device.pk}/edit/", fields | {"mapped_channel": "Roof"})
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel) == (False, named)
    assert (device.device_type, device.location, device.manufacturer) == ("t", "l", "m")
    client.post(f"/devices/{device.pk}/edit/", {"mapped_channel": ""})
    device.refresh_from_db()
    assert device.mapped_channel is None


def test_enabling_and_mapping_to_a_new_channel_stores_what_was_held(
    account: Account, signed_in: SignIn
) -> None:
    account.channel(4)
    device = new(account, held=3)
    client = signed_in(account)
    assert "Enable and map to new channel 5" in client.get(f"/devices/{device.pk}/").text
    answer = client.post(f"/devices/{device.pk}/map/", {"enable": "on", "to": "new"}, follow=True)
    assert "is stored in channel 5" in answer.text
    assert Channel.objects.get(number=5).name == "newcomer"
    assert len(account.stored(5)) == 3


def test_mapping_to_a_channel_goes_back_to_the_list(account: Account, signed_in: SignIn) -> None:
    account.channel(4)
    device = new(account)
    fields = {"enable": "on", "to": "existing", "channel": "4", "next": "/devices/?filter=new"}
    answer = signed_in(account).post(f"/devices/{device.pk}/map/", fields)
    assert answer.headers["Location"] == "/devices/?filter=new"
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel) == (True, account.channel(4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to": "existing"}, "Choose a channel"),
        ({"to": "existing", "channel": "8"}, "You have no channel 8"),
        ({"to": "new", "number": "4"}, "There is a channel 4 already"),
        ({"to": "new", "number": "-1"}, "greater than or equal to 0"),
        ({}, "Map to a channel"),
    ],
)
def test_a_mapping_refused_keeps_the_device(
    account: Account, signed_in: SignIn, fields: dict[str, str], message: str
) -> None:
    account.channel(4)
    device = new(account)
    client = signed_in(account)
    text = client.post(f"/devices/{device.pk}/map/", fields | {"next": "https://elsewhere.example"}).text
    assert message in text or f"Map {device.device_id}" in text
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel) == (False, None)


def test_unmapping_and_switching(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    client = signed_in(account)
    answer = client.post(
        f"/devices/{device.pk}/map/", {"to": "none", "next": "//elsewhere.example"}, follow=True
    )
    assert answer.redirect_chain == [(f"/devices/{device.pk}/", 302)]
    client.post(f"/devices/{device.pk}/disable/")
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel) == (False, None)
    client.post(f"/devices/{device.pk}/enable/")
    device.refresh_from_db()
    assert device.enabled
    assert client.get(f"/devices/{device.pk}/disable/").status_code == 405


def test_deleting_says_what_goes(account: Account, signed_in: SignIn) -> None:
    device = new(account, held=3)
    client = signed_in(account)
    text = client.get(f"/devices/{device.pk}/delete/").text
    assert "stay in their channel" in text
    assert "held messages go with it: 3" in text
    client.post(f"/devices/{device.pk}/delete/")
    assert not Device.objects.exists()


@pytest.mark.parametrize("path", ["", "edit/", "map/", "enable/", "disable/", "delete/"])
def test_an_outsider_finds_nothing(account: Account, outsider: Account, signed_in: SignIn, path: str) -> None:
    device = account.device("d1")
    client = signed_in(outsider)
    if path not in {"enable/", "disable/"}:
        assert client.get(f"/devices/{device.pk}/{path}").status_code == 404
    assert client.post(f"/devices/{device.pk}/{path}", {"to": "none"}).status_code == 404
    assert shown(client.get("/devices/").text) == []
    device.refresh_from_db()
    assert (device.enabled, device.mapped_channel) == (True, account.channel())


def test_another_users_channel_is_no_channel(account: Account, outsider: Account, signed_in: SignIn) -> None:
    account.channel(7)
    outsider.channel(8)
    device = outsider.device("d1", None)
    client = signed_in(outsider)
    fields = {"to": "existing", "channel": "7"}
    assert "You have no channel 7" in client.post(f"/devices/{device.pk}/map/", fields).text
    assert '<option value="7"' not in client.get(f"/devices/{device.pk}/map/").text


def test_no_key_is_too_large(account: Account, signed_in: SignIn) -> None:
    assert signed_in(account).get(f"/devices/{10**30}/").status_code == 404


def test_who_is_not_signed_in_is_asked_to(account: Account) -> None:
    for path in ("", "new/", "import/", "export/", "bulk/", "1/"):
        assert Client().get(f"/devices/{path}").headers["Location"] == f"/signin/?next=/devices/{path}"


def test_b4_a_mapping_without_room_for_its_tags_is_refused_on_the_page(
    account: Account, signed_in: SignIn
) -> None:
    """Held messages bring their tags with them when the device is mapped."""
    account.channel(3)
    account.user.max_tags = 0
    account.user.save()
    device = account.device("d1", channel=None)
    HeldMessage.objects.create(device=device, tag="attic", value=1, received_at=timezone.now())
    fields = {"enabled": "on", "mapped_channel": "3", "description": "typed"}
    answer = signed_in(account).post(f"/devices/{device.pk}/edit/", fields)
    assert answer.status_code == 200
    assert "no room for 1 more tag" in answer.text
    assert "typed" in answer.text
    device.refresh_from_db()
    assert (device.mapped_channel, device.held.count()) == (None, 1)
