"""Channels, tags, and the newest value of each. Datapoints themselves are in sql/datapoint.sql."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from thingscale.lib.ids import ChannelPk, TagPk
from thingscale.lib.names import MAX_TAG
from thingscale.streams.querysets import ChannelQuerySet, LatestQuerySet


class Channel(models.Model):
    MAX_NUMBER = 2**31 - 1

    id: ChannelPk
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="channels")
    number = models.PositiveIntegerField()  # the contract's channel id
    name = models.CharField(max_length=200, blank=True)
    streams = models.JSONField(default=list)  # [{"key", "label", "unit"}]
    retention_days = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[ChannelQuerySet] = ChannelQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "number"], name="one_channel_number_a_user")]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"channel {self.number}"


class Tag(models.Model):
    id: TagPk
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=MAX_TAG)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["channel", "name"], name="one_tag_a_channel")]
        ordering = ["name"]


class Latest(models.Model):
    """The newest datapoint and the totals of a channel's tag, or of what has no tag. writer.py writes it with
    every batch."""

    UNTAGGED = 0

    pk = models.CompositePrimaryKey("channel_id", "tag")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, db_constraint=False, related_name="latest")
    tag = models.IntegerField()  # Tag's key, or UNTAGGED
    at = models.DateTimeField()
    value = models.JSONField()
    count = models.BigIntegerField()
    bytes = models.BigIntegerField()

    objects: ClassVar[LatestQuerySet] = LatestQuerySet.as_manager()  # type: ignore[assignment]


class DeletedChannel(models.Model):
    """A channel whose datapoints wait to be purged."""

    channel = models.BigIntegerField(primary_key=True)
    deleted_at = models.DateTimeField(default=timezone.now)


class DeletedTag(models.Model):
    """A tag whose datapoints are out of sight and wait to be purged."""

    tag = models.IntegerField(primary_key=True)  # Tag's key, which never comes again
    channel = models.BigIntegerField(db_index=True)
    deleted_at = models.DateTimeField(default=timezone.now)


class Journal(models.Model):
    """See exactly_once/commit_log.py."""

    writer = models.UUIDField(primary_key=True)
    batch = models.BigIntegerField()
    at = models.DateTimeField()
    repeats = models.BigIntegerField(db_default=0)  # the last Repeated that this writer has to read
    fenced = models.BooleanField(db_default=False)  # it stores nothing more


class Repeated(models.Model):
    """Announces dedupe keys of an account's messages that were sent again; see
    exactly_once/redeliveries.py."""

    writer = models.UUIDField()
    account = models.BigIntegerField(null=True)  # user's primary key; null: from the release before
    at = models.DateTimeField(db_default=Now())
    keys = ArrayField(models.BigIntegerField())


class Submitted(models.Model):
    """See exactly_once/idempotent_requests.py. `account` is no foreign key: each write would check it."""

    pk = models.CompositePrimaryKey("account", "key")
    account = models.BigIntegerField()  # user's primary key
    key = models.BigIntegerField()
    body = models.UUIDField(null=True)
    answer = models.CharField(max_length=40)
    arrived_at = models.DateTimeField(db_default=Now(), db_index=True)


class Rollup(models.Model):
    """The lowest and the highest number of a series in an hour. Valid for hours before RolledUntil that have
    no StaleHour; see rollups.py."""

    pk = models.CompositePrimaryKey("channel", "hour", "tag", "path")
    channel = models.BigIntegerField()
    hour = models.DateTimeField()  # its beginning
    tag = models.IntegerField()  # as in Latest
    path = models.CharField(max_length=200)
    numbers = models.BigIntegerField()
    low = models.FloatField()
    low_ms = models.FloatField()  # when, in milliseconds since 1970
    high = models.FloatField()
    high_ms = models.FloatField()


class StaleHour(models.Model):
    """An hour that waits to be rolled up. `version` changes when it is marked again."""

    pk = models.CompositePrimaryKey("channel", "hour")
    channel = models.BigIntegerField()
    hour = models.DateTimeField()
    version = models.BigIntegerField(db_default=1)

    class Meta:
        indexes = [models.Index(fields=["version", "channel", "hour"], name="stale_in_order")]


class RolledUntil(models.Model):
    """Has one row: all hours before this one have their rollups, or are stale."""

    hour = models.DateTimeField()
    format = models.SmallIntegerField(db_default=1)  # rollups.FORMAT, when all hours were marked last
