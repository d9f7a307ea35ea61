"""Broker mode with a broker that refuses the worker, or has no shared subscriptions."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from broker_worker import V5 as PAHO_V5
from broker_worker import Broker, Device, Worker
from django.core.management import CommandError, call_command
from mosquitto import needs_mosquitto, run_mosquitto
from pytest_django import Settings
from scripted_broker import ScriptedBroker
from stack import free_port, wait_until
from support import Account

from ingest import topics
from ingest.mqtt.packets import Ack, Publish
from ingest.mqtt.properties import Property

pytestmark = pytest.mark.e2e

FILTERS = set(topics.BROKER_FILTERS.values())
SHARED = {f"$share/ingest-{name}/{filter_}" for name, filter_ in topics.BROKER_FILTERS.items()}
NOT_AUTHORIZED = 0x87


@pytest.fixture
def scripted(transactional_db: None) -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def worker(scripted: ScriptedBroker) -> Iterator[Worker]:
    """Started in a thread, while the test is its broker."""
    worker = Worker(Broker("scripted", scripted.port, scripted.port))
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(worker.start)
        yield worker
        started.result(60)
    worker.kill()


@needs_mosquitto
def test_a_worker_that_the_broker_refuses_after_its_restart_comes_back(account: Account) -> None:
    """It is what a broker does while it can't ask us who the worker is; gmqtt would never try again."""
    account.device("d1")
    port = free_port()
    worker = Worker(Broker("mosquitto", port, port), credentials="worker:right")
    try:
        with run_mosquitto(port, password="right"):
            worker.start()
        with run_mosquitto(port, password="other"):
            wait_until(lambda: "refuses us (0x87); trying again" in worker.log(), 60, "the refusal")
        begun = worker.log().count("Subscribed at")
        with run_mosquitto(port, password="right"):
            wait_until(lambda: worker.log().count("Subscribed at") > begun, 60, "the worker")
            device = Device(Broker("mosquitto", port, port), PAHO_V5, ("worker", "right"))
            device.publish(f"{account.device_token}/json/d1", b"7")
            wait_until(lambda: account.stored() == [("7", None)], 60, "the datapoint")
            device.close()
    finally:
        worker.kill()
    assert "right" not in worker.log()


def test_a_worker_that_is_refused_at_its_start_tries_again(
    scripted: ScriptedBroker, worker: Worker, account: Account
) -> None:
    for _ in range(2):
        scripted.accept(code=NOT_AUTHORIZED).close()
    assert set(scripted.accept().subscribed(4)) == SHARED


def test_a_subscription_that_is_refused_is_asked_for_again(
    scripted: ScriptedBroker, worker: Worker, account: Account
) -> None:
    account.device("d1")
    connection = scripted.accept()
    assert set(connection.subscribed(4, NOT_AUTHORIZED)) == SHARED
    assert set(connection.subscribed(4, NOT_AUTHORIZED)) == SHARED
    assert set(connection.subscribed(4)) == SHARED
    connection.send(Publish(f"{account.device_token}/json/d1", b"1", 1, False, False, 1, {}))
    assert connection.next(Ack).packet_id == 1
    assert account.stored() == [("1", None)]
    assert worker.log().count("refuses a subscription (0x87)") == 1


def test_without_shared_subscriptions_nothing_is_lost(
    scripted: ScriptedBroker, worker: Worker, account: Account
) -> None:
    """RabbitMQ gives a message that it delivers again, with DUP, a new packet id, which an older one with the
    same payload may have had."""
    account.device("d1")
    topic = f"{account.device_token}/json/d1"
    for delivered_again in (False, True):
        connection = scripted.accept({Property.SHARED_SUBSCRIPTION_AVAILABLE: 0})
        assert set(connection.subscribed(4)) == FILTERS
        connection.send(Publish(topic, b"21.5", 1, False, delivered_again, 1, {}))
        assert connection.next(Ack).packet_id == 1
        connection.close()
    assert account.stored() == [("21.5", None)] * 2
    assert "has no shared subscriptions" in worker.log()
    scripted.accept().subscribed(4)


def test_with_shared_subscriptions_what_is_delivered_again_is_stored_once(
    scripted: ScriptedBroker, worker: Worker, account: Account
) -> None:
    account.device("d1")
    topic = f"{account.device_token}/json/d1"
    for delivered_again in (False, True):
        connection = scripted.accept()
        assert set(connection.subscribed(4)) == SHARED
        connection.send(Publish(topic, b"21.5", 1, False, delivered_again, 1, {}))
        assert connection.next(Ack).packet_id == 1
        connection.close()
    assert account.stored() == [("21.5", None)]
    scripted.accept().subscribed(4)


def test_only_a_worker_can_leave(settings: Settings) -> None:
    settings.INGEST_MODE = "gateway"
    with pytest.raises(CommandError, match="THINGSCALE_INGEST=broker"):
        call_command("ingest", "--leave")
