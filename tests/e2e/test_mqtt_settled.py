"""D2: what a client that had left in order sends later is new, though it looks like something from before."""

import pytest
from mqtt_clients import Raw, Start, gateway
from support import Account

from ingest.mqtt.packets import PUBACK, V5, V311, Ack, Connect, Disconnect, Publish, Version

pytestmark = pytest.mark.e2e


class Sender:
    def __init__(self, running: object, account: Account, version: Version, name: str = "c1") -> None:
        self._port: int = running.mqtt  # type: ignore[attr-defined]
        self._connect = Connect(
            version, name, True, 30, account.user_id, account.device_token.encode(), None, {}
        )
        self._topic = f"{account.device_token}/json/"

    def __call__(
        self, payload: bytes, dup: bool = False, leaves: bool = True, device: str = "d1", wait: bool = True
    ) -> None:
        with Raw(self._port, self._connect.version) as raw:
            raw.open(self._connect)
            raw.send(Publish(self._topic + device, payload, 1, False, dup, 1, {}))
            if wait:
                answer = raw.receive()
                assert isinstance(answer, Ack)
                assert (answer.type, answer.packet_id, answer.code & 0x80) == (PUBACK, 1, 0)
            if leaves:
                raw.send(Disconnect(0, {}))
                assert raw.receive() is None


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("payload", [b"21.5", b'[{"value": 1}, {"value": 2}]'])
def test_d2_a_disconnect_settles_what_came_before_it(
    stack: Start, account: Account, version: Version, payload: bytes
) -> None:
    account.device("d1")
    send = Sender(gateway(stack), account, version)
    of_one = 2 if payload.startswith(b"[") else 1
    send(payload)
    send(b'"between"')
    send(payload, dup=True)
    assert len(account.stored()) == 2 * of_one + 1
    send(payload, dup=True, leaves=False)
    assert len(account.stored()) == 3 * of_one + 1
    send(payload, dup=True)  # for all that is known, the one before
    assert len(account.stored()) == 3 * of_one + 1


def test_d2_of_another_client_or_without_a_disconnect_nothing_is_settled(
    stack: Start, account: Account
) -> None:
    account.device("d1")
    send = Sender(gateway(stack), account, V311)
    send(b"1", leaves=False)
    Sender(gateway(stack), account, V311, "c2")(b"2")
    send(b"1", dup=True)
    assert len(account.stored()) == 2


def test_d2_what_is_held_is_settled_too(stack: Start, account: Account) -> None:
    send = Sender(gateway(stack), account, V311)
    for dup in (False, True, True):
        send(b"1", dup, leaves=not dup, device="new")
    (device,) = account.user.devices.all()
    assert device.held.count() == 2
