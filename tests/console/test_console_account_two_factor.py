"""Two-factor sign-in, with codes as an authenticator app computes them."""

import base64
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from doors import is_in, sign_in
from support import PASSWORD, Account

from console import signing_in
from thingscale.accounts.actions import change_password
from thingscale.accounts.models import Session

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
    return secret[1], re.findall(r"<li>([a-z2-7-]{11})</li>", done.text)


def forget_wrong_codes() -> None:
    """As if the wait that they cost were over."""
    for devices in (TOTPDevice, StaticDevice):
        for device in devices.objects.exclude(throttling_failure_timestamp=None):
            device.throttling_failure_timestamp -= timedelta(seconds=60)
            device.save()


@pytest.fixture
def protected(account: Account) -> tuple[str, list[str]]:
    client = Client()
    client.force_login(account.user)
    return set_up(client)


def half_way() -> Client:
    client = Client()
    assert sign_in(client).headers["Location"] == "/signin/code/"
    return client


def give(client: Client, code: str) -> Any:
    return client.post("/signin/code/", {"code": code})


def test_setting_up(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    page = client.post("/profile/two-factor/", follow=True).text
    assert "<svg" in page
    assert "style=" not in page
    wrong = client.post(SET_UP, {"current": PASSWORD, "code": "000000"})
    assert "This code is not right" in wrong.text
    assert not TOTPDevice.objects.filter(confirmed=True).exists()
    forget_wrong_codes()
    secret = re.search(r'id="secret"[^>]*>([A-Z2-7 ]+)<', page)
    assert secret
    done = client.post(SET_UP, {"current": PASSWORD, "code": code_of(secret[1])})
    codes = re.findall(r"<li>([a-z2-7-]{11})</li>", done.text)
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


def test_wrong_codes_cost_time(protected: tuple[str, list[str]]) -> None:
    client = half_way()
    assert "not right" in give(client, "000000").text
    assert "Wait 1 second" in give(client, code_of(protected[0], ahead=1)).text
    assert not is_in(client)


def test_ten_codes_in_five_minutes(protected: tuple[str, list[str]]) -> None:
    client = half_way()
    answers = [give(client, "x").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]


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
    assert "not right" in client.post(page, {"current": PASSWORD, "code": "aaaaa-aaaaa"}).text
    forget_wrong_codes()
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
    new = re.findall(r"<li>([a-z2-7-]{11})</li>", answer.text)
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
