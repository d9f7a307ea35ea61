import time

import pytest

from thingscale.lib.clock import DatabaseClock, steady_ns

SECOND = 1_000_000_000


def shown(clock: DatabaseClock) -> float:
    """How many seconds it is ahead of this machine's clock."""
    return (clock.now_us() - time.time_ns() // 1000) / 1e6


def told(clock: DatabaseClock, ahead: float, before: float = 0, after: float = 0) -> None:
    """The database shows a time that is `ahead` of this machine's, so many seconds after it was asked, and
    before its answer is here."""
    now = steady_ns()
    moment = time.time_ns() // 1000 + int(ahead * 1e6)
    clock.adjust(now - int(before * SECOND), now + int(after * SECOND), moment)


def test_before_the_database_is_asked_the_machine_s_own_clock_counts() -> None:
    assert shown(DatabaseClock()) == pytest.approx(0, abs=0.1)


def test_it_shows_what_the_database_shows() -> None:
    clock = DatabaseClock()
    for ahead in (60, -60, 3600):
        told(clock, ahead)
        assert shown(clock) == pytest.approx(ahead, abs=0.1)


def test_a_slow_answer_changes_nothing_if_it_fits() -> None:
    clock = DatabaseClock()
    told(clock, 60)
    for before, after in ((0, 5), (5, 0), (5, 5)):
        told(clock, 60, before, after)
        assert shown(clock) == pytest.approx(60, abs=0.1)


def test_a_slow_answer_that_does_not_fit_is_followed_as_far_as_it_is_sure() -> None:
    clock = DatabaseClock()
    told(clock, 0)
    told(clock, 60, 0, 5)
    assert shown(clock) == pytest.approx(55, abs=0.1)
    told(clock, 60)
    assert shown(clock) == pytest.approx(60, abs=0.1)


def test_the_machine_s_clock_does_not_matter_once_the_database_s_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = DatabaseClock()
    told(clock, 0)
    before = clock.now_us()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 0 <= clock.now_us() - before < 10_000_000
