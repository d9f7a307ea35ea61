"""What is published while a client comes back is in its queue, and it gets it."""

import pytest
from mqtt_clients import Device, Start, gateway
from support import Account

from thingscale.devices.models import Published

pytestmark = pytest.mark.e2e


def test_what_is_published_while_a_session_is_taken_up_arrives(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1", clean=False) as device:
        assert device.subscribe("json/d1") == [1]
    with Device(running, account, "sender") as sender:
        for number in range(40):
            payload = b"%d" % number
            sender.client.publish(sender.topic("json/d1"), payload, 1)  # not waiting for its acknowledgement
            with Device(running, account, "d1", clean=False) as device:
                assert payload in device.payloads(1)
    assert not Published.objects.exists()
