"""Accounts, and the whole stack on real servers. `make test` starts PostgreSQL and Valkey, and a broker for
broker mode."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser import chromium
from django.core.management.commands import flush
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from playwright.sync_api import Browser
from psycopg.errors import DeadlockDetected
from pytest_django import Settings
from stack import Stack
from support import Account, make_account

MIGRATED = {"django_content_type", "auth_permission"}  # filled by migrations, and by nobody else
PBKDF2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"  # what the web process knows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first, so that no worker ends with one while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("drill") is None)


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> None:
    """Tests are faster than a client may be, and hash many passwords."""
    settings.REST_RATE = 1_000_000
    settings.HTTP_RATE = 0
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", PBKDF2]


@pytest.fixture(autouse=True, scope="session")
def _quick_flush() -> Iterator[None]:
    """After a test Django would empty all tables, and write content types and permissions again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", truncate_written)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_args, **_named: None)
        yield


def truncate_written(_style: Any, database: BaseDatabaseWrapper, **_options: Any) -> list[str]:
    """Only the tables that have rows, at once: there is nothing left for Django to do."""
    names = set(database.introspection.django_table_names(only_existing=True, include_views=False))
    ask = (f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in sorted(names - MIGRATED))
    with database.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(ask))
        written = [name for (name,) in cursor.fetchall()]
        while written:
            try:
                cursor.execute(f"TRUNCATE {', '.join(written)} CASCADE")
                break
            except OperationalError as error:  # a platform that is still running has some of them, too
                if not isinstance(error.__cause__, DeadlockDetected):
                    raise
    return []


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
