"""Changing a password, and getting back in by mail."""

import re
import smtplib
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from kombu.exceptions import OperationalError
from pytest_django import Settings
from sign_ins import EMAIL, is_in, sign_in
from support import PASSWORD, Account

from thingscale.accounts import tasks
from thingscale.accounts.actions import change_email, set_active
from thingscale.accounts.models import Session, User

pytestmark = pytest.mark.usefixtures("quick_passwords")
NEW = "another horse, as correct"


@pytest.fixture
def mailbox(settings: Settings, tmp_path: Path, eager_tasks: None) -> Path:
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path / "mail"
    settings.PUBLIC_URL = "https://iot.example.com"
    return tmp_path / "mail"


def ask(email: str = EMAIL, **extra: Any) -> Any:
    return Client().post("/reset/", {"email": email}, **extra)


def letters(mailbox: Path) -> list[str]:
    return [file.read_text() for file in mailbox.glob("*")] if mailbox.exists() else []


def link(mailbox: Path) -> str:
    (letter,) = letters(mailbox)
    found = re.search(r"https://iot.example.com(/reset/\S+)", letter)
    assert found
    return found[1]


def test_this_browser_stays_and_others_end(account: Account) -> None:
    here, there = Client(), Client()
    sign_in(here)
    sign_in(there)
    answer = here.post("/profile/password/", {"current": PASSWORD, "password": NEW}, follow=True)
    assert "Other browsers have been signed out" in answer.text
    assert is_in(here)
    assert not is_in(there)
    assert Session.objects.filter(user=account.user).count() == 1
    sign_in(there, NEW)
    assert is_in(there)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"current": "wrong", "password": NEW}, "not your password"),
        ({"current": PASSWORD, "password": "12345678"}, "too common"),
        ({"current": PASSWORD, "password": ""}, "required"),
    ],
)
def test_a_password_change_that_is_refused(account: Account, data: dict[str, str], said: str) -> None:
    client = Client()
    sign_in(client)
    assert said in client.post("/profile/password/", data).text
    assert User.objects.get().check_password(PASSWORD)


def test_a_browser_left_alone_is_no_place_to_guess(account: Account) -> None:
    client = Client()
    client.force_login(account.user)
    data = {"current": "wrong", "password": NEW}
    answers = [client.post("/profile/password/", data).status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]


@pytest.mark.parametrize("page", ["/profile/password/", "/profile/email/", "/profile/two-factor/codes/"])
def test_s3_a_session_found_open_keeps_the_owner_out_of_no_page(account: Account, page: str) -> None:
    """S3: guesses of the password in one session do not stop the owner in a known browser."""
    mine = Client()
    sign_in(mine)
    for n in range(60):
        guesser = Client(REMOTE_ADDR=f"198.51.100.{n}")
        guesser.force_login(account.user)
        last = guesser.post(page, {"current": "wrong"})
    assert last.status_code == 429
    assert mine.post(page, {"current": "wrong"}).status_code == 200
    assert mine.post("/profile/password/", {"current": PASSWORD, "password": NEW}).status_code == 302


def test_a_reset_from_mail_to_sign_in(account: Account, mailbox: Path) -> None:
    there = Client()
    sign_in(there)
    assert "a link is on its way" in ask().text
    path, client = link(mailbox), Client()
    page = client.get(path, follow=True)
    assert "Choose a new password" in page.text
    form = page.redirect_chain[-1][0]
    assert "too short" in client.post(form, {"password": "short"}).text
    assert client.post(form, {"password": NEW}).headers["Location"] == "/signin/"
    assert not is_in(there)
    sign_in(client, NEW)
    assert is_in(client)
    assert "This link does not work" in Client().get(path, follow=True).text


def test_a_reset_says_the_same_to_strangers(account: Account, mailbox: Path) -> None:
    known = ask().text.replace(EMAIL, "?")
    unknown = ask("nobody@example.com").text.replace("nobody@example.com", "?")
    hide = re.compile(r'"X-CSRFToken": "\w+"')
    assert hide.sub("", known) == hide.sub("", unknown)
    assert len(letters(mailbox)) == 1


def test_inactive_accounts_get_no_mail(account: Account, mailbox: Path) -> None:
    set_active(account.user, False)
    ask()
    assert not letters(mailbox)


def test_a_changed_email_makes_links_useless(account: Account, mailbox: Path) -> None:
    ask()
    change_email(account.user, "moved@example.com")
    assert "This link does not work" in Client().get(link(mailbox), follow=True).text


def test_a_link_leads_to_no_host_that_a_request_made_up(
    account: Account, mailbox: Path, settings: Settings
) -> None:
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = "", ["*"]
    assert "THINGSCALE_PUBLIC_URL" in ask(headers={"host": "evil.example"}).text
    assert not letters(mailbox)
    ask(headers={"host": "localhost:8000"})
    settings.ALLOWED_HOSTS = ["iot.lan"]
    ask(headers={"host": "iot.lan"})
    text = "".join(letters(mailbox))
    assert "http://localhost:8000/reset/" in text
    assert "http://iot.lan/reset/" in text


def test_resets_are_limited(account: Account, mailbox: Path) -> None:
    answers = [ask(REMOTE_ADDR=f"192.0.2.{n}").status_code for n in range(6)]
    assert answers == [200] * 5 + [429]


def test_a_queue_that_is_away_is_said(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(tasks.send_reset, "apply_async", fail)
    answer = ask(headers={"host": "localhost"})
    assert "Mails can&#x27;t be sent just now" in answer.text
    assert f'value="{EMAIL}"' in answer.text


def test_a_mail_server_that_is_away_is_tried_again(
    account: Account, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    tries = []

    def fail(*args: Any, **kwargs: Any) -> None:
        tries.append(args)
        raise smtplib.SMTPServerDisconnected

    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    monkeypatch.setattr(smtplib, "SMTP", fail)
    tasks.send_reset.apply((EMAIL, "http://localhost"))
    assert len(tries) == 7
