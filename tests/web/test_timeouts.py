"""Waits with a time limit, many for one timer."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from thingscale.web import timeouts
from thingscale.web.timeouts import Timeouts


@pytest.fixture(autouse=True)
def _short_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "TICK", 0.01)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(in_time())


async def _fail() -> None:
    raise KeyError


def test_what_comes_in_time_is_returned() -> None:
    async def main() -> None:
        limits = Timeouts()
        assert await limits.wait_for(5, asyncio.sleep(0.05, "result")) == "result"
        with pytest.raises(KeyError):
            await limits.wait_for(5, _fail())
        await asyncio.sleep(0.05)
        assert limits._timer is None  # with nobody waiting

    run(main())


def test_each_wait_has_its_own_limit() -> None:
    async def main() -> None:
        limits, never = Timeouts(), asyncio.get_running_loop().create_future()
        waits = [limits.wait_for(seconds, asyncio.shield(never)) for seconds in (0.05, 0.01, 9)]
        tasks = [asyncio.create_task(wait) for wait in waits]
        for ended in (tasks[1], tasks[0]):
            with pytest.raises(TimeoutError):
                await ended
            assert not ended.cancelling()
        never.set_result("result")
        assert await tasks[2] == "result"

    run(main())


def test_who_is_cancelled_is_not_late() -> None:
    async def main() -> None:
        task = asyncio.create_task(Timeouts().wait_for(9, asyncio.sleep(9)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_task_goes_on_after_a_wait_that_took_too_long() -> None:
    async def main() -> None:
        limits = Timeouts()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await limits.wait_for(0.01, asyncio.sleep(9))
        assert await limits.wait_for(9, asyncio.sleep(0.02, "result")) == "result"

    run(main())
