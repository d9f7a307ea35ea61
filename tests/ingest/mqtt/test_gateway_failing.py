"""What nobody foresaw in one session ends that one, and no other."""

import asyncio
from typing import Any

import pytest

from ingest.mqtt.gateway import Gateway


class Broken:
    """A session with a defect."""

    token = "t"
    ended = False

    def check(self, now: float) -> None:
        raise ZeroDivisionError

    def regrant(self, grant: object) -> None:
        raise ZeroDivisionError

    def end(self, with_will: bool) -> None:
        self.ended = with_will


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def find_grant(self: Gateway, token: str) -> None:
        return None

    monkeypatch.setattr(Gateway, "find_grant", find_grant)
    return Gateway.__new__(Gateway)  # without its servers and its store


def test_a_session_that_can_not_be_looked_at_ends(gateway: Any) -> None:
    broken = Broken()
    gateway._check_one(broken, 0.0, ping=False)
    assert broken.ended


def test_a_session_whose_token_can_not_be_checked_ends(gateway: Any) -> None:
    broken = Broken()
    gateway._unchecked = {broken}
    asyncio.run(gateway._check())
    assert broken.ended
    assert not gateway._unchecked
