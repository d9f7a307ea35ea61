"""H14: pages of other origins, off unless a setting lists them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.core.checks import run_checks
from pytest_django import Settings
from stack import Stack
from support import Account

OURS, OTHER = "https://dashboard.example.com", "https://evil.example"
CALLS = ["/v2/device", "/v1/channel", "/v2/stream/0?endtime=last", "/post_v2/"]


@pytest.fixture
def shared(stack: Callable[..., Stack], account: Account) -> Iterator[Stack]:
    account.device("d1")
    running = stack("web").another(THINGSCALE_CORS_ORIGINS=f"{OURS}, http://localhost:5173")
    running.start("web")
    yield running
    running.stop()


def ask(running: Stack, account: Account, path: str, origin: str, method: str = "GET", **more: str) -> Any:
    headers = {"Origin": origin} | {name.replace("_", "-"): text for name, text in more.items()}
    if path == "/post_v2/" and method == "GET":
        headers |= {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
        return requests.post(running.url(path), b"1", headers=headers, timeout=60)
    if method == "GET":
        headers["X-APITOKEN"] = account.api_token
    return requests.request(method, running.url(path), headers=headers, timeout=60)


def test_h14_a_listed_origin_is_let_in_without_cookies(shared: Stack, account: Account) -> None:
    for path in CALLS * 2:  # the second post would go the direct way
        answer = ask(shared, account, path, OURS)
        assert answer.status_code == 200, path
        assert answer.headers["Access-Control-Allow-Origin"] == OURS
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
        other = ask(shared, account, path, OTHER)
        assert "Access-Control-Allow-Origin" not in other.headers
        assert "Origin" in other.headers["Vary"]


def test_h14_an_error_can_be_read_too(shared: Stack, account: Account) -> None:
    answer = requests.get(shared.url("/v2/device"), headers={"Origin": OURS}, timeout=60)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, OURS)


def test_h14_a_preflight_needs_no_token(shared: Stack, account: Account) -> None:
    asked = {"Access_Control_Request_Method": "PUT", "Access_Control_Request_Headers": "x-apitoken"}
    for path in CALLS:
        answer = ask(shared, account, path, OURS, "OPTIONS", **asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == "x-apitoken"
        refused = ask(shared, account, path, OTHER, "OPTIONS", **asked)
        assert "Access-Control-Allow-Origin" not in refused.headers


def test_h14_neither_the_console_nor_by_default(
    shared: Stack, stack: Callable[..., Stack], account: Account
) -> None:
    for path in ("/signin/", "/", "/healthz", "/v2x", "/profile/"):
        assert "Access-Control-Allow-Origin" not in ask(shared, account, path, OURS).headers
    for path in CALLS:
        answer = ask(stack("web"), account, path, OURS)
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("origin", ["https://a.example/", "a.example", "https://a.example/path", "null"])
def test_what_is_no_origin_is_said(settings: Settings, origin: str) -> None:
    settings.CORS_ORIGINS = {origin}
    assert "thingscale.E004" in {message.id for message in run_checks()}
