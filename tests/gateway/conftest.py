"""Fixtures of several files."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from stack import Stack
from support import Account
from two_gateways import Pair


@pytest.fixture
def pair(stack: Callable[..., Stack], account: Account) -> Iterator[Pair]:
    with ExitStack() as ended:
        first, second = stack("ingest"), Stack()
        ended.callback(second.stop)
        second.ensure("ingest")
        yield Pair(first, second, ended, account)
