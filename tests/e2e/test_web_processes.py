"""Several web processes on one port."""

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack, wait_until
from support import Account

pytestmark = pytest.mark.e2e


@pytest.fixture
def two(_stack: Stack, account: Account) -> Iterator[Stack]:
    another = _stack.another(WEB_CONCURRENCY="2")
    try:
        another.ensure("web")
        yield another
    finally:
        another.stop()


def workers(stack: Stack) -> list[int]:
    pid = stack.processes["web"].pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def post(stack: Stack, account: Account, value: int) -> int:
    """Status; 0: no answer."""
    headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    request = urllib.request.Request(stack.url("/post_v2/"), f'{{"n": {value}}}'.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except OSError:
        return 0


def test_what_they_acknowledge_is_stored_and_one_that_dies_is_replaced(two: Stack, account: Account) -> None:
    account.device("d1")
    assert [post(two, account, number) for number in range(20)] == [200] * 20
    first, second = workers(two)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len({*workers(two)} - {first}) == 2, 60, "another process")
    assert second in workers(two)
    wait_until(lambda: post(two, account, 20) == 200, 60, "an answer")
    assert len({value for value, _ in account.stored()}) == 21
    process = two.processes["web"]
    two.kill("web", signal.SIGTERM)
    assert process.returncode == 0
