"""S10: a password is one text on every keyboard, and none that the account's own page shows."""

import unicodedata
from typing import Any, Literal, get_args

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.test import Client
from pytest_django import Settings

from thingscale.accounts.actions import change_password, check_new_password, create_account
from thingscale.accounts.models import User

TYPED = "Grüße aus Åland ﬁn"
Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS: tuple[Form, ...] = get_args(Form)


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings, db: None) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.mark.parametrize("made", FORMS)
def test_s10_a_password_opens_however_it_was_typed(made: Form) -> None:
    user = create_account("a@example.com", unicodedata.normalize(made, TYPED))
    for form in FORMS:
        assert authenticate(username="a@example.com", password=unicodedata.normalize(form, TYPED)) == user
    assert authenticate(username="a@example.com", password=TYPED.casefold()) is None


@pytest.mark.parametrize("made", ["NFC", "NFD"])
def test_s10_hashes_from_before_still_open(made: Form) -> None:
    """Those are of the text as it was typed; whichever keyboard it is typed on now."""
    user = create_account("a@example.com", "correct horse battery")
    AbstractBaseUser.set_password(user, unicodedata.normalize(made, "Grüße aus Åland"))
    user.save()
    for form in FORMS:
        text = unicodedata.normalize(form, "Grüße aus Åland")
        assert authenticate(username="a@example.com", password=text) == user


def test_s10_wrong_passwords_take_as_many_hashes_with_an_account_as_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the time would tell which e-mails have one."""
    create_account("a@example.com", "correct horse battery")
    hashed: list[str] = []
    from django.contrib.auth.hashers import MD5PasswordHasher

    encode = MD5PasswordHasher.encode

    def counted(self: Any, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    counts = []
    for email in ("a@example.com", "nobody@example.com"):
        hashed.clear()
        assert authenticate(username=email, password=TYPED) is None
        counts.append(len(hashed))
    assert counts[0] == counts[1] > 1


ACCOUNT = {
    "email": "ada.lovelace@engines.example.com",
    "email1": "alarms@engines.example.com",
    "organization": "Analytical Engines",
    "user_alias": "Countess of Lovelace",
}


@pytest.mark.parametrize(
    "password",
    [
        *(
            "ada.lovelace@engines.example.com",
            "ADA.LOVELACE@ENGINES.EXAMPLE.COM",
            "Ada-Lovelace!",
            "lovelace1",
        ),
        *("adalovelace99", "alarms@engines.example.com", "Analytical Engines", "analyticalengines"),
        *("\uff21nalytical Engines 1", "CountessOfLovelace", "sengine1"),
    ],
)
def test_s10_a_password_like_the_account_is_refused(password: str) -> None:
    with pytest.raises(ValidationError, match="too similar"):
        check_new_password(User(**ACCOUNT), password)


@pytest.mark.parametrize(
    "password", ["correct horse battery", "example and more words", "x" * 1000, "9fK!a8u2Lq"]
)
def test_s10_other_passwords_are_not(password: str) -> None:
    check_new_password(User(**ACCOUNT), password)


def test_s10_the_user_id_is_no_password() -> None:
    user = create_account("a@example.com", "correct horse battery")
    with pytest.raises(ValidationError, match="user id"):
        change_password(user, user.user_id.lower() + "0")


@pytest.mark.parametrize(
    ("page", "data"),
    [
        ("/profile/password/", {"current": "correct horse battery", "password": "owner@example.com"}),
        ("/profile/email/", {"current": "correct horse battery", "email": "correct.horse@battery.example"}),
    ],
)
def test_s10_every_page_that_could_make_them_alike_refuses(page: str, data: dict[str, str]) -> None:
    user = create_account("owner@example.com", "correct horse battery")
    client = Client()
    client.force_login(user)
    assert "too similar" in client.post(page, data).text
    assert User.objects.get().email == "owner@example.com"
    assert User.objects.get().check_password("correct horse battery")


def test_s10_the_operator_gives_no_such_password_either() -> None:
    operator = create_account("operator@example.com", "correct horse battery", staff=True)
    other = create_account("other@example.com", "correct horse battery")
    client = Client()
    client.force_login(operator)
    data = {"password1": "other@example.com", "password2": "other@example.com"}
    assert "too similar" in client.post(f"/admin/accounts/user/{other.pk}/password/", data).text
    new = {"email": "new@example.com", "password": "new@example.com", "locale": "UTC"}
    assert "too similar" in client.post("/admin/accounts/user/add/", new).text
    assert User.objects.count() == 2
