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

from ingest import grants as module
from ingest.grants import Grants
from thingscale.accounts.actions import revoke_rotated_tokens, rotate_token
from thingscale.accounts.models import Token, User
from thingscale.lib import tokens

DEVICE = Token.Kind.DEVICE
UNKNOWN = "0" * 32


@pytest.fixture
def grants(transactional_db: None) -> Grants:
    return Grants()


def test_a_token_is_looked_up_once(
    grants: Grants, account: Account, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2):
        found = [grants.find(account.device_token) for _ in range(3)]
    assert found[0] is not None
    assert (found[0].user, found[0].user_id, found[0].valid) == (account.user.pk, account.user_id, True)
    assert found[0] is found[1] is found[2] is grants.known(account.device_token)


def test_a_wrong_token_is_remembered_too(
    grants: Grants, account: Account, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    assert grants.known(UNKNOWN) is True  # only the database knows
    with django_assert_num_queries(1):
        assert [grants.find(UNKNOWN) for _ in range(3)] == [None] * 3
    assert grants.known(UNKNOWN) is False


def test_a_wrong_token_is_asked_about_again_after_a_while(
    grants: Grants, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEGATIVE_SECONDS", -1)
    grants.find(UNKNOWN)
    assert grants.known(UNKNOWN) is True


@pytest.mark.parametrize(
    "token", ["", "x", UNKNOWN[1:], UNKNOWN + "0", "a" * 32, "A" * 60_000, "\0", "é" * 32]
)
def test_what_is_no_token_is_neither_asked_about_nor_remembered(
    grants: Grants, token: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert grants.find(token) is None
    assert grants.known(token) is False
    assert not grants._refused


def test_the_other_token_is_refused(grants: Grants, account: Account) -> None:
    assert grants.find(account.api_token) is None


def test_an_inactive_account_is_refused(grants: Grants, account: Account) -> None:
    User.objects.update(is_active=False)
    assert grants.find(account.device_token) is None


def test_both_tokens_are_valid_while_a_rotation_overlaps(grants: Grants, account: Account) -> None:
    before = grants.find(account.device_token)
    assert before
    assert before.ends_at is None
    new = rotate_token(account.user, DEVICE, timedelta(hours=1)).plain
    grants.on_change(("tokens", account.user.pk, ""))
    old, current = grants.find(account.device_token), grants.find(new)
    assert old
    assert current
    assert old.ends_at == pytest.approx((timezone.now() + timedelta(hours=1)).timestamp(), abs=60)
    assert current.ends_at is None
    for grant in (old, current):
        assert grant.covers(new)
        assert grant.covers(account.device_token)
        assert not grant.covers(account.api_token)
        assert set(grant.siblings) == {tokens.digest(new), tokens.digest(account.device_token)}
    assert not before.covers(new)


def test_a_token_ends_with_its_overlap_without_being_told(grants: Grants, account: Account) -> None:
    rotate_token(account.user, DEVICE, timedelta(hours=1))
    Token.objects.filter(kind=DEVICE).exclude(expires_at=None).update(
        expires_at=timezone.now() + timedelta(milliseconds=200)
    )
    grant = grants.find(account.device_token)
    assert grant is not None
    assert grants.known(account.device_token) is grant
    wait_until(lambda: not grant.valid, what="the end of the overlap")
    assert grants.known(account.device_token) is False
    assert grants.find(account.device_token) is None
    assert not grant.covers(account.device_token)


def test_revoking_ends_the_overlap_at_once(grants: Grants, account: Account) -> None:
    rotate_token(account.user, DEVICE, timedelta(hours=1))
    assert grants.find(account.device_token)
    assert revoke_rotated_tokens(account.user, DEVICE) == 1
    grants.on_change(("tokens", account.user.pk, ""))
    assert grants.find(account.device_token) is None


@pytest.mark.parametrize(
    ("change", "forgotten"),
    [(("tokens", 1, ""), True), (None, True), (("device", 1, "d1"), False), (("devices", 1, ""), False)],
)
def test_only_changes_of_tokens_count(
    grants: Grants, account: Account, change: tuple[str, int, str] | None, forgotten: bool
) -> None:
    grants.find(account.device_token)
    grants.find(UNKNOWN)
    grants.on_change(change and (change[0], account.user.pk, change[2]))
    assert (grants.known(account.device_token) is True) == forgotten
    assert (grants.known(UNKNOWN) is True) == forgotten


def test_what_was_read_before_a_change_is_not_kept(
    grants: Grants, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Callable[[str], module.Grant | int | None] = module._load

    def load_slowly(token: str) -> module.Grant | int | None:
        found = load(token)
        grants.on_change(("tokens", account.user.pk, ""))
        return found

    monkeypatch.setattr(module, "_load", load_slowly)
    assert grants.find(account.device_token)
    assert grants.known(account.device_token) is True


def test_it_stays_bounded(grants: Grants, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 5)
    for number in range(20):
        grants.find(f"{number:032X}")
        assert len(grants._refused) <= 5
    assert grants.find(account.device_token)


def test_while_the_database_is_away_it_knows_what_it_knew(grants: Grants, account: Account) -> None:
    grants.find(account.device_token)
    own = connection.connection.info.backend_pid
    with database_away():
        terminate_from_elsewhere(own)
        assert grants.find(account.device_token)
        with pytest.raises(Error):
            grants.find(UNKNOWN)
    assert grants.known(UNKNOWN) is True
    assert grants.find(UNKNOWN) is None


def terminate_from_elsewhere(process: int) -> None:
    with elsewhere() as other:
        other.execute("SELECT pg_terminate_backend(%s)", [process])


def test_b4_neither_wrong_tokens_nor_another_accounts_changes_push_out_a_grant(
    grants: Grants, account: Account, outsider: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 5)
    assert grants.find(account.device_token)
    assert grants.find(outsider.device_token)
    for number in range(20):
        assert grants.find(f"{number:032X}") is None
    assert len(grants._refused) <= 5
    grants.on_change(("tokens", outsider.user.pk, ""))
    assert isinstance(grants.known(account.device_token), module.Grant)
    assert grants.known(outsider.device_token) is True


def test_b4_whose_token_was_refused_is_known_without_another_query(
    grants: Grants, account: Account, outsider: Account, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """So that nobody's tokens need no limit that they would share with the accounts'."""
    with django_assert_num_queries(2):
        assert grants.find(account.api_token) is grants.find(UNKNOWN) is None
        owners = [grants.whose(token) for token in (account.api_token, UNKNOWN, outsider.api_token, "x")]
    assert owners == [account.user.pk, None, None, None]


def test_b4_whose_token_has_ended_is_known_too(grants: Grants, outsider: Account, account: Account) -> None:
    grant = grants.find(account.device_token)
    assert grant
    grants._found[account.device_token] = grant._replace(ends_at=1.0)
    assert grants.known(account.device_token) is False
    assert grants.whose(account.device_token) == account.user.pk
    Token.objects.filter(user=outsider.user).update(expires_at=timezone.now())
    assert grants.find(outsider.device_token) is None
    assert grants.whose(outsider.device_token) == outsider.user.pk
