"""Writes of intakes. What came in is written by messages.py."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account
from thingscale.intakes import keys
from thingscale.intakes.models import Intake, LastIntakeNumber
from thingscale.intakes.validation import check_intake
from thingscale.lib import tokens
from thingscale.lib.errors import ContractError
from thingscale.processes.change_notifications import INTAKES, announce


@transaction.atomic
def create_intake(account: Account, fields: dict[str, Any]) -> tuple[Intake, str]:
    """Returns the key, too: it can't be had later. Raises ContractError: BAD_PARAMETER for one intake too
    many, and for fields that don't fit."""
    intake = Intake(user_id=account.pk, **fields)
    check_intake(intake)
    locked(account)
    most = settings.MAX_INTAKES
    if Intake.objects.for_account(account).count() >= most:
        raise ContractError("BAD_PARAMETER", f"intake: {no_more_than(most, 'intake')}")
    last, _ = LastIntakeNumber.objects.get_or_create(user_id=account.pk)
    last.number += 1
    last.save()
    intake.number = last.number
    key = _give_key(intake)
    intake.save()
    announce(INTAKES, account.pk)
    return intake, key


@transaction.atomic
def update_intake(intake: Intake, changes: dict[str, Any]) -> None:
    """Raises ContractError: BAD_PARAMETER for fields that don't fit, NO_INTAKE if it is gone."""
    intake = _locked(intake, changes)
    check_intake(intake)
    intake.save(update_fields=[*changes, "changed_at"])
    announce(INTAKES, intake.user_id)


def enable_intake(intake: Intake, enabled: bool) -> None:
    """Whatever else is wrong with it."""
    with transaction.atomic():
        _locked(intake, {"enabled": enabled}).save(update_fields=["enabled", "changed_at"])
        announce(INTAKES, intake.user_id)


@transaction.atomic
def renew_key(intake: Intake) -> str:
    """The old key ends at once."""
    intake = _locked(intake, {})
    key = _give_key(intake)
    intake.save(update_fields=["key_hash", "key_hint", "changed_at"])
    announce(INTAKES, intake.user_id)
    return key


@transaction.atomic
def remove_key(intake: Intake) -> None:
    """From now on nothing comes in by HTTP."""
    intake = _locked(intake, {"key_hash": None, "key_hint": ""})
    intake.save(update_fields=["key_hash", "key_hint", "changed_at"])
    announce(INTAKES, intake.user_id)


@transaction.atomic
def delete_intake(intake: Intake) -> None:
    """With its last messages: one that is being noted waits, or is waited for. What it has stored stays."""
    user = intake.user_id
    Intake.objects.select_for_update().filter(pk=intake.pk).first()
    intake.delete()
    announce(INTAKES, user)


def _locked(intake: Intake, changes: dict[str, Any]) -> Intake:
    """As it is now, so that two changes at the same time fit together."""
    found = Intake.objects.select_for_update().filter(pk=intake.pk).first()
    if found is None:
        raise ContractError(
            "NO_INTAKE", _("Intake %(number)s has just been deleted.") % {"number": intake.number}
        )
    for name, value in changes.items():
        setattr(found, name, value)
    found.changed_at = timezone.now()
    return found


def _give_key(intake: Intake) -> str:
    key = keys.new()
    intake.key_hash, intake.key_hint = tokens.digest(key), key[-keys.HINT :]
    return key
