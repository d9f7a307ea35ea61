"""Accounts of a kind: what one has from the start beyond tokens and limits."""

from typing import Any

from django.db import transaction

from thingscale.accounts import actions
from thingscale.accounts.limits import Kind
from thingscale.accounts.models import Account, User
from thingscale.devices.actions import create_rule
from thingscale.devices.models import ActivationRule

ANY = "*"


@transaction.atomic
def open_account(
    email: str, password: str, locale: str = "UTC", staff: bool = False, kind: str = Kind.THINGSCALE
) -> User:
    """Raises ValidationError as create_account does; ContractError: TRY_AGAIN, for one of Servwatch while
    processes of the release before run."""
    user = actions.create_account(email, password, locale, staff, kind)
    _provide(user, kind)
    return user


@transaction.atomic
def change_account(user: User, changes: dict[str, Any]) -> None:
    """The operator's changes. Raises ContractError: TRY_AGAIN."""
    actions.change_account(user, changes)
    if "kind" in changes:
        _provide(user, changes["kind"])


def _provide(account: Account, kind: str) -> None:
    """A host of Servwatch is enabled with its first message, and has a channel of its own."""
    if kind == Kind.SERVWATCH and not ActivationRule.objects.for_account(account).exists():
        create_rule(account, ANY, None)
