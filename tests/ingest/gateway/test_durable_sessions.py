"""When a gateway may answer to a client without storing anything."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from ingest.gateway.durable_sessions import CURRENT_SECONDS, Announcement, DurableSessions
from ingest.gateway.server import Gateway

OTHER = 7


class SlowDatabase:
    """A gateway of which only this is asked: it reads sessions once `answers` is set."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.answers = asyncio.Event()
        self.hub = self.admission = self
        self.accounts: dict[int, Any] = {}

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work)

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        await self.answers.wait()
        return []

    async def write_subscriptions(self) -> None:
        await self.answers.wait()


def current(sessions: DurableSessions) -> bool:
    return sessions.current  # mypy would take it for a constant


def test_a_gateway_is_not_current_before_it_has_confirmed_what_it_has_heard() -> None:
    """It may be fenced already: to know that there is something to read is not to have read it."""

    async def scenario() -> None:
        gateway = SlowDatabase()
        sessions = DurableSessions(cast(Gateway, gateway), 1)
        sessions.others = {OTHER}
        sessions.note_listening(time.monotonic())
        assert current(sessions)
        sessions.on_announcement(Announcement(OTHER, 1, [(1, 1)]))
        sessions.note_listening(time.monotonic())
        assert not current(sessions)
        await asyncio.sleep(0)
        assert not current(sessions)
        gateway.answers.set()
        async with asyncio.timeout(30):
            while not current(sessions):
                await asyncio.sleep(0)
                sessions.note_listening(time.monotonic())

    asyncio.run(scenario())


def test_a_gateway_that_has_heard_of_nobody_for_a_while_is_not_current() -> None:
    async def scenario() -> None:
        sessions = DurableSessions(cast(Gateway, SlowDatabase()), 1)
        assert current(sessions), "there is nobody else"
        sessions.others = {OTHER}
        assert not current(sessions)
        sessions.note_listening(time.monotonic() - CURRENT_SECONDS)
        assert not current(sessions)

    asyncio.run(scenario())
