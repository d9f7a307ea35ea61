"""Messages that were held for a device: stored once it is enabled and mapped to a channel."""

import logging
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Sum

from thingscale.devices.models import Device, HeldMessage
from thingscale.lib.errors import ContractError
from thingscale.processes.live_feed import MessageEvent
from thingscale.streams import writer
from thingscale.streams.actions.datapoints import publish_stored, store_rows
from thingscale.streams.actions.tags import tag_keys
from thingscale.streams.exactly_once import submissions

log = logging.getLogger(__name__)

SLICE = 500  # devices: with all that may be held for them, 50,000 messages
SLICE_BYTES = 16 * 2**20  # of what is held for them, or one device
HELD_AT_ONCE = 10_000  # datapoints


def store_held(devices: Sequence[int]) -> None:
    """Stores what is held for those that can store by now. They became so in an earlier transaction: nothing
    more is held for them. Some at a time, since ingest may have to wait meanwhile."""
    for start in range(0, len(devices), SLICE):
        for some in _slices(devices[start : start + SLICE]):
            try:
                with transaction.atomic():
                    store_held_now(some)
            except ContractError:  # of one at least, by the limits of its account
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
                store_held_now([device])
        except ContractError as refused:
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


def store_held_now(devices: Sequence[int]) -> None:
    held = _take_held(devices)
    if not held:
        return
    tags = tag_keys({(row.channel, row.tag) for row in held if row.tag})
    for start in range(0, len(held), HELD_AT_ONCE):
        store_rows(
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
        publish_stored(
            user,
            (
                MessageEvent(
                    row.at, row.name, row.tag, "held", "stored", None, row.channel, row.value.encode()
                )
                for row in rows
            ),
        )


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
