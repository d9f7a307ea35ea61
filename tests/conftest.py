"""Accounts, and the whole stack on real servers. `make test` starts PostgreSQL and Valkey, and a broker for
broker mode."""

import gc
import signal
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from django.core.management.commands import flush
from django.db import IntegrityError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from playwright.sync_api import Browser
from psycopg.errors import DeadlockDetected, ForeignKeyViolation
from pytest_django import Settings
from stack import Stack
from support import Account, make_account

FEW = 500  # rows
MIGRATED = {"django_content_type", "auth_permission"}  # filled by migrations, and by nobody else
PBKDF2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"  # what the web process knows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first, so that no worker ends with one while the others have nothing to do."""
    ranks: dict[Path, int] = {}
    for item in items:
        rank = next(
            n for n, mark in enumerate(("drill", "e2e", "")) if not mark or item.get_closest_marker(mark)
        )
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How those failed that passed when they ran once more, or failed again."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"failed the first time: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext[-3000:])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing of what is made here is garbage before the end."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


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
        patch.setattr(flush, "sql_flush", empty_written)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_args, **_named: None)
        yield


def empty_written(_style: Any, database: BaseDatabaseWrapper, **_options: Any) -> list[str]:
    """Only the tables that have rows, at once: there is nothing left for Django to do. Of a few rows, DELETE
    takes a third of TRUNCATE's time."""
    with database.cursor() as cursor:
        while True:
            cursor.execute(question(database))
            counts = dict(cursor.fetchall())
            many = [name for name, count in counts.items() if count > FEW]
            statements = [f"TRUNCATE {', '.join(many)} CASCADE"] if many else []
            statements += [f"DELETE FROM {name}" for name, count in counts.items() if 0 < count <= FEW]
            if not statements:
                return []
            try:
                cursor.execute("; ".join(statements))
                return []
            except (OperationalError, IntegrityError) as error:  # a platform that still runs uses them, too
                if not isinstance(error.__cause__, DeadlockDetected | ForeignKeyViolation):
                    raise


@cache
def question(database: BaseDatabaseWrapper) -> str:
    """How many rows the tables have, up to one more than a few."""
    names = set(database.introspection.django_table_names(only_existing=True, include_views=False))
    return " UNION ALL ".join(
        f"SELECT '{name}', (SELECT count(*) FROM (SELECT FROM {name} LIMIT {FEW} + 1) found)"
        for name in sorted(names - MIGRATED)
    )


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
def stack(_stack: Stack, transactional_db: None) -> Iterator[Callable[..., Stack]]:
    """`stack()` makes sure that web and ingest run on the test database; what a test killed starts again. A
    worker ends with its test: it would take what is due from the workers of later tests."""

    def ensure(*names: str) -> Stack:
        _stack.ensure(*(names or ("web", "ingest")))
        return _stack

    yield ensure
    if "celery" in _stack.processes:
        _stack.kill("celery", signal.SIGTERM)


@pytest.fixture
def no_shared_stack(_stack: Stack) -> None:
    """For who counts the processes that there are. It starts again for whom it is wanted."""
    _stack.stop()


# Their tests call the domain's functions, and look at all rows.
ALONE = {"devices", "events", "ingest", "processes", "streams"}


@pytest.fixture(autouse=True)
def _no_other_process(request: pytest.FixtureRequest) -> None:
    """The processes that an earlier test of this worker has started would write rows of their own, and take
    what is due: sessions that ended, devices to activate, hours to roll up."""
    marker = request.node.get_closest_marker("django_db")
    commits = "transactional_db" in request.fixturenames or (marker and marker.kwargs.get("transaction"))
    if commits and "stack" not in request.fixturenames and request.path.parts[-2] in ALONE:
        request.getfixturevalue("no_shared_stack")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright leaves an event loop in this thread: Django would refuse to ask the database, and no other
    can run. So it ends with the module."""
    with pytest.MonkeyPatch.context() as patch, chromium() as launched:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield launched
