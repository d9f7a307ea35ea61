"""D2: what a client that had left in order sends later is new, though it looks like something from before."""

import pytest
from mqtt_clients import Raw, Start, gateway
from support import Account

from ingest.mqtt.packets import PUBACK, V5, V311, Ack, Connect, Disconnect, Publish, Version

pytestmark = pytest.mark.e2e


class Sender:
    def __init__(self, running: object, account: Account, version: Version, name: str = "c1") -> None:
        self._port: int = running.mqtt  # type: ignore[attr-defined]
        self.connect = Connect(
            version, name, True, 30, account.user_id, account.device_token.encode(), None, {}
        )
        self.topic = f"{account.device_token}/json/"

    def __call__(
        self, payload: bytes, dup: bool = False, leaves: bool = True, device: str = "d1", wait: bool = True
    ) -> None:
        with Raw(self._port, self.connect.version) as raw:
            raw.open(self.connect)
            raw.send(Publish(self.topic + device, payload, 1, False, dup, 1, {}))
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


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("switches", [(b"1", b"0"), (b'{"on": 1}', b'{"on": 0}', b'"x"')])
def test_d2_a_later_use_of_the_only_packet_id_settles_what_came_before_it(
    stack: Start, account: Account, version: Version, switches: tuple[bytes, ...]
) -> None:
    """A switch that always takes packet id 1: what it sends again after a broken connection looks like what
    it sent before the last message, and its first copy was lost."""
    account.device("d1")
    running = gateway(stack)
    send = Sender(running, account, version)
    with Raw(running.mqtt, version) as raw:
        raw.open(send.connect)
        for payload in switches:
            raw.send(Publish(send.topic + "d1", payload, 1, False, False, 1, {}))
            assert isinstance(raw.receive(), Ack)
    send(switches[0], dup=True, leaves=False)
    assert len(account.stored()) == len(switches) + 1
    send(switches[0], dup=True, leaves=False)  # for all that is known, the one before
    assert len(account.stored()) == len(switches) + 1


@pytest.mark.parametrize("others", [(2, 1), (1, 2)])
def test_d2_of_a_client_with_several_packet_ids_nothing_is_settled(
    stack: Start, account: Account, others: tuple[int, int]
) -> None:
    """The other one may have been on its way."""
    account.device("d1")
    running = gateway(stack)
    send = Sender(running, account, V311)
    with Raw(running.mqtt) as raw:
        raw.open(send.connect)
        for number, packet_id in enumerate((1, *others)):
            raw.send(Publish(send.topic + "d1", b"%d" % number, 1, False, False, packet_id, {}))
            assert isinstance(raw.receive(), Ack)
    with Raw(running.mqtt) as raw:
        raw.open(send.connect)
        raw.send(Publish(send.topic + "d1", b"2", 1, False, True, others[-1], {}))
        assert isinstance(raw.receive(), Ack)
    assert len(account.stored()) == 3


def test_d2_the_same_message_again_under_the_only_packet_id_settles_nothing(
    stack: Start, account: Account
) -> None:
    """Some clients send again without DUP."""
    account.device("d1")
    running = gateway(stack)
    send = Sender(running, account, V311)
    with Raw(running.mqtt) as raw:
        raw.open(send.connect)
        for _ in range(2):
            raw.send(Publish(send.topic + "d1", b"1", 1, False, False, 1, {}))
            assert isinstance(raw.receive(), Ack)
    before = len(account.stored())
    send(b"1", dup=True)
    assert len(account.stored()) == before
