"""The figures of an account's home page: three queries, however many devices it has."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, QuerySet, Sum

from thingscale.accounts.models import Account
from thingscale.devices.models import Device, MinuteCount, RejectedMessage
from thingscale.devices.querysets import ENABLED, NEW, SILENT, UNHEARD, UNMAPPED, Counts, heard_since

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MINUTES_SHOWN = 60


class Minute(NamedTuple):
    minute: datetime
    stored: int
    held: int
    rejected: int


class Overview(NamedTuple):
    devices: int
    enabled: int
    heard_24h: int  # of those that are enabled
    silent: int  # that an event for silence fires for
    unheard: int  # never, and enabled
    new: int
    unmapped: int
    rejected_24h: int
    # Of 24 hours, most frequent first. Only of the messages that are kept, so these may be fewer.
    rejected_by_reason: dict[str, int]
    per_minute: list[Minute]  # of the last hour; the last one is the current minute


def overview(account: Account, now: datetime) -> Overview:
    counts = MinuteCount.objects.for_account(account).since(now - DAY)
    devices: dict[str, int] = Device.objects.for_account(account).aggregate(
        devices=Count("pk"),
        heard_24h=Count("pk", filter=ENABLED & heard_since(now - DAY)),
        silent=Count("pk", filter=SILENT),
        unheard=Count("pk", filter=UNHEARD),
        new=Count("pk", filter=NEW),
        unmapped=Count("pk", filter=UNMAPPED),
        enabled=Count("pk", filter=ENABLED),  # last, or the others would mean this one, not the field
    )
    rejected = RejectedMessage.objects.for_account(account).filter(received_at__gte=now - DAY)
    by_reason = rejected.values_list("reason").annotate(n=Count("pk")).order_by("-n", "reason")
    this_minute = now.replace(second=0, microsecond=0)
    minutes = [this_minute - MINUTE * age for age in reversed(range(MINUTES_SHOWN))]
    return Overview(
        **devices,
        rejected_24h=sum(count.rejected for count in counts.values()),
        rejected_by_reason=dict(by_reason),
        per_minute=[Minute(minute, *counts.get(minute, Counts())) for minute in minutes],
    )


def platform_minutes(now: datetime) -> tuple[Counts, Counts]:
    """The messages of all accounts in the last full minute, and in the last hour."""
    this = now.replace(second=0, microsecond=0)
    last = MinuteCount.objects.filter(minute=this - MINUTE)
    hour = MinuteCount.objects.filter(minute__gte=this - MINUTE * MINUTES_SHOWN)
    return _sum(last), _sum(hour)


def _sum(counts: QuerySet[MinuteCount]) -> Counts:
    totals = counts.aggregate(**{name: Sum(name, default=0) for name in Counts._fields})
    return Counts(**totals)
