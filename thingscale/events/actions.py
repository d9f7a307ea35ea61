"""Writes of events."""

from typing import Any

from django.db import transaction

from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account
from thingscale.events.models import Event, LastNumber
from thingscale.lib.errors import ContractError


@transaction.atomic
def create_event(account: Account, fields: dict[str, Any]) -> Event:
    """Raises ContractError: BAD_PARAMETER for one event too many."""
    LastNumber.objects.get_or_create(user_id=account.pk)
    last = LastNumber.objects.select_for_update().get(user_id=account.pk)
    most = locked(account).max_events  # each datapoint is compared with the events of its channel
    if Event.objects.for_account(account).count() >= most:
        raise ContractError("BAD_PARAMETER", f"event: {no_more_than(most, 'event')}")
    last.number += 1
    last.save()
    return Event.objects.create(user_id=account.pk, number=last.number, **fields)


@transaction.atomic
def update_event(event: Event, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(event, name, value)
    event.save(update_fields=list(changes))


def delete_event(event: Event) -> None:
    event.delete()
