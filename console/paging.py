"""Long lists in pages, by the sort key of the row at a page's end. So the last page is as quick as the first,
and a row that comes or goes shifts no other.

A page's cursor is a signed text, so nothing in it needs a check.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from django.core import signing
from django.db.models import F, Model, Q, QuerySet

M = TypeVar("M", bound=Model)
PAGE_SIZE = 50


class Page(NamedTuple, Generic[M]):
    rows: list[M]
    next: str | None  # cursors
    previous: str | None


class Order:
    """By a field or an annotation, falling if it begins with "-". Rows without a value come last. Rows with
    the same value are in the order of their primary keys."""

    def __init__(self, name: str, backward: bool = False) -> None:
        self.field = name.removeprefix("-")
        self.signer = signing.Signer(salt=f"thingscale.paging:{name}")  # a cursor is good for this order only
        self.backward = backward
        self._falling = name.startswith("-") != backward

    def apply(self, rows: QuerySet[M]) -> QuerySet[M]:
        field, nulls = F(self.field), {"nulls_first": True} if self.backward else {"nulls_last": True}
        primary = field.desc(**nulls) if self._falling else field.asc(**nulls)
        return rows.order_by(primary, "-pk" if self.backward else "pk")

    def beyond(self, value: Any, pk: int) -> Q:
        """The rows that come after this one."""
        later_tie = Q(**{f"pk__{'lt' if self.backward else 'gt'}": pk})
        without, tie = Q(**{f"{self.field}__isnull": True}), Q(**{self.field: value})
        if value is None:
            return (without & later_tie) | (~without if self.backward else Q(pk__in=()))
        ahead = Q(**{f"{self.field}__{'lt' if self._falling else 'gt'}": value}) | (tie & later_tie)
        return ahead if self.backward else ahead | without

    def cursor(self, row: Model, backward: bool) -> str:
        value = getattr(row, self.field)
        plain = value.isoformat() if isinstance(value, datetime) else value
        return self.signer.sign_object([backward, plain, row.pk])


def page(rows: QuerySet[M], order: str, size: int, cursor: str = "") -> Page[M]:
    """The page that the cursor leads to. It is the first page if there is no cursor, or one of another order,
    and if the cursor leads beyond the end, or to less than a page at the begin."""
    forward = Order(order)
    with suppress(signing.BadSignature):
        backward, value, pk = forward.signer.unsign_object(cursor)
        direction = Order(order, backward)
        found = list(direction.apply(rows.filter(direction.beyond(value, pk)))[: size + 1])
        more = len(found) > size
        if found and (more or not backward):
            shown = found[:size][:: -1 if backward else 1]
            following = forward.cursor(shown[-1], False) if more else None
            return Page(shown, following, forward.cursor(shown[0], True))
    found = list(forward.apply(rows)[: size + 1])
    following = forward.cursor(found[size - 1], False) if len(found) > size else None
    return Page(found[:size], following, None)
