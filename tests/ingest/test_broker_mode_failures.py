"""Broker mode behind mosquitto when something breaks: what the broker has acknowledged is stored, once."""

import json
import random
from collections.abc import Callable, Iterator

import pytest
from broker_worker import V5, V311, Broker, Device, Worker, mosquitto
from django.db import connection
from mosquitto import needs_mosquitto
from private_place import Place, private_place
from stack import wait_until
from support import Account

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.drill,
    needs_mosquitto,
]


@pytest.fixture
def broker(transactional_db: None) -> Iterator[Broker]:
    with mosquitto() as running:
        yield running


@pytest.fixture
def devices(broker: Broker) -> Iterator[list[Device]]:
    made = [Device(broker, version) for version in (V311, V5)]
    yield made
    for device in made:
        device.close()


@pytest.fixture
def make_worker(broker: Broker) -> Iterator[Callable[..., Worker]]:
    """Started; killed at the end, unless the test has stopped it."""
    made: list[Worker] = []

    def make(client_id: str = "worker-1", **environment: str) -> Worker:
        made.append(Worker(broker, client_id, **environment))
        made[-1].start()
        return made[-1]

    yield make
    for worker in made:
        worker.kill()


@pytest.fixture(scope="module")
def place(django_db_setup: None) -> Iterator[Place]:
    with private_place("d1", "d2") as place:
        yield place


def publish(devices: list[Device], token: str, numbers: range, name: str = "d1") -> None:
    for number in numbers:
        devices[number % len(devices)].publish(f"{token}/json/{name}", b'{"n":%d}' % number)


def wait_for_acks(devices: list[Device], count: int) -> None:
    """The broker's to the devices."""
    wait_until(lambda: sum(device.acked for device in devices) >= count, 60, f"{count} acknowledgements")


def numbers(account: Account) -> list[int]:
    return sorted(json.loads(value)["n"] for value, _ in account.stored())


def numbers_of(account: Account, tag: str | None) -> list[int]:
    return [json.loads(value)["n"] for value, found in account.stored() if found == tag]


def test_kill_9_of_the_worker(
    make_worker: Callable[..., Worker], devices: list[Device], account: Account
) -> None:
    account.device("d1")
    worker = make_worker()
    for start in (0, 1500, 3000):
        publish(devices, account.device_token, range(start, start + 1500))
        goal = start + random.randrange(1, 1000)
        wait_until(lambda goal=goal: len(account.stored()) >= goal, 60, "datapoints")  # type: ignore[misc]
        worker.kill()
        worker.start()
    wait_for_acks(devices, 4500)
    wait_until(lambda: len(account.stored()) >= 4500, 60, "the rest")
    assert worker.stop() == 0, worker.log()
    assert numbers(account) == list(range(4500))


def test_the_broker_keeps_what_comes_while_the_worker_is_away(
    make_worker: Callable[..., Worker], devices: list[Device], account: Account
) -> None:
    account.device("d1")
    worker = make_worker()
    assert worker.stop() == 0, worker.log()
    publish(devices, account.device_token, range(1200))
    wait_for_acks(devices, 1200)
    assert account.stored() == []
    worker.start()
    wait_until(lambda: len(account.stored()) >= 1200, 60, "what was kept")
    assert worker.stop() == 0, worker.log()
    assert numbers(account) == list(range(1200))


def test_two_workers_share_the_load(
    make_worker: Callable[..., Worker], devices: list[Device], account: Account
) -> None:
    account.device("d1")
    workers = [make_worker(f"worker-{number}") for number in (1, 2)]
    publish(devices, account.device_token, range(2000))
    wait_until(lambda: len(account.stored()) >= 2000, 60, "all of it")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM streams_journal WHERE batch > 0")
        assert cursor.fetchone() == (2,)
    assert [worker.stop() for worker in workers] == [0, 0]
    assert numbers(account) == list(range(2000))


def test_several_workers_that_are_killed_store_each_message_once(
    make_worker: Callable[..., Worker], devices: list[Device], account: Account
) -> None:
    """Each in the middle of its work, while two others go on. Values that look alike are no repetitions."""
    account.device("d1")
    workers = [make_worker(f"worker-{number}") for number in (1, 2, 3)]
    device, token = devices[1], account.device_token
    sent = 0
    for killed in random.sample(workers, 3):
        for number in range(sent, sent + 1000):
            device.publish(f"{token}/json/d1", b'{"n":%d}' % number, qos=1 + number % 2)
            device.publish(f"{token}/json/d1/same", b'{"n":0}', qos=1 + number % 2)
        goal = sent + random.randrange(1, 500)
        wait_until(lambda goal=goal: len(account.stored()) >= goal, 60, "datapoints")  # type: ignore[misc]
        killed.kill()
        sent += 1000
        killed.start()
    wait_for_acks([device], 2 * sent)
    wait_until(lambda: len(account.stored()) >= 2 * sent, 60, "the rest")
    assert [worker.stop() for worker in workers] == [0] * 3
    assert sorted(n for n in numbers_of(account, None)) == list(range(sent))
    assert numbers_of(account, "same") == [0] * sent


def test_the_others_go_on_without_a_worker_that_is_away(
    make_worker: Callable[..., Worker], devices: list[Device], account: Account
) -> None:
    """What the broker deals to it waits in its session, until it comes back under its client id."""
    account.device("d1")
    workers = [make_worker(f"worker-{number}") for number in (1, 2)]
    publish(devices, account.device_token, range(100))
    wait_until(lambda: len(account.stored()) >= 100, 60, "the first")
    workers[0].kill()
    publish(devices, account.device_token, range(100, 1100))
    wait_for_acks(devices, 1100)
    wait_until(lambda: len(account.stored()) >= 500, 60, "the other's share")
    workers[0].start()
    wait_until(lambda: len(account.stored()) >= 1100, 60, "the rest")
    assert [worker.stop() for worker in workers] == [0, 0]
    assert numbers(account) == list(range(1100))


def test_a_worker_that_leaves_takes_along_what_waits_for_it(
    make_worker: Callable[..., Worker], devices: list[Device], account: Account
) -> None:
    """Afterwards the other one gets everything, and the broker deals nothing to the one that has left."""
    account.device("d1")
    workers = [make_worker(f"worker-{number}") for number in (1, 2)]
    workers[0].kill()
    publish(devices, account.device_token, range(1000))
    wait_for_acks(devices, 1000)
    assert len(account.stored()) < 1000
    assert workers[0].leave() == 0, workers[0].log()
    assert numbers(account) == list(range(1000))
    publish(devices, account.device_token, range(1000, 2000))
    wait_until(lambda: len(account.stored()) >= 2000, 60, "all of it")
    assert workers[1].stop() == 0, workers[1].log()
    assert numbers(account) == list(range(2000))


def test_the_broker_is_not_acknowledged_before_the_commit(
    make_worker: Callable[..., Worker], devices: list[Device], place: Place
) -> None:
    """While PostgreSQL is stopped the worker is killed: only the broker can have kept the messages."""
    worker = make_worker(DATABASE_URL=place.servers.postgres.url)
    publish(devices, place.token, range(500))
    wait_until(lambda: len(place.numbers("d1")) == 500, 60, "the first")
    place.servers.postgres.stop()
    publish(devices, place.token, range(500, 2000))
    wait_for_acks(devices, 2000)
    wait_until(lambda: "Lost the connection" in worker.log(), 60, "the worker to notice")
    worker.kill()
    place.servers.postgres.start()
    worker.start()
    wait_until(lambda: len(place.numbers("d1")) >= 2000, 60, "all of it")
    assert worker.stop() == 0, worker.log()
    assert sorted(place.numbers("d1")) == list(range(2000))


def test_it_catches_up_by_itself_and_in_order_once_postgres_is_back(
    make_worker: Callable[..., Worker], devices: list[Device], place: Place
) -> None:
    worker = make_worker(DATABASE_URL=place.servers.postgres.url)
    place.servers.postgres.stop()
    publish(devices, place.token, range(1500), "d2")
    wait_for_acks(devices, 1500)
    place.servers.postgres.start()
    wait_until(lambda: len(place.numbers("d2")) >= 1500, 60, "all of it")
    assert worker.stop() == 0, worker.log()
    stored = place.numbers("d2")
    for number in (0, 1):  # each device's in its order
        assert [n for n in stored if n % 2 == number] == list(range(number, 1500, 2))
