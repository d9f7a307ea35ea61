"""S5: what is kept encrypted, and another secret key while the platform runs."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from thingscale.accounts import actions, second_factor
from thingscale.accounts.credentials import credentials
from thingscale.accounts.encryption import Undecryptable
from thingscale.accounts.models import Authenticator, AuthenticatorSecret, Token, User


@pytest.fixture
def user(db: None, settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return actions.create_account("a@example.com", "correct horse battery")


def code_of(device: Authenticator, ahead: int = 0) -> str:
    return f"{totp(device.bin_key, t0=-30 * ahead):06d}"


def turn_on(user: User) -> tuple[Authenticator, list[str]]:
    device = actions.begin_second_factor(user)
    return device, actions.confirm_second_factor(user, code_of(device))


def everything_kept() -> str:
    with connection.cursor() as cursor:
        tables = ("otp_totp_totpdevice", "accounts_authenticatorsecret", "otp_static_statictoken")
        asked = " UNION ALL ".join(f"SELECT t::text FROM {table} t" for table in tables)
        cursor.execute(asked)
        return "".join(row for (row,) in cursor.fetchall()).lower()


def test_s5_neither_secret_nor_recovery_code_is_in_the_tables(user: User) -> None:
    device, codes = turn_on(user)
    kept = everything_kept()
    for form in (device.bin_key.hex(), second_factor.secret(device).replace(" ", "").lower()):
        assert form not in kept
        assert form.encode().hex() not in kept
    for code in codes:
        assert code not in kept
        assert code.replace("-", "") not in kept


def old_device(user: User) -> str:
    """As earlier versions kept it: its secret."""
    device = TOTPDevice.objects.create(user=user, name="authenticator", confirmed=True)
    return str(device.key)


def test_s5_an_authenticator_of_an_earlier_version_works_and_is_encrypted_by_the_command(user: User) -> None:
    secret = old_device(user)
    device = Authenticator.objects.get()
    assert device.bin_key.hex() == secret
    actions.take_code(user, code_of(device), "", False)
    assert second_factor.is_on(user)
    assert secret in everything_kept()
    call_command("reencrypt", stdout=StringIO())
    assert secret not in everything_kept()
    actions.take_code(user, code_of(Authenticator.objects.get(), ahead=1), "", False)
    assert actions.reencrypt() == (0, 0)


def test_s5_an_older_process_beside_us_asks_for_a_code_and_takes_none(user: User) -> None:
    """It knows django-otp's table only: not letting the owner in is better than letting anyone in."""
    device, _ = turn_on(user)
    theirs = TOTPDevice.objects.get(user=user, confirmed=True)
    assert theirs.bin_key != device.bin_key
    assert not theirs.verify_token(code_of(device, ahead=1))
    connection.cursor().execute("DELETE FROM otp_totp_totpdevice")  # as it does: it knows nothing of ours
    connection.check_constraints()
    actions.clear_ended()
    assert not AuthenticatorSecret.objects.exists()


def change_key(settings: Settings, *keys: str) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = keys[0], list(keys[1:])


def test_s5_another_secret_key(user: User, settings: Settings) -> None:
    """Old key, both keys, new key alone: tokens, codes and sessions go on."""
    old, before = settings.SECRET_KEY, credentials(user)
    device, _ = turn_on(user)
    client = Client()
    client.force_login(user)
    change_key(settings, "new" * 20, old)
    assert credentials(user) == before
    assert client.get("/profile/").status_code == 200  # and its session is signed anew
    actions.take_code(user, code_of(device, ahead=1), "", False)
    rotated = actions.rotate_token(user, "api").plain
    out = StringIO()
    call_command("reencrypt", stdout=out)
    assert out.getvalue().startswith("3 secrets are encrypted anew.")  # one token is of the new key already
    change_key(settings, "new" * 20)
    assert credentials(user) == before | {"api_token": rotated}
    assert Authenticator.objects.get().bin_key == device.bin_key
    assert actions.reencrypt() == (0, 0)


@pytest.mark.parametrize("lost", ["token", "authenticator"])
def test_s5_what_is_of_an_unknown_key_is_counted_and_kept(user: User, settings: Settings, lost: str) -> None:
    turn_on(user)
    kept: Any = (Token if lost == "token" else AuthenticatorSecret).objects
    count = kept.count()
    ciphertexts = set(map(bytes, kept.values_list("ciphertext", flat=True)))
    (AuthenticatorSecret if lost == "token" else Token).objects.all().delete()
    TOTPDevice.objects.filter(encrypted=None).delete()
    change_key(settings, "another" * 6)
    with pytest.raises(CommandError, match=rf"^{count} secrets? (is|are) of a key that is not in"):
        call_command("reencrypt", stdout=StringIO())
    assert set(map(bytes, kept.values_list("ciphertext", flat=True))) == ciphertexts
    with pytest.raises(Undecryptable, match="THINGSCALE_SECRET_KEYS"):
        _ = kept.first().plain if lost == "token" else Authenticator.objects.get().bin_key
