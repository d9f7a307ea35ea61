"""Queries of channels. Those of datapoints are in queries.py."""

from collections.abc import Collection
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery, Sum

from thingscale.accounts.tenancy import OwnedQuerySet

if TYPE_CHECKING:
    from thingscale.accounts.models import Account
    from thingscale.streams.models import Channel


class ChannelQuerySet(OwnedQuerySet["Channel"]):
    def search(self, text: str) -> "ChannelQuerySet":
        """Finds channels by a part of the name, or by the number."""
        if "\0" in text:  # PostgreSQL takes no such text
            return self.none()
        found = Q(name__icontains=text)
        return self.filter(found | Q(number=int(text)) if text.isdecimal() and len(text) < 10 else found)

    def numbered(self, account: "Account", number: int) -> "Channel | None":
        """Finds one of all channels, ignoring the filters of this queryset. This is raw SQL because each REST
        call for a stream needs it, and Django would take longer to build the query than to run it."""
        sql = "SELECT * FROM streams_channel WHERE user_id = %s AND number = %s"
        return next(iter(self.raw(sql, [account.pk, number])), None)

    def free_number(self) -> int:
        """A number for the next channel: the one after the highest. If that is the last one, people have to
        choose."""
        from thingscale.streams.models import Channel

        last = self.aggregate(number=Max("number"))["number"]
        return 0 if last is None else min(last + 1, Channel.MAX_NUMBER)

    def free_numbers(self, count: int, but: Collection[int] = ()) -> list[int]:
        """Numbers for so many new channels: those after the highest, or the lowest that are free where these
        do not reach."""
        from thingscale.streams.models import Channel

        last = self.aggregate(number=Max("number"))["number"]
        first = max([-1 if last is None else last, *but]) + 1
        if first + count - 1 <= Channel.MAX_NUMBER:
            return list(range(first, first + count))
        taken = {*self.values_list("number", flat=True), *but}
        return list(islice((number for number in range(Channel.MAX_NUMBER) if number not in taken), count))

    def with_totals(self) -> "ChannelQuerySet":
        """Adds `datapoints`, `last_update` and `device_count`, by sub-queries, so that a page costs only its
        own rows."""
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
        """Orders by the newest datapoint; channels without datapoints come last."""
        return self.with_totals().order_by(F("last_update").desc(nulls_last=True), "number")


class LatestQuerySet(QuerySet[Any]):
    def shown(self) -> "LatestQuerySet":
        """Without deleted tags: a batch that is being written may bring one back until it is purged."""
        from thingscale.streams.models import DeletedTag  # which imports this module

        return self.exclude(Exists(DeletedTag.objects.filter(tag=OuterRef("tag"))))


def _one(rows: QuerySet[Any], key: str, aggregate: Any) -> Subquery:
    return Subquery(rows.order_by().values(key).annotate(found=aggregate).values("found"))
