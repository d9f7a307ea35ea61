"""What is deleted in another tab while a form is on its way."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from support import Account

import console.urls  # noqa: F401  (else a module first imported here would keep what is patched below)
from console.views import channels, devices
from thingscale.devices.models import Device
from thingscale.streams.models import Channel

SignIn = Callable[[Account], Client]


def found_then_deleted(find: Callable[..., Any], kind: Any) -> Callable[..., Any]:
    def finding(*arguments: Any) -> Any:
        found = find(*arguments)
        kind.objects.filter(pk=found.pk).delete()
        return found

    return finding


@pytest.mark.parametrize("path", ["edit/", "enable/"])
def test_a_device(account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    device = account.device("pump", None)
    monkeypatch.setattr(devices, "get_device", found_then_deleted(devices.get_device, Device))
    assert signed_in(account).post(f"/devices/{device.pk}/{path}", {"location": "x"}).status_code == 404


def test_a_channel(account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    account.channel(7)
    monkeypatch.setattr(channels, "_channel", found_then_deleted(channels._channel, Channel))
    sent = {"streams-TOTAL_FORMS": "0", "streams-INITIAL_FORMS": "0", "name": "Lab"}
    assert signed_in(account).post("/channels/7/", sent).status_code == 404
