"""Accounts of Servwatch: another limit, and a rule from the start."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from thingscale.accounts.actions import create_account, reset_limits, update_account
from thingscale.accounts.limits import Kind
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.models import ActivationRule, Device
from thingscale.provisioning.accounts import change_account, open_account
from thingscale.provisioning.tasks import activate_device

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _rate(settings: Settings, db: None) -> None:
    settings.REST_RATE = 20


def rules(user: User) -> list[tuple[str, int | None]]:
    return list(ActivationRule.objects.for_account(user).values_list("pattern", "channel"))


def test_an_account_is_of_thingscale_unless_it_is_said() -> None:
    user = open_account("a@example.com", PASSWORD)
    assert (user.kind, user.rest_rate, rules(user)) == ("thingscale", 20, [])


def test_a_host_is_enabled_on_first_contact_with_a_channel_of_its_own() -> None:
    user = open_account("a@example.com", PASSWORD, kind=Kind.SERVWATCH)
    assert (user.kind, user.rest_rate, rules(user)) == ("servwatch", 3, [("*", None)])
    for name in ("web-1", "web-2"):
        device = create_device(user, name)
        Device.objects.filter(pk=device.pk).update(enabled=False, activate_at=None)  # as ingest makes it
        activate_device(device.pk)
    found = Device.objects.for_account(user).values_list("device_id", "enabled", "mapped_channel__name")
    assert sorted(found) == [("web-1", True, "web-1"), ("web-2", True, "web-2")]


def test_a_site_may_have_less(settings: Settings) -> None:
    settings.REST_RATE = 2
    assert create_account("a@example.com", PASSWORD, kind=Kind.SERVWATCH).rest_rate == 2


def test_an_account_becomes_another_kind() -> None:
    user = open_account("a@example.com", PASSWORD)
    change_account(user, {"kind": "servwatch"})
    user.refresh_from_db()
    assert (user.kind, user.rest_rate, rules(user)) == ("servwatch", 3, [("*", None)])
    update_account(user, {"rest_rate": 50})
    reset_limits(user)
    assert User.objects.get(pk=user.pk).rest_rate == 3
    change_account(user, {"kind": "thingscale"})
    assert User.objects.get(pk=user.pk).rest_rate == 20
    assert rules(user) == [("*", None)]  # devices that come go on as before
    change_account(user, {"kind": "servwatch", "rest_rate": 7})
    assert User.objects.get(pk=user.pk).rest_rate == 7
    assert len(rules(user)) == 1


def run(**options: Any) -> str:
    out = StringIO()
    call_command("create_account", email="a@example.com", password=PASSWORD, stdout=out, json=True, **options)
    return out.getvalue()


def test_the_command_makes_one() -> None:
    user = User.objects.by_user_id(json.loads(run(kind="servwatch"))["user_id"])
    assert user is not None
    assert (user.kind, rules(user)) == ("servwatch", [("*", None)])


def test_the_command_knows_no_other_kind() -> None:
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("create_account", "--email=a@example.com", f"--password={PASSWORD}", "--kind=other")
