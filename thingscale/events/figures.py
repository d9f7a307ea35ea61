"""Figures of events and their deliveries, for pages of metrics.

The processes that do the work have no such page, so they count in a table, and the pages of other processes
show what is in it. Who is killed between a commit and its count has counted too little.
"""

from collections import Counter
from dataclasses import dataclass, field

import psycopg

from thingscale.events.models import Delivery

LATE_SECONDS = 2.0
MATCHES, MATCHES_LEFT_OUT, DELIVERIES, LATE = "matches", "matches left out", "deliveries", "late"
DROPPED, SET_ASIDE, NOT_KEPT = "dropped", "set aside", "not kept"
RETRIED = "retried"
OUTCOMES = (Delivery.Status.SENT, Delivery.Status.FAILED, Delivery.Status.LEFT_OUT, RETRIED)

Counted = Counter[tuple[str, str]]  # by one of the names above, and the labels of DELIVERIES


def of_delivery(transport: str, outcome: str) -> tuple[str, str]:
    return DELIVERIES, f"{transport}:{outcome}"


def count(connection: psycopg.Connection, counted: Counted) -> None:
    """In a transaction of its own, so that nobody waits for another one that counts the same."""
    rows = sorted((*figure, number) for figure, number in counted.items() if number)
    if rows:
        connection.execute(
            """INSERT INTO events_figure AS known (name, label, value)
            SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[])
            ON CONFLICT (name, label) DO UPDATE SET value = known.value + EXCLUDED.value""",
            [list(column) for column in zip(*rows, strict=True)],
        )


@dataclass
class Figures:
    """Of all accounts."""

    counted: Counted = field(default_factory=Counter)
    observations: int = 0  # that wait for the worker
    oldest_observation: float = 0.0  # seconds
    deliveries: int = 0  # that wait
    overdue: float = 0.0  # seconds: of the delivery that should have been sent first
    conditions: dict[str, int] = field(default_factory=dict)  # that are not ok, by their state


def read(connection: psycopg.Connection) -> Figures:
    found = Figures()
    for name, label, value in connection.execute("SELECT name, label, value FROM events_figure"):
        found.counted[name, label] = value
    ((found.observations, found.oldest_observation),) = connection.execute(
        """SELECT count(*), coalesce(extract(epoch FROM now() - min(stored_at)), 0)::float
        FROM events_observation"""
    ).fetchall()
    ((found.deliveries, found.overdue),) = connection.execute(
        """SELECT count(*), greatest(extract(epoch FROM now() - min(due_at)), 0)::float
        FROM events_delivery WHERE status = 'waiting'"""
    ).fetchall()
    found.conditions = dict(
        connection.execute(
            "SELECT state, count(*) FROM events_condition WHERE state <> 'ok' GROUP BY state"
        ).fetchall()
    )
    return found
