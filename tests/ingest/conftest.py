"""Pipelines on the test database, stopped after each test."""

from collections.abc import Callable, Iterator

import pytest
from feeding import Feed
from pytest_django import Settings


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


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
