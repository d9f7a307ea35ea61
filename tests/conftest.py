"""Accounts, and the whole stack on real servers. `make test` starts PostgreSQL, Valkey and a broker."""

from collections.abc import Callable, Iterator

import pytest
from browser import chromium
from playwright.sync_api import Browser
from pytest_django import Settings
from stack import Stack
from support import Account, make_account

PBKDF2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"  # what the web process knows


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> None:
    """Tests are faster than a client may be, and hash many passwords."""
    settings.REST_RATE = 1_000_000
    settings.HTTP_RATE = 0
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", PBKDF2]


@pytest.fixture
def account(transactional_db: None) -> Account:
    return make_account("owner@example.com")


@pytest.fixture
def outsider(account: Account) -> Account:
    return make_account("outsider@example.com")


@pytest.fixture(scope="session")
def _stack(django_db_setup: None) -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.stop()


@pytest.fixture
def stack(_stack: Stack, transactional_db: None) -> Callable[..., Stack]:
    """`stack()` makes sure that web and ingest run on the test database; what a test killed starts again."""

    def ensure(*names: str) -> Stack:
        _stack.ensure(*(names or ("web", "ingest")))
        return _stack

    return ensure


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright leaves an event loop in this thread: Django would refuse to ask the database, and no other
    can run. So it ends with the module."""
    with pytest.MonkeyPatch.context() as patch, chromium() as launched:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield launched
