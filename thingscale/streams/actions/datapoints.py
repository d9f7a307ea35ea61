"""Writes of datapoints that do not come through the ingest writer."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from uuid import UUID

import psycopg
from django.db import connection, transaction
from django.utils import timezone

from thingscale.devices.writer import Minute, count_minutes
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.errors import ContractError
from thingscale.lib.points import Points
from thingscale.processes.live_feed import LIVE_FEED, MessageEvent
from thingscale.streams import writer
from thingscale.streams.actions.tags import tag_keys
from thingscale.streams.exactly_once import keys, submissions
from thingscale.streams.exactly_once.submissions import Submission
from thingscale.streams.exactly_once.window import WINDOW
from thingscale.streams.models import Channel
from thingscale.streams.usage import ROOM

_partitions = writer.Partitions()
_at = itemgetter(writer.Row._fields.index("at"))


@transaction.atomic
def store_points(channel: Channel, points: Points, submission: tuple[str, UUID] | None = None) -> int:
    """All or nothing; returns how many. Raises django.db.DataError for a value that jsonb does not accept.

    `submission` is an Idempotency-Key and the fingerprint of what was sent under it. What was stored under
    the same key before is not stored again: the answer is how many it was. Raises ContractError
    IDEMPOTENCY_KEY_REUSED if that was something else."""
    dedupe = None
    if submission is not None:
        dedupe = keys.of_rest(channel.pk, submission[0])
        before = _submitted_before(channel, points, dedupe, submission[1])
        if before is not None:
            return before
    if points.times:
        ROOM.check(channel.user, sum(map(len, points.values)))
        _store_points(channel, points, dedupe)
        minute = timezone.now().replace(second=0, microsecond=0)
        with connection.connection.cursor() as cursor:
            # Last in its transaction: until COMMIT, others of the user's wait here.
            count_minutes(cursor, [Minute(channel.user_id, minute, len(points.times), 0, 0)])
    return len(points.times)


def _submitted_before(channel: Channel, points: Points, key: int, body: UUID) -> int | None:
    """How many datapoints were stored under this key; None: nothing was, and from now on this is. Whoever
    sends the same key at the same moment waits here for the other's commit."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    with connection.wrap_database_errors, raw.cursor() as cursor:
        submissions.lock(cursor, key)
        found = submissions.find(cursor, {(channel.user_id, key): WINDOW.since()})
        before = found.get((channel.user_id, key))
        if before is None:
            count = len(points.times)
            submissions.record(cursor, [Submission(channel.user_id, key, body, str(count))])
            return count if count and _stored_by_the_release_before(cursor, channel, points, key) else None
        if before.body != body:
            raise ContractError(
                "IDEMPOTENCY_KEY_REUSED",
                "This Idempotency-Key came with another body before: give each request a key of its own.",
            )
        return int(before.answer)


def _stored_by_the_release_before(cursor: psycopg.Cursor, channel: Channel, points: Points, key: int) -> bool:
    """Whether all are there under this key, recent or of the times sent: that release has no submissions."""
    cursor.execute(
        """SELECT count(*) FROM datapoint WHERE channel = %s AND dedupe = %s AND dedupe < 0
            AND (at >= %s OR at = ANY (%s)) AND value = ANY (%s::text[]::jsonb[])""",
        [
            channel.pk,
            key,
            from_us(WINDOW.since()),
            [from_us(at) for at in set(points.times)],
            [value.decode() for value in points.values],
        ],
    )
    return cursor.fetchone() == (len(points.times),)


def _store_points(channel: Channel, points: Points, dedupe: int | None) -> None:
    key = channel.pk  # which Django looks up each time
    with connection.wrap_database_errors:
        if dedupe is None and not any(points.tags):
            with _cursor(points.times) as cursor:
                writer.write_series(cursor, key, points.times, points.values)
        else:
            tags = tag_keys({(key, tag) for tag in set(points.tags) if tag})
            store_rows(
                [
                    writer.Row(key, at, None, tags[key, tag] if tag else None, value, dedupe)
                    for tag, value, at in zip(*points, strict=True)
                ]
            )
    publish_stored(
        channel.user_id,
        (
            MessageEvent(at, None, tag, "rest", "stored", None, key, value)
            for tag, value, at in zip(*points, strict=True)
        ),
    )


def store_rows(rows: list[writer.Row]) -> None:
    """Datapoints in the caller's transaction, for what does not come through the ingest pipeline."""
    with _cursor(list(map(_at, rows))) as cursor:
        writer.write(cursor, rows)


def _cursor(times: Sequence[int]) -> psycopg.Cursor:
    """To store datapoints of these times with."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    now = now_us()
    if not _partitions.cover(times, now):
        raw.execute("LOCK TABLE ONLY datapoint IN ACCESS SHARE MODE")  # until COMMIT none is dropped
        writer.make_partitions(raw, times)
        transaction.on_commit(lambda: _partitions.remember(max(times), now))
    return raw.cursor()


def publish_stored(user: int, messages: Iterable[MessageEvent]) -> None:
    """Open pages, after the commit, if there are any."""
    if LIVE_FEED.has_listeners(user):
        stored = list(messages)
        transaction.on_commit(lambda: LIVE_FEED.publish(user, {"stored": len(stored)}, stored), robust=True)
