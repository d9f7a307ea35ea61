"""How it stands with an event, as the retained message of TOKEN/events/EVENT_ID for MQTT clients.

It is a row of mqtt_publish, written in the transaction that changes the state: gateways take it from there.
In broker mode nobody else does, so `Relay` publishes it to the broker.
"""

import json
import logging
from collections.abc import Collection
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import psycopg
from django.db import Error, close_old_connections

from thingscale.accounts.models import Token
from thingscale.background.watched import WatchedThread
from thingscale.devices import mqtt_client
from thingscale.events.messages import current
from thingscale.events.states import State
from thingscale.lib.clock import without_colon
from thingscale.lib.names import EVENTS
from thingscale.processes import own_connection
from thingscale.processes.change_notifications import CHANNEL

log = logging.getLogger(__name__)

SHOWN = 20  # conditions of an event
RELAY_SECONDS = 1.0
RELAYED = 100  # messages at a time

_STATES = """SELECT e.user_id, e.number, e.description, e.severity, u.locale,
    n.firing, n.pending, n.no_data, c.state, c.since, c.value, d.device_id, t.name
FROM events_event e JOIN accounts_user u ON u.id = e.user_id
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE state = 'firing') AS firing,
    count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'no data') AS no_data
    FROM events_condition WHERE event_id = e.id AND state <> 'ok') n
LEFT JOIN LATERAL (SELECT * FROM events_condition WHERE event_id = e.id AND state <> 'ok'
    ORDER BY state <> 'firing', since DESC LIMIT %s) c ON true
LEFT JOIN devices_device d ON d.id = c.device LEFT JOIN streams_tag t ON t.id = c.tag
WHERE e.id = ANY (%s) ORDER BY e.user_id, e.number, c.state <> 'firing', c.since DESC"""


class Cursor(Protocol):
    """Django's, or psycopg's."""

    def execute(self, query: Any, params: Any = None) -> Any: ...

    def fetchall(self) -> list[Any]: ...


def publish(cursor: Cursor, events: Collection[int]) -> None:
    """In the caller's transaction, as its last step. `events` are primary keys."""
    cursor.execute(_STATES, [SHOWN, list(events)])
    of_one = groupby(cursor.fetchall(), itemgetter(0, 1))
    _send(cursor, [(user, number, _payload(list(rows))) for (user, number), rows in of_one])


def withdraw(cursor: Cursor, user: int, number: int) -> None:
    """Of an event that is deleted, there is no message any more."""
    _send(cursor, [(user, number, b"")])


def _payload(rows: list[Any]) -> bytes:
    _, number, description, severity, locale, firing, pending, no_data, *_ = rows[0]
    zone = ZoneInfo(locale)
    counts = {State.FIRING: firing, State.PENDING: pending, State.NO_DATA: no_data}
    state = next((state for state, count in counts.items() if count), State.OK)
    said = {
        "event_id": number,
        "description": description,
        "severity": severity,
        "state": state,
        "counts": counts,
        "conditions": [
            {
                "device_id": device_id,
                "tag": tag,
                "state": state,
                "since": without_colon(since, zone),
                "current": current(value),
            }
            for *_, state, since, value, device_id, tag in rows
            if state
        ],
    }
    return json.dumps(said, ensure_ascii=False).encode()


def _send(cursor: Cursor, messages: list[tuple[int, int, bytes]]) -> None:
    if not messages:
        return
    users = [user for user, _, _ in messages]
    topics = [f"{EVENTS}/{number}" for _, number, _ in messages]
    cursor.execute(
        """INSERT INTO mqtt_publish (account_id, topic, payload, qos, retain, command, at)
        SELECT account, topic, payload, 1, true, 0, now()
        FROM unnest(%s::bigint[], %s::text[], %s::bytea[]) AS new (account, topic, payload)""",
        [users, topics, [payload for _, _, payload in messages]],
    )
    cursor.execute(
        "SELECT pg_notify(%s, change) FROM unnest(%s::text[]) AS change",
        [CHANNEL, [f"published:{user}:" for user in set(users)]],
    )


class Relay:
    """Publishes to the site's own broker, in broker mode. One that was cut off goes on where it was; clients
    may get the same state twice."""

    def __init__(self) -> None:
        self._thread = WatchedThread("event states", self._run)
        self._stopping = self._thread.stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._thread.stop(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with closing(own_connection.connect("thingscale-event-states")) as connection:
                    while not self._stopping.wait(RELAY_SECONDS):
                        relay(connection)
            except (psycopg.Error, Error, mqtt_client.Unavailable) as error:
                log.info("States of events wait for the broker or the database: %s", type(error).__name__)
                self._stopping.wait(RELAY_SECONDS)


def relay(connection: psycopg.Connection) -> None:
    """Raises mqtt_client.Unavailable. Of workers that meet here, one waits for the other's transaction."""
    with connection.transaction():
        rows = connection.execute(
            """SELECT id, account_id, topic, payload FROM mqtt_publish WHERE topic LIKE 'events/%%'
            ORDER BY id LIMIT %s FOR UPDATE""",
            [RELAYED],
        ).fetchall()
        if not rows:
            return
        newest = {(account, topic): bytes(payload) for _, account, topic, payload in rows}
        close_old_connections()
        tokens: dict[int, list[str]] = {}
        kind = Token.Kind.DEVICE
        for token in Token.objects.live().filter(user__in={account for account, _ in newest}, kind=kind):
            tokens.setdefault(token.user_id, []).append(token.plain)
        for (account, topic), payload in newest.items():
            for token in tokens.get(account, ()):
                mqtt_client.publish(f"{token}/{topic}", payload, 1, retain=True)
        connection.execute("DELETE FROM mqtt_publish WHERE id = ANY (%s)", [[row[0] for row in rows]])
