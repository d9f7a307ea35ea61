"""Broker mode: the worker as a process of its own behind a real broker. PUBACK to the broker after COMMIT."""

import json
from collections.abc import Iterator

import pytest
from broker_worker import V5, V311, Broker, Device, Worker, mosquitto, rumqttd
from mosquitto import needs_mosquitto
from stack import wait_until
from support import Account

from thingscale.devices import models
from thingscale.events.actions import create_event
from thingscale.events.models import Observation

pytestmark = pytest.mark.e2e


@pytest.fixture(
    scope="module", params=[pytest.param("mosquitto", marks=needs_mosquitto), pytest.param("rumqttd")]
)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with (mosquitto if request.param == "mosquitto" else rumqttd)() as running:
        yield running


@pytest.fixture(scope="module")
def _worker(broker: Broker, django_db_setup: None) -> Iterator[Worker]:
    worker = Worker(broker)
    worker.start()
    yield worker
    assert worker.stop() == 0, worker.log()


@pytest.fixture
def worker(_worker: Worker, transactional_db: None) -> Worker:
    return _worker


@pytest.fixture(params=[pytest.param(V311, id="3.1.1"), pytest.param(V5, id="5")])
def device(request: pytest.FixtureRequest, broker: Broker) -> Iterator[Device]:
    device = Device(broker, request.param)
    yield device
    device.close()


def wait_for(account: Account, count: int, seconds: float = 60) -> list[tuple[str, str | None]]:
    wait_until(lambda: len(account.stored()) >= count, seconds, f"{count} datapoints")
    return account.stored()


def numbers(account: Account) -> list[int]:
    return [json.loads(value)["n"] for value, _ in account.stored()]


PAYLOADS = [
    ("json/d1", b'{"temp": 23.40, "deep": [{"a": 1}]}', '{"deep": [{"a": 1}], "temp": 23.40}', None),
    ("json/d1", b"12.5", "12.5", None),
    ("json/d1/\u5ba4\u6e29", '"Gr\u00fc\u00dfe"'.encode(), '"Gr\u00fc\u00dfe"', "\u5ba4\u6e29"),
    ("binary/d1/raw", b"\x00\xff\x10", '"00ff10"', "raw"),
    ("d1", b"v=23.4&v2=56.7\r\n", '{"value": 23.4, "value2": 56.7}', None),
]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_kind_of_payload_reads_back(worker: Worker, device: Device, account: Account, qos: int) -> None:
    account.device("d1")
    for topic, payload, _, _ in PAYLOADS:
        device.publish(f"{account.device_token}/{topic}", payload, qos)
    assert sorted(wait_for(account, 5), key=str) == sorted([p[2:] for p in PAYLOADS], key=str)


def test_an_array_is_stored_whole(worker: Worker, device: Device, account: Account) -> None:
    account.device("d1")
    topic = f"{account.device_token}/json/d1/t"
    array = [{"value": {"n": n}, "at": 1_769_834_730 + n} for n in range(100)]
    for payload in (b"[]", json.dumps(array), b'[{"value":{"n":1}},7]', b"[" + b" " * 256 * 1024 + b"]"):
        device.publish(topic, payload)
    device.publish(topic, b'{"n":100}')
    assert {tag for _, tag in wait_for(account, 101)} == {"t"}
    assert numbers(account) == list(range(101))
    rejected = account.user.rejected.order_by("id").values_list("reason", flat=True)
    wait_until(lambda: len(rejected.all()) == 3, 60, "the rejections")
    assert list(rejected) == ["BAD_JSON_FORMAT", "BAD_JSON_FORMAT", "TOO_LARGE"]


def test_a_state_is_kept(worker: Worker, device: Device, account: Account) -> None:
    kept = account.device("d1")
    device.publish(f"{account.device_token}/state/d1", b"pod_run_current=3\nx&mode= eco ")
    wait_until(lambda: models.Device.objects.get(pk=kept.pk).state, 60, "the state")
    assert models.Device.objects.get(pk=kept.pk).state == {"pod_run_current": "3\nx", "mode": "eco"}


def test_a_device_named_json_is_stored_once(worker: Worker, device: Device, account: Account) -> None:
    """Its topic TOKEN/json must not match two subscriptions."""
    account.device("json")
    account.device("d1")
    device.publish(f"{account.device_token}/json", b"v=1")
    device.publish(f"{account.device_token}/json/d1", b"2")
    wait_until(lambda: ("2", None) in account.stored(), 60, "the last")
    assert sorted(account.stored()) == [("2", None), ('{"value": 1}', None)]


def test_first_contact_creates_the_device_and_holds_its_message(
    worker: Worker, device: Device, account: Account
) -> None:
    device.publish(f"{account.device_token}/json/new", b'{"n": 1}')
    wait_until(lambda: models.HeldMessage.objects.filter(device__user=account.user).exists(), 60, "it")
    created = models.Device.objects.get(user=account.user, device_id="new")
    assert (created.enabled, created.mapped_channel) == (False, None)
    assert account.stored() == []


def test_what_is_rejected_is_recorded_and_not_delivered_again(
    worker: Worker, device: Device, account: Account
) -> None:
    account.device("d1")
    for topic, payload in [("json/d1", b"{"), ("json/d1/a//b", b"1"), ("json/0", b"1"), ("json/d1", b"7")]:
        device.publish(f"{account.device_token}/{topic}", payload)
    assert wait_for(account, 1) == [("7", None)]
    rejected = models.RejectedMessage.objects.filter(user=account.user)
    wait_until(lambda: rejected.count() >= 3, 60, "the others")  # order is kept within a subscription only
    reasons = sorted(message.reason for message in rejected)
    assert reasons == ["BAD_JSON_FORMAT", "DEVICE_ID_ZERO", "UNKNOWN_TOPIC"]


def test_an_unknown_token_is_ignored_beside_good_ones(
    worker: Worker, device: Device, account: Account, outsider: Account
) -> None:
    account.device("d1")
    for number in range(50):
        device.publish(f"{'0' * 32}/json/d1", b'{"n": -1}')
        device.publish(f"not-a-token/json/d{number}", b'{"n": -1}')
        device.publish(f"{account.device_token}/json/d1", b'{"n": %d}' % number)
    wait_for(account, 50)
    assert sorted(numbers(account)) == list(range(50))
    assert outsider.stored() == []
    assert models.Device.objects.count() == 1
    assert not models.RejectedMessage.objects.exists()


def test_events_see_what_comes_through_the_broker(worker: Worker, device: Device, account: Account) -> None:
    account.device("d1")
    fields = {"mapped_channel": account.channel(0), "source": "n", "operator": ">", "threshold": "5"}
    create_event(account.user, fields)
    for number in (1, 6, 7, 2, 3):
        device.publish(f"{account.device_token}/json/d1", f'{{"n":{number}}}')
    wait_for(account, 5)
    assert list(Observation.objects.order_by("id").values_list("what", "value")) == [
        (Observation.What.MATCHED, "6"),
        (Observation.What.MATCHED, "7"),
        (Observation.What.CLEARED, "2"),
    ]
