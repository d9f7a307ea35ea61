"""How far back the look for what was sent before goes when the clock is set."""

from dataclasses import dataclass

import pytest
from pytest_django import Settings

from thingscale.streams.exactly_once import window
from thingscale.streams.exactly_once.window import DedupeWindow

HOUR = 3600
START = 1_800_000_000


@dataclass
class Machine:
    """Seconds."""

    wall: float = START
    steady: float = 100

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Machine:
    settings.DEDUPE_SECONDS = HOUR
    machine = Machine()
    monkeypatch.setattr(window, "now_us", lambda: int(machine.wall * 1_000_000))
    monkeypatch.setattr(window, "_steady_us", lambda: int(machine.steady * 1_000_000))
    return machine


def since(window: DedupeWindow) -> float:
    """Seconds from START."""
    return window.start() / 1_000_000 - START


def test_a_clock_that_just_runs(machine: Machine) -> None:
    watching = DedupeWindow()
    machine.passes(10)
    assert since(watching) == 10 - HOUR


def test_forward(machine: Machine) -> None:
    watching = DedupeWindow()
    machine.wall += HOUR
    assert since(watching) == -HOUR
    machine.passes(HOUR / 2)
    assert since(watching) == -HOUR / 2, "what came just before the step is still in reach"
    machine.passes(HOUR / 2 + 1)
    assert since(watching) == HOUR + 1, "an hour later it no longer matters"


def test_back(machine: Machine) -> None:
    watching = DedupeWindow()
    machine.wall -= HOUR
    assert since(watching) == -2 * HOUR


def test_back_and_forward(machine: Machine) -> None:
    watching = DedupeWindow()
    machine.wall -= HOUR
    watching.start()
    machine.passes(60)
    machine.wall += HOUR
    assert since(watching) == 60 - 2 * HOUR, "what came at the wrong time is in reach"


def test_a_clock_that_was_not_set_at_all(machine: Machine) -> None:
    machine.wall = 0
    watching = DedupeWindow()
    machine.wall = START
    assert since(watching) == -HOUR, "not all datapoints since 1970"


def test_drift_is_no_step(machine: Machine) -> None:
    watching = DedupeWindow()
    for _ in range(1000):
        machine.passes(10)
        machine.wall += 0.001
        watching.start()
    assert abs(since(watching) - 10_000 + HOUR) < 3
