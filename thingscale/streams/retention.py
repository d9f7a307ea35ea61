"""Deletes datapoints: of deleted channels and tags, past a channel's retention, and the oldest of accounts
that want it so; and drops empty partitions. Functions that may take long raise maintenance.Interrupted."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from thingscale.accounts.limits import WhenFull
from thingscale.accounts.models import Account, User
from thingscale.background import maintenance
from thingscale.lib.ids import ChannelPk
from thingscale.streams import partitions, rollups
from thingscale.streams.models import Channel, DeletedChannel, DeletedTag, Latest
from thingscale.streams.usage import used_storage

BATCH_ROWS = 50_000  # of a transaction
FIRST_SPAN = timedelta(hours=1)  # of the oldest datapoints, in all channels; the next one is twice as long
ROOM_PERCENT = 3  # of the storage is made free at a time
LATE_WRITES = timedelta(hours=1)  # for so long, a batch may bring rows of what has been deleted

_DELETE_BATCH = """
WITH batch AS (
    SELECT max(at) AS until
    FROM (
        SELECT at FROM datapoint WHERE channel = %(channel)s AND at < %(before)s ORDER BY at LIMIT %(rows)s
    ) AS oldest
), gone AS (
    DELETE FROM datapoint USING batch
    WHERE channel = %(channel)s AND at < %(before)s AND at <= batch.until
    RETURNING coalesce(tag, 0) AS tag
), tally AS (
    SELECT tag, count(*) AS n FROM gone GROUP BY tag
), totals AS (
    UPDATE streams_latest l
    SET bytes = bytes - bytes * n / greatest(l.count, 1), count = greatest(l.count - n, 0)
    FROM tally WHERE l.channel_id = %(channel)s AND l.tag = tally.tag
)
SELECT coalesce(sum(n), 0), (SELECT until FROM batch) FROM tally
"""

_DELETE_LATEST = """
DELETE FROM streams_latest l
WHERE l.channel_id = %(channel)s AND l.at < %(before)s AND l.tag NOT IN (
    SELECT coalesce(d.tag, 0) FROM datapoint d WHERE d.channel = %(channel)s AND d.at < %(before)s
)
"""

# There is no index by tag, so this goes through all of the channel, batch by batch.
_DELETE_TAGS = """
WITH batch AS (
    SELECT max(at) AS until
    FROM (
        SELECT at FROM datapoint WHERE channel = %(channel)s AND at > %(after)s ORDER BY at LIMIT %(rows)s
    ) AS next
), gone AS (
    DELETE FROM datapoint USING batch
    WHERE channel = %(channel)s AND at > %(after)s AND at <= batch.until AND tag = ANY (%(tags)s)
    RETURNING 1
)
SELECT (SELECT until FROM batch), (SELECT count(*) FROM gone)
"""


def delete_before(channel: ChannelPk, before: datetime) -> int:
    """Deletes a channel's datapoints older than `before`, batch by batch; returns how many."""
    total = 0
    while deleted := _delete_batch(channel, before):
        total += deleted
    _delete_latest(channel, before)
    return total


def _delete_latest(channel: ChannelPk, before: datetime) -> None:
    """Deletes the newest values of series that have no datapoints left. Locks them first: a batch that is
    being written now is either seen by the deletion, or finds the row gone and makes another."""
    with transaction.atomic(), connection.cursor() as cursor:
        old = Latest.objects.select_for_update().filter(channel=channel, at__lt=before).order_by("tag")
        if list(old.values_list("tag", flat=True)):
            cursor.execute(_DELETE_LATEST, {"channel": channel, "before": before})


def _delete_batch(channel: ChannelPk, before: datetime, rows: int = BATCH_ROWS) -> int:
    maintenance.check_stop()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DELETE_BATCH, {"channel": channel, "before": before, "rows": rows})
        deleted, until = cursor.fetchone()
        if deleted:
            rollups.delete_until(channel, until)
        return int(deleted)


def drop_expired() -> int:
    now = timezone.now()
    kept = Channel.objects.exclude(retention_days=None).values_list("pk", "retention_days")
    return sum(delete_before(ChannelPk(pk), now - timedelta(days=days or 0)) for pk, days in kept)


def drop_oldest() -> int:
    """Makes room in the full storages of accounts that would rather lose their oldest datapoints than have
    new ones refused."""
    return sum(
        _make_room(user)
        for user in User.objects.filter(when_full=WhenFull.DROP_OLDEST, closed_at=None)
        if used_storage(user).bytes > user.max_storage
    )


def _make_room(account: Account) -> int:
    """Deletes the oldest datapoints of all channels, span of time after span of time, until there is room."""
    target = account.max_storage * (100 - ROOM_PERCENT) // 100
    channels = [ChannelPk(pk) for pk in Channel.objects.for_account(account).values_list("pk", flat=True)]
    oldest = []
    with connection.cursor() as cursor:
        for channel in channels:  # one by one, since each has its index
            cursor.execute("SELECT min(at) FROM datapoint WHERE channel = %s", [channel])
            oldest.append(cursor.fetchone()[0])
    until, span, total = min(filter(None, oldest), default=None), FIRST_SPAN, 0
    while until is not None and until < timezone.now():
        until += span
        for channel in channels:
            while (used := used_storage(account)).bytes > target:
                size = max(1, used.datapoint_bytes // max(1, used.datapoints))
                rows = min(BATCH_ROWS, (used.bytes - target) // size + 1)
                deleted = _delete_batch(channel, until, rows)
                total += deleted
                if not deleted:
                    _delete_latest(channel, until)
                    break
            else:
                _delete_latest(channel, until)
                return total
        span *= 2
    return total


def purge_deleted_channels() -> int:
    total = 0
    for deleted in DeletedChannel.objects.all():
        count = delete_before(ChannelPk(deleted.channel), timezone.now() + timedelta(days=366))
        total += count
        Latest.objects.filter(channel=deleted.channel).delete()
        if not count and deleted.deleted_at < timezone.now() - LATE_WRITES:
            deleted.delete()
    return total


def purge_deleted_tags() -> int:
    """Finds the tags' datapoints by their totals (Latest), which a late batch brings as well. So a round
    without any is cheap."""
    deleted = DeletedTag.objects.all()
    totals = Latest.objects.filter(channel__in=deleted.values("channel"), tag__in=deleted.values("tag"))
    total = 0
    for channel in map(ChannelPk, list(totals.order_by().values_list("channel", flat=True).distinct())):
        rows = list(totals.filter(channel=channel))
        total += _delete_tags(channel, [row.tag for row in rows])
        for row in rows:  # if it has not changed meanwhile; otherwise the next round looks again
            Latest.objects.filter(pk=row.pk, count=row.count, at=row.at).delete()
    deleted.filter(deleted_at__lt=timezone.now() - LATE_WRITES).exclude(
        Exists(Latest.objects.filter(channel=OuterRef("channel"), tag=OuterRef("tag")))
    ).delete()
    return total


def _delete_tags(channel: ChannelPk, tags: list[int]) -> int:
    """Returns the number of datapoints."""
    total = 0
    after: Any = "-infinity"  # the time of the last datapoint looked at; None at the end
    while after is not None:
        maintenance.check_stop()
        with transaction.atomic(), connection.cursor() as cursor:
            parameters = {"channel": channel, "tags": tags, "after": after, "rows": BATCH_ROWS}
            cursor.execute(_DELETE_TAGS, parameters)
            after, deleted = cursor.fetchone()
        total += deleted
    return total


def make_coming_partitions(ahead: int = 2) -> None:
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    month = partitions.month_of(timezone.now())
    for _ in range(ahead + 1):
        partitions.make(raw, month)
        month = partitions.following(month)


def drop_empty_partitions() -> int:
    """Drops the partitions of past months that have no rows. A write that needs one makes it again."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    this_month = partitions.month_of(timezone.now())
    past = [month for month in partitions.existing(raw) if month < this_month]
    return sum(partitions.drop_if_empty(raw, month) for month in past)
