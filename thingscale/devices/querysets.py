"""Queries of devices, and of an account's messages per minute."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self

from django.db.models import F, Q

from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.devices.fields import TEXTS

if TYPE_CHECKING:
    from thingscale.devices.models import Device, MinuteCount  # noqa: F401 (named in strings)

ENABLED = Q(enabled=True)
NEW = Q(activate_at=None)  # never enabled
UNMAPPED = Q(mapped_channel=None)
SILENT = ENABLED & Q(activity__silent_since__isnull=False)  # an event for silence fires for it
UNHEARD = ENABLED & Q(activity=None)  # never


def heard_since(moment: datetime) -> Q:
    return Q(activity__last_seen__gte=moment)


class DeviceQuerySet(OwnedQuerySet["Device"]):
    def with_last_seen(self) -> Self:
        """Adds `last_seen`, None if never, and `silent_since`."""
        return self.annotate(last_seen=F("activity__last_seen"), silent_since=F("activity__silent_since"))

    def enabled(self) -> Self:
        return self.filter(ENABLED)

    def new(self) -> Self:
        return self.filter(NEW)

    def waiting(self) -> Self:
        """New devices that wait for a person or an activation rule."""
        return self.new().filter(enabled=False)

    def matching(self, pattern: str) -> Self:
        """By id; `*` stands for anything, `?` for one character, as in an activation rule."""
        parts = {"*": ".*", "?": "."}
        return self.filter(device_id__regex=f"^{''.join(parts.get(c) or re.escape(c) for c in pattern)}$")

    def search(self, text: str) -> Self:
        if "\0" in text:  # PostgreSQL takes no such text
            return self.none()
        found = Q(device_id__icontains=text)
        for field in TEXTS:
            if field.listed:
                found |= Q(**{f"{field.name}__icontains": text})
        return self.filter(found)


class Counts(NamedTuple):
    """How many messages were stored, held and rejected."""

    stored: int = 0
    held: int = 0
    rejected: int = 0


class MinuteCountQuerySet(OwnedQuerySet["MinuteCount"]):
    def since(self, moment: datetime) -> dict[datetime, Counts]:
        """By minute, in order; minutes without any message are left out."""
        rows = self.filter(minute__gte=moment).order_by("minute")
        return {
            minute: Counts(*counts)
            for minute, *counts in rows.values_list("minute", "stored", "held", "rejected")
        }
