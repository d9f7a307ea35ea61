"""The gateway follows a rotation of the device token, and the end of an account, at once."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from mqtt_clients import V5_PAHO, V311_PAHO, Device, Start, gateway
from paho.mqtt.enums import MQTTProtocolVersion
from stack import wait_until
from support import Account

from thingscale.accounts.actions import close_account, revoke_rotated_tokens, rotate_token, set_active
from thingscale.accounts.models import User

pytestmark = pytest.mark.e2e
AT_ONCE = 20.0  # seconds; what a gateway is not told, it never sees by itself
BAD_PASSWORD, NOT_AUTHORIZED = 0x86, 0x87
VERSIONS = [pytest.param(V311_PAHO, id="3.1.1"), pytest.param(V5_PAHO, id="5")]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_tokens_work_in_the_overlap_and_one_after_its_revocation(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "before", version) as before:
        new = rotate_token(account.user, "device", timedelta(hours=1)).plain
        old = account.device_token
        with (
            Device(running, account, "old", version, token=old) as late,
            Device(running, account, "new", version, token=new) as device,
        ):
            assert before.subscribe_to([f"{old}/d1/subscribe", f"{new}/json/d1"]) == [1, 1]
            assert late.subscribe("d1/subscribe") == [1]
            assert device.subscribe("json/d1") == [1]
            for number, sender in enumerate((before, late, device)):
                assert sender.publish("json/d1", b"%d" % number) == 0
                assert sender.publish("d1/subscribe", b"command %d" % number) == 0
            assert before.publish_to(f"{new}/json/d1", b"3", 1) == 0
            assert device.payloads(4) == [b"0", b"1", b"2", b"3"]
            assert len(late.payloads(3)) == 3
            assert len(before.payloads(7)) == 7
            assert revoke_rotated_tokens(account.user, "device") == 1
            revoked = time.monotonic()
            for closed in (before, late):
                reason = closed.wait_end(AT_ONCE)
                assert version != V5_PAHO or reason == NOT_AUTHORIZED
            assert time.monotonic() - revoked < AT_ONCE
            refused = Device(running, account, "refused", version, token=old)
            assert refused.connect() == BAD_PASSWORD
            refused.close()
            assert device.publish("json/d1", b"4") == 0
            assert device.publish_to(f"{old}/json/d1", b"5", 1) == (
                NOT_AUTHORIZED if version == V5_PAHO else 0
            )
            assert device.ended is None
    assert [value for value, _ in account.stored()] == ["0", "1", "2", "3", "4"]
    rejected = account.user.rejected.values_list("reason", flat=True)
    wait_until(lambda: sorted(rejected.all()) == ["AUTH_REQUIRED", "SIGN_IN_REFUSED"], 60, "both records")


def test_the_end_of_the_overlap_closes_what_still_uses_the_old_token(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "old", V5_PAHO) as old:
        rotated = time.monotonic()
        new = rotate_token(account.user, "device", timedelta(seconds=1)).plain
        with Device(running, account, "new", V5_PAHO, token=new) as device:
            assert old.publish("json/d1", b"1") == 0
            assert old.wait_end() == NOT_AUTHORIZED
            assert 0.9 < time.monotonic() - rotated < 1 + AT_ONCE
            refused = Device(running, account, "refused", V5_PAHO)
            assert refused.connect() == BAD_PASSWORD
            refused.close()
            assert device.publish("json/d1", b"2") == 0
    assert account.stored() == [("1", None), ("2", None)]


def test_a_durable_session_lives_on_under_the_new_token(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Device(running, account, "lasting", clean=False) as first:
        assert first.subscribe("d1/subscribe") == [1]
    new = rotate_token(account.user, "device", timedelta(0)).plain
    with Device(running, account, "other", token=new) as other:
        assert other.publish("d1/subscribe", b"1") == 0
    with Device(running, account, "lasting", clean=False, token=new) as second:
        assert second.session_present
        assert second.payloads(1) == [b"1"]
        assert second.messages[0].topic == f"{new}/d1/subscribe"


@pytest.mark.parametrize("end", [lambda user: set_active(user, False), close_account])
def test_an_account_that_ends_is_cut_off(
    stack: Start, account: Account, outsider: Account, end: Callable[[User], None]
) -> None:
    running = gateway(stack)
    with (
        Device(running, account, "in", V5_PAHO) as device,
        Device(running, outsider, "other", V5_PAHO) as other,
    ):
        end(account.user)
        assert device.wait_end(AT_ONCE) == NOT_AUTHORIZED
        refused = Device(running, account, "refused", V5_PAHO)
        assert refused.connect() == BAD_PASSWORD
        refused.close()
        assert other.ended is None
