"""How far back the look for what was sent before goes when the clock is set."""

from dataclasses import dataclass

import pytest
from pytest_django import Settings

from thingscale.streams import recent
from thingscale.streams.recent import Recent

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
    monkeypatch.setattr(recent, "now_us", lambda: int(machine.wall * 1_000_000))
    monkeypatch.setattr(recent, "_steady_us", lambda: int(machine.steady * 1_000_000))
    return machine


def since(recent: Recent) -> float:
    """Seconds from START."""
    return recent.since() / 1_000_000 - START


def test_a_clock_that_just_runs(machine: Machine) -> None:
    recent = Recent()
    machine.passes(10)
    assert since(recent) == 10 - HOUR


def test_forward(machine: Machine) -> None:
    recent = Recent()
    machine.wall += HOUR
    assert since(recent) == -HOUR
    machine.passes(HOUR / 2)
    assert since(recent) == -HOUR / 2, "what came just before the step is still in reach"
    machine.passes(HOUR / 2 + 1)
    assert since(recent) == HOUR + 1, "an hour later it no longer matters"


def test_back(machine: Machine) -> None:
    recent = Recent()
    machine.wall -= HOUR
    assert since(recent) == -2 * HOUR


def test_back_and_forward(machine: Machine) -> None:
    recent = Recent()
    machine.wall -= HOUR
    recent.since()
    machine.passes(60)
    machine.wall += HOUR
    assert since(recent) == 60 - 2 * HOUR, "what came at the wrong time is in reach"


def test_a_clock_that_was_not_set_at_all(machine: Machine) -> None:
    machine.wall = 0
    recent = Recent()
    machine.wall = START
    assert since(recent) == -HOUR, "not all datapoints since 1970"


def test_drift_is_no_step(machine: Machine) -> None:
    recent = Recent()
    for _ in range(1000):
        machine.passes(10)
        machine.wall += 0.001
        recent.since()
    assert abs(since(recent) - 10_000 + HOUR) < 3
