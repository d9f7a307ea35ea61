"""Events, and what writers saw of them."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from support import Account

from thingscale.events.actions import create_event
from thingscale.events.models import Delivery, Event, Observation

MATCHED, CLEARED = Observation.What.MATCHED, Observation.What.CLEARED


def hot(account: Account, **fields: Any) -> Event:
    """An event of channel 0 that posts to a webhook."""
    known: dict[str, Any] = {
        **{"mapped_channel": account.channel(), "source": "temp", "operator": ">", "threshold": "30"},
        **{"notify_type": "http", "post_url": "https://example.com/hook"},
    }
    return create_event(account.user, known | fields)


def saw(
    event: Event,
    what: Observation.What = MATCHED,
    value: object = 31,
    device: int = 0,
    at: datetime | None = None,
) -> None:
    Observation.objects.create(
        account=event.user_id,
        event=event.pk,
        device=device,
        what=what,
        at=at or timezone.now(),
        value=f"{value}",
    )


def ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


def owed(**fields: Any) -> list[Delivery]:
    """Deliveries that are to be sent, in order."""
    return list(Delivery.objects.filter(**{"status": "waiting"} | fields).order_by("created_at", "pk"))
