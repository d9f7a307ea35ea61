"""Finding, rotating and revoking tokens."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings

from thingscale.accounts.actions import create_account, revoke_rotated_tokens, rotate_token
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import Token, User

API, DEVICE = Token.Kind.API, Token.Kind.DEVICE


@pytest.fixture
def user(db: None, settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return create_account("a@example.com", "correct horse battery")


def plain(user: User, kind: str) -> str:
    return credentials(user)[f"{kind}_token"]


@pytest.mark.parametrize("kind", [API, DEVICE])
def test_a_token_is_found_by_its_text_and_kind(user: User, kind: str) -> None:
    token = plain(user, kind)
    other = DEVICE if kind == API else API
    found = Token.objects.find(kind, token)
    assert found
    assert found.user == user
    assert Token.objects.find(other, token) is None
    for wrong in (token.lower(), token[:-1], token + "0", f" {token}", "", "0" * 32):
        assert Token.objects.find(kind, wrong) is None


@pytest.mark.parametrize("hours", [-1, 1, None])
@pytest.mark.parametrize("active", [True, False])
def test_what_is_found_is_what_is_live(user: User, hours: int | None, active: bool) -> None:
    """`find` has SQL of its own."""
    text = plain(user, API)
    ends_at = None if hours is None else timezone.now() + timedelta(hours=hours)
    Token.objects.filter(user=user, kind=API).update(expires_at=ends_at)
    User.objects.update(is_active=active)
    found = Token.objects.find(API, text)
    assert found == Token.objects.live().filter(kind=API).first()
    assert (found is not None) == (active and hours != -1)


def test_a_token_of_an_inactive_user_is_not_found(user: User) -> None:
    User.objects.update(is_active=False)
    assert Token.objects.find(API, plain(user, API)) is None


def test_a_rotated_token_is_valid_for_the_overlap(user: User, settings: Settings) -> None:
    settings.TOKEN_OVERLAP_HOURS = 24
    old, untouched = plain(user, DEVICE), plain(user, API)
    new = rotate_token(user, DEVICE)
    assert plain(user, DEVICE) == new.plain != old
    assert plain(user, API) == untouched
    for token in (old, new.plain):
        assert Token.objects.find(DEVICE, token)
    ends = Token.objects.exclude(expires_at=None).get().expires_at
    assert timedelta(hours=23.9) < ends - timezone.now() <= timedelta(hours=24)
    Token.objects.exclude(expires_at=None).update(expires_at=timezone.now())
    assert Token.objects.find(DEVICE, old) is None
    assert Token.objects.find(DEVICE, new.plain)


def test_without_overlap_the_old_token_ends_at_once(user: User) -> None:
    old = plain(user, API)
    rotate_token(user, API, timedelta(0))
    assert Token.objects.find(API, old) is None


def test_two_rotations_leave_one_current_token(user: User) -> None:
    old = plain(user, DEVICE)
    first, second = rotate_token(user, DEVICE), rotate_token(user, DEVICE)
    assert Token.objects.current(user, DEVICE) == second
    assert all(Token.objects.find(DEVICE, token) for token in (old, first.plain, second.plain))
    with pytest.raises(IntegrityError), transaction.atomic():
        Token.objects.update(expires_at=None)


def test_revoking_ends_the_overlap_of_that_kind(user: User) -> None:
    old, old_api = plain(user, DEVICE), plain(user, API)
    new = rotate_token(user, DEVICE).plain
    rotate_token(user, API)
    assert revoke_rotated_tokens(user, DEVICE) == 1
    assert revoke_rotated_tokens(user, DEVICE) == 0
    assert Token.objects.find(DEVICE, old) is None
    assert Token.objects.find(DEVICE, new)
    assert Token.objects.find(API, old_api)


def test_rotation_is_a_matter_of_one_user(user: User) -> None:
    other = create_account("b@example.com", "correct horse battery")
    before = credentials(other)
    rotate_token(user, DEVICE, timedelta(0))
    revoke_rotated_tokens(user, DEVICE)
    assert credentials(other) == before
    assert Token.objects.find(DEVICE, before["device_token"])
