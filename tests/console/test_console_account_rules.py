"""Activation rules: their order, what they would match, whose they are."""

from typing import Any

import pytest
from support import Account

from thingscale.accounts.models import User
from thingscale.devices.actions import create_rule
from thingscale.devices.models import ActivationRule, Device
from thingscale.provisioning.tasks import activate_new_devices


def patterns(account: Account) -> list[str]:
    return list(ActivationRule.objects.for_account(account.user).values_list("pattern", flat=True))


def add(account: Account, *names: str) -> list[ActivationRule]:
    return [create_rule(account.user, name, account.channel(0).id) for name in names]


def new(account: Account, *names: str) -> None:
    Device.objects.bulk_create(Device(user=account.user, device_id=name, enabled=False) for name in names)


def test_an_empty_list_says_what_to_do(account: Account, signed_in: Any) -> None:
    page = signed_in(account).get("/rules/").text
    assert "No rule yet" in page
    assert "a channel of its own, made for it" in page
    assert "Make one first" in page


def test_a_rule_is_added_and_does_its_work(account: Account, signed_in: Any) -> None:
    account.channel(4)
    new(account, "roof-1", "cellar-1")
    client = signed_in(account)
    page = client.post(
        "/rules/", {"pattern": "roof-*", "to": "channel", "channel": "4 · Roof"}, follow=True
    ).text
    assert "roof-*" in page
    activate_new_devices()
    assert Device.objects.get(enabled=True).device_id == "roof-1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channel": "9"}, "You have no channel 9"),
        ({"channel": "Roof"}, "You have no channel Roof"),
        ({"channel": ""}, "Choose a channel, or give each device its own."),
        ({"to": "x"}, "not one of the available choices"),
        ({"pattern": "a/b"}, "no / + #"),
        ({"pattern": ""}, "required"),
        ({"pattern": "x" * 65}, "at most 64"),
        ({"pattern": "there-*"}, "There is a rule for there-* already"),
    ],
)
def test_a_rule_that_is_refused(account: Account, signed_in: Any, changes: dict[str, str], said: str) -> None:
    add(account, "there-*")
    answer = signed_in(account).post("/rules/", {"pattern": "roof-*", "channel": "0"} | changes)
    assert said in answer.text
    assert patterns(account) == ["there-*"]


def test_each_device_its_own_channel(account: Account, signed_in: Any) -> None:
    new(account, "roof-1", "roof-2")
    client = signed_in(account)
    page = client.post("/rules/", {"pattern": "roof-*", "to": "own", "channel": "nonsense"}, follow=True).text
    assert "each its own" in page
    activate_new_devices()
    assert set(Device.objects.values_list("device_id", "mapped_channel__name")) == {
        ("roof-1", "roof-1"),
        ("roof-2", "roof-2"),
    }
    assert "No room for channels" not in client.get("/rules/").text
    User.objects.filter(pk=account.user.pk).update(max_channels=2)
    assert "No room for channels" in client.get("/rules/").text


def test_a_channel_of_another_is_none(account: Account, outsider: Account, signed_in: Any) -> None:
    account.channel(4)
    answer = signed_in(outsider).post("/rules/", {"pattern": "*", "to": "channel", "channel": "4"})
    assert "You have no channel 4" in answer.text


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("roof-?", 2),
        ("roof-*", 3),
        ("*", 5),
        ("roof.1", 1),
        ("ROOF-*", 0),
        ("[r]oof-1", 0),
        ("a\\", 0),
        ("(", 0),
    ],
)
def test_the_preview_counts_as_a_rule_matches(
    account: Account, signed_in: Any, pattern: str, matches: int
) -> None:
    new(account, "roof-1", "roof-2", "roof-10", "roof.1", "cellar")
    account.device("roof-3")
    client = signed_in(account)
    said = f"<b>{matches}</b>" if matches else "Matches no new device now"
    assert said in client.get("/rules/preview/", {"pattern": pattern}).text
    assert said in client.post("/rules/", {"pattern": pattern, "channel": "0", "preview": "1"}).text
    assert not patterns(account)
    add(account, pattern)
    activate_new_devices()
    assert Device.objects.filter(enabled=True).count() == matches + 1


@pytest.mark.parametrize("pattern", ["", "x" * 65, "\0"])
def test_what_is_no_pattern_has_no_preview(account: Account, signed_in: Any, pattern: str) -> None:
    answer = signed_in(account).get("/rules/preview/", {"pattern": pattern})
    assert (answer.status_code, answer.text.strip()) == (200, "")


def test_rules_move_and_go(account: Account, signed_in: Any) -> None:
    first, second, third = add(account, "a", "b", "c")
    client = signed_in(account)
    client.post(f"/rules/{third.pk}/move/", {"to": "up"})
    assert patterns(account) == ["a", "c", "b"]
    client.post(f"/rules/{first.pk}/move/", {"to": "down"})
    assert patterns(account) == ["c", "a", "b"]
    client.post(f"/rules/{third.pk}/move/", {"to": "up"})
    client.post(f"/rules/{second.pk}/move/", {"to": "down"})
    assert patterns(account) == ["c", "a", "b"]
    client.post(f"/rules/{first.pk}/delete/")
    assert patterns(account) == ["c", "b"]


def test_an_outsider_changes_nothing(account: Account, outsider: Account, signed_in: Any) -> None:
    rule, _ = add(account, "secret-a", "secret-b")
    client = signed_in(outsider)
    assert "secret-" not in client.get("/rules/").text
    for page in ("move", "delete"):
        assert client.post(f"/rules/{rule.pk}/{page}/", {"to": "down"}).status_code == 404
    new(account, "roof-1")
    assert "no new device" in client.get("/rules/preview/", {"pattern": "*"}).text
    assert patterns(account) == ["secret-a", "secret-b"]
