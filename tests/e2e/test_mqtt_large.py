"""D3: what is larger than the gateway takes is read over, for clients that can't be told."""

import pytest
from mqtt_clients import Raw, Start, gateway
from support import Account

from ingest.mqtt.packets import PUBACK, PUBREC, V5, V31, V311, Ack, Connect, Disconnect, Publish, Version
from thingscale.devices.models import RejectedMessage

pytestmark = pytest.mark.e2e


def connect(account: Account, version: Version) -> Connect:
    return Connect(version, "c1", False, 30, account.user_id, account.device_token.encode(), None, {})


@pytest.mark.parametrize("version", [V31, V311])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", ["json/d1", "d1/subscribe", "json/d1/tag"])
@pytest.mark.parametrize("size", [266_241, 300_000, 1_000_000])
def test_d3_it_is_recorded_and_acknowledged_and_what_is_behind_it_is_stored(
    stack: Start, account: Account, version: Version, qos: int, topic: str, size: int
) -> None:
    account.device("d1")
    with Raw(gateway(stack).mqtt, version) as raw:
        raw.open(connect(account, version))
        full = f"{account.device_token}/{topic}"
        raw.send(Publish(full, b'"%s"' % (b"x" * size), qos, False, False, 7 if qos else 0, {}))
        raw.send(Publish(f"{account.device_token}/json/d1", b"21.5", 1, False, False, 8, {}))
        answers = [raw.receive() for _ in range(1 + (qos > 0))]
    wanted = {0: [], 1: [Ack(PUBACK, 7, 0, {})], 2: [Ack(PUBREC, 7, 0, {})]}[qos]
    assert answers == [*wanted, Ack(PUBACK, 8, 0, {})]
    assert [value for value, _ in account.stored()] == ["21.5"]
    (rejected,) = RejectedMessage.objects.filter(user=account.user)
    assert (rejected.reason, rejected.source, rejected.device_id) == ("TOO_LARGE", f"TOKEN/{topic}", "d1")


def test_d3_a_client_of_mqtt_5_was_told(stack: Start, account: Account) -> None:
    with Raw(gateway(stack).mqtt, V5) as raw:
        raw.open(connect(account, V5))
        raw.send(Publish(f"{account.device_token}/json/d1", b"x" * 300_000, 1, False, False, 7, {}))
        assert raw.receive() == Disconnect(0x95, {})
