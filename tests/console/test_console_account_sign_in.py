"""Signing in and up: who gets in, how often one may try, what is remembered."""

import pytest
from django.test import Client
from pytest_django import Settings
from sign_ins import EMAIL, FIREFOX, is_in, sign_in
from support import PASSWORD, Account, make_account

from console import sign_in_limits
from thingscale.accounts.models import Session, Token, User
from thingscale.web.circuit_breaker import CircuitBreaker

pytestmark = pytest.mark.usefixtures("quick_passwords")
NEW = {"email": "new@example.com", "password": PASSWORD, "locale": "Asia/Tokyo"}


def test_a_session_knows_where_it_comes_from(account: Account) -> None:
    client = Client()
    answer = sign_in(client, REMOTE_ADDR="192.0.2.7", headers={"user-agent": FIREFOX + "x" * 300})
    assert answer.headers["Location"] == "/"
    session = Session.objects.get(user=account.user)
    assert (session.ip_address, session.user_agent) == ("192.0.2.7", (FIREFOX + "x" * 300)[:200])
    since = session.signed_in_at
    kept = client.session
    kept["anything"] = 1
    kept.save()
    session.refresh_from_db()
    assert abs((session.signed_in_at - since).total_seconds()) < 1


def test_the_case_of_an_email_does_not_matter(account: Account) -> None:
    client = Client()
    sign_in(client, email="Owner@Example.com")
    assert is_in(client)


def test_a_wrong_password_keeps_the_email_typed(account: Account) -> None:
    answer = sign_in(Client(), "wrong")
    assert answer.status_code == 200
    assert f'value="{EMAIL}"' in answer.text
    assert "No account has this e-mail and password" in answer.text


@pytest.mark.parametrize(
    "place",
    [
        *("https://evil.example/", "//evil.example/", "foo", "admin:index", "foo/../", "javascript:x", "\\x"),
        "/signin/",
    ],
)
def test_next_leads_nowhere_else(account: Account, place: str) -> None:
    data = {"username": EMAIL, "password": PASSWORD, "next": place}
    client = Client()
    assert client.post("/signin/", data).headers["Location"] == "/"
    assert client.get("/signin/", {"next": place}).headers["Location"] == "/"
    if place != "/signin/":
        assert client.post("/theme/", {"theme": "dark", "next": place}).headers["Location"] == "/"
    number = account.device("d1").pk
    switched = client.post(f"/devices/{number}/disable/", {"next": place.removeprefix("/signin/")})
    assert switched.headers["Location"].startswith("/devices/")


def test_next_leads_to_a_page(account: Account) -> None:
    client = Client()
    data = {"username": EMAIL, "password": PASSWORD, "next": "/devices/?q=a"}
    assert client.post("/signin/", data).headers["Location"] == "/devices/?q=a"
    assert client.post("/theme/", {"theme": "dark", "next": "/rules/"}).headers["Location"] == "/rules/"


def test_an_address_has_ten_tries_for_an_account(account: Account) -> None:
    client = Client()
    assert {sign_in(client, "wrong").status_code for _ in range(10)} == {200}
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    assert "Too many tries" in answer.text
    sign_in(elsewhere := Client(), REMOTE_ADDR="192.0.2.1")
    assert is_in(elsewhere)


def test_another_spelling_is_the_same_account(transactional_db: None) -> None:
    make_account("sisi@example.com")
    sign_in(client := Client(), email="\u017f\u0131\u017fi@example.com")
    assert is_in(client)
    spellings = [f"{first}{second}si@example.com" for first in "sS\u017f" for second in "iI\u0131"]
    client = Client()
    answers = [sign_in(client, "wrong", email).status_code for email in [*spellings, " SISI@example.com "]]
    assert answers == [200] * 9 + [429]


def test_an_address_has_thirty_tries_in_all(account: Account) -> None:
    client = Client()
    answers = [sign_in(client, "x", f"u{n}@example.com").status_code for n in range(31)]
    assert answers == [200] * 30 + [429]


def test_an_ipv6_network_is_one_place(account: Account) -> None:
    client = Client()
    tries = [sign_in(client, "x", REMOTE_ADDR=f"2001:db8::{n}").status_code for n in range(1, 12)]
    assert tries == [200] * 10 + [429]


def test_many_places_do_not_lock_out_a_browser_that_was_in_before(account: Account) -> None:
    mine = Client(REMOTE_ADDR="192.0.2.1")
    sign_in(mine)
    mine.post("/signout/")
    for n in range(50):
        sign_in(Client(), "wrong", REMOTE_ADDR=f"198.51.100.{n}")
    assert sign_in(Client(), "wrong", REMOTE_ADDR="203.0.113.1").status_code == 429
    sign_in(mine)
    assert is_in(mine)


def test_s3_tries_in_the_same_network_do_not_lock_out_a_known_browser(account: Account) -> None:
    """S3: an office or a mobile network has one address for many people."""
    sign_in(mine := Client())
    mine.post("/signout/")
    assert [sign_in(Client(), "wrong").status_code for _ in range(31)][-1] == 429
    sign_in(mine)
    assert is_in(mine)
    mine.post("/signout/")
    assert [sign_in(mine, "wrong").status_code for _ in range(31)][-1] == 429


def test_valkey_away_keeps_nobody_out(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_limits, "circuit", CircuitBreaker("Nothing is limited"))
    away = {"LOCATION": ["unix:///nonexistent/valkey.sock"]}
    settings.CACHES = {name: cache | away for name, cache in settings.CACHES.items()}
    client = Client()
    for _ in range(12):
        sign_in(client, "wrong")
    sign_in(client)
    assert is_in(client)


def test_signing_up_signs_in(db: None) -> None:
    client = Client()
    assert client.post("/signup/", NEW).headers["Location"] == "/"
    user = User.objects.get()
    assert (user.email, user.locale, user.is_staff) == ("new@example.com", "Asia/Tokyo", False)
    assert Token.objects.filter(user=user).count() == 2
    assert is_in(client)
    assert client.get("/signup/").headers["Location"] == "/"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"email": "OWNER@example.com"}, "An account has this e-mail already."),
        ({"email": "owner@example.com"}, "already"),
        ({"email": "nobody"}, "valid email"),
        ({"password": "password1"}, "too common"),
        ({"password": "short"}, "too short"),
        ({"password": "aaaae\u0301e\u0301"}, "too short"),
        ({"password": NEW["email"]}, "too similar to your e-mail"),
        ({"email": "closed-4@account.invalid"}, "reaches you"),
        ({"email": "x@\uff41ccount.invalid"}, "reaches you"),
        ({"locale": "Mars/Olympus"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(account: Account, changes: dict[str, str], said: str) -> None:
    answer = Client().post("/signup/", NEW | changes)
    assert said in answer.text
    assert f'value="{(NEW | changes)["email"]}"' in answer.text
    assert User.objects.count() == 1


def test_signing_up_can_be_closed(db: None, settings: Settings) -> None:
    settings.SIGNUP = False
    for answer in (Client().get("/signup/"), Client().post("/signup/", NEW)):
        assert answer.status_code == 403
        assert "Signing up is closed" in answer.text
    assert "/signup/" not in Client().get("/signin/").text
    assert not User.objects.exists()


def test_sign_ups_are_limited(db: None) -> None:
    answers = [Client().post("/signup/", {"email": "x"}).status_code for _ in range(21)]
    assert answers == [200] * 20 + [429]
