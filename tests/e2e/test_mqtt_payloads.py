"""What is published reads back exactly as the contract says, in PostgreSQL and over REST."""

import json

import pytest
from mqtt_clients import Device, Start, gateway, newest, rest
from support import Account

pytestmark = pytest.mark.e2e

# topic behind the token, payload, value as JSON text, tag
CASES: list[tuple[str, bytes, str, str | None]] = [
    ("json/d1", b'{"temp": 23.40, "humid": 50}', '{"temp": 23.40, "humid": 50}', None),
    ("json/d1", b"12.5", "12.5", None),
    ("json/d1", b"-0", "0", None),
    ("json/d1/text", b'"Hello!"', '"Hello!"', "text"),
    ("json/d1/text", '"23 °C 温度 😀"'.encode(), '"23 °C 温度 😀"', "text"),
    ("d1", b"v=23.4&v2=56.7", '{"value": 23.4, "value2": 56.7}', None),
    ("d1", b"v=007&v3=04A1B2&v4=+12E4\r\n", '{"value": "007", "value3": "04A1B2", "value4": " 12E4"}', None),
    ("binary/d1", b"\xde\x01\xff", '"de01ff"', None),
    ("binary/d1/raw", b"\x00\xc3\x28", '"00c328"', "raw"),
    ("json/Gerät-温度/Küche-日本", b"1", "1", "Küche-日本"),
    ("json/my device/my tag", b"2", "2", "my tag"),
    ("json/host.example.com", b"3", "3", None),
    ("binary/..", b"\x04", '"04"', None),
]
DEVICES = ("d1", "Gerät-温度", "my device", "host.example.com", "..")


def test_every_kind_of_payload_reads_back(stack: Start, account: Account) -> None:
    running = gateway(stack)
    for device_id in DEVICES:
        account.device(device_id)
    with Device(running, account) as device:
        for topic, payload, _, _ in CASES:
            assert device.publish(topic, payload) == 0
    assert [(json.loads(value), tag) for value, tag in account.stored()] == [
        (json.loads(value), tag) for _, _, value, tag in CASES
    ]
    assert account.stored()[0] == ('{"temp": 23.40, "humid": 50}', None)
    assert newest(running, account) == [(json.loads(value), tag) for _, _, value, tag in CASES]
    text = rest(running, account, "stream/0", X_ENDTIME="last", X_PAGELIMIT="100")
    assert "23.40" in text
    assert json.loads(text)["channel"] == 0


def test_state_is_shown_with_its_device(stack: Start, account: Account) -> None:
    running = gateway(stack)
    account.device("x")
    with Device(running, account) as device:
        assert device.publish("state/x", b"pod_run_current=3\n") == 0
        (shown,) = json.loads(rest(running, account, "device/x"))
        assert shown["state"]["pod_run_current"] == 3
        assert device.publish("state/x", b"mode= eco &rssi=-71&uid=007") == 0
    (shown,) = json.loads(rest(running, account, "device/x"))
    assert {"mode": "eco", "rssi": -71, "uid": "007"}.items() <= shown["state"].items()
    assert "pod_run_current" not in shown["state"]
    assert account.stored() == []


def test_first_contact_holds_what_a_device_sends_until_it_is_mapped(stack: Start, account: Account) -> None:
    running = gateway(stack)
    with Device(running, account) as device:
        for number in range(3):
            assert device.publish("json/new one", b"%d" % number) == 0
    assert json.loads(rest(running, account, "device"))[0]["enabled"] is False
    assert account.stored() == []
