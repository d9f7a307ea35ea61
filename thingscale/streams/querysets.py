"""Reads of channels for people. Reads of datapoints are in queries.py."""

from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery, Sum

from thingscale.accounts.tenancy import OwnedQuerySet

if TYPE_CHECKING:
    from thingscale.accounts.models import Account
    from thingscale.streams.models import Channel


class ChannelQuerySet(OwnedQuerySet["Channel"]):
    def search(self, text: str) -> "ChannelQuerySet":
        """By a part of the name, or by the number."""
        if "\0" in text:  # PostgreSQL takes no such text
            return self.none()
        found = Q(name__icontains=text)
        return self.filter(found | Q(number=int(text)) if text.isdecimal() and len(text) < 10 else found)

    def numbered(self, account: "Account", number: int) -> "Channel | None":
        """Of all channels, whatever this was narrowed to. Each REST call for a stream asks, and Django would
        take longer to put the query together than it takes."""
        sql = "SELECT * FROM streams_channel WHERE user_id = %s AND number = %s"
        return next(iter(self.raw(sql, [account.pk, number])), None)

    def free_number(self) -> int:
        """For the next channel: after the highest; where that is the last one, by hand."""
        from thingscale.streams.models import Channel

        last = self.aggregate(number=Max("number"))["number"]
        return 0 if last is None else min(last + 1, Channel.MAX_NUMBER)

    def with_totals(self) -> "ChannelQuerySet":
        """`datapoints`, `last_update`, `device_count` : sub-queries, so that a page pays for its own rows."""
        from thingscale.devices.models import Device
        from thingscale.streams.models import Latest

        latest = Latest.objects.shown().filter(channel=OuterRef("pk"))
        devices = Device.objects.filter(mapped_channel=OuterRef("pk"))
        return self.annotate(
            datapoints=_one(latest, "channel", Sum("count")),
            last_update=_one(latest, "channel", Max("at")),
            device_count=_one(devices, "mapped_channel", Count("pk")),
        )

    def newest_first(self) -> "ChannelQuerySet":
        """By their newest datapoint; those without any come last."""
        return self.with_totals().order_by(F("last_update").desc(nulls_last=True), "number")


class LatestQuerySet(QuerySet[Any]):
    def shown(self) -> "LatestQuerySet":
        """Without deleted tags: a batch that was on its way may bring one again until it is purged."""
        from thingscale.streams.models import DeletedTag  # which imports this module

        return self.exclude(Exists(DeletedTag.objects.filter(tag=OuterRef("tag"))))


def _one(rows: QuerySet[Any], key: str, aggregate: Any) -> Subquery:
    return Subquery(rows.order_by().values(key).annotate(found=aggregate).values("found"))
