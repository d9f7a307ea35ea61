"""The console in other languages than English: which one a page is in, and that it is in no other."""

from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client
from playwright.sync_api import Browser, expect
from stack import Stack
from support import Account
from visiting import visit

from thingscale.accounts import emails
from thingscale.accounts.notices import Notice

JAPANESE = {"Accept-Language": "ja,en;q=0.5"}


def lang(html: str) -> str:
    return html.partition('<html lang="')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en;q=0.8", "ja"),
        ("de,en;q=0.5", "en"),
        ("de", "en"),
        ("xx;q=y", "en"),
        ("", "en"),
    ],
)
def test_by_the_browser(asked: str, given: str) -> None:
    answer = Client().get("/signin/", headers={"Accept-Language": asked})
    assert lang(answer.text) == answer.headers["Content-Language"] == given
    assert "Accept-Language" in answer.headers["Vary"]


def test_by_the_profile(account: Account) -> None:
    client = Client()
    client.force_login(account.user)
    assert lang(client.get("/devices/", headers=JAPANESE).text) == "ja"
    profile = {"locale": "UTC", "email1": "", "email2": "", "user_alias": "", "organization": ""}
    for chosen in ("en", "ja"):
        assert client.post("/profile/", profile | {"language": chosen}, headers=JAPANESE).status_code == 302
        for asked in ("ja", "en", "de"):
            answer = client.get("/devices/", headers={"Accept-Language": asked})
            assert lang(answer.text) == answer.headers["Content-Language"] == chosen
    assert lang(client.get("/no-such-page/", headers={"Accept": "text/html"}).text) == "ja"
    assert client.post("/profile/", profile | {"language": "xx"}).status_code == 200
    assert client.post("/profile/", profile | {"language": ""}).status_code == 302
    assert lang(client.get("/devices/", headers={"Accept-Language": "en"}).text) == "en"


def test_the_language_goes_with_its_request(account: Account) -> None:
    """Threads answer one request after the other."""
    client = Client()
    client.force_login(account.user)
    client.get("/devices/", headers=JAPANESE)
    assert lang(client.get("/devices/").text) == "en"
    assert lang(Client().get("/signin/").text) == "en"


def test_programs_are_answered_in_english(account: Account) -> None:
    answer = Client().get("/v2/user", headers={"X-User-ID": account.user_id, "X-Token": "wrong"} | JAPANESE)
    assert answer.status_code == 401
    assert answer.text.isascii()
    assert "Accept-Language" not in answer.headers.get("Vary", "")
    gone = Client().get("/no-such-page/", headers={"Accept": "application/json"} | JAPANESE)
    assert gone.status_code == 404
    assert gone.text.isascii()


def test_mails_are_in_the_language_of_the_profile(account: Account) -> None:
    for language, subject in (("", "Your ThingScale password"), ("ja", "ThingScale のパスワード")):
        account.user.language = language
        account.user.save(update_fields=["language"])
        emails.send_reset(account.user.email, "http://localhost")
        assert mail.outbox[-1].subject == subject
        assert "http://localhost/reset/" in mail.outbox[-1].body
        emails.send_notice(account.user.email, account.user_id, Notice.PASSWORD_CHANGED)
        assert ("パスワードが変更され" in mail.outbox[-1].body) == (language == "ja")


@pytest.mark.e2e
def test_scripts_speak_it_too(stack: Callable[..., Stack], browser: Browser, account: Account) -> None:
    running = stack("web")
    for locale, resume in (("ja-JP", "再開"), ("en-GB", "Resume")):
        with visit(browser, running, account, locale=locale) as visitor:
            pause = visitor.go("/inspector/").locator("[data-inspector-pause]")
            pause.click()
            expect(pause).to_have_text(resume)
