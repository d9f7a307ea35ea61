"""Periodic tasks are sent by Celery's worker itself."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stack import Stack, wait_until

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent


@pytest.fixture
def hasty(transactional_db: None) -> Iterator[Callable[..., Stack]]:
    """Starts a worker with a schedule that does not take minutes."""
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    started: list[Stack] = []

    def start(**environment: str) -> Stack:
        running = Stack(DJANGO_SETTINGS_MODULE="hasty_settings", PYTHONPATH=path, **environment)
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


def test_a_worker_whose_schedule_fails_ends(hasty: Callable[..., Stack]) -> None:
    """Else nobody would see that there are no partitions, rollups and activation any more."""
    running = hasty(SCHEDULER="failing_scheduler:Failing")
    running.processes["celery"].wait(20)
    assert "The schedule failed" in running.log("celery")
