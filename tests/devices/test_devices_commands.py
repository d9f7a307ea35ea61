"""What is published to devices is recorded, and so is what could not be."""

import pytest
from pytest_django import Settings

from thingscale.accounts.actions import rotate_token
from thingscale.accounts.models import Token, User
from thingscale.devices import mqtt_client
from thingscale.devices.actions import create_device
from thingscale.devices.commands import Message, record, send
from thingscale.devices.models import Command, Device, Published
from thingscale.lib.errors import ContractError

Sent = list[tuple[str, bytes, int, bool]]


@pytest.fixture
def device(user: User) -> Device:
    return create_device(user, "d1")


@pytest.fixture
def broker_mode(settings: Settings) -> None:
    settings.INGEST_MODE = "broker"


@pytest.fixture
def sent(broker_mode: None, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What the broker gets."""
    found: Sent = []
    monkeypatch.setattr(mqtt_client, "publish", lambda *message: found.append(message))
    return found


@pytest.fixture
def away(broker_mode: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(*message: object) -> None:
        raise mqtt_client.Unavailable

    monkeypatch.setattr(mqtt_client, "publish", publish)


def history(user: User) -> list[tuple[str, bytes, int, str, str]]:
    found = Command.objects.for_account(user).order_by("id").select_related("device")
    return [(c.device.device_id, bytes(c.payload), c.qos, c.result, c.by) for c in found]


def for_gateways() -> list[tuple[int, str, bytes, int, bool, int]]:
    rows = Published.objects.order_by("id")
    return [(p.account_id, p.topic, bytes(p.payload), p.qos, p.retain, p.command) for p in rows]


def test_what_is_sent_is_recorded(user: User, outsider: User, device: Device) -> None:
    """For the gateways in the same transaction."""
    command = send(user, device, Message(b"on\0\xff", 1), Command.By.CONSOLE)
    assert for_gateways() == [(user.pk, "d1/subscribe", b"on\0\xff", 1, False, command.pk)]
    assert history(user) == [("d1", b"on\0\xff", 1, "sent", "console")]
    assert Command.objects.get() == command
    assert history(outsider) == []


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("topic", ["", "d1/errors", "a/\u5ba4/c"])
def test_as_it_is_asked_for(user: User, device: Device, qos: int, retain: bool, topic: str) -> None:
    command = send(user, device, Message(b"on", qos, retain, topic), Command.By.API)
    expected = topic or "d1/subscribe"
    assert for_gateways() == [(user.pk, expected, b"on", qos, retain, command.pk)]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("topic", ["", "d1/errors"])
def test_in_broker_mode_as_it_is_asked_for(
    user: User, device: Device, sent: Sent, qos: int, retain: bool, topic: str
) -> None:
    send(user, device, Message(b"on", qos, retain, topic), Command.By.API)
    (token,) = Token.objects.live().filter(user=user, kind=Token.Kind.DEVICE)
    assert sent == [(f"{token.plain}/{topic or 'd1/subscribe'}", b"on", qos, retain)]
    assert for_gateways() == []
    assert history(user) == [("d1", b"on", qos, "sent", "api")]


def test_no_broker_is_asked_in_gateway_mode(
    user: User, device: Device, away: None, settings: Settings
) -> None:
    settings.INGEST_MODE = "gateway"
    assert send(user, device, Message(b"on"), Command.By.API).result == Command.SENT


def test_what_could_not_be_sent_is_recorded(user: User, device: Device, away: None) -> None:
    with pytest.raises(ContractError, match="publish again") as caught:
        send(user, device, Message(b"on"), Command.By.API)
    assert caught.value.code == "BROKER_UNAVAILABLE"
    assert history(user) == [("d1", b"on", 0, "BROKER_UNAVAILABLE", "api")]


def test_in_broker_mode_each_valid_token_has_its_topic(user: User, device: Device, sent: Sent) -> None:
    rotate_token(user, Token.Kind.DEVICE)
    send(user, device, Message(b"on"), Command.By.API)
    tokens = Token.objects.live().filter(user=user, kind=Token.Kind.DEVICE)
    assert {topic for topic, *_ in sent} == {f"{token.plain}/d1/subscribe" for token in tokens}
    assert (len(sent), len(history(user))) == (2, 1)


def test_the_newest_of_each_user_are_kept(
    user: User, outsider: User, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Command, "KEPT", 3)
    other = create_device(outsider, "d1")
    record(Command(user=outsider, device=other, payload=b"0", qos=0, by=Command.By.API))
    for number in range(5):
        record(Command(user=user, device=device, payload=b"%d" % number, qos=0, by=Command.By.API))
    assert [payload for _, payload, *_ in history(user)] == [b"2", b"3", b"4"]
    assert len(history(outsider)) == 1


def test_they_go_with_their_device(user: User, device: Device) -> None:
    send(user, device, Message(b"on"), Command.By.API)
    device.delete()
    assert history(user) == []


@pytest.mark.django_db(transaction=True)
def test_a_device_deleted_meanwhile_is_no_error(user: User, device: Device) -> None:
    """Neither is what is sent to it lost: others may have subscribed to its topic."""
    Device.objects.all().delete()
    send(user, device, Message(b"on"), Command.By.API)
    assert history(user) == []
    assert [(topic, payload) for _, topic, payload, *_ in for_gateways()] == [("d1/subscribe", b"on")]


@pytest.mark.django_db(transaction=True)
def test_in_broker_mode_a_device_deleted_meanwhile_is_no_error(
    user: User, device: Device, broker_mode: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_client, "publish", lambda *_: Device.objects.all().delete())
    send(user, device, Message(b"on"), Command.By.API)
    assert history(user) == []
