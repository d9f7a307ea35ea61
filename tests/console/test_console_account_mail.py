"""S6: where mail is configured, e-mails are proved by a link, and what happens to an account is told."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as django_mail
from django.core.mail import EmailMessage
from django.test import Client
from django_otp.oath import totp
from kombu.exceptions import OperationalError
from pytest_django import Settings
from sign_ins import EMAIL, is_in, sign_in
from support import PASSWORD, Account

from thingscale.accounts import actions, links, tasks
from thingscale.accounts.models import Token, User

NEW = "new@example.com"
LINK = r"https://iot\.example\.com(/\S+)"
pytestmark = pytest.mark.usefixtures("quick_passwords")


class Letters:
    """What has been sent, in whichever list Django's backend for tests has it."""

    def all(self) -> list[EmailMessage]:
        return list(getattr(django_mail, "outbox", ()))

    def __iter__(self) -> Iterator[EmailMessage]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())


@pytest.fixture(autouse=True)
def mail(settings: Settings, eager_tasks: None) -> Letters:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.EMAIL_HOST = "mail.example.com"
    settings.PUBLIC_URL = "https://iot.example.com"
    settings.SIGNUP_VERIFY = True
    return Letters()


def texts(mail: Letters, to: str) -> str:
    return "\n".join(str(letter.body) for letter in mail if letter.to == [to])


def link(mail: Letters, to: str) -> str:
    found = re.search(LINK, texts(mail, to))
    assert found
    return found[1]


def test_s6_an_e_mail_changes_when_its_link_is_opened(
    account: Account, outsider: Account, signed_in: Any, mail: Letters
) -> None:
    client = signed_in(account)
    answer = client.post("/profile/email/", {"email": NEW, "current": PASSWORD}, follow=True)
    assert "A link is on its way to new@example.com" in answer.text
    assert User.objects.get(pk=account.user.pk).email == EMAIL
    assert "asked to sign in with another e-mail" in texts(mail, EMAIL)
    assert "/profile/email/" not in texts(mail, EMAIL)
    place = link(mail, NEW)
    assert Client().get(place).headers["Location"].startswith("/signin/")
    assert signed_in(outsider).get(place).headers["Location"] == "/profile/email/"
    assert signed_in(outsider).post(place).headers["Location"] == "/profile/email/"
    assert "You sign in with new@example.com" in client.get(place).text
    assert User.objects.get(pk=account.user.pk).email == EMAIL  # programs open links, too
    assert client.post(place).headers["Location"] == "/profile/"
    assert "the e-mail to sign in with was changed" in texts(mail, EMAIL)
    sign_in(again := Client(), email=NEW)
    assert is_in(again)
    assert client.post(place).headers["Location"] == "/profile/email/"  # once


def test_s6_an_e_mail_that_was_taken_meanwhile(account: Account, signed_in: Any, mail: Any) -> None:
    client = signed_in(account)
    client.post("/profile/email/", {"email": NEW, "current": PASSWORD})
    actions.create_account("NEW@example.com", PASSWORD)
    assert "has this e-mail already" in client.post(link(mail, NEW), follow=True).text
    assert User.objects.get(pk=account.user.pk).email == EMAIL


@pytest.mark.parametrize("change", ["", "x", ":a:b"])
def test_s6_links_that_are_none(account: Account, signed_in: Any, change: str) -> None:
    good = links.email_change(account.user, NEW)
    for place in (f"/profile/email/{good}{change or 'x'}/", f"/profile/email/{links.sign_up(NEW)}/"):
        assert signed_in(account).post(place).headers["Location"] == "/profile/email/"
    for place in (f"/signup/{links.sign_up(NEW)}{change or 'x'}/", f"/signup/{good}/"):
        assert Client().post(place, {"password": PASSWORD, "locale": "UTC"}).headers["Location"] == "/signup/"
    assert User.objects.count() == 1


def test_s6_links_end(account: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"/profile/email/{links.email_change(account.user, NEW)}/"
    monkeypatch.setattr(links, "SECONDS", -1)
    assert signed_in(account).post(place).headers["Location"] == "/profile/email/"
    assert Client().get(f"/signup/{links.sign_up(NEW)}/").headers["Location"] == "/signup/"


def test_s6_who_signs_up_has_read_the_mail(account: Account, mail: Letters) -> None:
    client = Client()
    answer = client.post("/signup/", {"email": NEW})
    assert "Look into your mail" in answer.text
    assert not User.objects.filter(email=NEW).exists()
    place = link(mail, NEW)
    assert NEW in client.get(place).text
    fields = {"password": NEW, "locale": "Asia/Tokyo", "email": "another@example.com"}
    assert "too similar to your e-mail" in client.post(place, fields).text
    assert client.post(place, fields | {"password": PASSWORD}).headers["Location"] == "/"
    assert is_in(client)
    assert User.objects.get(email=NEW).locale == "Asia/Tokyo"
    assert "already" in Client().post(place, fields | {"password": PASSWORD}).text
    known = Client().post("/signup/", {"email": EMAIL})  # nobody learns who has an account
    page = re.compile("<main.*</main>", re.DOTALL)
    (theirs,), (ours,) = page.findall(known.text), page.findall(answer.text)
    assert theirs.replace(EMAIL, "") == ours.replace(NEW, "")
    assert link(mail, EMAIL) == "/reset/"


def test_s6_sign_ups_by_mail_are_limited(db: None) -> None:
    answers = [Client().post("/signup/", {"email": NEW}).status_code for _ in range(6)]
    assert answers == [200] * 5 + [429]


def two_factor_on(user: User) -> None:
    device = actions.begin_second_factor(user)
    actions.confirm_second_factor(user, f"{totp(device.bin_key):06d}")


EVENTS: dict[str, tuple[Callable[[User], Any], str]] = {
    "password": (lambda user: actions.change_password(user, PASSWORD + "!"), "the password was changed"),
    "two-factor on": (two_factor_on, "two-factor sign-in was set up"),
    "codes": (actions.make_recovery_codes, "new recovery codes were made"),
    "API token": (lambda user: actions.rotate_token(user, Token.Kind.API), "the API token was rotated"),
    "device token": (lambda user: actions.rotate_token(user, "device", timedelta(0)), "the device token was"),
    "e-mail": (lambda user: actions.change_email(user, NEW), "e-mail to sign in with was changed"),
    "by the operator": (
        lambda user: actions.change_account(user, {"email": NEW}),
        "sign in with was changed",
    ),
    "closed": (actions.close_account, "it was closed"),
}


@pytest.mark.parametrize("event", EVENTS)
def test_s6_what_happens_to_an_account_is_told_by_mail(account: Account, mail: Letters, event: str) -> None:
    act, said = EVENTS[event]
    act(User.objects.get(pk=account.user.pk))
    assert [letter.to for letter in mail] == [[EMAIL]]
    assert said in texts(mail, EMAIL)
    assert account.user_id in texts(mail, EMAIL)
    for secret in (account.api_token, account.device_token, PASSWORD, NEW):
        assert secret not in texts(mail, EMAIL)


def test_s6_turning_two_factor_off_is_told_once(account: Account, mail: Any) -> None:
    two_factor_on(account.user)
    actions.end_second_factor(account.user)
    actions.end_second_factor(account.user)
    assert texts(mail, EMAIL).count("turned off") == 1


def test_s6_what_fails_is_not_told_and_the_queue_may_be_away(
    account: Account, mail: Any, monkeypatch: pytest.MonkeyPatch, signed_in: Any
) -> None:
    client = signed_in(account)
    client.post("/profile/password/", {"current": PASSWORD, "password": EMAIL})
    assert len(mail) == 0

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError

    for task in (tasks.send_notice, tasks.send_email_link, tasks.send_sign_up_link):
        monkeypatch.setattr(task, "apply_async", away)
    actions.rotate_token(account.user, "api")
    answer = client.post("/profile/email/", {"email": NEW, "current": PASSWORD})
    assert "Mails can&#x27;t be sent just now" in answer.text
    assert "Mails can&#x27;t be sent just now" in Client().post("/signup/", {"email": NEW}).text


def test_s6_without_mail_it_goes_at_once(
    account: Account, signed_in: Any, settings: Settings, mail: Letters
) -> None:
    settings.EMAIL_HOST, settings.SIGNUP_VERIFY = "", False
    signed_in(account).post("/profile/email/", {"email": NEW, "current": PASSWORD})
    assert User.objects.get(pk=account.user.pk).email == NEW
    new = {"email": EMAIL, "password": PASSWORD, "locale": "UTC"}
    assert Client().post("/signup/", new).headers["Location"] == "/"
    assert len(mail) == 0
