"""An account at a glance, for its home page: three queries, however many devices."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, QuerySet, Sum

from thingscale.accounts.models import Account
from thingscale.devices.models import SILENT_AFTER, Device, MinuteCount, RejectedMessage
from thingscale.devices.querysets import ENABLED, NEW, UNMAPPED, Counts, heard_since

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
SHOWN = 60  # minutes


class Minute(NamedTuple):
    minute: datetime
    stored: int
    held: int
    rejected: int


class Overview(NamedTuple):
    """Each enabled device is either alive (heard within SILENT_AFTER) or silent."""

    devices: int
    enabled: int
    alive: int
    silent: int
    new: int
    unmapped: int
    rejected_24h: int
    rejected_by_reason: dict[
        str, int
    ]  # of 24 hours, most frequent first; of the messages kept, so it may be fewer
    per_minute: list[Minute]  # the last hour; the newest, still going on, comes last


def overview(account: Account, now: datetime) -> Overview:
    counts = MinuteCount.objects.for_account(account).since(now - DAY)
    return Overview(
        **_devices(account, now),
        rejected_24h=sum(count.rejected for count in counts.values()),
        rejected_by_reason=_rejected(account, now),
        per_minute=_per_minute(counts, now),
    )


def platform_minutes(now: datetime) -> tuple[Counts, Counts]:
    """Of all accounts: the last full minute, and the last hour."""
    this = now.replace(second=0, microsecond=0)
    last = MinuteCount.objects.filter(minute=this - MINUTE)
    hour = MinuteCount.objects.filter(minute__gte=this - MINUTE * SHOWN)
    return _sum(last), _sum(hour)


def _sum(counts: QuerySet[MinuteCount]) -> Counts:
    totals = counts.aggregate(**{name: Sum(name, default=0) for name in Counts._fields})
    return Counts(**totals)


def _devices(account: Account, now: datetime) -> dict[str, int]:
    found: dict[str, int] = Device.objects.for_account(account).aggregate(
        devices=Count("pk"),
        alive=Count("pk", filter=ENABLED & heard_since(now - SILENT_AFTER)),
        new=Count("pk", filter=NEW),
        unmapped=Count("pk", filter=UNMAPPED),
        enabled=Count("pk", filter=ENABLED),  # last: the others would take it for the field
    )
    return {**found, "silent": found["enabled"] - found["alive"]}


def _rejected(account: Account, now: datetime) -> dict[str, int]:
    rejected = RejectedMessage.objects.for_account(account).filter(received_at__gte=now - DAY)
    return dict(rejected.values_list("reason").annotate(n=Count("pk")).order_by("-n", "reason"))


def _per_minute(counts: dict[datetime, Counts], now: datetime) -> list[Minute]:
    """With those in which nothing came."""
    last = now.replace(second=0, microsecond=0)
    minutes = [last - MINUTE * age for age in reversed(range(SHOWN))]
    return [Minute(minute, *counts.get(minute, Counts())) for minute in minutes]
