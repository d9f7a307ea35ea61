"""The event loop's time, shared by accounts."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from drill_client import until

from ingest.gateway.fair_scheduler import SLICE_SECONDS, WINDOW_SECONDS, FairScheduler, TimeShare


class Work:
    """So many slices of it, noted where it is done."""

    def __init__(self, name: str, slices: int, done: list[str]) -> None:
        self.name, self.slices, self.done = name, slices, done

    def __call__(self, deadline: float) -> bool:
        while time.perf_counter() < deadline:
            pass
        self.done.append(self.name)
        self.slices -= 1
        return not self.slices


def test_accounts_have_their_turns_and_each_its_order() -> None:
    done: list[str] = []

    async def run() -> None:
        scheduler = FairScheduler(asyncio.get_running_loop())
        a, b = scheduler.new_share(), scheduler.new_share()
        a.put_off(Work("a1", 3, done))
        a.put_off(Work("a2", 1, done))
        b.put_off(Work("b1", 1, done))
        b.run_in_order(lambda: done.append("b2"))
        assert a.used_up(time.perf_counter())
        await until(lambda: not scheduler.busy, 60, 0)
        assert not a.waiting_work
        b.run_in_order(lambda: done.append("b3"))

    asyncio.run(run())
    assert done == ["a1", "b1", "a1", "b2", "a1", "a2", "b3"]


def test_what_comes_up_during_a_turn_makes_no_second_round() -> None:
    done: list[str] = []

    async def run() -> None:
        scheduler = FairScheduler(asyncio.get_running_loop())
        a, b = scheduler.new_share(), scheduler.new_share()

        def work(_deadline: float) -> bool:
            b.put_off(Work("b", 1, done))
            a.put_off(Work("a", 1, done))
            return True

        a.put_off(work)
        await until(lambda: not scheduler.busy, 60, 0)
        await asyncio.sleep(0)  # a second round would find nothing

    asyncio.run(run())
    assert sorted(done) == ["a", "b"]


def test_what_fails_is_over_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def run() -> None:
        scheduler = FairScheduler(asyncio.get_running_loop())
        share = scheduler.new_share()

        def fail(_deadline: float) -> bool:
            raise ZeroDivisionError

        share.put_off(fail)
        share.put_off(Work("rest", 1, done))
        await until(lambda: not scheduler.busy, 60, 0)

    asyncio.run(run())
    assert done == ["rest"]
    assert "What was put off failed" in caplog.text


def test_a_slice_comes_back_with_the_next_window() -> None:
    loop: Any = SimpleNamespace(call_soon=None)
    share = TimeShare(FairScheduler(loop))
    assert not share.used_up(100.0)
    share.used = SLICE_SECONDS
    assert share.used_up(100.001)
    assert not share.used_up(100.02)


def test_what_took_longer_than_a_slice_counts_for_the_next_windows() -> None:
    loop: Any = SimpleNamespace(call_soon=None)
    share = TimeShare(FairScheduler(loop))
    assert not share.used_up(100.0)
    share.used = 10 * SLICE_SECONDS
    assert share.used_up(100.0 + 5 * WINDOW_SECONDS)
    assert not share.used_up(100.0 + 12 * WINDOW_SECONDS)
