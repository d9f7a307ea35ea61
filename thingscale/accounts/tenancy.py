"""Narrowing to the owner: a view gets objects only through `.for_account(account)`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, TypeVar

from django.db import models

if TYPE_CHECKING:
    from thingscale.accounts.models import Account

M = TypeVar("M", bound=models.Model)


class OwnedQuerySet(models.QuerySet[M]):
    def for_account(self, account: "Account") -> Self:
        return self.filter(user=account)


def in_pages(queryset: "models.QuerySet[M]", key: str, size: int) -> Iterator[list[M]]:
    """Reads a queryset that is ordered by `key`, which is unique. Nothing stays open between two pages:
    another thread may read the next one, with another connection."""
    page = list(queryset[:size])
    while page:
        yield page
        after = {f"{key}__gt": getattr(page[-1], key)}
        page = list(queryset.filter(**after)[:size]) if len(page) == size else []
