"""Writes of events."""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from thingscale.accounts import encryption
from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account, Actor, User
from thingscale.events import messages, outbox
from thingscale.events.models import (
    Condition,
    ContactPoint,
    Delivery,
    DismissedSuggestion,
    Event,
    Incident,
    LastNumber,
    MaintenanceWindow,
)
from thingscale.events.mqtt_state import withdraw
from thingscale.events.reset import WATCHED_FIELDS, close_incidents, look_again, reset
from thingscale.events.states import Datapoint, Message, Notice, State
from thingscale.events.transports.services import contact_url_problem
from thingscale.events.validation import check_event, check_window
from thingscale.lib.errors import ContractError
from thingscale.processes.change_notifications import EVENTS, announce
from thingscale.processes.wake_up import WAKE_UP
from thingscale.streams.models import Channel

MAX_CONTACT_POINTS = 50  # of an account
MAX_NAME = 100  # characters
TESTS_A_MINUTE = 20  # messages, of an account
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
def create_events(account: Account, wanted: Sequence[dict[str, Any]]) -> list[Event]:
    """As create_event() without contact points, for as many of them as the account may have. Raises
    ContractError: BAD_PARAMETER for fields that don't fit."""
    LastNumber.objects.get_or_create(user_id=account.pk)
    last = LastNumber.objects.select_for_update().get(user_id=account.pk)
    room = locked(account).max_events - Event.objects.for_account(account).count()
    events = [Event(user_id=account.pk, **fields) for fields in wanted[: max(0, room)]]
    for event in events:
        check_event(event)
        last.number += 1
        event.number = last.number
        if _lacks_secret(event):
            event.secret_ciphertext = new_secret()
    last.save()
    Event.objects.bulk_create(events)
    announce(EVENTS, account.pk)
    return events


@transaction.atomic
def update_event(
    event: Event, changes: dict[str, Any], contact_points: Iterable[ContactPoint] | None = None
) -> None:
    """Raises ContractError: BAD_PARAMETER for fields that don't fit. Without `contact_points`, they stay."""
    changed = {name for name, value in changes.items() if getattr(event, name) != value}
    for name in changed:
        setattr(event, name, changes[name])
    if changed - _FREE:
        check_event(event, changed)
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
    list(Event.objects.select_for_update().filter(pk=event.pk))  # before its conditions, as the worker does
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


# Contact points


@transaction.atomic
def create_contact_point(account: Account, name: str, url: str) -> ContactPoint:
    """Raises ContractError: BAD_PARAMETER for one too many, a name that is taken, and an address that can't
    be used."""
    locked(account)
    if ContactPoint.objects.for_account(account).count() >= MAX_CONTACT_POINTS:
        raise ContractError("BAD_PARAMETER", f"contact: {no_more_than(MAX_CONTACT_POINTS, 'contact point')}")
    point = ContactPoint(user_id=account.pk)
    _change_contact_point(point, {"name": name, "url": url})
    point.save()
    return point


@transaction.atomic
def update_contact_point(point: ContactPoint, changes: dict[str, Any]) -> None:
    """Of `name`, `url` and `enabled`. Raises ContractError as create_contact_point()."""
    User.objects.select_for_update(no_key=True).get(pk=point.user_id)  # of two names one may become the other
    _change_contact_point(point, changes)
    point.save()


def _change_contact_point(point: ContactPoint, changes: dict[str, Any]) -> None:
    if "name" in changes:
        point.name = changes["name"].strip()
        if not 0 < len(point.name) <= MAX_NAME or not point.name.isprintable():
            raise ContractError(
                "BAD_PARAMETER", _("name: Give one of 1 to %(max_name)s characters.") % {"max_name": MAX_NAME}
            )
        others = ContactPoint.objects.filter(user=point.user_id, name=point.name).exclude(pk=point.pk)
        if others.exists():
            raise ContractError(
                "BAD_PARAMETER", _("name: You have a contact point %(name)s already.") % {"name": point.name}
            )
    if "url" in changes:
        url = changes["url"].strip()
        if problem := contact_url_problem(url):
            raise ContractError("BAD_PARAMETER", f"url: {problem}")
        point.ciphertext = encryption.encrypt(url, encryption.Purpose.NOTIFICATION)
    point.enabled = changes.get("enabled", point.enabled)


def delete_contact_point(point: ContactPoint) -> None:
    """What waits for it fails, and stays in the log."""
    point.delete()


# Tests, and the secrets of webhooks


@transaction.atomic
def send_test(of: Event | ContactPoint, actor: Actor) -> list[Delivery]:
    """Owes a message to the contact point, or to each receiver of the event, at once and whatever is muted.
    Raises ContractError: BAD_PARAMETER if there is no receiver, TOO_MANY_REQUESTS."""
    account = User.objects.select_for_update(no_key=True).get(pk=of.user_id)
    event = of if isinstance(of, Event) else Event(user=account, description=of.name, severity="info")
    found: list[tuple[Delivery.Transport, str, ContactPoint | None]] = []
    if event.pk and event.notify_type == Event.Notify.EMAIL:
        addresses = outbox.mail_addresses(account.email1, account.email2)
        found = [(Delivery.Transport.EMAIL, address, None) for address in addresses]
    if event.pk and event.notify_type == Event.Notify.HTTP and event.post_url:
        found = [(Delivery.Transport.HTTP, outbox.webhook_host(event.post_url), None)]
    points = [of] if isinstance(of, ContactPoint) else event.contact_points.filter(enabled=True)
    found += [(Delivery.Transport.CONTACT, f"contact:{point.pk}", point) for point in points]
    if not found:
        raise ContractError("BAD_PARAMETER", _("event: It has no receiver: choose one first."))
    lately = timezone.now() - timedelta(minutes=1)
    tests = Delivery.objects.for_account(account).filter(about=Delivery.About.TEST, created_at__gt=lately)
    if tests.count() + len(found) > TESTS_A_MINUTE:
        raise ContractError("TOO_MANY_REQUESTS", _("Many tests are on their way: wait a minute."))
    made = [
        Delivery(
            user=account,
            event=event if event.pk else None,
            contact_point=point,
            transport=transport,
            about=Delivery.About.TEST,
            receiver=receiver[: outbox.MAX_RECEIVER],
        )
        for transport, receiver, point in found
    ]
    for delivery in made:
        delivery.body = _test_body(event, actor) | {"delivery_id": str(delivery.pk)}
    transaction.on_commit(WAKE_UP.deliveries, robust=True)
    return Delivery.objects.bulk_create(made)


def _test_body(event: Event, actor: Actor) -> dict[str, Any]:
    """As of a datapoint that has just matched."""
    channel = event.mapped_channel
    subject = messages.Subject(
        channel.number if channel else None, channel.name if channel else "", "", None, actor.zone
    )
    datapoint = Datapoint(timezone.now(), event.threshold)
    said = messages.body(event, subject, Message(Notice.MATCH, datapoint), State.FIRING)
    return said | {"event_id": event.number, "test": True, "incident": None}


@transaction.atomic
def ensure_secret(event: Event) -> str:
    """The secret that signs the event's webhooks. One from before there were secrets gets its own."""
    kept = Event.objects.select_for_update(no_key=True).get(pk=event.pk).secret_ciphertext
    if kept is None:
        return rotate_secret(event)
    return encryption.decrypt(bytes(kept), encryption.Purpose.NOTIFICATION)


def rotate_secret(event: Event) -> str:
    """From now on webhooks are signed with a new one, those that wait too."""
    event.secret_ciphertext = new_secret()
    event.save(update_fields=["secret_ciphertext"])
    return encryption.decrypt(event.secret_ciphertext, encryption.Purpose.NOTIFICATION)


def _lacks_secret(event: Event) -> bool:
    return event.notify_type == Event.Notify.HTTP and event.secret_ciphertext is None


def new_secret() -> bytes:
    """Encrypted."""
    return encryption.encrypt(secrets.token_urlsafe(32), encryption.Purpose.NOTIFICATION)
