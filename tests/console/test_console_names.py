"""Names with white space or something invisible at an end (R2): no door beside the API's makes one."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from support import Account

from ingest.connectors import http
from ingest.topics import target
from thingscale.devices.actions import create_rule
from thingscale.devices.models import ActivationRule, Device
from thingscale.lib import points
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Tag

NAMES = ["d1 ", " d1", "d1\u200b", "\ufeffd1", "d1\xad", "d1\u2003", "d1\u200f"]
SignIn = Callable[[Account], Client]


@pytest.mark.parametrize("name", NAMES)
def test_r2_mqtt_and_the_connector_refuse_it(name: str) -> None:
    for rest in (f"json/{name}", f"binary/{name}/tag", f"state/{name}", name, f"json/d1/{name}"):
        assert target(rest).refused is not None, rest
    for device, tag in ((name, "t"), ("d1", name)):
        headers = {b"x-deviceid": device.encode(), b"x-tagname": tag.encode()}
        assert http.message("/post_v2/", 1, headers, b"1").refused is not None


@pytest.mark.parametrize("name", NAMES)
def test_r2_the_console_and_commands_refuse_it(account: Account, signed_in: SignIn, name: str) -> None:
    client = signed_in(account)
    tag = Tag.objects.create(channel=account.channel(7), name="room")
    answer = client.post("/devices/new/", {"device_id": name, "enabled": "on"})
    assert "white space" in answer.text
    answer = client.post(f"/channels/7/tags/{tag.pk}/", {"name": name})
    assert answer.status_code in {200, 404}
    with pytest.raises(CommandError, match="white space"):
        call_command("create_device", account.user_id, name)
    with pytest.raises(ContractError, match="white space"):
        create_rule(account.user, name.replace("1", "*"), account.channel(7).id)
    assert not Device.objects.exists()
    assert not ActivationRule.objects.exists()
    assert Tag.objects.get().name == "room"


@pytest.mark.parametrize("name", ["a\0b", "a\x1fb", "a\x7fb", "a\x9fb"])
def test_r2_a_control_character_inside_is_refused_as_well(name: str) -> None:
    """PostgreSQL has no text with NUL, so that one that came through would stop more than its message."""
    for rest in (f"json/{name}", f"json/d1/{name}"):
        assert target(rest).refused is not None, rest
    for device, tag in ((name, "t"), ("d1", name)):
        headers = {b"x-deviceid": device.encode(), b"x-tagname": tag.encode()}
        assert http.message("/post_v2/", 1, headers, b"1").refused is not None
    for body in ({"value": 1, "tag": name}, [{"value": 1, "tag": name}]):
        with pytest.raises(ContractError, match="control characters"):
            points.parse(body, ZoneInfo("UTC"), 0)
