"""The HTTP connector as it runs: uvicorn, the raw ASGI callable, PostgreSQL."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from stack import Stack, wait_until
from support import Account

from thingscale.accounts.models import User

pytestmark = pytest.mark.e2e


def test_a_datapoint_is_stored_before_it_is_answered(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("web")
    account.device("d1")
    request = urllib.request.Request(
        running.url("/post_v2/"),
        b'{"temp": 23.40}',
        {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert (response.status, response.read()) == (200, b"OK")
    assert account.stored() == [('{"temp": 23.40}', None)]


def post(running: Stack, account: Account, device: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        running.url("/post_v2/"),
        body,
        {
            "X-DEVICETOKEN": account.device_token,
            "X-DEVICEID": device,
            "Accept": "application/json",
        }
        | {name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_b3_what_a_limit_refuses_is_answered_with_the_limit_and_what_to_do(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    running = stack("web")
    account.device("d1")
    outsider.device("d1")
    User.objects.filter(pk=account.user.pk).update(max_devices=1, max_tags=0)
    status, body = post(running, account, "d1", b"1", X_TAGNAME="attic")
    answer = json.loads(body)
    assert (status, answer["error"]) == (403, "QUOTA_EXCEEDED")
    assert "no room for 1 more tag: you can have 0 in all channels. Delete tags" in answer["detail"]
    status, body = post(running, account, "d2", b"1")
    answer = json.loads(body)
    assert (status, answer["error"]) == (403, "MAX_DEVICE_REACH")
    assert answer["detail"] == "You can have 1 device: delete one first, or ask the operator for more."
    User.objects.filter(pk=account.user.pk).update(max_storage=5)
    assert post(running, account, "d1", b"12345") == (200, b'{"result":"OK"}')

    def refused() -> bool:
        status, body = post(running, account, "d1", b"6")
        return status == 403 and "The storage is full: " in json.loads(body)["detail"]

    wait_until(refused, what="the refusal")  # some seconds after the storage became full
    assert post(running, outsider, "d1", b"1")[0] == 200
