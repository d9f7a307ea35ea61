"""Writes of channels, of a device's mapping, and of what was held for it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from thingscale import invalidation
from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than, no_room_for_tags
from thingscale.accounts.models import User
from thingscale.devices.actions import lock_devices
from thingscale.devices.models import Device, HeldMessage
from thingscale.devices.writer import Minute, count_minutes
from thingscale.lib.clock import from_us, now_us
from thingscale.lib.errors import Refused
from thingscale.lib.names import TAG_RULE, bad_tag, may_exist
from thingscale.lib.points import Points as Points  # noqa: PLC0414  who stores takes it from here
from thingscale.lib.table import Row
from thingscale.streams import rollups, sheet, writer
from thingscale.streams.exactly_once import keys, submissions
from thingscale.streams.exactly_once.submissions import Submission
from thingscale.streams.exactly_once.window import WINDOW
from thingscale.streams.models import Channel, DeletedChannel, DeletedTag, Tag
from thingscale.streams.sheet import Fault, Report, Wanted
from thingscale.streams.usage import ROOM
from thingscale.watch import PAGES, Told

log = logging.getLogger(__name__)
_partitions = writer.Partitions()
_at = itemgetter(writer.Row._fields.index("at"))

MAX_LABEL_BYTES = 128 * 1024  # of all labels of a channel: keys, labels and units
SLICE = 500  # devices: with all that may be held for them, 50,000 messages
SLICE_BYTES = 16 * 2**20  # of what is held for them, or one device
HELD_AT_ONCE = 10_000  # datapoints


@transaction.atomic
def create_channel(user: User, number: int, **fields: Any) -> Channel:
    """Raises Refused: BAD_PARAMETER, MAX_CHANNEL_REACH, CHANNEL_INUSE."""
    if not 0 <= number <= Channel.MAX_NUMBER:
        raise Refused("BAD_PARAMETER", f"A channel is a whole number from 0 to {Channel.MAX_NUMBER}.")
    _check_labels(fields)
    user = locked(user)
    if Channel.objects.for_user(user).count() >= user.max_channels:
        raise Refused("MAX_CHANNEL_REACH", no_more_than(user.max_channels, "channel"))
    try:
        with transaction.atomic():
            return Channel.objects.create(user=user, number=number, **fields)
    except IntegrityError:
        raise Refused("CHANNEL_INUSE", f"There is a channel {number} already: change that one.") from None


def _check_labels(changes: Mapping[str, Any]) -> None:
    """They are a part of each row of a list of channels."""
    size = sum(len(text.encode()) for label in changes.get("streams", ()) for text in label.values())
    if size > MAX_LABEL_BYTES:
        detail = (
            f"streams: its texts have {size} bytes, of at most {MAX_LABEL_BYTES} a channel: shorten them."
        )
        raise Refused("BAD_PARAMETER", detail)


@transaction.atomic
def update_channel(channel: Channel, changes: dict[str, Any]) -> None:
    """Raises Refused: NO_CHANNEL, if it has been deleted meanwhile, BAD_PARAMETER."""
    _check_labels(changes)
    for name, value in changes.items():
        setattr(channel, name, value)
    if changes and not Channel.objects.filter(pk=channel.pk).update(**changes):
        raise Refused("NO_CHANNEL", f"Channel {channel.number} has just been deleted.")


@transaction.atomic
def delete_channel(channel: Channel) -> None:
    """Unmaps its devices; its datapoints are out of sight at once and purged by a task. The devices first,
    as ingest locks them: a batch on its way may bring a tag."""
    mapped = Device.objects.select_for_update().filter(mapped_channel=channel).order_by("pk")
    Device.objects.filter(pk__in=list(mapped.values_list("pk", flat=True))).update(mapped_channel=None)
    DeletedChannel.objects.get_or_create(channel=channel.pk)  # somebody else may be doing the same
    channel.delete()
    invalidation.announce("devices", channel.user_id)


@transaction.atomic
def configure_device(device: Device, changes: dict[str, Any]) -> Device:
    """Sets any of a device's fields. A device that can now store gets its held messages stored first,
    under the lock that ingest takes to hold another, so that none is left behind.

    Raises Refused: NO_DEVICE, if it has been deleted meanwhile."""
    found = Device.objects.select_for_update().filter(pk=device.pk).first()
    if found is None:
        raise Refused("NO_DEVICE", f"The device {device.device_id} has just been deleted.")
    device = found
    for name, value in changes.items():
        setattr(device, name, value)
    if device.enabled and device.activate_at is None:
        device.activate_at = timezone.now()
    device.save()
    _store_held([device.pk])
    invalidation.announce("device", device.user_id, device.device_id)
    return device


@transaction.atomic
def map_to_new_channel(device: Device, number: int, changes: dict[str, Any]) -> Device:
    """A channel named after the device. Raises Refused as create_channel does."""
    channel = create_channel(device.user, number, name=device.device_id)
    return configure_device(device, {"mapped_channel": channel} | changes)


@transaction.atomic
def start_device(device: Device, number: int) -> None:
    """Enables it and maps it to this channel of its user's, which is made if there is none: what was held is
    stored, and what it sends from now on too. Raises Refused as create_channel does."""
    channel = Channel.objects.for_user(device.user).filter(number=number).first()
    if channel is None:
        map_to_new_channel(device, number, {"enabled": True})
    else:
        configure_device(device, {"enabled": True, "mapped_channel": channel})


def configure_devices(user: User, devices: QuerySet[Device], changes: dict[str, Any]) -> int:
    """As configure_device, for those of them that are the user's; returns how many."""
    with transaction.atomic():
        keys = lock_devices(user, devices)
        chosen = Device.objects.filter(pk__in=keys)
        chosen.update(**changes)
        chosen.filter(enabled=True, activate_at=None).update(activate_at=timezone.now())
        invalidation.announce("devices", user.pk)
    store_held(keys)
    return len(keys)


def import_devices(user: User, rows: Sequence[Row], dry_run: bool = False) -> Report:
    """Makes and changes devices, all or none. Columns that are not there leave a device's as they are."""
    with transaction.atomic():
        user = locked(user)
        channels = dict(Channel.objects.for_user(user).values_list("number", "pk"))
        own = Device.objects.for_user(user)
        named = [row.cells[sheet.KEY] for row in rows if may_exist(row.cells[sheet.KEY])]
        asked = own.filter(device_id__in=named).order_by("pk").select_for_update()
        present = {device.device_id: device for device in asked}
        wanted, faults = sheet.check(rows, channels, present)
        new = [row for row in wanted if row.device_id not in present]
        room = max(0, user.max_devices - own.count())
        faults += [Fault(row.line, sheet.KEY, no_more_than(user.max_devices, "device")) for row in new[room:]]
        unmapped = sum(
            present[row.device_id].mapped_channel_id is not None
            and row.changes.get("mapped_channel_id", ...) is None
            for row in wanted
            if row.device_id in present
        )
        if not faults and not dry_run:
            keys = _save_devices(user, wanted, present)
    if not faults and not dry_run:
        store_held(keys)
    return Report(len(new), len(wanted) - len(new), sorted(faults), unmapped)


def _save_devices(user: User, wanted: Sequence[Wanted], present: dict[str, Device]) -> list[int]:
    """Returns the primary keys. What ingest makes at the same moment is updated as well."""
    fields = {"activate_at"}.union(*(row.changes for row in wanted))
    devices = [
        _changed(present.get(row.device_id) or Device(user=user, device_id=row.device_id), row)
        for row in wanted
    ]
    saved = Device.objects.bulk_create(
        devices,
        batch_size=SLICE,
        update_conflicts=True,
        unique_fields=["user", "device_id"],
        update_fields=sorted(fields),
    )
    invalidation.announce("devices", user.pk)
    return [device.pk for device in saved]


def _changed(device: Device, row: Wanted) -> Device:
    for name, value in row.changes.items():
        setattr(device, name, value)
    if device.enabled and device.activate_at is None:
        device.activate_at = timezone.now()
    device.pk = None  # found by its device id
    return device


def store_held(devices: Sequence[int]) -> None:
    """Stores what is held for those that can store by now. They became so in an earlier transaction: nothing
    more is held for them. Some at a time, since ingest may have to wait meanwhile."""
    for start in range(0, len(devices), SLICE):
        for some in _slices(devices[start : start + SLICE]):
            try:
                with transaction.atomic():
                    _store_held(some)
            except Refused:  # of one at least, by the limits of its account
                _store_held_one_by_one(some)


def _slices(devices: Sequence[int]) -> Iterable[list[int]]:
    """Those of them for which something is held, so many at a time that it fits into memory."""
    held = HeldMessage.objects.filter(device__in=devices).order_by("device")
    some: list[int] = []
    total = 0
    for device, size in held.values_list("device").annotate(size=Sum("size")):
        if some and total + size > SLICE_BYTES:
            yield some
            some, total = [], 0
        some.append(device)
        total += size
    if some:
        yield some


def _store_held_one_by_one(devices: Sequence[int]) -> None:
    """What there is no room for stays held, for the next round of store_left_held()."""
    for device in devices:
        try:
            with transaction.atomic():
                _store_held([device])
        except Refused as refused:
            log.info("What is held for device %d is not stored: %s: %s", device, refused.code, refused.detail)


def store_left_held() -> None:
    """Of devices whose change was cut off before its messages were stored."""
    ready = Device.objects.filter(enabled=True).exclude(mapped_channel=None)
    store_held(list(ready.filter(held__isnull=False).values_list("pk", flat=True).distinct().order_by("pk")))


class Held(NamedTuple):
    """A datapoint."""

    id: int
    place: int
    channel: int
    user: int
    device: int
    name: str
    at: int  # microseconds since 1970 UTC
    tag: str | None
    value: str  # JSON text from PostgreSQL, so a number keeps every digit
    dedupe: int | None
    array: bool  # it is one of an array's


def _store_held(devices: Sequence[int]) -> None:
    held = _take_held(devices)
    if not held:
        return
    tags = _tags({(row.channel, row.tag) for row in held if row.tag})
    for start in range(0, len(held), HELD_AT_ONCE):
        store(
            [
                writer.Row(
                    row.channel,
                    row.at,
                    row.device,
                    tags.get((row.channel, row.tag or "")),
                    row.value.encode(),
                    None if row.array else row.dedupe,
                )
                for row in held[start : start + HELD_AT_ONCE]
            ]
        )
    submitted = {
        (row.user, row.dedupe) for row in held if row.dedupe is not None and (row.array or row.dedupe < 0)
    }
    if submitted:
        with connection.connection.cursor() as cursor:
            submissions.answer_from_now_on(cursor, submitted, "")
    by_user = itemgetter(Held._fields.index("user"))
    for user, rows in groupby(sorted(held, key=by_user), by_user):
        _tell(user, (_told(row) for row in rows))


def _told(row: Held) -> Told:
    value = row.value.encode()
    return Told(row.at, row.name, row.tag, "held", "stored", None, row.channel, value)


def _tell(user: int, messages: Iterable[Told]) -> None:
    """Open pages, after the commit, if there are any."""
    if PAGES.hear(user):
        stored = list(messages)
        transaction.on_commit(lambda: PAGES.tell(user, {"stored": len(stored)}, stored), robust=True)


def _tags(names: set[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Primary keys by channel and name. A tag comes into being with its first datapoint.

    Raises Refused: QUOTA_EXCEEDED, if the account can't have so many."""
    if not names:
        return {}
    raw: psycopg.Connection = connection.connection
    with raw.cursor() as cursor:
        found = writer.tag_keys(cursor, list(names))
    if missing := len(names) - len(found):
        channel = next(channel for channel, name in names if (channel, name) not in found)
        most = Channel.objects.values_list("user__max_tags", flat=True).get(pk=channel)
        raise Refused("QUOTA_EXCEEDED", no_room_for_tags(missing, most))
    return found


def _take_held(devices: Sequence[int]) -> list[Held]:
    """Removes and returns, in order of arrival, what is held for those that are enabled and mapped."""
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH ready AS (
                SELECT id, mapped_channel_id AS channel, user_id, device_id AS name FROM devices_device d
                WHERE id = ANY (%s) AND enabled AND mapped_channel_id IS NOT NULL
                    AND EXISTS (SELECT FROM devices_heldmessage h WHERE h.device_id = d.id)
                ORDER BY id FOR UPDATE
            ), taken AS (
                DELETE FROM devices_heldmessage h USING ready WHERE h.device_id = ready.id
                RETURNING h.id, ready.channel, ready.user_id, ready.id AS device, ready.name, h.received_at,
                    h.tag, h.value, h.dedupe, h."array"
            )
            SELECT id, place, channel, user_id, device, name,
                CASE WHEN "array" THEN (e.element ->> 'at')::bigint
                    ELSE (extract(epoch FROM received_at) * 1000000)::bigint END,
                CASE WHEN "array" THEN e.element ->> 'tag' ELSE tag END,
                CASE WHEN "array" THEN e.element -> 'value' ELSE value END::text,
                dedupe, "array"
            FROM taken, jsonb_array_elements(CASE WHEN "array" THEN value ELSE '[null]' END)
                WITH ORDINALITY AS e (element, place)""",
            [list(devices)],
        )
        return sorted((Held(*row) for row in cursor.fetchall()), key=itemgetter(0, 1))


def store(rows: list[writer.Row]) -> None:
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


@transaction.atomic
def store_points(channel: Channel, points: Points, submission: tuple[str, UUID] | None = None) -> int:
    """All or nothing; returns how many. Raises django.db.DataError for a value that jsonb does not accept.

    `submission` is an Idempotency-Key and the fingerprint of what was sent under it. What was stored under
    the same key before is not stored again: the answer is how many it was. Raises Refused
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
        _count_stored(channel.user_id, len(points.times))
    return len(points.times)


def _count_stored(user: int, count: int) -> None:
    """Last in its transaction: until COMMIT, others of the user's wait here."""
    minute = timezone.now().replace(second=0, microsecond=0)
    raw: psycopg.Connection = connection.connection
    with raw.cursor() as cursor:
        count_minutes(cursor, [Minute(user, minute, count, 0, 0)])


def _store_points(channel: Channel, points: Points, dedupe: int | None) -> None:
    key = channel.pk  # which Django looks up each time
    with connection.wrap_database_errors:
        if dedupe is None and not any(points.tags):
            with _cursor(points.times) as cursor:
                writer.write_series(cursor, key, points.times, points.values)
        else:
            store(_rows(key, points, dedupe))
    _tell(
        channel.user_id,
        (
            Told(at, None, tag, "rest", "stored", None, key, value)
            for tag, value, at in zip(*points, strict=True)
        ),
    )


def _rows(channel: int, points: Points, dedupe: int | None) -> list[writer.Row]:
    tags = _tags({(channel, tag) for tag in set(points.tags) if tag})
    return [
        writer.Row(channel, at, None, tags[channel, tag] if tag else None, value, dedupe)
        for tag, value, at in zip(*points, strict=True)
    ]


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
            raise Refused(
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


@transaction.atomic
def create_tag(channel: Channel, name: str) -> None:
    """Raises Refused: BAD_PARAMETER, CHANNEL_INUSE, QUOTA_EXCEEDED."""
    if bad_tag(name):
        raise Refused("BAD_PARAMETER", f"A tag has {TAG_RULE}.")
    if Tag.objects.filter(channel=channel, name=name).exists():
        raise Refused("CHANNEL_INUSE", f"Channel {channel.number} has a tag {name} already.")
    _tags({(channel.pk, name)})


@transaction.atomic
def rename_tag(tag: Tag, name: str) -> None:
    """Raises Refused: BAD_PARAMETER for a name that no tag may have or another tag of the channel has,
    NO_CHANNEL if it has been deleted meanwhile."""
    if bad_tag(name):
        raise Refused("BAD_PARAMETER", f"A tag has {TAG_RULE}.")
    try:
        with transaction.atomic():
            found = Tag.objects.filter(pk=tag.pk).update(name=name)
    except IntegrityError:
        raise Refused("BAD_PARAMETER", f"tag: there is a tag {name} already.") from None
    if not found:
        raise Refused("NO_CHANNEL", f"The tag {tag.name} has just been deleted.")
    tag.name = name
    invalidation.announce("devices", tag.channel.user_id)


@transaction.atomic
def delete_tag(tag: Tag) -> None:
    """Its datapoints are out of sight at once and purged by a task, as is what ingest stores until it hears
    of this (decision 0013). After that, the next datapoint makes another tag of this name."""
    deleted = DeletedTag(tag=tag.pk, channel=tag.channel_id)
    if not tag.delete()[0]:
        return  # somebody else was faster
    deleted.save(force_insert=True)
    rollups.forget_tag(tag.channel_id, deleted.tag)
    invalidation.announce("devices", tag.channel.user_id)
    transaction.on_commit(_purge_soon)


def _purge_soon() -> None:
    from thingscale.streams.tasks import purge_deleted_tags  # which imports this module

    try:
        purge_deleted_tags.apply_async(retry=False, expires=600)
    except Exception as error:
        log.warning("A deleted tag waits for the next round of the purge: %s", type(error).__name__)
