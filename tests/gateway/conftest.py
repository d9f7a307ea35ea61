"""Fixtures of several files."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from stack import Stack
from support import Account
from two_gateways import Pair


@pytest.fixture(scope="module")
def _second(django_db_setup: None) -> Iterator[Stack]:
    made = Stack()
    yield made
    made.stop()


@pytest.fixture
def pair(stack: Callable[..., Stack], _second: Stack, account: Account) -> Iterator[Pair]:
    first = stack("ingest")
    _second.ensure("ingest")
    with ExitStack() as ended:
        yield Pair(first, _second, ended, account)
