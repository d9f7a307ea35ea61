"""Writers on the test database, stopped after each test."""

from collections.abc import Callable, Iterator

import pytest
from connecting import Connection, raw, view
from feeding import Feed
from pytest_django import Settings

from thingscale.processes import change_notifications


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener looks more often whether it is to stop."""
    monkeypatch.setattr(change_notifications, "PATROL_SECONDS", 0.05)


@pytest.fixture(params=[raw, view])
def http(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Connection]:
    """The HTTP connector through each of its adapters."""
    with request.param() as adapter:
        yield adapter


@pytest.fixture
def make_feed(transactional_db: None) -> Iterator[Callable[..., Feed]]:
    feeds: list[Feed] = []

    def make(messages: int = 50_000, size: int = 2**26) -> Feed:
        feeds.append(Feed(messages, size))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.stop()


@pytest.fixture
def feed(make_feed: Callable[..., Feed]) -> Feed:
    return make_feed()
