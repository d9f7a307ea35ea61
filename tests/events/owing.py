"""Deliveries as the worker that follows observations writes them."""

import uuid
from typing import Any

from thingscale.accounts import encryption
from thingscale.accounts.models import User
from thingscale.events.models import ContactPoint, Delivery, Event


def event_of(user: User, url: str = "", **fields: Any) -> Event:
    number = Event.objects.count() + 1
    notify = Event.Notify.HTTP if url else Event.Notify.EMAIL
    return Event.objects.create(
        user=user, number=number, notify_type=notify, post_url=url, description="Too warm", **fields
    )


def contact_point_of(user: User, url: str, name: str = "Phone") -> ContactPoint:
    ciphertext = encryption.encrypt(url, encryption.Purpose.NOTIFICATION)
    return ContactPoint.objects.create(user=user, name=name, ciphertext=ciphertext)


def owe(event: Event, count: int = 1, **fields: Any) -> list[Delivery]:
    """By the event's own way, or what `fields` say."""
    made = []
    for number in range(count):
        key = uuid.uuid4()
        body = {
            "event_id": event.number,
            "description": event.description,
            "mapped_ch": 7,
            "channel_name": "Cellar",
            "source": "temp",
            "status": f"temp was consistent with the threshold. Current:{31 + number} > Threshold:30",
            "current": 31 + number,
            "threshold": "30",
            "tag": None,
            "device_id": "d1",
            "at": "2026-11-29T03:10:22+0100",
            "severity": "warning",
            "delivery_id": str(key),
        }
        mail = event.notify_type == Event.Notify.EMAIL
        columns = {
            "transport": Delivery.Transport.EMAIL if mail else Delivery.Transport.HTTP,
            "receiver": event.user.email1 if mail else event.post_url.split("/")[2],
            "about": Delivery.About.MATCH,
        }
        made.append(Delivery(id=key, user=event.user, event=event, body=body, **columns | fields))
    return Delivery.objects.bulk_create(made)
