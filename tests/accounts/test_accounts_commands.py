"""create_account and show_account, and tokens at rest."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from thingscale.accounts.actions import create_account
from thingscale.accounts.credentials import credentials
from thingscale.accounts.encryption import Undecryptable
from thingscale.accounts.models import Token, User
from thingscale.lib import tokens

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings, db: None) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def run(name: str, *arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out, **options)
    return out.getvalue().strip()


def create(email: str = "a@example.com", password: str = PASSWORD, **options: Any) -> str:
    return run("create_account", email=email, password=password, **options)


def test_an_account_is_created_and_shown_as_json() -> None:
    created = json.loads(create(json=True))
    assert set(created) == {"user_id", "api_token", "device_token"}
    assert created["user_id"].startswith("U")
    assert tokens.well_formed(created["api_token"])
    assert tokens.well_formed(created["device_token"])
    assert created["api_token"] != created["device_token"]
    assert json.loads(run("show_account", created["user_id"], json=True)) == created


def test_an_account_is_shown_to_people() -> None:
    shown = create(locale="Asia/Tokyo", staff=True)
    user = User.objects.get()
    assert shown.splitlines() == [f"{name}: {value}" for name, value in credentials(user).items()]
    assert (user.locale, user.is_staff, user.email1) == ("Asia/Tokyo", True, "a@example.com")
    assert user.check_password(PASSWORD)


def test_user_ids_have_six_digits_and_more_if_need_be() -> None:
    assert User(pk=1).user_id == "U000001"
    assert User(pk=12_345_678).user_id == "U12345678"
    user = create_account("b@example.com", PASSWORD)
    assert User.objects.by_user_id(user.user_id) == user


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"email": "a@example.com"}, "already exists"),
        ({"email": "nobody"}, "valid email"),
        ({"email": ""}, "blank"),
        ({"email": "closed-4@account.invalid"}, "reaches you"),
        ({"email": "me@Account.Invalid"}, "reaches you"),
        ({"email": "me@sub.account\u3002invalid"}, "reaches you"),
        ({"password": "b@example.com"}, "too similar to your e-mail"),
        ({"password": "short"}, "too short"),
        ({"password": "password1"}, "too common"),
        ({"locale": "Mars/Olympus"}, "IANA time zone"),
        ({"locale": "../etc/passwd"}, "IANA time zone"),
    ],
)
def test_what_is_wrong_with_an_account_is_said(options: dict[str, str], said: str) -> None:
    create()
    with pytest.raises(CommandError, match=said) as caught:
        create(**{"email": "b@example.com"} | options)
    assert PASSWORD not in str(caught.value)
    assert (User.objects.count(), Token.objects.count()) == (1, 2)


@pytest.mark.parametrize("user_id", ["U999999", "000001", "U1", "", "Uabcdef", "U" + "9" * 30, "U000000"])
def test_an_account_that_does_not_exist(user_id: str) -> None:
    with pytest.raises(CommandError, match="no account"):
        run("show_account", user_id)


def test_tokens_are_not_in_the_tables() -> None:
    shown = json.loads(create(json=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT digest::text || ciphertext::text || t::text || u::text FROM accounts_token t"
                       " JOIN accounts_user u ON u.id = t.user_id")  # fmt: skip
        rows = "".join(row for (row,) in cursor.fetchall())
    for name in ("api_token", "device_token"):
        for form in (shown[name], shown[name].encode().hex(), bytes.fromhex(shown[name]).hex()):
            assert form.lower() not in rows.lower()


def test_tokens_can_be_read_with_the_key_only(settings: Settings) -> None:
    user = create_account("b@example.com", PASSWORD)
    settings.SECRET_KEY = "another"
    with pytest.raises(Undecryptable):
        credentials(user)
