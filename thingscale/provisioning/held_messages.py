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
from thingscale.lib.ids import ChannelPk, DevicePk, UserPk
from thingscale.processes.live_feed import MessageEvent
from thingscale.streams import writer
from thingscale.streams.actions.datapoints import publish_stored, store_rows
from thingscale.streams.actions.tags import tag_keys
from thingscale.streams.exactly_once import idempotent_requests

log = logging.getLogger(__name__)

BATCH_DEVICES = 500  # of a transaction: at most 50,000 held messages
BATCH_BYTES = 16 * 2**20  # of held messages of a transaction, unless it is for one device
STATEMENT_ROWS = 10_000  # datapoints


def store_held(devices: Sequence[DevicePk]) -> None:
    """Stores the held messages of those devices that are enabled and mapped by now, in a transaction for each
    batch: ingest may have to wait for the batch's devices. They were enabled and mapped in an earlier
    transaction, so no more messages are held for them."""
    for start in range(0, len(devices), BATCH_DEVICES):
        for batch in _batches(devices[start : start + BATCH_DEVICES]):
            try:
                with transaction.atomic():
                    store_held_in_transaction(batch)
            except ContractError:  # at least one account is at a limit: one by one, the others can be stored
                for device in batch:
                    try:
                        with transaction.atomic():
                            store_held_in_transaction([device])
                    except ContractError as refused:  # stays held, for the next round of store_left_held()
                        log.info(
                            "What is held for device %d is not stored: %s: %s",
                            device,
                            refused.code,
                            refused.detail,
                        )


def _batches(devices: Sequence[DevicePk]) -> Iterable[list[DevicePk]]:
    """Batches of the devices that have held messages, so small that these fit into memory."""
    held = HeldMessage.objects.filter(device__in=devices).order_by("device")
    batch: list[DevicePk] = []
    total = 0
    for device, size in held.values_list("device").annotate(size=Sum("size")):
        if batch and total + size > BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(device)
        total += size
    if batch:
        yield batch


def store_left_held() -> None:
    """Stores the held messages of devices whose change was cut off before its messages were stored."""
    ready = Device.objects.filter(enabled=True).exclude(mapped_channel=None)
    pks = ready.filter(held__isnull=False).values_list("pk", flat=True).distinct().order_by("pk")
    store_held([DevicePk(pk) for pk in pks])


class HeldDatapoint(NamedTuple):
    id: int  # of its held message
    place: int  # in its array
    channel: ChannelPk
    user: UserPk
    device: DevicePk
    name: str
    at: int  # microseconds since 1970 UTC
    tag: str | None
    value: str  # JSON text from PostgreSQL, so that a number keeps every digit
    dedupe: int | None
    array: bool  # it belongs to an array


def store_held_in_transaction(devices: Sequence[DevicePk]) -> None:
    """Stores, in the caller's transaction, what is held for those that are enabled and mapped."""
    held = _remove_held(devices)
    if not held:
        return
    device_ids = {row.device: row.name for row in held}
    tags = tag_keys({(row.channel, row.tag) for row in held if row.tag})
    for start in range(0, len(held), STATEMENT_ROWS):
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
                for row in held[start : start + STATEMENT_ROWS]
            ],
            device_ids,
        )
    with_key = {
        (row.user, row.dedupe) for row in held if row.dedupe is not None and (row.array or row.dedupe < 0)
    }
    if with_key:
        with connection.connection.cursor() as cursor:
            idempotent_requests.change_answer(cursor, with_key, "")
    by_user = itemgetter(HeldDatapoint._fields.index("user"))
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


def _remove_held(devices: Sequence[DevicePk]) -> list[HeldDatapoint]:
    """Deletes the held messages of those devices that are enabled and mapped, and returns their datapoints in
    the order of arrival."""
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
        return sorted((HeldDatapoint(*row) for row in cursor.fetchall()), key=itemgetter(0, 1))
