"""Narrowing to the owner: a view gets objects only through `.for_user(user)`."""

from typing import TYPE_CHECKING, Self, TypeVar

from django.db import models

if TYPE_CHECKING:
    from thingscale.accounts.models import User

M = TypeVar("M", bound=models.Model)


class OwnedQuerySet(models.QuerySet[M]):
    def for_user(self, user: "User") -> Self:
        return self.filter(user=user)
