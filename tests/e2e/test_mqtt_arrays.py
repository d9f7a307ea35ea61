"""Arrays of datapoints through the gateway: acknowledged when all is committed, sent again stored once."""

import json

import pytest
from mqtt_clients import V5_PAHO, V31, V311_PAHO, Device, Raw, Start, connect_packet, gateway, json_publish
from paho.mqtt.enums import MQTTProtocolVersion
from support import Account

from ingest.mqtt.packets import PUBACK, PUBREC, V5, Ack, Version
from ingest.mqtt.packets import V311 as V311_OURS
from thingscale.provisioning.actions import configure_device

pytestmark = pytest.mark.e2e

ARRAY = b'[{"value":1,"at":"2026-01-31T13:45:30Z"},{"value":{"t":2.50},"tag":"own"},{"value":true}]'
FULL = b'[{"value":1},{"value":"%s"},{"value":"%s"},{"value":2}' % (b"x" * 60_000, b"y" * 60_000)
FULL = FULL.ljust(256 * 1024 - 1) + b"]"


@pytest.mark.parametrize(
    "version",
    [pytest.param(V31, id="3.1"), pytest.param(V311_PAHO, id="3.1.1"), pytest.param(V5_PAHO, id="5")],
)
def test_an_array_reads_back_and_reaches_subscribers_as_it_was_sent(
    stack: Start, account: Account, version: MQTTProtocolVersion
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, version=version) as device, Device(running, account) as neighbour:
        assert neighbour.subscribe("json/#") == [1]
        for qos in (1, 2):
            assert device.publish("json/d1/roof", ARRAY, qos=qos) == 0
        assert neighbour.payloads(2) == [ARRAY] * 2
        assert device.publish("json/d1", FULL) == 0, "a whole quarter of a mebibyte"
        assert device.ended is None
    tags = [tag for _, tag in account.stored()]
    assert (tags.count("roof"), tags.count("own"), tags.count(None)) == (4, 2, 4)


@pytest.mark.parametrize("version", [V311_OURS, V5])
@pytest.mark.parametrize("qos", [1, 2])
def test_an_array_sent_again_after_a_lost_connection_is_stored_once(
    stack: Start, account: Account, version: Version, qos: int
) -> None:
    running = gateway(stack)
    account.device("d1")
    answer = Ack(PUBACK if qos == 1 else PUBREC, 7, 0, {})
    for dup in (False, True, True):
        with Raw(running.mqtt, version) as client:
            client.open(connect_packet(account, "mover", version))
            client.send(json_publish(account, "d1", ARRAY, qos, 7, dup=dup))
            assert client.receive() == answer
    assert len(account.stored()) == 3


def test_what_is_acknowledged_of_arrays_outlives_a_kill(stack: Start, account: Account) -> None:
    """The gateway is killed in mid-load; the client sends what has no PUBACK again, with DUP."""
    running = gateway(stack)
    account.device("d1")
    arrays = [
        json.dumps([{"value": f"{number}-{part}", "at": 1_769_834_730 + part} for part in range(50)]).encode()
        for number in range(1, 41)
    ]
    with Raw(running.mqtt) as client:
        client.open(connect_packet(account, "killed"))
        client.send(*[json_publish(account, "d1", array, 1, n) for n, array in enumerate(arrays, 1)])
        first = client.receive()
        running.kill("ingest")
        packets = [first, *iter(client.receive, None)]
        acknowledged = {packet.packet_id for packet in packets if isinstance(packet, Ack)}
    gateway(stack)
    with Raw(running.mqtt) as client:
        client.open(connect_packet(account, "killed"))
        for number, array in enumerate(arrays, 1):
            if number not in acknowledged:
                client.send(json_publish(account, "d1", array, 1, number, dup=True))
                packet = client.receive()
                assert isinstance(packet, Ack)
                acknowledged.add(packet.packet_id)
    assert len(acknowledged) == 40
    stored = [value for value, _ in account.stored()]
    assert len(stored) == len(set(stored)) == 40 * 50


def test_the_reason_why_an_array_is_refused_arrives_at_the_device(stack: Start, account: Account) -> None:
    running = gateway(stack)
    configure_device(account.device("d1"), {"enabled": True})
    with Device(running, account) as device:
        assert device.subscribe("d1/errors") == [1]
        assert device.publish("json/d1", b'[{"value":1},{"val":2}]') == 0
        (told,) = [json.loads(payload) for payload in device.payloads(1)]
    assert told["error"] == "BAD_JSON_FORMAT"
    assert told["detail"].startswith("[1].value: is missing")
    assert account.stored() == []
