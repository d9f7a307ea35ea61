"""The HTTP connector as it runs: uvicorn, the raw ASGI callable, PostgreSQL."""

import urllib.request
from collections.abc import Callable

import pytest
from stack import Stack
from support import Account

pytestmark = pytest.mark.e2e


def test_a_datapoint_is_stored_before_it_is_answered(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("web")
    account.device("d1")
    request = urllib.request.Request(
        running.url("/post_v2/"),
        b'{"temp": 23.40}',
        {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert (response.status, response.read()) == (200, b"OK")
    assert account.stored() == [('{"temp": 23.40}', None)]
