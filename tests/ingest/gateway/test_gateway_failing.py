"""What nobody foresaw with one client ends that one, and no other."""

import asyncio
from typing import Any

import pytest

from ingest.gateway import server
from ingest.gateway.server import Gateway


class Broken:
    """A client with a defect."""

    token = "t"
    ended = False

    def check(self, now: float) -> None:
        raise ZeroDivisionError

    def refresh_token(self, grant: object) -> None:
        raise ZeroDivisionError

    def end(self, with_will: bool) -> None:
        self.ended = with_will


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def find_token_owner(self: Gateway, token: str) -> None:
        return None

    monkeypatch.setattr(Gateway, "find_token_owner", find_token_owner)
    return Gateway.__new__(Gateway)  # without its servers and its store


def test_a_client_that_can_not_be_looked_at_ends(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.0)
    broken, checked = Broken(), asyncio.Event()

    class Well(Broken):
        def check(self, now: float) -> None:
            if broken.ended:
                checked.set()

    async def sweep() -> None:
        gateway._clients, gateway.now = {broken, Well()}, lambda: 0.0
        gateway._unanswered, gateway._taking_over_since = {}, {}
        sweeping = asyncio.create_task(gateway._sweep())
        async with asyncio.timeout(60):
            await checked.wait()
        assert not sweeping.done()
        sweeping.cancel()

    asyncio.run(sweep())


def test_a_client_whose_token_can_not_be_checked_ends(gateway: Any) -> None:
    broken = Broken()
    gateway._unchecked = {broken}
    asyncio.run(gateway._check_unchecked())
    assert broken.ended
    assert not gateway._unchecked
