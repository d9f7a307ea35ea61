"""Reads of what belongs to a channel, by the ORM; datapoints are read in queries.py."""

from typing import Any

from django.db.models import Exists, OuterRef, QuerySet


class LatestQuerySet(QuerySet[Any]):
    def shown(self) -> "LatestQuerySet":
        """Without deleted tags: a batch that was on its way may bring one again until it is purged."""
        from thingscale.streams.models import DeletedTag  # which imports this module

        return self.exclude(Exists(DeletedTag.objects.filter(tag=OuterRef("tag"))))
