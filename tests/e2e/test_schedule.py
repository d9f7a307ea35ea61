"""Periodic tasks are sent by Celery's worker itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack, wait_until

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent


@pytest.fixture
def hasty(transactional_db: None) -> Iterator[Stack]:
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    running = Stack(DJANGO_SETTINGS_MODULE="hasty_settings", PYTHONPATH=path)
    running.ensure("celery")
    yield running
    running.stop()


def test_the_worker_sends_what_is_due_and_stops_when_told(hasty: Stack) -> None:
    worker = hasty.processes["celery"]
    wait_until(lambda: hasty.log("celery").count("succeeded in") > 2, 20, "a few heartbeats")
    assert Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text() == ""
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert "beat: Shutting down" in hasty.log("celery")
