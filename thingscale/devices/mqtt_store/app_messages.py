"""Messages that apps publish, which the gateways take from the table mqtt_publish, and the results of
commands among them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import psycopg

from thingscale.devices.models import Command


class PublishedMessage(NamedTuple):
    key: int
    account: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    command: int
    claimed: bool  # the gateway that reads it has to put it into the queues


def claim_messages(cursor: psycopg.Cursor, gateway: UUID, seen: Sequence[int]) -> list[PublishedMessage]:
    """Returns the messages that are new to this gateway. It claims those that no gateway has claimed, and
    those that another gateway has claimed and not done in half a minute."""
    cursor.execute(
        """WITH claimed AS (
            UPDATE mqtt_publish SET gateway = %s WHERE id IN (
                SELECT id FROM mqtt_publish
                WHERE NOT done AND (gateway IS NULL OR at < now() - interval '30 s') AND id <> ALL (%s)
                ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
            ) RETURNING id
        )
        SELECT p.id, account_id, topic, payload, qos, retain, command, c.id IS NOT NULL
        FROM mqtt_publish p LEFT JOIN claimed c USING (id)
        WHERE c.id IS NOT NULL OR (p.id <> ALL (%s) AND at > now() - interval '30 s')
        ORDER BY p.id""",
        [gateway, list(seen), list(seen)],
    )
    return [PublishedMessage(*row) for row in cursor.fetchall()]


def mark_done(cursor: psycopg.Cursor, keys: Sequence[int]) -> None:
    """They are in the queues. They are deleted after a minute, in which each gateway can see them."""
    cursor.execute("UPDATE mqtt_publish SET done = true WHERE id = ANY (%s)", [list(keys)])
    cursor.execute("DELETE FROM mqtt_publish WHERE done AND at < now() - interval '60 s'")


def set_command_results(cursor: psycopg.Cursor, results: Mapping[int, str]) -> None:
    keys = sorted(results)
    cursor.execute(
        """UPDATE devices_command c SET result = k.result
        FROM unnest(%s::bigint[], %s::text[]) AS k (id, result)
        WHERE c.id = k.id AND c.result <> %s""",
        [keys, [results[key] for key in keys], Command.ACKNOWLEDGED],
    )
