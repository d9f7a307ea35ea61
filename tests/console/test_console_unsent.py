"""C14: a whole form that comes when its session is over is not lost: it is shown after signing in."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.core import signing
from django.test import Client
from playwright.sync_api import Browser, expect
from sign_ins import EMAIL, is_in
from stack import Stack
from support import PASSWORD, Account
from visiting import visit

from console import unsent
from thingscale.accounts.models import Session
from thingscale.streams.models import Channel

SignIn = Callable[[Account], Client]


@pytest.fixture
def client(quick_passwords: None, account: Account, signed_in: SignIn) -> Client:
    """Whose session has just ended; its page had a CSRF token, as each has."""
    client = signed_in(account)
    client.handler.enforce_csrf_checks = True
    assert client.get("/channels/new/").status_code == 200
    Session.objects.all().delete()
    return client


def post(client: Client, path: str, fields: dict[str, Any], **extra: Any) -> Any:
    return client.post(path, fields | {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}, **extra)


def hidden(answer: Any) -> dict[str, str]:
    found = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', answer.text)
    return {name: unescape(value) for name, value in found}


def again(client: Client, asked: Any) -> Any:
    """The sign-in page's own form, filled in."""
    return post(client, "/signin/", hidden(asked) | {"username": EMAIL, "password": PASSWORD})


def test_c14_a_form_is_shown_after_signing_in_and_sent(client: Client) -> None:
    typed = {"number": "5", "name": 'typed "with" <care> é\n'}
    asked = post(client, "/channels/new/", typed)
    assert asked.status_code == 401
    assert "no-store" in asked.headers["Cache-Control"]
    assert 'action="/signin/"' in asked.text
    wrong = post(client, "/signin/", hidden(asked) | {"username": EMAIL, "password": "wrong"})
    assert hidden(wrong)["unsent"] == hidden(asked)["unsent"]
    answer = again(client, wrong)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/unsent/")
    shown = client.get("/unsent/")
    assert "typed &quot;with&quot; &lt;care&gt; é" in shown.text
    assert EMAIL in shown.text
    assert not Channel.objects.exists()
    sent = post(client, "/unsent/send/", hidden(shown))
    assert (sent.status_code, sent.headers["Location"]) == (307, "/channels/new/")
    post(client, "/channels/new/", hidden(shown))  # which is what a browser makes of a 307
    assert Channel.objects.get().number == 5
    assert client.get("/unsent/").headers["Location"] == "/"


@pytest.mark.parametrize(
    ("before", "page"),
    [
        ("", "/publish/?device=a"),
        ("http://testserver/devices/?q=a#top", "/devices/?q=a"),
        ("http://evil.example/devices/", "/publish/?device=a"),
        ("http://testserver//evil.example/", "/publish/?device=a"),
    ],
)
def test_c14_or_thrown_away(client: Client, before: str, page: str) -> None:
    headers = {"Referer": before} if before else {}
    again(client, post(client, "/publish/?device=a", {"device": "d1", "payload": "on"}, headers=headers))
    assert "on" in client.get("/unsent/").text
    assert post(client, "/unsent/discard/", {}).headers["Location"] == page
    assert client.get("/unsent/").headers["Location"] == "/"


def test_c14_a_button_leads_back_to_its_page(client: Client) -> None:
    """What it posts to can't be shown."""
    answer = post(client, "/devices/1/enable/", {}, headers={"Referer": "http://testserver/devices/?q=a"})
    assert answer.headers["Location"] == "/signin/?next=/devices/%3Fq%3Da"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/profile/password/", {"current": PASSWORD, "password": "another horse battery"}),
        ("/profile/email/", {"email": "b@example.com", "current": PASSWORD}),
        ("/profile/close/", {"typed": EMAIL, "current": PASSWORD}),
        ("/profile/two-factor/setup/", {"code": "123456"}),
        ("/channels/5/delete/", {"typed": "5"}),
        ("/devices/bulk/", {"action": "delete", "devices": ["1"]}),
        ("/profile/tokens/device/rotate/", {"overlap": "24"}),
        ("/channels/new/", {"number": "", "name": ""}),
        ("/channels/new/", {"number": "1", "name": "x" * 300_000}),
    ],
)
def test_c14_secrets_and_what_does_harm_are_kept_nowhere(
    client: Client, path: str, fields: dict[str, Any]
) -> None:
    answer = post(client, path, fields)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/signin/?next={path}")
    assert not Session.objects.exists()


def test_c14_only_what_came_from_our_page_is_kept(client: Client, account: Account) -> None:
    answer = client.post("/channels/new/", {"number": "5", "name": "forged"})
    assert answer.status_code == 403
    assert "forged" not in answer.text
    for carried in ("junk", signing.dumps(["/channels/new/", [["number", "5"]]], salt="another")):
        client.cookies.pop("sessionid", None)
        fields = {"username": EMAIL, "password": PASSWORD, "unsent": carried}
        assert post(client, "/signin/", fields).headers["Location"] == "/"
        assert client.get("/unsent/").headers["Location"] == "/"


@pytest.mark.parametrize("limit", ["SIGN_IN_SECONDS", "SEND_SECONDS"])
def test_c14_it_is_kept_for_a_while_only(client: Client, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    asked = post(client, "/channels/new/", {"number": "5"})
    monkeypatch.setattr(unsent, limit, -1)
    again(client, asked)
    assert is_in(client)
    assert client.get("/unsent/").headers["Location"] == "/"
    assert post(client, "/unsent/send/", {}).headers["Location"] == "/"


def test_c14_nobody_else_sees_it(client: Client, outsider: Account, signed_in: SignIn) -> None:
    again(client, post(client, "/channels/new/", {"number": "5", "name": "mine"}))
    other = signed_in(outsider)
    assert other.get("/unsent/").headers["Location"] == "/"
    assert other.post("/unsent/send/").headers["Location"] == "/"
    assert Client().get("/unsent/").headers["Location"] == "/signin/?next=/unsent/"
    assert "mine" in client.get("/unsent/").text
    client.force_login(outsider.user)
    assert client.get("/unsent/").headers["Location"] == "/"


def test_c14_in_a_browser(browser: Browser, stack: Callable[..., Stack], account: Account) -> None:
    account.channel(5)
    account.user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")  # as the real process knows it
    account.user.save()
    with visit(browser, stack("web"), account) as visited:
        page = visited.go("/channels/5/")
        page.get_by_label("Name").first.fill("typed with care")
        Session.objects.all().delete()
        page.get_by_role("button", name="Save").first.click()
        expect(page.get_by_text("You were signed out before your form was sent.")).to_be_visible()
        page.get_by_label("E-mail").fill(EMAIL)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        visited.press("Sign in")
        expect(page.get_by_text("typed with care")).to_be_visible()
        assert "TOTAL" not in page.locator("main").inner_text()
        assert Channel.objects.get().name != "typed with care"
        visited.complaints.clear()  # the 401
        visited.press("Send it")
        expect(page.get_by_label("Name").first).to_have_value("typed with care")
        assert Channel.objects.get().name == "typed with care"
