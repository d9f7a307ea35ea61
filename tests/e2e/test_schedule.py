"""Celery's worker sends the periodic tasks itself, and none of them keeps it from what somebody waits for."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from stack import Stack, hasty_stack, wait_until
from support import Account

from thingscale.celery import app
from thingscale.devices.models import ActivationRule, Device
from thingscale.streams import rollups, tasks

pytestmark = pytest.mark.e2e


@pytest.fixture
def hasty(transactional_db: None) -> Iterator[Callable[..., Stack]]:
    """Starts a worker with a schedule that does not take minutes."""
    started: list[Stack] = []

    def start(**environment: str) -> Stack:
        running = hasty_stack(**environment)
        started.append(running)
        running.ensure("celery")
        return running

    yield start
    for running in started:
        running.stop()


def test_the_worker_sends_what_is_due_and_stops_when_told(hasty: Callable[..., Stack]) -> None:
    running = hasty()
    worker = running.processes["celery"]
    wait_until(lambda: running.log("celery").count("succeeded in") > 2, 20, "a few heartbeats")
    assert Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text() == ""
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert "The schedule failed" not in running.log("celery")


def test_a_worker_does_not_wait_for_upkeep_to_end(hasty: Callable[..., Stack]) -> None:
    running = hasty()
    app.send_task("endless")
    wait_until(lambda: "endless runs" in running.log("celery"), 20, "it to have a thread")
    worker = running.processes["celery"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert "endless is gone on with after the restart" in running.log("celery")


def test_a_worker_whose_schedule_fails_ends(hasty: Callable[..., Stack]) -> None:
    """Else nobody would see that there are no partitions, rollups and activation any more."""
    running = hasty(SCHEDULER="failing_scheduler:Failing")
    running.processes["celery"].wait(20)
    assert "The schedule failed" in running.log("celery")


def test_a_device_is_activated_while_upkeep_takes_long(hasty: Callable[..., Stack], account: Account) -> None:
    ActivationRule.objects.create(user=account.user, pattern="*", channel=account.channel())
    new = Device.objects.create(user=account.user, device_id="new", enabled=False)
    running = hasty()

    def upkeep(event: str) -> int:
        pattern = rf"streams\.(?:roll_up|purge_deleted_tags)\[.+\] {event}"
        return len(re.findall(pattern, running.log("celery")))

    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [rollups.LOCK])
        for task in (tasks.roll_up, tasks.roll_up, tasks.purge_deleted_tags):
            task.delay()
        wait_until(lambda: upkeep("retry: ") >= 20, 20, "the rest of the upkeep to be put off")
        tasks.activate_device.delay(new.pk)
        wait_until(lambda: Device.objects.get(pk=new.pk).enabled, 20, "activation")
        assert upkeep("succeeded") == 0
    wait_until(lambda: upkeep("succeeded") >= 3, 60, "all upkeep to be done")  # the schedule may add some
