"""Unmodified clients of every kind publish and receive."""

import shutil

import pytest
from mqtt_clients import V5_PAHO, V31, V311_PAHO, Device, Start, gateway, mosquitto, newest, run
from paho.mqtt.enums import MQTTProtocolVersion
from stack import wait_until
from support import Account

pytestmark = pytest.mark.e2e
VERSIONS = [
    pytest.param(V31, id="3.1"),
    pytest.param(V311_PAHO, id="3.1.1"),
    pytest.param(V5_PAHO, id="5"),
]
TRANSPORTS = [
    pytest.param("tcp", False, id="tcp"),
    pytest.param("tcp", True, id="tls"),
    pytest.param("websockets", False, id="ws"),
    pytest.param("websockets", True, id="wss"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("transport", "tls"), TRANSPORTS)
def test_paho(
    stack: Start, account: Account, version: MQTTProtocolVersion, transport: str, tls: bool
) -> None:
    running = gateway(stack)
    account.device("d1")
    with Device(running, account, "d1_x", version, transport=transport, tls=tls) as device:
        assert device.subscribe("d1/subscribe", "json/d1/heard", qos=2) == [2, 2]
        for qos in (0, 1, 2):
            assert device.publish("json/d1", b'{"qos": %d}' % qos, qos) == 0
            assert device.publish("json/d1/heard", b"1%d" % qos, qos) == 0
            assert device.publish("d1/subscribe", b"2%d" % qos, qos) == 0
        assert device.payloads(6) == [b"10", b"11", b"12", b"20", b"21", b"22"]
    expected = [('{"qos": 0}', None), ("10", "heard"), ('{"qos": 1}', None), ("11", "heard")]
    assert account.stored() == [*expected, ('{"qos": 2}', None), ("12", "heard")]


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("tls", [pytest.param(False, id="tcp"), pytest.param(True, id="tls")])
def test_mosquitto_pub_and_sub(stack: Start, account: Account, version: str, tls: bool) -> None:
    if not (shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub")):
        pytest.skip("mosquitto_pub and mosquitto_sub are not installed")
    running = gateway(stack)
    account.device("d1")
    sub = mosquitto("mosquitto_sub", running, account, version, "json/#", "-q", "2", tls=tls)
    sub += ["-i", "lasting", "-c", *(["-x", "60"] if version == "mqttv5" else [])]
    for qos in ("0", "1", "2"):
        pub = mosquitto("mosquitto_pub", running, account, version, "json/d1", "-q", qos, tls=tls)
        run([*pub, "-m", f'{{"qos": {qos}}}'])
        if qos == "0":
            wait_until(account.stored, what="a datapoint")
            run([*sub, "-E"])  # ends as soon as it is subscribed
    heard = run([*sub, "-C", "2"]).decode().splitlines()
    assert heard == ['{"qos": 1}', '{"qos": 2}']
    assert newest(running, account) == [({"qos": 0}, None), ({"qos": 1}, None), ({"qos": 2}, None)]
