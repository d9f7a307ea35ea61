"""Several devices at once: those checked, or all that match."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from support import Account

from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel

SignIn = Callable[[Account], Client]


@pytest.fixture
def three(account: Account) -> list[int]:
    return [account.device(f"d{n}", None).pk for n in range(3)]


def states(account: Account) -> list[tuple[str, bool, int | None]]:
    devices = Device.objects.for_account(account.user).order_by("device_id")
    return list(devices.values_list("device_id", "enabled", "mapped_channel__number"))


def post(client: Client, **fields: Any) -> Any:
    return client.post("/devices/bulk/", fields, follow=True)


def test_disable_and_enable(account: Account, signed_in: SignIn, three: list[int]) -> None:
    client = signed_in(account)
    answer = post(client, action="disable", pk=three[:2], q="d", filter="enabled")
    assert answer.redirect_chain == [("/devices/?q=d&filter=enabled", 302)]
    assert "2 devices are disabled." in answer.text
    assert states(account) == [("d0", False, None), ("d1", False, None), ("d2", True, None)]
    assert "1 device is enabled." in post(client, action="enable", pk=three[:1]).text


def test_what_is_no_key_is_left_out(account: Account, signed_in: SignIn, three: list[int]) -> None:
    keys = ["9" * 5000, "-1", "²", "x", str(2**63), three[0]]
    assert "1 device is disabled." in post(signed_in(account), action="disable", pk=keys).text


def test_map_and_unmap(account: Account, signed_in: SignIn, three: list[int]) -> None:
    account.channel(7)
    client = signed_in(account)
    assert "3 devices are mapped." in post(client, action="map", pk=three, channel="7").text
    assert {number for _, _, number in states(account)} == {7}
    post(client, action="unmap", pk=three[:1])
    assert states(account)[0] == ("d0", True, None)


def test_enable_and_map_new_ones(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    Device.objects.create(user=account.user, device_id="n1", enabled=False)
    answer = post(signed_in(account), action="activate", all="on", filter="new", channel="7", confirmed="on")
    assert "1 device is enabled and mapped." in answer.text
    assert states(account) == [("n1", True, 7)]


@pytest.mark.parametrize(
    ("channel", "message"), [("", "Choose a channel."), ("-9", "A channel is a whole number")]
)
def test_a_bad_channel_keeps_the_selection(
    account: Account, signed_in: SignIn, three: list[int], channel: str, message: str
) -> None:
    text = post(signed_in(account), action="map", pk=three, channel=channel).text
    assert message in text
    assert all(f'name="pk" value="{pk}"' in text for pk in three)
    assert {number for _, _, number in states(account)} == {None}


def test_deleting_asks_for_the_count(account: Account, signed_in: SignIn, three: list[int]) -> None:
    client = signed_in(account)
    text = post(client, action="delete", pk=three).text
    assert "Delete: 3 devices" in text
    assert "Type 3 to confirm" in text
    assert "errorlist" not in text  # nothing was typed yet
    wrong = post(client, action="delete", pk=three, confirmed="on", typed="2").text
    assert "the number of devices that will be gone" in wrong
    assert len(states(account)) == 3
    post(client, action="delete", pk=three, confirmed="", typed="3")
    assert len(states(account)) == 3
    assert "3 devices are gone." in post(client, action="delete", pk=three, confirmed="on", typed="3").text
    assert states(account) == []


def test_all_that_match_asks_first(account: Account, signed_in: SignIn, three: list[int]) -> None:
    account.device("other")
    client = signed_in(account)
    text = post(client, action="disable", all="on", q="d", pk=three[:1]).text
    assert "Disable: 3 devices" in text
    assert "all devices that match “d”" in text
    assert all(enabled for _, enabled, _ in states(account))
    post(client, action="disable", all="on", q="d", confirmed="on")
    assert [device for device, enabled, _ in states(account) if enabled] == ["other"]


def test_nothing_selected(account: Account, signed_in: SignIn, three: list[int]) -> None:
    client = signed_in(account)
    assert "No device was selected" in post(client, action="disable").text
    assert client.get("/devices/bulk/").headers["Location"] == "/devices/"
    assert post(client, action="explode", pk=three).status_code == 200
    assert "No device was selected" in post(client, action="disable", pk=["x", "-1", "9" * 40, "²"]).text
    assert all(enabled for _, enabled, _ in states(account))


@pytest.mark.parametrize("action", ["enable", "disable", "map", "activate", "unmap", "delete"])
def test_other_users_devices_are_ignored(
    account: Account, outsider: Account, signed_in: SignIn, three: list[int], action: str
) -> None:
    Device.objects.filter(pk=three[0]).update(enabled=False)
    before = states(account)
    own = outsider.device("own", 7)
    client = signed_in(outsider)
    fields = {"action": action, "channel": "7", "confirmed": "on", "typed": "1"}
    assert "1 device is" in post(client, pk=[*three, own.pk], **fields).text
    assert "No device was selected" in post(client, pk=three, **fields).text
    post(client, all="on", **fields)
    assert states(account) == before
    assert Channel.objects.for_account(account.user).count() == 0


def test_a_channel_is_made_after_a_look(account: Account, signed_in: SignIn, three: list[int]) -> None:
    client = signed_in(account)
    text = post(client, action="map", pk=three, channel="9 · Roof").text
    assert "1 channel is made:" in text
    assert '<b class="break">9 · Roof</b>' in text
    assert not Channel.objects.exists()
    assert 'name="makes" value="1"' in text
    done = post(client, action="map", pk=three, channel="9 · Roof", confirmed="on", makes="1").text
    assert "3 devices are mapped. 1 channel is made." in done
    assert {number for _, _, number in states(account)} == {9}
    assert "3 devices are mapped." in post(client, action="map", pk=three, channel="Roof").text


def test_each_its_own_channel(account: Account, signed_in: SignIn, three: list[int]) -> None:
    account.device("d9", 4)
    client = signed_in(account)
    fields = {"action": "activate", "all": "on", "q": "d", "channel": "own"}
    text = post(client, **fields).text
    assert "3 channels are made:" in text
    assert "and 1 more" not in text
    # somebody has taken one away meanwhile: another look
    assert "3 channels are made:" in post(client, **fields, confirmed="on", makes="2").text
    assert (
        "4 devices are enabled and mapped. 3 channels are made."
        in post(client, **fields, confirmed="on", makes="3").text
    )
    assert [number for _, _, number in states(account)] == [5, 6, 7, 4]
    assert "4 devices are enabled and mapped." in post(client, **fields, confirmed="on", makes="0").text
    assert Channel.objects.count() == 4


def test_more_channels_than_there_may_be(account: Account, signed_in: SignIn, three: list[int]) -> None:
    User.objects.filter(pk=account.user.pk).update(max_channels=2)
    client = signed_in(account)
    before = states(account)
    text = post(client, action="map", pk=three, channel="own", confirmed="on", makes="3").text
    assert "You can have 2 channels" in text
    assert states(account) == before
    assert not Channel.objects.exists()


def test_a_name_that_two_channels_have(account: Account, signed_in: SignIn, three: list[int]) -> None:
    for number in (1, 2):
        create_channel(account.user, number, name="Roof")
    text = post(signed_in(account), action="map", pk=three, channel="Roof").text
    assert "You have 2 channels called Roof: give the number." in text


def test_many_channels_are_not_all_listed(account: Account, signed_in: SignIn) -> None:
    pks = [account.device(f"d{n:02}", None).pk for n in range(25)]
    text = post(signed_in(account), action="map", pk=pks, channel="own").text
    assert "25 channels are made:" in text
    assert "and 5 more" in text
