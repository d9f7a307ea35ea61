"""Signals between processes: they arrive at once, cost nothing, and nobody needs them."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stack import wait_until

from thingscale.processes.wake_up import DELIVERIES, OBSERVATIONS, Sleeper, WakeUp


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    sleeper = Sleeper(OBSERVATIONS, threading.Event())
    yield sleeper
    sleeper.close()


def waited(sleeper: Sleeper, seconds: float) -> float:
    began = time.monotonic()
    sleeper.listen(seconds)
    return time.monotonic() - began


def test_a_signal_ends_the_wait_and_only_the_one_it_is_for(sleeper: Sleeper) -> None:
    wake_up = WakeUp()
    sleeper.listen(0.1)  # subscribes
    wake_up.deliveries()
    assert waited(sleeper, 0.3) >= 0.3
    for _ in range(1000):
        wake_up.events()
    assert waited(sleeper, 60) < 30
    wait_until(lambda: waited(sleeper, 0.2) >= 0.2, what="many calls to be a few signals")


def test_one_that_comes_between_two_waits_counts(sleeper: Sleeper) -> None:
    sleeper.listen(0.1)
    other = Sleeper(OBSERVATIONS, threading.Event())
    other.listen(0.1)
    WakeUp().events()
    other.listen(60)  # it was sent
    other.close()
    assert waited(sleeper, 60) < 30


def test_without_valkey_it_waits_and_nobody_fails(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    stopping = threading.Event()
    sleeper = Sleeper(DELIVERIES, stopping)
    wake_up = WakeUp()
    for _ in range(3):
        wake_up.deliveries()
        assert waited(sleeper, 0.2) >= 0.2
    wait_until(lambda: "Nobody is woken" in caplog.text, what="the line in the log")
    assert caplog.text.count("Work waits up to a second") == 1
    stopping.set()
    assert waited(sleeper, 60) < 30
