"""Removing datapoints: of deleted channels and tags, past a channel's retention, and empty old partitions.
What takes long raises maintenance.Interrupted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from thingscale.accounts.limits import WhenFull
from thingscale.accounts.models import User
from thingscale.background import maintenance
from thingscale.streams import partitions, rollups
from thingscale.streams.models import Channel, DeletedChannel, DeletedTag, Latest
from thingscale.streams.usage import used_storage

SLICE = 50_000  # rows a transaction
FIRST_SPAN = timedelta(hours=1)  # in which the oldest are deleted, in every channel; then twice as much
ROOM_PERCENT = 3  # of the storage, that is made free at a time
LATE_WRITES = timedelta(hours=1)  # a batch on its way may still bring rows of what was just deleted

_DELETE_SLICE = """
WITH slice AS (
    SELECT max(at) AS until
    FROM (
        SELECT at FROM datapoint WHERE channel = %(channel)s AND at < %(before)s ORDER BY at LIMIT %(rows)s
    ) AS oldest
), gone AS (
    DELETE FROM datapoint USING slice
    WHERE channel = %(channel)s AND at < %(before)s AND at <= slice.until
    RETURNING coalesce(tag, 0) AS tag
), tally AS (
    SELECT tag, count(*) AS n FROM gone GROUP BY tag
), totals AS (
    UPDATE streams_latest l
    SET bytes = bytes - bytes * n / greatest(l.count, 1), count = greatest(l.count - n, 0)
    FROM tally WHERE l.channel_id = %(channel)s AND l.tag = tally.tag
)
SELECT coalesce(sum(n), 0), (SELECT until FROM slice) FROM tally
"""

_FORGET_NEWEST = """
DELETE FROM streams_latest l
WHERE l.channel_id = %(channel)s AND l.at < %(before)s AND l.tag NOT IN (
    SELECT coalesce(d.tag, 0) FROM datapoint d WHERE d.channel = %(channel)s AND d.at < %(before)s
)
"""

# There is no index by tag: all of the channel is looked at, a slice after the other.
_DELETE_TAGS_IN_SLICE = """
WITH slice AS (
    SELECT max(at) AS until
    FROM (
        SELECT at FROM datapoint WHERE channel = %(channel)s AND at > %(after)s ORDER BY at LIMIT %(rows)s
    ) AS next
), gone AS (
    DELETE FROM datapoint USING slice
    WHERE channel = %(channel)s AND at > %(after)s AND at <= slice.until AND tag = ANY (%(tags)s)
    RETURNING 1
)
SELECT (SELECT until FROM slice), (SELECT count(*) FROM gone)
"""


def delete_before(channel: int, before: datetime) -> int:
    """Deletes a channel's datapoints older than `before`, slice by slice; returns how many."""
    total = 0
    while deleted := _delete_slice(channel, before):
        total += deleted
    _forget_newest(channel, before)
    return total


def _forget_newest(channel: int, before: datetime) -> None:
    """Newest values of which nothing is left. Locked first, so that the deletion sees what a batch on its way
    brings, or that batch finds the row gone and makes another."""
    with transaction.atomic(), connection.cursor() as cursor:
        old = Latest.objects.select_for_update().filter(channel=channel, at__lt=before).order_by("tag")
        if list(old.values_list("tag", flat=True)):
            cursor.execute(_FORGET_NEWEST, {"channel": channel, "before": before})


def _delete_slice(channel: int, before: datetime, rows: int = SLICE) -> int:
    maintenance.check_stop()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DELETE_SLICE, {"channel": channel, "before": before, "rows": rows})
        deleted, until = cursor.fetchone()
        if deleted:
            rollups.forget_until(channel, until)
        return int(deleted)


def drop_expired() -> int:
    now = timezone.now()
    kept = Channel.objects.exclude(retention_days=None).values_list("pk", "retention_days")
    return sum(delete_before(channel, now - timedelta(days=days or 0)) for channel, days in kept)


def drop_oldest() -> int:
    """Of accounts that want that rather than to have new data refused, once their storage is full."""
    return sum(
        _make_room(user)
        for user in User.objects.filter(when_full=WhenFull.DROP_OLDEST, closed_at=None)
        if used_storage(user).bytes > user.max_storage
    )


def _make_room(user: User) -> int:
    """Deletes what is oldest in all channels, a span of time after the other, until there is some room."""
    target = user.max_storage * (100 - ROOM_PERCENT) // 100
    channels = list(Channel.objects.for_user(user).values_list("pk", flat=True))
    until, span, total = _oldest(channels), FIRST_SPAN, 0
    while until is not None and until < timezone.now():
        until += span
        for channel in channels:
            while (used := used_storage(user)).bytes > target:
                size = max(1, used.datapoint_bytes // max(1, used.datapoints))
                rows = min(SLICE, (used.bytes - target) // size + 1)
                deleted = _delete_slice(channel, until, rows)
                total += deleted
                if not deleted:
                    _forget_newest(channel, until)
                    break
            else:
                _forget_newest(channel, until)
                return total
        span *= 2
    return total


def _oldest(channels: Sequence[int]) -> datetime | None:
    """The time of the oldest datapoint, by the index of each channel."""
    with connection.cursor() as cursor:
        found = []
        for channel in channels:
            cursor.execute("SELECT min(at) FROM datapoint WHERE channel = %s", [channel])
            found.append(cursor.fetchone()[0])
    return min((at for at in found if at is not None), default=None)


def purge_deleted_channels() -> int:
    total = 0
    for deleted in DeletedChannel.objects.all():
        count = delete_before(deleted.channel, timezone.now() + timedelta(days=366))
        total += count
        Latest.objects.filter(channel=deleted.channel).delete()
        if not count and deleted.deleted_at < timezone.now() - LATE_WRITES:
            deleted.delete()
    return total


def purge_deleted_tags() -> int:
    """A late batch brings totals of the tag too, so that a round without any is cheap."""
    deleted = DeletedTag.objects.all()
    totals = Latest.objects.filter(channel__in=deleted.values("channel"), tag__in=deleted.values("tag"))
    total = sum(
        _purge_tags(channel, list(totals.filter(channel=channel)))
        for channel in totals.order_by().values_list("channel", flat=True).distinct()
    )
    deleted.filter(deleted_at__lt=timezone.now() - LATE_WRITES).exclude(
        Exists(Latest.objects.filter(channel=OuterRef("channel"), tag=OuterRef("tag")))
    ).delete()
    return total


def _purge_tags(channel: int, totals: Sequence[Latest]) -> int:
    deleted = _delete_tags(channel, [each.tag for each in totals])
    for each in totals:  # those that have not changed meanwhile; else the next round looks again
        Latest.objects.filter(pk=each.pk, count=each.count, at=each.at).delete()
    return deleted


def _delete_tags(channel: int, tags: list[int]) -> int:
    total = 0
    after: Any = "-infinity"
    while after is not None:
        after, deleted = _delete_tags_in_slice(channel, tags, after)
        total += deleted
    return total


def _delete_tags_in_slice(channel: int, tags: list[int], after: Any) -> tuple[Any, int]:
    """The time of the last datapoint looked at, None at the end; and how many were deleted."""
    maintenance.check_stop()
    place: dict[str, Any] = {"channel": channel, "tags": tags, "after": after, "rows": SLICE}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DELETE_TAGS_IN_SLICE, place)
        until, deleted = cursor.fetchone()
    return until, deleted


def make_partitions(ahead: int = 2) -> None:
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    month = partitions.month_of(timezone.now())
    for _ in range(ahead + 1):
        partitions.make(raw, month)
        month = partitions.following(month)


def drop_empty_partitions() -> int:
    """Past months without a row. A write that comes for one makes it again."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    this_month = partitions.month_of(timezone.now())
    past = [month for month in partitions.existing(raw) if month < this_month]
    return sum(partitions.drop_if_empty(raw, month) for month in past)
