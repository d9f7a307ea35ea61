"""The upstream broker goes and comes back; and another one in its place."""

import time
from collections.abc import Iterator

import pytest
from mosquitto import needs_mosquitto, run_mosquitto
from mqtt_clients import HOST, V5_PAHO, V311_PAHO, Device
from paho.mqtt.enums import MQTTProtocolVersion
from stack import Stack, wait_until
from support import Account

from thingscale.local.servers import Servers

pytestmark = pytest.mark.e2e
VERSIONS = [pytest.param(V311_PAHO, id="3.1.1"), pytest.param(V5_PAHO, id="5")]


@pytest.fixture(scope="module")
def broker() -> Iterator[Servers]:
    servers = Servers(want={"broker"}, fast=True)
    with servers:
        yield servers


@pytest.fixture(scope="module")
def own(django_db_setup: None, broker: Servers) -> Iterator[Stack]:
    """A gateway in front of a broker that may die."""
    made = Stack(**broker.broker.environment())
    made.ensure("ingest")
    yield made
    made.stop()


def arrives(sender: Device, receiver: Device, rest: str, payload: bytes) -> None:
    """Publishes until it does: what is forwarded while the broker is away may be lost."""

    def attempt() -> bool:
        assert sender.publish(rest, payload) in {0, 0x10}
        time.sleep(0.1)
        return payload in receiver.payloads(0)

    wait_until(attempt, 15, f"{payload!r} on {rest}")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_broker_is_killed_and_comes_back(
    own: Stack, broker: Servers, transactional_db: None, account: Account, version: MQTTProtocolVersion
) -> None:
    account.device("d1")
    with (
        Device(own, account, "sender", version) as sender,
        Device(own, account, "listener", version) as listener,
        Device(own, account, "lasting", version, clean=False, expiry=60) as lasting,
    ):
        for receiver in (listener, lasting):
            assert receiver.subscribe("json/d1", "d1/subscribe") == [1, 1]
            arrives(sender, receiver, "json/d1", b'"before"')
        stored = len(account.stored())
        broker.broker.kill()
        for number in range(20):
            begun = time.monotonic()
            assert sender.publish("json/d1", b"%d" % number) == 0
            assert time.monotonic() - begun < 1
        pending = sender.client.publish(sender.topic("d1/subscribe"), b"waits", 1)
        with Device(own, account, "other", version, clean=False, expiry=60).will("json/d1", b"20") as other:
            assert other.publish("d1/subscribe", b"lost", qos=0, retain=True) == 0
            other.vanish()
        with Device(own, account, "late", version) as late:
            assert late.publish("json/d1", b"21", qos=2, retain=True) == 0
            asked = late.client.subscribe(late.topic("d1/subscribe"), 1)[1]
            assert asked is not None
            broker.broker.start()
            wait_until(lambda: asked in late._subacks, 15, "the SUBACK that the broker owed")
            pending.wait_for_publish(15)
            assert pending.is_published()
            for receiver in (listener, lasting):
                arrives(sender, receiver, "json/d1", b'"after"')
                arrives(sender, receiver, "d1/subscribe", b"after")
            arrives(sender, late, "d1/subscribe", b"late")
        assert [device.ended for device in (sender, listener, lasting)] == [None, None, None]
    values = [value for value, _ in account.stored()][stored : stored + 22]
    assert values == [str(number) for number in range(22)]


@pytest.fixture(scope="module")
def behind_mosquitto(django_db_setup: None) -> Iterator[Stack]:
    """A gateway in front of Mosquitto."""
    with run_mosquitto() as port:
        url = f"mqtt://{HOST}:{port}"
        made = Stack(MQTT_URL=url, MQTT5_URL=url)
        made.ensure("ingest")
        yield made
        made.stop()


@needs_mosquitto
@pytest.mark.parametrize("version", VERSIONS)
def test_mosquitto_in_its_place(
    behind_mosquitto: Stack, transactional_db: None, account: Account, version: MQTTProtocolVersion
) -> None:
    account.device("d1")
    done = {0, 0x10}  # MQTT 5: nobody has subscribed
    with Device(behind_mosquitto, account, "sender", version) as sender:
        assert sender.publish("d1/subscribe", b"kept", retain=True) in done
        with Device(behind_mosquitto, account, "lasting", version, clean=True, expiry=60) as clean:
            assert clean.subscribe("d1/subscribe") == [1]
            assert sender.publish("d1/subscribe", b"1") == 0
            assert clean.payloads(2) == [b"1", b"kept"]
        with Device(behind_mosquitto, account, "lasting", version, clean=False, expiry=60) as first:
            assert first.subscribe("json/#", qos=2) == [2]
        for qos in (1, 2):
            assert sender.publish("json/d1", b"%d" % qos, qos) == 0
        assert sender.publish("d1/subscribe", b"", retain=True) in done
        with Device(behind_mosquitto, account, "lasting", version, clean=False, expiry=60) as second:
            assert second.session_present
            assert sender.publish("json/d1", b"3") == 0
            expected = [b"", b"1", b"2", b"3"] if version == V5_PAHO else [b"1", b"2", b"3"]
            assert second.payloads(len(expected)) == expected
    assert [value for value, _ in account.stored()] == ["1", "2", "3"]
