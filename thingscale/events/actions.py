"""Writes of events."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account, Actor
from thingscale.events.models import Condition, Event, Incident, LastNumber, MaintenanceWindow
from thingscale.lib.errors import ContractError

MAX_WINDOWS = 100  # of maintenance, that are not over, in an account


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


def acknowledge(incident: Incident, actor: Actor) -> None:
    """Only the first who does it is named."""
    Incident.objects.filter(pk=incident.pk, acknowledged_at=None).update(
        acknowledged_at=timezone.now(), acknowledged_by=actor.email
    )


def mute(condition: Condition, until: datetime | None) -> None:
    """None ends a mute."""
    Condition.objects.filter(pk=condition.pk).update(muted_until=until)


@transaction.atomic
def create_maintenance_window(
    account: Account, devices: str, starts_at: datetime, ends_at: datetime, note: str = ""
) -> MaintenanceWindow:
    """Raises ContractError: BAD_PARAMETER for one too many."""
    locked(account)
    windows = MaintenanceWindow.objects.for_account(account)
    if windows.filter(ends_at__gt=timezone.now()).count() >= MAX_WINDOWS:
        sentence = f"You have {MAX_WINDOWS} maintenance windows that are not over: end one first."
        raise ContractError("BAD_PARAMETER", f"window: {sentence}")
    return MaintenanceWindow.objects.create(
        user_id=account.pk, devices=devices, starts_at=starts_at, ends_at=ends_at, note=note
    )


def end_maintenance_window(window: MaintenanceWindow) -> None:
    """Now; a window that has not begun goes altogether."""
    now = timezone.now()
    if window.starts_at >= now:
        window.delete()
    else:
        MaintenanceWindow.objects.filter(pk=window.pk, ends_at__gt=now).update(ends_at=now)
