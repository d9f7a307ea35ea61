"""Writes of accounts and tokens."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.utils import timezone

from thingscale import invalidation
from thingscale.accounts.models import Token, User
from thingscale.lib import tokens


@transaction.atomic
def create_account(email: str, password: str, locale: str = "UTC", staff: bool = False) -> User:
    """A user with both tokens. Raises ValidationError for a taken or malformed e-mail or a weak password."""
    user = User(email=User.objects.normalize_email(email), email1=email, locale=locale)
    user.is_staff = user.is_superuser = staff
    user.rest_rate = settings.REST_RATE
    validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    for kind in Token.Kind:
        _add_token(user, kind)
    return user


def update_account(user: User, changes: dict[str, Any]) -> None:
    User.objects.filter(pk=user.pk).update(**changes)


@transaction.atomic
def rotate_token(user: User, kind: str, overlap: timedelta | None = None) -> Token:
    """A new token; the old one stays valid for the overlap, so that devices can be moved one by one."""
    if overlap is None:
        overlap = timedelta(hours=settings.TOKEN_OVERLAP_HOURS)
    User.objects.select_for_update().get(pk=user.pk)
    Token.objects.filter(user=user, kind=kind, expires_at=None).update(expires_at=timezone.now() + overlap)
    token = _add_token(user, kind)
    invalidation.announce("tokens", user.pk)
    return token


@transaction.atomic
def revoke_rotated_tokens(user: User, kind: str) -> int:
    """Ends the overlap now; returns how many tokens ended."""
    count: int = (
        Token.objects.live()
        .filter(user=user, kind=kind)
        .exclude(expires_at=None)
        .update(expires_at=timezone.now())
    )
    invalidation.announce("tokens", user.pk)
    return count


def _add_token(user: User, kind: str) -> Token:
    plain = tokens.new()
    token: Token = Token.objects.create(
        user=user,
        kind=kind,
        digest=tokens.digest(plain),
        ciphertext=tokens.encrypt(plain, settings.SECRET_KEY),
    )
    return token
