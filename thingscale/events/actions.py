"""Writes of events."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from thingscale.accounts import encryption
from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account, Actor
from thingscale.events.models import (
    Condition,
    ContactPoint,
    DismissedSuggestion,
    Event,
    Incident,
    LastNumber,
    MaintenanceWindow,
)
from thingscale.events.mqtt_state import withdraw
from thingscale.events.reset import WATCHED_FIELDS, close_incidents, look_again, reset
from thingscale.events.validation import check_event, check_window
from thingscale.lib.errors import ContractError
from thingscale.processes.change_notifications import EVENTS, announce
from thingscale.streams.models import Channel

MAX_WINDOWS = 100  # of maintenance, that are not over, in an account
# Can be changed whatever the rest of the event is, so that one from before a rule can be switched off.
_FREE = frozenset({"description", "enabled", "muted_until", "severity"})


@transaction.atomic
def create_event(
    account: Account, fields: dict[str, Any], contact_points: Iterable[ContactPoint] = ()
) -> Event:
    """Raises ContractError: BAD_PARAMETER for one event too many, and for fields that don't fit."""
    event = Event(user_id=account.pk, **fields)
    check_event(event)
    LastNumber.objects.get_or_create(user_id=account.pk)
    last = LastNumber.objects.select_for_update().get(user_id=account.pk)
    most = locked(account).max_events  # each datapoint is compared with the events of its channel
    if Event.objects.for_account(account).count() >= most:
        raise ContractError("BAD_PARAMETER", f"event: {no_more_than(most, 'event')}")
    last.number += 1
    last.save()
    event.number = last.number
    if _lacks_secret(event):
        event.secret_ciphertext = new_secret()
    event.save()
    event.contact_points.set(contact_points)
    announce(EVENTS, account.pk)
    return event


@transaction.atomic
def update_event(
    event: Event, changes: dict[str, Any], contact_points: Iterable[ContactPoint] | None = None
) -> None:
    """Raises ContractError: BAD_PARAMETER for fields that don't fit. Without `contact_points`, they stay."""
    changed = {name for name, value in changes.items() if getattr(event, name) != value}
    for name in changed:
        setattr(event, name, changes[name])
    if changed - _FREE:
        check_event(event)
    if _lacks_secret(event):
        event.secret_ciphertext = new_secret()
        changed.add("secret_ciphertext")
    event.save(update_fields=changed)
    if contact_points is not None:
        event.contact_points.set(contact_points)
    if changed & WATCHED_FIELDS:
        reset([event.pk])
    else:
        look_again(Condition.objects.filter(event=event))
    announce(EVENTS, event.user_id)


@transaction.atomic
def delete_event(event: Event) -> None:
    user, number = event.user_id, event.number
    close_incidents(Incident.objects.filter(event=event))
    event.delete()
    with connection.cursor() as cursor:
        withdraw(cursor, user, number)
    announce(EVENTS, user)


def acknowledge(incident: Incident, actor: Actor) -> None:
    """Only the first who does it is named."""
    Incident.objects.filter(pk=incident.pk, acknowledged_at=None).update(
        acknowledged_at=timezone.now(), acknowledged_by=actor.email
    )


def mute(condition: Condition, until: datetime | None) -> None:
    """None ends a mute."""
    found = Condition.objects.filter(pk=condition.pk)
    found.update(muted_until=until)
    look_again(found)


@transaction.atomic
def create_maintenance_window(
    account: Account, devices: str, starts_at: datetime, ends_at: datetime, note: str = ""
) -> MaintenanceWindow:
    """Raises ContractError: BAD_PARAMETER for one too many, and for one that makes no sense."""
    check_window(devices, starts_at, ends_at)
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
        look_again(Condition.objects.filter(event__user=window.user_id))


def dismiss_suggestions(account: Account, channel: Channel, sources: Iterable[str]) -> None:
    DismissedSuggestion.objects.bulk_create(
        [
            DismissedSuggestion(user_id=account.pk, channel=channel.pk, source=source)
            for source in dict.fromkeys(sources)
        ],
        ignore_conflicts=True,
    )


def _lacks_secret(event: Event) -> bool:
    return event.notify_type == Event.Notify.HTTP and event.secret_ciphertext is None


def new_secret() -> bytes:
    """Encrypted."""
    return encryption.encrypt(secrets.token_urlsafe(32), encryption.Purpose.NOTIFICATION)
