"""The profile: its fields, sessions, tokens, and closing the account."""

import re
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from sign_ins import EMAIL, FIREFOX, is_in, sign_in
from support import PASSWORD, Account

from thingscale.accounts import actions, tasks
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import Session, Token, User
from thingscale.devices.models import ActivationRule, Device, HeldMessage
from thingscale.lib.errors import ContractError
from thingscale.lib.points import Points
from thingscale.provisioning import account_purge
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Channel, DeletedChannel

pytestmark = pytest.mark.usefixtures("quick_passwords")
FIELDS = {
    "user_alias": "Ada",
    "organization": "Lab",
    "email1": "a@example.com",
    "email2": "",
    "locale": "Asia/Tokyo",
}


def test_the_profile_shows_and_saves(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    account.device("a")
    page = client.get("/profile/").text
    for text in (
        account.user_id,
        account.api_token,
        account.device_token,
        "1 of 10,000",
        "/v2/docs",
        "/rules/",
    ):
        assert text in page
    client.post("/profile/", FIELDS)
    user = User.objects.get()
    assert (user.user_alias, user.organization, user.email1, user.locale) == (
        "Ada",
        "Lab",
        "a@example.com",
        "Asia/Tokyo",
    )
    assert user.email == EMAIL


def test_the_profile_costs_twelve_queries_at_most(
    account: Account, signed_in: Any, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = signed_in(account)
    client.get("/profile/")
    with django_assert_max_num_queries(12):
        client.get("/profile/")


@pytest.mark.parametrize(
    ("changes", "said"), [({"locale": "Mars"}, "valid choice"), ({"email1": "x"}, "valid email")]
)
def test_a_profile_that_is_refused_keeps_what_was_typed(
    account: Account, signed_in: Any, changes: dict[str, str], said: str
) -> None:
    text = signed_in(account).post("/profile/", FIELDS | changes).text
    assert said in text
    assert 'value="Ada"' in text


def test_the_email_of_sign_in_takes_the_password(account: Account, outsider: Account, signed_in: Any) -> None:
    client = signed_in(account)
    page = "/profile/email/"
    assert "not your password" in client.post(page, {"email": "n@example.com", "current": "x"}).text
    taken = client.post(page, {"email": "Outsider@example.com", "current": PASSWORD})
    assert "An account has this e-mail already" in taken.text
    client.post(page, {"email": "n@example.com", "current": PASSWORD})
    sign_in(again := Client(), email="n@example.com")
    assert is_in(again)
    assert is_in(client)


def test_sessions_are_listed_and_end_one_by_one(account: Account) -> None:
    here, there, third = Client(), Client(), Client()
    sign_in(here, headers={"user-agent": FIREFOX})
    for client in (there, third):
        sign_in(client, REMOTE_ADDR="192.0.2.9", headers={"user-agent": "curl/8"})
    page = here.get("/profile/sessions/").text
    assert page.index("Firefox on Linux") < page.index("An unknown browser")
    assert page.count("this one") == 1
    assert page.count("192.0.2.9") == 2
    assert there.cookies["sessionid"].value not in page
    name = Session.objects.get(session_key=there.cookies["sessionid"].value).name
    here.post(f"/profile/sessions/{name}/end/")
    assert [is_in(client) for client in (here, there, third)] == [True, False, True]
    here.post("/profile/sessions/end-others/")
    assert [is_in(client) for client in (here, third)] == [True, False]


def test_sessions_of_another_account_stay(account: Account, outsider: Account, signed_in: Any) -> None:
    mine, theirs = signed_in(account), signed_in(outsider)
    name = Session.objects.get(user=account.user).name
    assert name not in theirs.get("/profile/sessions/").text
    assert theirs.post(f"/profile/sessions/{name}/end/").status_code == 404
    theirs.post("/profile/sessions/end-others/")
    assert is_in(mine)


def test_ended_sessions_and_tokens_are_cleared(account: Account, signed_in: Any) -> None:
    signed_in(account)
    now = timezone.now()
    Session.objects.update(expire_date=now - timedelta(seconds=1))
    signed_in(account)
    for days in (31, 29):
        Token.objects.create(
            user=account.user,
            kind="api",
            digest=bytes([days]),
            ciphertext=b"",
            expires_at=now - timedelta(days=days),
        )
    tasks.clear_ended()
    assert Session.objects.count() == 1
    assert Token.objects.count() == 3


def test_a_rotation_with_overlap_and_its_end(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    assert "cut off at once" in client.get("/profile/tokens/device/rotate/").text
    page = client.post("/profile/tokens/device/rotate/", {"overlap": "1"}, follow=True).text
    new = credentials(account.user)["device_token"]
    assert new != account.device_token
    assert new in page
    assert f"•••• {account.device_token[-4:]}" in page
    assert account.device_token not in page
    assert Token.objects.find("device", account.device_token)
    ends = Token.objects.exclude(expires_at=None).get().expires_at
    assert timedelta(minutes=59) < ends - timezone.now() <= timedelta(hours=1)
    assert "End it now" in client.get("/profile/tokens/device/end-overlap/").text
    client.post("/profile/tokens/device/end-overlap/")
    assert Token.objects.find("device", account.device_token) is None
    assert Token.objects.find("device", new)
    assert credentials(account.user)["api_token"] == account.api_token


def test_a_rotation_without_overlap(account: Account, signed_in: Any) -> None:
    signed_in(account).post("/profile/tokens/api/rotate/", {"overlap": "0"})
    assert Token.objects.find("api", account.api_token) is None


@pytest.mark.parametrize("overlap", ["", "2", "-1", "x"])
def test_a_rotation_that_is_refused(account: Account, signed_in: Any, overlap: str) -> None:
    assert signed_in(account).post("/profile/tokens/api/rotate/", {"overlap": overlap}).status_code == 200
    assert credentials(account.user)["api_token"] == account.api_token


@pytest.mark.parametrize("page", ["rotate", "end-overlap"])
def test_there_are_two_kinds_of_tokens(account: Account, signed_in: Any, page: str) -> None:
    assert signed_in(account).post(f"/profile/tokens/other/{page}/", {"overlap": "0"}).status_code == 404


def close(client: Client, typed: str = EMAIL, current: str = PASSWORD) -> Any:
    return client.post("/profile/close/", {"typed": typed, "current": current})


def test_closing_takes_email_and_password(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    assert "exactly as it stands" in close(client, typed="x").text
    assert "not your password" in close(client, current="x").text
    assert is_in(client)


def test_s2_an_account_closes_whatever_e_mails_others_have_taken(
    account: Account, outsider: Account, signed_in: Any
) -> None:
    """S2: `account.invalid` was open to all, and the next closed account's e-mail could be guessed."""
    User.objects.filter(pk=outsider.user.pk).update(email=f"closed-{account.user.pk}@account.invalid")
    assert close(signed_in(account)).headers["Location"] == "/signin/"
    closed = User.objects.get(pk=account.user.pk)
    assert re.fullmatch(r"closed-[0-9a-f]{32}@account\.invalid", closed.email)
    assert not Token.objects.filter(user=closed).exists()
    data = {"email": "closed-1@account.invalid", "current": PASSWORD}
    assert "reaches you" in signed_in(outsider).post("/profile/email/", data).text
    assert "reaches you" in signed_in(outsider).post("/profile/", FIELDS | {"email1": data["email"]}).text


def test_s2_accounts_closed_before_get_an_unguessable_e_mail(account: Account, outsider: Account) -> None:
    guessable = f"closed-{account.user.pk}@account.invalid"
    User.objects.filter(pk=account.user.pk).update(email=guessable, closed_at=timezone.now())
    User.objects.filter(pk=outsider.user.pk).update(email="closed-9999@account.invalid")  # an open one
    migration = import_module("thingscale.accounts.migrations.0004_closed_emails")
    with connection.cursor() as cursor:
        cursor.execute(migration.UNGUESSABLE)
    found = {user.pk: user.email for user in User.objects.all()}
    assert re.fullmatch(r"closed-[0-9a-f]{32}@account\.invalid", found[account.user.pk])
    assert found[outsider.user.pk] == "closed-9999@account.invalid"


def test_s2_nothing_comes_back_to_a_closed_account(account: Account) -> None:
    """S2: what was under way in another process while it closed makes no token and no e-mail for it."""
    under_way = User.objects.get(pk=account.user.pk)
    actions.close_account(account.user)
    with pytest.raises(ContractError):
        actions.rotate_token(under_way, "api")
    with pytest.raises(ValidationError, match="closed"):
        actions.change_email(under_way, "back@example.com")
    assert not Token.objects.filter(user=under_way).exists()
    assert User.objects.get(pk=account.user.pk).email.endswith("@account.invalid")


@pytest.mark.parametrize("kind", ["api", "device"])
def test_s1_a_leaked_token_is_replaced_without_an_overlap(
    account: Account, signed_in: Any, kind: str
) -> None:
    """S1: the page says what an overlap means for a leak, and offers the rotation without one."""
    client = signed_in(account)
    assert f"/profile/tokens/{kind}/rotate/?leaked" in client.get("/profile/").text
    page = client.get(f"/profile/tokens/{kind}/rotate/?leaked").text
    assert re.search(r'<option value="0" selected>', page)
    assert "If somebody else may have it" in page
    client.post(f"/profile/tokens/{kind}/rotate/?leaked", {"overlap": "0"})
    assert Token.objects.find(kind, getattr(account, f"{kind}_token")) is None
    client.post(f"/profile/tokens/{kind}/rotate/", {"overlap": "24"})
    assert "An older token opens as much" in client.get("/profile/").text


def test_the_last_operator_stays(account: Account, outsider: Account, signed_in: Any) -> None:
    User.objects.filter(pk=account.user.pk).update(is_staff=True)
    assert "the only operator" in close(signed_in(account)).text
    User.objects.update(is_staff=True)
    assert close(signed_in(account)).headers["Location"] == "/signin/"


def test_a_closed_account_is_out_at_once(account: Account, outsider: Account, signed_in: Any) -> None:
    client, other = signed_in(account), signed_in(account)
    assert close(client).headers["Location"] == "/signin/"
    assert [is_in(client), is_in(other)] == [False, False]
    for kind, token in (("api", account.api_token), ("device", account.device_token)):
        assert Token.objects.find(kind, token) is None
    user = User.objects.get(pk=account.user.pk)
    assert (user.is_active, user.email1, user.organization) == (False, "", "")
    assert EMAIL not in user.email
    new = {"email": EMAIL, "password": PASSWORD, "locale": "UTC"}
    assert Client().post("/signup/", new).status_code == 302
    assert Token.objects.find("api", outsider.api_token)


def test_a_closed_account_is_purged(account: Account, outsider: Account, signed_in: Any) -> None:
    for owner in (account, outsider):
        store_points(owner.channel(0), Points.of([("t", b"1", 1_700_000_000_000_000)]))
        HeldMessage.objects.create(device=owner.device("a", None), value=1, received_at=timezone.now())
    ActivationRule.objects.create(user=account.user, pattern="*", channel=account.channel(0))
    channel = account.channel(0).pk
    close(signed_in(account))
    account_purge.purge_closed_accounts()
    assert DeletedChannel.objects.filter(channel=channel).exists()
    assert {device.user_id for device in Device.objects.all()} == {outsider.user.pk}
    assert User.objects.count() == 2  # a batch on its way may still name the account
    User.objects.filter(pk=account.user.pk).update(closed_at=timezone.now() - timedelta(hours=2))
    account_purge.purge_closed_accounts()
    assert User.objects.get() == outsider.user
    assert Channel.objects.get().user == outsider.user
    assert HeldMessage.objects.count() == 1


PAGES = [
    "",
    "email/",
    "password/",
    "close/",
    "sessions/",
    "two-factor/",
    "two-factor/setup/",
    "tokens/api/rotate/",
]


@pytest.mark.parametrize("page", PAGES)
def test_another_account_sees_its_own_only(
    account: Account, outsider: Account, signed_in: Any, page: str
) -> None:
    text = signed_in(outsider).get(f"/profile/{page}", follow=True).text
    for secret in (EMAIL, account.user_id, account.api_token, account.device_token):
        assert secret not in text
    assert Client().get(f"/profile/{page}").headers["Location"].startswith("/signin/")
