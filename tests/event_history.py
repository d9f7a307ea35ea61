"""What has become of an event, for tests of who may see it."""

from datetime import UTC, datetime, timedelta

from django.utils import timezone

from thingscale.accounts.models import User
from thingscale.devices.models import ActivationRule
from thingscale.events.actions import create_contact_point
from thingscale.events.models import ContactPoint, Delivery, Event, Incident, MaintenanceWindow


def event_history(user: User) -> None:
    """Of the user's event 1: an incident and a delivery; a contact, a maintenance window, and an activation
    rule. All but the delivery have the key 1."""
    rule = ActivationRule.objects.create(user=user, pattern="meter-*")
    ActivationRule.objects.filter(pk=rule.pk).update(id=1)
    contact = create_contact_point(user, "Phone", "ntfys://secret-topic")
    ContactPoint.objects.filter(pk=contact.pk).update(id=1)
    event = Event.objects.for_account(user).get(number=1)
    incident = Incident.objects.create(
        user=user,
        event=event,
        number=1,
        title="too hot",
        severity="warning",
        channel=event.mapped_channel_id,
        device_id="x",
        source="temp",
        threshold="30",
        value="31.5",
        started_at=datetime(2026, 1, 31, tzinfo=UTC),
    )
    Incident.objects.filter(pk=incident.pk).update(id=1)  # so that the next one has another key
    Delivery.objects.create(
        user=user,
        event=event,
        incident_id=1,
        transport=Delivery.Transport.EMAIL,
        about=Delivery.About.FIRING,
        receiver=user.email,
        body={},
    )
    starts, ends = timezone.now(), timezone.now() + timedelta(days=1)
    window = MaintenanceWindow.objects.create(user=user, devices="x", starts_at=starts, ends_at=ends)
    MaintenanceWindow.objects.filter(pk=window.pk).update(id=1)
