"""Whose device token is it? Real tokens, counted queries."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import Error, connection
from django.utils import timezone
from feeding import database_away, elsewhere
from pytest_django import DjangoAssertNumQueries
from stack import wait_until
from support import Account

from ingest import device_tokens as module
from ingest.device_tokens import DeviceTokens
from thingscale.accounts.actions import revoke_rotated_tokens, rotate_token
from thingscale.accounts.models import Token, User
from thingscale.lib.tokens import digest

DEVICE = Token.Kind.DEVICE
UNKNOWN = "0" * 32


@pytest.fixture
def tokens(transactional_db: None) -> DeviceTokens:
    return DeviceTokens()


def test_a_token_is_looked_up_once(
    tokens: DeviceTokens, account: Account, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2):
        found = [tokens.find(account.device_token) for _ in range(3)]
    assert found[0] is not None
    assert (found[0].user, found[0].user_id, found[0].valid) == (account.user.pk, account.user_id, True)
    assert found[0] is found[1] is found[2] is tokens.cached(account.device_token)


def test_a_wrong_token_is_remembered_too(
    tokens: DeviceTokens, account: Account, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    assert tokens.cached(UNKNOWN) is None  # only the database knows
    with django_assert_num_queries(1):
        assert [tokens.find(UNKNOWN) for _ in range(3)] == [None] * 3
    assert tokens.cached(UNKNOWN) is module.Denied.TOKEN


def test_a_wrong_token_is_asked_about_again_after_a_while(
    tokens: DeviceTokens, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEGATIVE_SECONDS", -1)
    tokens.find(UNKNOWN)
    assert tokens.cached(UNKNOWN) is None


@pytest.mark.parametrize(
    "token", ["", "x", UNKNOWN[1:], UNKNOWN + "0", "a" * 32, "A" * 60_000, "\0", "é" * 32]
)
def test_what_is_no_token_is_neither_asked_about_nor_remembered(
    tokens: DeviceTokens, token: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert tokens.find(token) is None
    assert tokens.cached(token) is module.Denied.TOKEN
    assert not tokens._refused


def test_the_other_token_is_refused(tokens: DeviceTokens, account: Account) -> None:
    assert tokens.find(account.api_token) is None


def test_an_inactive_account_is_refused(tokens: DeviceTokens, account: Account) -> None:
    User.objects.update(is_active=False)
    assert tokens.find(account.device_token) is None


def test_both_tokens_are_valid_while_a_rotation_overlaps(tokens: DeviceTokens, account: Account) -> None:
    before = tokens.find(account.device_token)
    assert before
    assert before.ends_at is None
    new = rotate_token(account.user, DEVICE, timedelta(hours=1)).plain
    tokens.on_change(("tokens", account.user.pk, ""))
    old, current = tokens.find(account.device_token), tokens.find(new)
    assert old
    assert current
    assert old.ends_at == pytest.approx((timezone.now() + timedelta(hours=1)).timestamp(), abs=60)
    assert current.ends_at is None
    for owner in (old, current):
        assert owner.covers(new)
        assert owner.covers(account.device_token)
        assert not owner.covers(account.api_token)
        assert set(owner.siblings) == {digest(new), digest(account.device_token)}
    assert not before.covers(new)


def test_a_token_ends_with_its_overlap_without_being_told(tokens: DeviceTokens, account: Account) -> None:
    rotate_token(account.user, DEVICE, timedelta(hours=1))
    Token.objects.filter(kind=DEVICE).exclude(expires_at=None).update(
        expires_at=timezone.now() + timedelta(milliseconds=200)
    )
    owner = tokens.find(account.device_token)
    assert owner is not None
    assert tokens.cached(account.device_token) is owner
    wait_until(lambda: not owner.valid, what="the end of the overlap")
    assert tokens.cached(account.device_token) is module.Denied.TOKEN
    assert tokens.find(account.device_token) is None
    assert not owner.covers(account.device_token)


def test_revoking_ends_the_overlap_at_once(tokens: DeviceTokens, account: Account) -> None:
    rotate_token(account.user, DEVICE, timedelta(hours=1))
    assert tokens.find(account.device_token)
    assert revoke_rotated_tokens(account.user, DEVICE) == 1
    tokens.on_change(("tokens", account.user.pk, ""))
    assert tokens.find(account.device_token) is None


@pytest.mark.parametrize(
    ("change", "forgotten"),
    [(("tokens", 1, ""), True), (None, True), (("device", 1, "d1"), False), (("devices", 1, ""), False)],
)
def test_only_changes_of_tokens_count(
    tokens: DeviceTokens, account: Account, change: tuple[str, int, str] | None, forgotten: bool
) -> None:
    tokens.find(account.device_token)
    tokens.find(UNKNOWN)
    tokens.on_change(change and (change[0], account.user.pk, change[2]))
    assert (tokens.cached(account.device_token) is None) == forgotten
    assert (tokens.cached(UNKNOWN) is None) == forgotten


def test_what_was_read_before_a_change_is_not_kept(
    tokens: DeviceTokens, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Callable[[str], module.TokenOwner | int | None] = module._load

    def load_slowly(token: str) -> module.TokenOwner | int | None:
        found = load(token)
        tokens.on_change(("tokens", account.user.pk, ""))
        return found

    monkeypatch.setattr(module, "_load", load_slowly)
    assert tokens.find(account.device_token)
    assert tokens.cached(account.device_token) is None


def test_it_stays_bounded(tokens: DeviceTokens, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 5)
    for number in range(20):
        tokens.find(f"{number:032X}")
        assert len(tokens._refused) <= 5
    assert tokens.find(account.device_token)


def test_while_the_database_is_away_it_knows_what_it_knew(tokens: DeviceTokens, account: Account) -> None:
    tokens.find(account.device_token)
    own = connection.connection.info.backend_pid
    with database_away():
        terminate_from_elsewhere(own)
        assert tokens.find(account.device_token)
        with pytest.raises(Error):
            tokens.find(UNKNOWN)
    assert tokens.cached(UNKNOWN) is None
    assert tokens.find(UNKNOWN) is None


def terminate_from_elsewhere(process: int) -> None:
    with elsewhere() as other:
        other.execute("SELECT pg_terminate_backend(%s)", [process])


def test_b4_neither_wrong_tokens_nor_another_accounts_changes_push_out_an_owner(
    tokens: DeviceTokens, account: Account, outsider: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 5)
    assert tokens.find(account.device_token)
    assert tokens.find(outsider.device_token)
    for number in range(20):
        assert tokens.find(f"{number:032X}") is None
    assert len(tokens._refused) <= 5
    tokens.on_change(("tokens", outsider.user.pk, ""))
    assert isinstance(tokens.cached(account.device_token), module.TokenOwner)
    assert tokens.cached(outsider.device_token) is None


def test_b4_whose_token_was_refused_is_known_without_another_query(
    tokens: DeviceTokens,
    account: Account,
    outsider: Account,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """So that nobody's tokens need no limit that they would share with the accounts'."""
    with django_assert_num_queries(2):
        assert tokens.find(account.api_token) is tokens.find(UNKNOWN) is None
        owners = [tokens.whose(token) for token in (account.api_token, UNKNOWN, outsider.api_token, "x")]
    assert owners == [account.user.pk, None, None, None]


def test_b4_whose_token_has_ended_is_known_too(
    tokens: DeviceTokens, outsider: Account, account: Account
) -> None:
    owner = tokens.find(account.device_token)
    assert owner
    tokens._found[account.device_token] = owner._replace(ends_at=1.0)
    assert tokens.cached(account.device_token) is module.Denied.TOKEN
    assert tokens.whose(account.device_token) == account.user.pk
    Token.objects.filter(user=outsider.user).update(expires_at=timezone.now())
    assert tokens.find(outsider.device_token) is None
    assert tokens.whose(outsider.device_token) == outsider.user.pk
