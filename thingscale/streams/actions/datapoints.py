"""Writes of datapoints that do not come through the ingest writer."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from uuid import UUID

import psycopg
from django.db import connection, transaction

from thingscale.devices.writer import MinuteRow, count_minutes
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk, DevicePk
from thingscale.lib.points import Points
from thingscale.processes.live_feed import LIVE_FEED, MessageEvent
from thingscale.streams import writer
from thingscale.streams.actions.tags import tag_keys
from thingscale.streams.exactly_once import idempotent_requests, keys
from thingscale.streams.exactly_once.idempotent_requests import IdempotentRequest
from thingscale.streams.exactly_once.window import DEDUPE_WINDOW
from thingscale.streams.models import Channel
from thingscale.streams.usage import STORAGE_QUOTA

# What happens in the same transaction, behind the datapoints, with their channels, their rows, and the ids of
# their devices. The apps above this one add theirs when a process starts.
also: list[
    Callable[
        [psycopg.Cursor, Collection[ChannelPk], Callable[[], Iterable[writer.Row]], Mapping[DevicePk, str]],
        None,
    ]
] = []
_partitions = writer.Partitions()
_at = itemgetter(writer.Row._fields.index("at"))


@transaction.atomic
def store_points(channel: Channel, points: Points, idempotency: tuple[str, UUID] | None = None) -> int:
    """Stores all of them or none, and returns how many. Raises django.db.DataError for a value that jsonb
    does not accept.

    `idempotency` is an Idempotency-Key and the fingerprint of the request. If datapoints were stored under
    this key before, nothing is stored again, and their number is returned. Raises ContractError
    IDEMPOTENCY_KEY_REUSED if the request before was another one."""
    channel_pk = channel.id  # kept, because Django looks it up each time
    dedupe = None
    if idempotency is not None:
        dedupe = keys.of_rest(channel_pk, idempotency[0])
        before = _stored_under_key(channel, points, dedupe, idempotency[1])
        if before is not None:
            return before
    if points.times:
        STORAGE_QUOTA.check(channel.user, sum(map(len, points.values)))
        with connection.wrap_database_errors:
            if dedupe is None and not any(points.tags):
                with _cursor(points.times) as cursor:
                    writer.write_series(cursor, channel_pk, points.times, points.values)
                    for then in also:
                        then(
                            cursor,
                            (channel_pk,),
                            lambda: (
                                writer.Row(channel_pk, at, None, None, value, None)
                                for value, at in zip(points.values, points.times, strict=True)
                            ),
                            {},
                        )
            else:
                tags = tag_keys({(channel_pk, tag) for tag in set(points.tags) if tag})
                store_rows(
                    [
                        writer.Row(
                            channel_pk, at, None, tags[channel_pk, tag] if tag else None, value, dedupe
                        )
                        for tag, value, at in zip(*points, strict=True)
                    ]
                )
        publish_stored(
            channel.user_id,
            (
                MessageEvent(at, None, tag, "rest", "stored", None, channel_pk, value)
                for tag, value, at in zip(*points, strict=True)
            ),
        )
        minute = from_us(now_us()).replace(second=0, microsecond=0)
        with connection.connection.cursor() as cursor:
            # Last in its transaction, since other requests of the account wait here until COMMIT.
            count_minutes(cursor, [MinuteRow(channel.user_id, minute, len(points.times), 0, 0)])
    return len(points.times)


def _stored_under_key(channel: Channel, points: Points, key: int, body: UUID) -> int | None:
    """How many datapoints were stored under this key; None if none were, and then this request is recorded.
    Of two requests with the same key at the same moment, one waits here for the other's COMMIT."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    with connection.wrap_database_errors, raw.cursor() as cursor:
        idempotent_requests.lock(cursor, key)
        found = idempotent_requests.find(cursor, {(channel.user_id, key): DEDUPE_WINDOW.start()})
        before = found.get((channel.user_id, key))
        if before is None:
            count = len(points.times)
            idempotent_requests.record(cursor, [IdempotentRequest(channel.user_id, key, body, str(count))])
            if not count:
                return None
            # The release before recorded no requests: are all there under this key, recent or of the same
            # times?
            cursor.execute(
                """SELECT count(*) FROM datapoint WHERE channel = %s AND dedupe = %s AND dedupe < 0
                    AND (at >= %s OR at = ANY (%s)) AND value = ANY (%s::text[]::jsonb[])""",
                [
                    channel.pk,
                    key,
                    from_us(DEDUPE_WINDOW.start()),
                    [from_us(at) for at in set(points.times)],
                    [value.decode() for value in points.values],
                ],
            )
            return count if cursor.fetchone() == (count,) else None
        if before.body != body:
            raise ContractError(
                "IDEMPOTENCY_KEY_REUSED",
                "This Idempotency-Key came with another body before: give each request a key of its own.",
            )
        return int(before.answer)


def store_rows(rows: list[writer.Row], device_ids: Mapping[DevicePk, str] | None = None) -> None:
    """Stores datapoints in the caller's transaction."""
    with _cursor(list(map(_at, rows))) as cursor:
        writer.write(cursor, rows)
        for then in also:
            then(cursor, {row.channel for row in rows}, lambda: rows, device_ids or {})


def _cursor(times: Sequence[int]) -> psycopg.Cursor:
    """A cursor to store datapoints of these times with, whose partitions exist by now."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    now = now_us()
    if not _partitions.cover(times, now):
        raw.execute("LOCK TABLE ONLY datapoint IN ACCESS SHARE MODE")  # until COMMIT no partition is dropped
        writer.make_partitions(raw, times)
        transaction.on_commit(lambda: _partitions.remember(max(times), now))
    return raw.cursor()


def publish_stored(user: int, messages: Iterable[MessageEvent]) -> None:
    """Sends the messages to the account's open pages after the commit, if there are any."""
    if LIVE_FEED.has_listeners(user):
        stored = list(messages)
        transaction.on_commit(lambda: LIVE_FEED.publish(user, {"stored": len(stored)}, stored), robust=True)
