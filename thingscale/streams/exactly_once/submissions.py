"""What came under a key that is its own: an Idempotency-Key, or an array of datapoints by MQTT.

Each has a row, written in the transaction that stores or holds it. Sent again within the window it is found
by its arrival, whatever times its datapoints have, and answered as it was the first time; with another body
it is not the same request (decision 0025). Whoever looks holds a lock until COMMIT that others with the same
key wait for: the device's, or lock().
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg
from django.conf import settings
from django.utils import timezone

from thingscale.background import maintenance
from thingscale.lib.clock import from_us, now_us
from thingscale.streams.models import Submitted

SLICE = 10_000  # rows a transaction

Key = tuple[int, int]  # account's primary key, and a key of keys.py


class Submission(NamedTuple):
    account: int
    key: int
    body: UUID  # keys.fingerprint() of all that was sent
    answer: str  # in the words of whoever asks


def lock(cursor: psycopg.Cursor, key: int) -> None:
    """For those who have no device's lock. The release before takes the same."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def find(cursor: psycopg.Cursor, keys: Mapping[Key, int]) -> dict[Key, Submission]:
    """Those that arrived at that time (microseconds since 1970) or later."""
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
    return {row[:2]: Submission(*row) for row in cursor.fetchall()}


def record(cursor: psycopg.Cursor, submissions: Sequence[Submission]) -> None:
    """In order of the key, as every writer does it: no deadlock. One past the window is replaced. They arrive
    by the clock by which window.py looks."""
    accounts, keys, bodies, answers = zip(*sorted(submissions, key=lambda each: each[:2]), strict=True)
    cursor.execute(
        """INSERT INTO streams_submitted (account, key, body, answer, arrived_at)
        SELECT k.*, %s FROM unnest(%s::bigint[], %s::bigint[], %s::uuid[], %s::text[]) AS k
        ON CONFLICT (account, key) DO UPDATE
            SET body = excluded.body, answer = excluded.answer, arrived_at = excluded.arrived_at""",
        [from_us(now_us()), list(accounts), list(keys), list(bodies), list(answers)],
    )


def answer_from_now_on(cursor: psycopg.Cursor, keys: Collection[Key], answer: str) -> None:
    """What was held is stored by now."""
    ordered = sorted(set(keys))
    cursor.execute(
        """UPDATE streams_submitted AS s SET answer = %s
        FROM unnest(%s::bigint[], %s::bigint[]) AS k (account, key)
        WHERE s.account = k.account AND s.key = k.key""",
        [answer, [account for account, _ in ordered], [key for _, key in ordered]],
    )


def forget_old() -> None:
    """Those past the window; some at a time."""
    old = Submitted.objects.filter(arrived_at__lt=timezone.now() - timedelta(seconds=settings.DEDUPE_SECONDS))
    while True:
        maintenance.check_stop()
        oldest = old.order_by("arrived_at").values_list("arrived_at", flat=True)[SLICE - 1 : SLICE].first()
        old.filter(**({"arrived_at__lte": oldest} if oldest else {})).delete()
        if oldest is None:
            return
