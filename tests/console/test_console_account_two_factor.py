"""Two-factor sign-in, with codes as an authenticator app computes them."""

import base64
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings
from sign_ins import is_in, sign_in
from support import PASSWORD, Account

from console import signing_in, unsent
from thingscale.accounts.actions import change_password, clear_ended
from thingscale.accounts.models import Session, WrongCode

pytestmark = pytest.mark.usefixtures("quick_passwords")
SET_UP = "/profile/two-factor/setup/"


def code_of(secret: str, ahead: int = 0) -> str:
    """Of the app; `ahead` many half minutes, since a code works once."""
    return f"{totp(base64.b32decode(secret.replace(' ', '')), t0=-30 * ahead):06d}"


def set_up(client: Client) -> tuple[str, list[str]]:
    """The secret and the recovery codes."""
    page = client.post("/profile/two-factor/", follow=True).text
    secret = re.search(r'id="secret"[^>]*>([A-Z2-7 ]+)<', page)
    assert secret
    done = client.post(SET_UP, {"current": PASSWORD, "code": code_of(secret[1])})
    return secret[1], re.findall(r"<li>([a-z2-7-]{19})</li>", done.text)


@pytest.fixture
def protected(account: Account) -> tuple[str, list[str]]:
    client = Client()
    client.force_login(account.user)
    return set_up(client)


def half_way(**extra: Any) -> Client:
    client = Client(**extra)
    assert sign_in(client).headers["Location"] == "/signin/code/"
    return client


def give(client: Client, code: str, **extra: Any) -> Any:
    return client.post("/signin/code/", {"code": code}, **extra)


def test_c14_a_form_that_was_not_sent_waits_for_the_code_too(protected: tuple[str, list[str]]) -> None:
    client = Client()
    carried = unsent.Unsent("/channels/new/", [["number", "5"], ["name", "typed"]], "/channels/").signed
    assert sign_in(client, unsent=carried).headers["Location"] == "/signin/code/"
    assert client.get("/unsent/").headers["Location"] == "/signin/?next=/unsent/"
    assert give(client, code_of(protected[0], ahead=1)).headers["Location"] == "/unsent/"
    assert "typed" in client.get("/unsent/").text


def test_setting_up(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    page = client.post("/profile/two-factor/", follow=True).text
    assert "<svg" in page
    assert "style=" not in page
    wrong = client.post(SET_UP, {"current": PASSWORD, "code": "000000"})
    assert "This code is not right" in wrong.text
    assert not TOTPDevice.objects.filter(confirmed=True).exists()
    secret = re.search(r'id="secret"[^>]*>([A-Z2-7 ]+)<', page)
    assert secret
    done = client.post(SET_UP, {"current": PASSWORD, "code": code_of(secret[1])})
    codes = re.findall(r"<li>([a-z2-7-]{19})</li>", done.text)
    assert len(set(codes)) == 10
    kept = set(StaticToken.objects.values_list("token", flat=True))
    assert not kept & {code.replace("-", "") for code in codes}
    assert "10 recovery codes left" in client.get("/profile/two-factor/").text
    assert client.get(SET_UP).status_code == 302


def test_who_only_finds_the_browser_cannot_set_it_up(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    page = client.post("/profile/two-factor/", follow=True).text
    secret = re.search(r'id="secret"[^>]*>([A-Z2-7 ]+)<', page)
    assert secret
    code = code_of(secret[1])
    answers = [client.post(SET_UP, {"current": f"guess {n}", "code": code}) for n in range(10)]
    assert all("This is not your password" in answer.text for answer in answers)
    assert client.post(SET_UP, {"current": PASSWORD, "code": code}).status_code == 429
    assert not TOTPDevice.objects.filter(confirmed=True).exists()


def test_the_password_alone_opens_nothing(protected: tuple[str, list[str]]) -> None:
    client = half_way()
    assert not is_in(client)
    assert Session.objects.filter(user=None).count() == 1


def test_a_code_opens_once(protected: tuple[str, list[str]]) -> None:
    secret, _ = protected
    client, code = half_way(), code_of(secret, ahead=1)
    assert give(client, code).headers["Location"] == "/"
    assert is_in(client)
    assert "has been used" in give(other := half_way(), code).text
    assert not is_in(other)


def test_next_survives_the_second_step(protected: tuple[str, list[str]]) -> None:
    client = Client()
    client.post("/signin/", {"username": "owner@example.com", "password": PASSWORD, "next": "/rules/"})
    assert give(client, code_of(protected[0], ahead=1)).headers["Location"] == "/rules/"


def test_a_recovery_code_opens_once(protected: tuple[str, list[str]]) -> None:
    _, codes = protected
    give(client := half_way(), codes[0].upper().replace("-", " "))
    assert is_in(client)
    assert "9 recovery codes left" in client.get("/profile/two-factor/").text
    give(other := half_way(), codes[0])
    assert not is_in(other)


def test_s3_wrong_codes_are_counted_by_network(protected: tuple[str, list[str]]) -> None:
    """S3: whoever has the password and types wrong codes keeps himself out, and not the owner."""
    attacker = half_way()
    answers = [give(attacker, "000000").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    late = give(attacker, code_of(protected[0], ahead=1))
    assert late.status_code == 429
    assert "too many wrong codes" in late.text
    assert not is_in(attacker)
    give(owner := half_way(REMOTE_ADDR="192.0.2.1"), code_of(protected[0], ahead=1))
    assert is_in(owner)


def test_s3_a_network_of_ipv6_is_one(protected: tuple[str, list[str]]) -> None:
    client = half_way()
    tries = [give(client, "000000", REMOTE_ADDR=f"2001:db8::{n}").status_code for n in range(1, 12)]
    assert tries == [200] * 10 + [429]


@pytest.mark.parametrize("after", ["sign-out", "the secret key was changed"])
def test_s3_a_known_browser_and_a_recovery_code_are_spared(
    protected: tuple[str, list[str]], account: Account, settings: Settings, after: str
) -> None:
    """S3: wrong codes from many networks, the owner's own among them."""
    secret, codes = protected
    mine = half_way()
    give(mine, codes[0])
    mine.post("/signout/")
    if after != "sign-out":
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a new one", [settings.SECRET_KEY]
    for n in range(60):
        for network in (f"198.51.100.{n}", "127.0.0.1"):
            WrongCode.objects.create(user=account.user, kind="app", network=network, known_browser=False)
    unknown = half_way(REMOTE_ADDR="203.0.113.1")
    assert give(unknown, code_of(secret, ahead=1)).status_code == 429
    give(unknown, codes[1])
    assert is_in(unknown)
    assert sign_in(mine).headers["Location"] == "/signin/code/"
    give(mine, code_of(secret, ahead=1))
    assert is_in(mine)
    data = {"current": PASSWORD, "code": "000000"}
    assert mine.post("/profile/two-factor/end/", data).status_code == 200
    stranger = Client(REMOTE_ADDR="203.0.113.2")
    stranger.force_login(account.user)
    assert stranger.post("/profile/two-factor/end/", data).status_code == 429
    assert stranger.post("/profile/two-factor/codes/", data).status_code == 429
    assert stranger.post("/profile/two-factor/end/", data | {"code": codes[2]}).status_code == 302


def test_s3_known_browsers_are_counted_too(protected: tuple[str, list[str]]) -> None:
    give(mine := half_way(), protected[1][0])
    mine.post("/signout/")
    sign_in(mine)
    assert [give(mine, "000000").status_code for _ in range(11)] == [200] * 10 + [429]


def test_s3_the_account_of_another_is_not_known(protected: tuple[str, list[str]], outsider: Account) -> None:
    """S3: the mark of one's own account is none for the account that one tries to get into."""
    client = Client()
    sign_in(client, email="outsider@example.com")
    client.post("/signout/")
    sign_in(client)
    give(client, "000000")
    assert not WrongCode.objects.get().known_browser


def test_s3_the_wait_ends(protected: tuple[str, list[str]]) -> None:
    client = half_way()
    for _ in range(11):
        give(client, "000000")
    WrongCode.objects.update(at=timezone.now() - timedelta(minutes=6))
    give(client, code_of(protected[0], ahead=1))
    assert is_in(client)
    WrongCode.objects.update(at=timezone.now() - timedelta(days=2))
    clear_ended()
    assert not WrongCode.objects.exists()


def test_the_second_step_ends(
    protected: tuple[str, list[str]], account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = protected
    assert give(Client(), code_of(secret, ahead=1)).headers["Location"] == "/signin/"
    changed = half_way()
    change_password(account.user, PASSWORD + "!")
    assert give(changed, code_of(secret, ahead=1)).headers["Location"] == "/signin/"
    change_password(account.user, PASSWORD)
    monkeypatch.setattr(signing_in, "PENDING_SECONDS", -1)
    late = half_way()
    assert give(late, code_of(secret, ahead=1)).headers["Location"] == "/signin/"
    assert not is_in(late)


def test_turning_off_takes_password_and_code(
    protected: tuple[str, list[str]], account: Account, signed_in: Any
) -> None:
    client, codes = signed_in(account), protected[1]
    page = "/profile/two-factor/end/"
    assert "not your password" in client.post(page, {"current": "x", "code": codes[0]}).text
    assert "not right" in client.post(page, {"current": PASSWORD, "code": "aaaa-aaaa-aaaa-aaaa"}).text
    client.post(page, {"current": PASSWORD, "code": codes[0]})
    assert not TOTPDevice.objects.exists()
    assert not StaticToken.objects.exists()
    sign_in(again := Client())
    assert is_in(again)


def test_new_recovery_codes_replace_the_old(
    protected: tuple[str, list[str]], account: Account, signed_in: Any
) -> None:
    data = {"current": PASSWORD, "code": protected[1][0]}
    answer = signed_in(account).post("/profile/two-factor/codes/", data)
    new = re.findall(r"<li>([a-z2-7-]{19})</li>", answer.text)
    assert len(new) == 10
    assert not set(new) & set(protected[1])
    give(old := half_way(), protected[1][1])
    assert not is_in(old)


def test_another_account_has_its_own(
    protected: tuple[str, list[str]], outsider: Account, signed_in: Any
) -> None:
    client = signed_in(outsider)
    assert 'badge">off' in client.get("/profile/two-factor/").text
    data = {"current": PASSWORD, "code": protected[1][0]}
    assert "not right" in client.post("/profile/two-factor/end/", data).text
