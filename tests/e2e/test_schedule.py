"""Celery's worker sends the periodic tasks itself, and none of them keeps it from what somebody waits for."""

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from celery.beat import SchedulingError
from django.db import connection
from stack import Stack, hasty_stack, wait_until
from support import Account

from thingscale.background import schedule
from thingscale.background.schedule import SharedSchedule
from thingscale.celery import app
from thingscale.devices.models import ActivationRule, Device
from thingscale.provisioning.tasks import activate_device
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
    wait_until(lambda: running.log("celery").count("succeeded in") > 2, 60, "a few heartbeats")
    assert Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text() == ""
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "The schedule failed" not in running.log("celery")


def test_a_worker_does_not_wait_for_upkeep_to_end(hasty: Callable[..., Stack]) -> None:
    running = hasty()
    app.send_task("endless")
    wait_until(lambda: "endless runs" in running.log("celery"), 60, "it to have a thread")
    worker = running.processes["celery"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "endless is gone on with after the restart" in running.log("celery")


def test_a_worker_whose_schedule_fails_ends(hasty: Callable[..., Stack]) -> None:
    """Else nobody would see that there are no partitions, rollups and activation any more."""
    running = hasty(SCHEDULER="failing_scheduler:Failing")
    running.processes["celery"].wait(60)
    assert "The schedule failed" in running.log("celery")


def test_a_device_is_activated_while_upkeep_takes_long(hasty: Callable[..., Stack], account: Account) -> None:
    ActivationRule.objects.create(user=account.user, pattern="*", channel=account.channel())
    new = Device.objects.create(user=account.user, device_id="new", enabled=False)
    running = hasty()

    def maintenance(event: str) -> int:
        pattern = rf"streams\.(?:roll_up|purge_deleted_tags)\[.+\] {event}"
        return len(re.findall(pattern, running.log("celery")))

    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [rollups.LOCK])
        for task in (tasks.roll_up, tasks.roll_up, tasks.purge_deleted_tags):
            task.delay()
        wait_until(lambda: maintenance("retry: ") >= 20, 60, "the rest of the maintenance to be put off")
        activate_device.delay(new.pk)
        wait_until(lambda: Device.objects.get(pk=new.pk).enabled, 60, "activation")
        assert maintenance("succeeded") == 0
    wait_until(
        lambda: maintenance("succeeded") >= 3, 60, "all maintenance to be done"
    )  # the schedule may add some


def sent(*running: Stack) -> int:
    return sum(each.log("celery").count("Sending due task heartbeat") for each in running)


def test_two_workers_send_each_task_once_a_round_and_one_goes_on_alone(
    hasty: Callable[..., Stack],
) -> None:
    workers = [hasty(), hasty()]
    began, before = time.monotonic(), sent(*workers)
    wait_until(lambda: all(sent(each) > 0 for each in workers), 60, "each of them to have sent some")
    wait_until(lambda: sent(*workers) - before >= 20, 60, "some rounds")
    count, seconds = sent(*workers) - before, time.monotonic() - began
    assert count <= seconds / 0.2 + 1
    first, second = workers
    first.kill("celery", signal.SIGKILL)
    alone, at = sent(second), time.monotonic()
    wait_until(lambda: sent(second) > alone + 2, 60, "the other one to go on")
    assert sent(second) - alone <= (time.monotonic() - at) / 0.2 + 1


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SharedSchedule]]:
    """Makes the schedule of a worker; what it sends is counted in `sent`, by its name."""
    monkeypatch.setattr(schedule, "KEY", "test:schedule")
    made: list[SharedSchedule] = []

    def make(counts: "Counter[str]", **rounds: float) -> SharedSchedule:
        new = SharedSchedule(app, lazy=True)
        new.update_from_dict({name: {"task": name, "schedule": seconds} for name, seconds in rounds.items()})
        monkeypatch.setattr(new, "apply_async", lambda entry, **_: counts.update([entry.name]))
        made.append(new)
        return new

    yield make
    made[0]._valkey.delete("test:schedule")
    for each in made:
        each.close()


def test_many_workers_that_look_all_the_time_send_each_task_once_a_round(
    ticking: Callable[..., SharedSchedule],
) -> None:
    counts: Counter[str] = Counter()
    ended = threading.Event()

    def work(worker: SharedSchedule) -> None:
        while not ended.is_set():
            worker.tick()

    threads = [
        threading.Thread(target=work, args=[ticking(counts, often=0.1, seldom=0.5, never=3600.0)])
        for _ in range(4)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    wait_until(lambda: counts["seldom"] >= 3, 60, "some rounds")
    ended.set()
    for thread in threads:
        thread.join(60)
    seconds = time.monotonic() - began
    assert 3 <= counts["seldom"] <= seconds / 0.5
    assert counts["seldom"] < counts["often"] <= seconds / 0.1
    assert counts["never"] == 0


def test_after_a_rest_one_round_is_due_and_a_clock_set_back_begins_anew(
    ticking: Callable[..., SharedSchedule],
) -> None:
    counts: Counter[str] = Counter()
    worker = ticking(counts, hourly=3600.0)
    worker.tick()
    now = time.time() * 1000

    def set_last(milliseconds: float) -> None:
        worker._valkey.hset("test:schedule", "hourly", str(round(milliseconds)))

    set_last(now - 7.5 * 3_600_000)
    worker.tick()
    worker.tick()
    assert counts["hourly"] == 1
    last = float(worker._valkey.hget("test:schedule", "hourly") or 0)
    assert abs(now - last - 0.5 * 3_600_000) < 60_000  # the rounds stay where they were
    set_last(now + 86_400_000)
    worker.tick()
    assert counts["hourly"] == 1
    assert abs(float(worker._valkey.hget("test:schedule", "hourly") or 0) - now) < 60_000


def test_what_could_not_be_sent_is_sent_later_and_by_nobody_else(
    ticking: Callable[..., SharedSchedule], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counts: Counter[str] = Counter()
    one, other = (ticking(counts, hourly=3600.0) for _ in range(2))
    one.tick()
    one._valkey.hset("test:schedule", "hourly", "1")

    def fail(*_arguments: object, **_options: object) -> None:
        raise SchedulingError("away")

    with monkeypatch.context() as away:
        away.setattr(one, "apply_async", fail)
        one.tick()
        one.tick()
    assert caplog.text.count("Periodic tasks wait") == 1
    other.tick()
    assert counts["hourly"] == 0
    one.tick()
    one.tick()
    assert counts["hourly"] == 1


def test_without_valkey_the_schedule_waits(
    ticking: Callable[..., SharedSchedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = ticking(Counter(), often=0.01)
    with monkeypatch.context() as away:
        nowhere = redis.Redis.from_url("unix:///nowhere/valkey.sock")
        away.setattr(worker, "_claim", nowhere.register_script(schedule.CLAIM))
        assert worker.tick() == schedule.LOOK_SECONDS
    assert worker.tick() <= 0.01
