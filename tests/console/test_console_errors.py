"""Pages that say what went wrong, also where nothing works that pages need."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.db import InterfaceError, OperationalError, connection
from django.test import Client
from pytest_django import Settings
from stack import Stack
from support import Account

from console.views import profile

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


def is_door(answer: Any) -> bool:
    return 'class="signed-out"' in answer.text and "console.css" in answer.text


def test_nothing_at_an_address(account: Account, signed_in: Any) -> None:
    """C14: with the navigation for whoever is signed in, on each way to a 404."""
    account.channel(7)
    client = signed_in(account)
    client.defaults["HTTP_ACCEPT"] = BROWSER
    for path in ("/nowhere/", "/streams/9/", "/devices/999/", "/streams/7/?tag=gone"):
        answer = client.get(path)
        assert (answer.status_code, is_door(answer)) == (404, False)
        assert 'aria-label="Main"' in answer.text
        assert "Nothing here" in answer.text
    answer = Client(headers={"accept": BROWSER}).get("/nowhere/")
    assert (answer.status_code, is_door(answer)) == (404, True)


def test_a_form_without_its_cookie(db: None) -> None:
    client = Client(enforce_csrf_checks=True, headers={"accept": BROWSER})
    answer = client.post("/signin/", {"username": "a@example.com"})
    assert (answer.status_code, is_door(answer)) == (403, True)
    assert "reload the page" in answer.text


def test_a_host_that_is_not_ours(db: None, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["iot.lan"]
    answer = Client(headers={"accept": BROWSER}).get("/signin/", headers={"host": "evil.example"})
    assert (answer.status_code, is_door(answer)) == (400, True)


def test_a_failure_is_answered_without_the_database(
    account: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in(account)
    client.defaults["HTTP_ACCEPT"] = BROWSER
    client.raise_request_exception = False
    client.cookies["theme"] = "dark"

    with monkeypatch.context() as patch:

        def fail(*args: Any, **kwargs: Any) -> Any:
            patch.setattr(connection, "cursor", fail)
            raise ValueError

        patch.setattr(profile, "render", fail)
        answer = client.get("/profile/")
    assert (answer.status_code, is_door(answer)) == (500, True)
    assert 'data-theme="dark"' in answer.text


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("gone")])
@pytest.mark.parametrize("path", ["/", "/nowhere/", "/signin/", "/profile/"])
def test_without_the_database(
    account: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, path: str
) -> None:
    client = signed_in(account)
    client.defaults["HTTP_ACCEPT"] = BROWSER
    client.raise_request_exception = False

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(connection, "cursor", fail)
        answer = client.get(path)
    assert (answer.status_code, answer.headers["Retry-After"], is_door(answer)) == (503, "5", True)
    assert "sessionid" not in answer.cookies
    assert client.get("/profile/").status_code == 200  # still signed in


@pytest.fixture
def without_database(db: None) -> Iterator[Stack]:
    stack = Stack(DATABASE_URL="postgresql://nobody@/none?host=/nonexistent")
    stack.start("web")
    yield stack
    stack.stop()


@pytest.mark.e2e
def test_a_web_process_without_postgresql(without_database: Stack) -> None:
    url = without_database.url
    cookies = {"sessionid": "x" * 32}
    answer = requests.get(url("/devices/"), headers={"Accept": BROWSER}, cookies=cookies, timeout=60)
    assert (answer.status_code, answer.headers["Retry-After"], is_door(answer)) == (503, "5", True)
    answer = requests.get(url("/v2/user"), headers={"X-APITOKEN": "F" * 32}, cookies=cookies, timeout=60)
    assert (answer.status_code, answer.json()["error"]) == (503, "TRY_AGAIN")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v9/write", 404),
        ("POST", "/post_v2/dev1", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/theme/", 405),
    ],
)
def test_h13_an_error_is_a_page_for_browsers_only(method: str, path: str, status: int, db: None) -> None:
    client = Client()

    def ask(**headers: str) -> Any:
        answer = client.generic(method, path, b"1", headers=headers)
        assert answer.status_code == status
        return answer

    if status != 405:  # a browser never asks like this
        assert is_door(ask(accept=BROWSER))
    assert ask(accept="application/json").json().keys() == {"error", "detail"}
    for headers in ({}, {"accept": "*/*"}, {"accept": "text/plain"}):
        answer = ask(**headers)
        assert "<" not in answer.text
        assert answer.headers["Content-Type"].split(";")[0] in {"text/plain", "application/json"}


def test_h13_a_failure_too(db: None, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["iot.lan"]
    answer = Client().get("/signin/", headers={"host": "evil.example", "accept": "*/*"})
    assert (answer.status_code, answer.text.split(":")[0]) == (400, "BAD_REQUEST")
