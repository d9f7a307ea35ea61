"""Reads of accounts and tokens."""

import functools
import re
from typing import TYPE_CHECKING, Any

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.sessions.base_session import BaseSessionManager
from django.db import connections, models
from django.utils import timezone

from thingscale.lib import clock, tokens

if TYPE_CHECKING:
    from thingscale.accounts.models import Account, Actor, Session, Token, User


@functools.cache
def _columns(model: type[models.Model]) -> "list[models.Field[Any, Any]]":
    """Without JSON fields: only pages show them, and decoding takes time."""
    return [field for field in model._meta.concrete_fields if not isinstance(field, models.JSONField)]


@functools.cache
def _find_sql(token: type[models.Model], user: type[models.Model]) -> str:
    """Is built once. Each REST call asks this, and Django would spend a third of a short call on building
    it."""
    columns = [
        f'{alias}."{field.column}"'
        for alias, model in (("t", token), ("u", user))
        for field in _columns(model)
    ]
    return f"""SELECT {", ".join(columns)} FROM accounts_token t JOIN accounts_user u ON u.id = t.user_id
        WHERE t.digest = %s AND u.is_active"""  # noqa: S608 (column names)


@functools.cache
def _names(model: type[models.Model]) -> list[str]:
    return [field.attname for field in _columns(model)]


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        """Finds an e-mail whatever its case."""
        return self.get(email__iexact=username or "")

    def by_user_id(self, user_id: str) -> "User":
        """Raises User.DoesNotExist, also for a malformed user id."""
        match = re.fullmatch(r"U(\d{6,18})", user_id)
        return self.get(pk=int(match[1]) if match else 0)


class TokenQuerySet(models.QuerySet[Any]):
    def live(self) -> "TokenQuerySet":
        now = clock.now()
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now), user__is_active=True)

    def find(self, kind: str, plain: str) -> "Token | None":
        """The live token with this text, with its user, or None."""
        token = self.find_any(plain)
        return token if token and token.kind == kind and not token.ended else None

    def find_any(self, plain: str) -> "Token | None":
        """The token with this text and its user, of any kind, also if it has ended. The user is active."""
        from thingscale.accounts.models import Token, User  # which import this module

        if not tokens.well_formed(plain):
            return None
        with connections[self.db].cursor() as cursor:
            cursor.execute(_find_sql(Token, User), [tokens.digest(plain)])
            row = cursor.fetchone()
        if row is None:
            return None
        end = len(_columns(Token))
        token = Token.from_db(self.db, _names(Token), row[:end])
        token.user = User.from_db(self.db, _names(User), row[end:])
        return token

    def rotated(self, account: "Account", kind: str) -> "TokenQuerySet":
        """Rotated tokens in their overlap, the one that ends last first."""
        return self.live().filter(user=account, kind=kind).exclude(expires_at=None).order_by("-expires_at")

    def current(self, account: "Account", kind: str) -> "Token":
        token: Token = self.get(user=account, kind=kind, expires_at=None)
        return token


class SessionManager(BaseSessionManager["Session"]):
    def for_actor(self, actor: "Actor") -> "models.QuerySet[Session]":
        """Sessions that have not ended, the newest first."""
        return self.filter(user=actor.pk, expire_date__gt=timezone.now()).order_by("-signed_in_at")
