"""Requests that have a key of their own: those with an Idempotency-Key, and arrays of datapoints by MQTT. The
datapoints of a request share one dedupe key.

Each has a row, written in the transaction that stores or holds its datapoints. If it is sent again within the
window, it is found by the time of its arrival, whatever times its datapoints have, and gets the same answer
as the first time. With another body it is not the same request (decision 0025). Whoever looks for a
request holds a lock until COMMIT, so that others with the same key wait: the device's lock, or lock().
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg
from django.conf import settings

from thingscale.background import maintenance
from thingscale.lib.clock import from_us, now
from thingscale.streams.models import Submitted

BATCH_ROWS = 10_000  # of a transaction

Key = tuple[int, int]  # account's primary key, and a key of keys.py


class IdempotentRequest(NamedTuple):
    account: int
    key: int
    body: UUID  # keys.fingerprint() of all that was sent
    answer: str  # what it means is up to the caller: REST and ingest have their own


def lock(cursor: psycopg.Cursor, key: int) -> None:
    """For callers that hold no device's lock. The release before takes the same lock."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def find(cursor: psycopg.Cursor, keys: Mapping[Key, int]) -> dict[Key, IdempotentRequest]:
    """The requests with these keys that arrived at the key's time (microseconds since 1970) or later."""
    ordered = sorted(keys)
    cursor.execute(
        """SELECT s.account, s.key, s.body, s.answer
        FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS k (account, key, since)
        JOIN streams_submitted AS s ON s.account = k.account AND s.key = k.key
        WHERE s.arrived_at >= k.since""",
        [
            [account for account, _ in ordered],
            [key for _, key in ordered],
            [from_us(keys[each]) for each in ordered],
        ],
    )
    return {row[:2]: IdempotentRequest(*row) for row in cursor.fetchall()}


def record(cursor: psycopg.Cursor, requests: Sequence[IdempotentRequest]) -> None:
    """Every writer inserts in the order of the keys, so that no two meet in a deadlock. Replaces a submission
    that is past the window. The time of arrival is of the clock that window.py reads."""
    accounts, keys, bodies, answers = zip(*sorted(requests, key=lambda each: each[:2]), strict=True)
    cursor.execute(
        """INSERT INTO streams_submitted (account, key, body, answer, arrived_at)
        SELECT k.*, %s FROM unnest(%s::bigint[], %s::bigint[], %s::uuid[], %s::text[]) AS k
        ON CONFLICT (account, key) DO UPDATE
            SET body = excluded.body, answer = excluded.answer, arrived_at = excluded.arrived_at""",
        [now(), list(accounts), list(keys), list(bodies), list(answers)],
    )


def change_answer(cursor: psycopg.Cursor, keys: Collection[Key], answer: str) -> None:
    """For messages that were held and are stored now."""
    ordered = sorted(set(keys))
    cursor.execute(
        """UPDATE streams_submitted AS s SET answer = %s
        FROM unnest(%s::bigint[], %s::bigint[]) AS k (account, key)
        WHERE s.account = k.account AND s.key = k.key""",
        [answer, [account for account, _ in ordered], [key for _, key in ordered]],
    )


def delete_old() -> None:
    """Deletes requests that are past the window, batch by batch."""
    old = Submitted.objects.filter(arrived_at__lt=now() - timedelta(seconds=settings.DEDUPE_SECONDS))
    while True:
        maintenance.check_stop()
        times = old.order_by("arrived_at").values_list("arrived_at", flat=True)
        until = times[BATCH_ROWS - 1 : BATCH_ROWS].first()
        old.filter(**({"arrived_at__lte": until} if until else {})).delete()
        if until is None:
            return
