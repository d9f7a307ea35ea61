"""How it stands with an event reaches MQTT clients, also those that come later."""

import json

import pytest
from mqtt_clients import Device, Start, gateway
from support import Account

from thingscale.events.actions import create_event, delete_event

pytestmark = pytest.mark.e2e


def test_subscribers_are_told_how_it_stands(stack: Start, account: Account) -> None:
    running = gateway(stack)
    stack("celery")
    account.device("d1")
    fields = {"mapped_channel": account.channel(), "source": "temp", "operator": ">", "threshold": "30"}
    event = create_event(account.user, {**fields, "notify_type": "none"})
    with Device(running, account) as device, Device(running, account) as early:
        assert early.subscribe("events/+") == [1]
        device.publish("json/d1", b'{"temp": 31}')
        (first,) = map(json.loads, early.payloads(1))
        assert (first["event_id"], first["state"]) == (1, "firing")
        (condition,) = first["conditions"]
        assert (condition["device_id"], condition["current"]) == ("d1", 31)
        with Device(running, account) as late:
            assert late.subscribe("events/1") == [1]
            assert json.loads(late.payloads(1)[0]) == first
            assert late.messages[0].retain
        device.publish("json/d1", b'{"temp": 20}')
        early.payloads(2)
        delete_event(event)
        early.payloads(3)
        states = [json.loads(message.payload or b"{}").get("state") for message in early.messages]
        assert states == ["firing", "ok", None]
    with Device(running, account) as late:
        assert late.subscribe("events/1", "d1/subscribe") == [1, 1]
        assert late.messages == []
