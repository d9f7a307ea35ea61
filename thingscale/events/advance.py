"""Lets the conditions of events follow what the writers saw, and what is owed to receivers follow the
conditions: incidents, deliveries, and the retained state of each event for MQTT clients.

`advance` takes observations, and `look_at_due` the conditions that time alone changes. Each does all of its
work in one transaction, so whoever is killed has done all of it or nothing.
"""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row

from thingscale.devices import listening
from thingscale.events import figures, messages, mqtt_state, states
from thingscale.events.figures import Counted
from thingscale.events.models import ConditionKey, Delivery, Event, Incident, Observation
from thingscale.events.noise import ActiveWindow, Quiet
from thingscale.events.outbox import Outbox, copy_rows
from thingscale.events.states import Datapoint, Hush, Message, Notice, Policy, Standing, State, Told
from thingscale.lib.ids import UserPk
from thingscale.processes.change_notifications import CHANNEL, EVENT_OPEN

BATCH = 500  # observations, or conditions, of a transaction
FAIR = 20_000  # of the oldest observations, among which accounts take turns
MAX_OWED = 1_000  # deliveries of a transaction; then the next one begins
MAX_WAITING = 20_000  # observations of an account
OLDEST = 100_000  # of those that are too many, that are looked at at once
LEAVE_OUT_SECONDS = 0.5  # of a look, after which other accounts wait for the next

# The rows come and go faster than the statistics of the tables follow.
_BY_INDEX = "SET LOCAL enable_seqscan = off"

_FIGURES: dict[int, str] = {
    Observation.What.MATCHED: figures.MATCHES,
    Observation.What.LEFT_OUT: figures.MATCHES_LEFT_OUT,
}

# From account to account in the index, however many rows each of them has.
_ACCOUNTS = """WITH RECURSIVE each AS (
    (SELECT account FROM events_observation ORDER BY account LIMIT 1)
    UNION ALL
    SELECT next.account FROM each last CROSS JOIN LATERAL (
        SELECT account FROM events_observation WHERE account > last.account ORDER BY account LIMIT 1) next)"""
# The oldest of each account, then the second ones, and so on: an account that floods its events is not in the
# way of others.
_NEXT = f"""{_ACCOUNTS}, waiting AS (SELECT account, %(fair)s / count(*) OVER () AS share FROM each)
SELECT o.id, o.event, o.device, o.tag, o.what, o.at, o.value, o.count, o.stored_at
FROM waiting CROSS JOIN LATERAL (
    SELECT *, row_number() OVER (ORDER BY id) AS turn FROM (
        SELECT * FROM events_observation WHERE account = waiting.account AND event <> ALL (%(aside)s)
        ORDER BY id LIMIT greatest(least(waiting.share, %(most)s), 1)) oldest) o
ORDER BY o.turn, o.id LIMIT %(most)s"""  # noqa: S608
_FORGET = "DELETE FROM events_observation WHERE id = ANY (%s)"
_TOO_MANY = f"""{_ACCOUNTS}
SELECT account, n.count - %(most)s FROM each CROSS JOIN LATERAL (
    SELECT count(*) FROM (SELECT FROM events_observation o WHERE o.account = each.account
        LIMIT %(most)s + %(oldest)s) found) n
WHERE n.count > %(most)s"""  # noqa: S608
# Which of them: the oldest that what is left says, too. Not the first and not the last one of matches that
# follow each other, so that all states and incidents are the same. Only if these are too many as well, all
# but the newest match and the newest end of a condition, so that its state comes out right at least.
_LEAVE_OUT = """WITH oldest AS (
    SELECT id, event, device, tag, what, at FROM events_observation WHERE account = %(account)s AND what <> 2
    ORDER BY id LIMIT %(oldest)s
), places AS (
    SELECT id, event, what, at, lag(what) OVER condition AS before, lead(what) OVER condition AS after,
        row_number() OVER (PARTITION BY event, device, tag, what ORDER BY id DESC) AS newest
    FROM oldest WINDOW condition AS (PARTITION BY event, device, tag ORDER BY id)
), spare AS (
    SELECT id, what = 1 AND coalesce(before = 1 AND after = 1, false) AS amid, event, what, at
    FROM places WHERE newest > 1 ORDER BY amid DESC, id LIMIT %(count)s
), left_out AS (
    DELETE FROM events_observation WHERE id IN (SELECT id FROM spare)
)
SELECT event, amid, count(*), max(at) FROM spare WHERE what = 1 GROUP BY event, amid"""
_MERGE_LEFT_OUT = """WITH known AS (
    DELETE FROM events_observation WHERE account = %(account)s AND what = 2 RETURNING event, count, at
), all_of_them AS (
    SELECT event, count, at FROM known
    UNION ALL SELECT * FROM unnest(%(events)s::bigint[], %(counts)s::int[], %(times)s::timestamptz[])
)
INSERT INTO events_observation (account, event, what, at, value, count, device, tag)
SELECT %(account)s, event, 2, max(at), '', least(sum(count), 2147483647), 0, 0
FROM all_of_them GROUP BY event"""

# The lock lets nobody change or delete an event while its states follow what the old one saw.
_EVENTS = """SELECT e.id AS pk, e.user_id AS "user", e.number, e.description, e.notify_type, e.post_url,
    e.kind, e.source, e.operator, e.threshold, e.clear, e.repeat, e.hold, e."window", e.period, e.grace,
    e.no_data_after, e.min_interval, e.severity, e.quiet_hours, e.muted_until, e.changed_at,
    c.id AS channel, c.number AS channel_number, coalesce(c.name, '') AS channel_name,
    u.email1, u.email2, u.locale
FROM events_event e JOIN accounts_user u ON u.id = e.user_id
LEFT JOIN streams_channel c ON c.id = e.mapped_channel_id
WHERE e.id = ANY (%s) AND e.enabled AND u.closed_at IS NULL ORDER BY e.id FOR SHARE OF e"""

_CONDITIONS = """SELECT c.event_id, c.device, c.tag, c.muted_until, c.state, c.since, c.at, c.value,
    c.notified_at, c.incident_id, c.changes, c.told, c.left_out FROM events_condition c"""
_KNOWN = f"""{_CONDITIONS} JOIN unnest(%s::bigint[], %s::bigint[], %s::int[]) AS wanted (event, device, tag)
    ON c.event_id = wanted.event AND c.device = wanted.device AND c.tag = wanted.tag
ORDER BY c.id FOR UPDATE OF c"""
_EVENTS_DUE = """SELECT event_id FROM events_condition WHERE due_at <= now() AND event_id <> ALL (%s)
ORDER BY due_at LIMIT %s"""
_DUE = f"""{_CONDITIONS} WHERE c.due_at <= now() AND c.event_id = ANY (%s)
ORDER BY c.due_at LIMIT %s FOR UPDATE OF c SKIP LOCKED"""

CONDITION_COLUMNS = {
    "event_id": "bigint",
    "device": "bigint",
    "tag": "int",
    "state": "text",
    "since": "timestamptz",
    "at": "timestamptz",
    "value": "text",
    "notified_at": "timestamptz",
    "incident_id": "bigint",
    "changes": "jsonb",
    "told": "text",
    "left_out": "int",
    "due_at": "timestamptz",
}
_SAVE = f"""INSERT INTO events_condition ({", ".join(CONDITION_COLUMNS)})
SELECT * FROM unnest({", ".join(f"%s::{of}[]" for of in CONDITION_COLUMNS.values())})
ON CONFLICT (event_id, device, tag)
DO UPDATE SET {", ".join(f"{name} = EXCLUDED.{name}" for name in list(CONDITION_COLUMNS)[3:])}"""  # noqa: S608

_HEARD = """SELECT wanted.event, wanted.device, wanted.tag, CASE WHEN wanted.device <> 0
    THEN (SELECT last_seen FROM devices_activity a WHERE a.device_id = wanted.device)
    ELSE (SELECT l.at FROM streams_latest l WHERE l.channel_id = wanted.channel AND l.tag = wanted.tag) END
FROM unnest(%s::bigint[], %s::bigint[], %s::int[], %s::bigint[]) AS wanted (event, device, tag, channel)"""


class WaitingObservation(NamedTuple):
    """An Observation, read from its row."""

    id: int
    event: int
    device: int
    tag: int
    what: int
    at: datetime
    value: str
    matches: int  # more than one if they were left out
    stored_at: datetime

    @property
    def key(self) -> ConditionKey:
        return self.event, self.device, self.tag


@dataclass
class WatchedEvent:
    """An event with what its messages need of its account and its channel."""

    pk: int
    user: UserPk
    number: int
    description: str
    notify_type: str
    post_url: str
    kind: str
    source: str
    operator: str
    threshold: str
    clear: str
    repeat: str
    hold: int
    window: int
    period: int
    grace: int
    no_data_after: int
    min_interval: int
    severity: str
    quiet_hours: str
    muted_until: datetime | None
    changed_at: datetime | None
    channel: int | None
    channel_number: int | None
    channel_name: str
    email1: str
    email2: str
    locale: str
    contact_points: list[int] = field(default_factory=list)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.locale)

    @property
    def policy(self) -> Policy:
        return policy_of(self)

    @property
    def is_ours(self) -> bool:
        """A kind that the original did not have: webhooks are told its end, too."""
        return self.kind != Event.Kind.THRESHOLD


def policy_of(event: WatchedEvent | Event) -> Policy:
    """A change is over with the datapoint that says it, so it is told like one."""
    of_datapoints = (
        event.repeat == Event.Repeat.EVERY
        and event.kind in {Event.Kind.THRESHOLD, Event.Kind.CHANGE}
        and not event.hold
        and not event.clear
    )
    return Policy(of_datapoints, event.hold, event.no_data_after, event.min_interval)


@dataclass
class ConditionRow:
    """A Condition, read from its row."""

    event: int
    device: int
    tag: int
    standing: Standing
    muted_until: datetime | None = None
    incident: int | None = None

    @property
    def key(self) -> ConditionKey:
        return self.event, self.device, self.tag


def advance(connection: psycopg.Connection, most: int = BATCH, aside: Collection[int] = ()) -> int:
    """Takes the oldest observations, but for those of events that are set aside; returns how many."""
    counted: Counted = Counter()
    with connection.transaction():
        connection.execute(_BY_INDEX)
        waiting = _next(connection, most, aside)
        if not waiting:
            return 0
        batch = Batch(connection)
        batch.load_events({seen.event for seen in waiting})
        batch.load_conditions({seen.key for seen in waiting if seen.what != Observation.What.LEFT_OUT})
        followed: list[int] = []
        for seen in waiting:
            if batch.owed >= MAX_OWED:
                break
            batch.follow(seen)
            followed.append(seen.id)
            if figure := _FIGURES.get(seen.what):
                counted[figure, ""] += seen.matches
        connection.execute(_FORGET, [followed])
        counted += batch.save()
    batch.settle()
    figures.count(connection, counted)
    return len(followed)


def _next(connection: psycopg.Connection, most: int, aside: Collection[int]) -> list[WaitingObservation]:
    """Of each account, they are in their order."""
    found = connection.execute(_NEXT, {"fair": FAIR, "most": most, "aside": list(aside)})
    return [WaitingObservation(*row) for row in found]


def leave_out(connection: psycopg.Connection) -> None:
    """Matches of accounts that have too many waiting: the oldest ones become a count."""
    began = time.monotonic()
    with connection.transaction():
        connection.execute(_BY_INDEX)
        too_many = connection.execute(_TOO_MANY, {"most": MAX_WAITING, "oldest": OLDEST}).fetchall()
    for account, count in too_many:
        if time.monotonic() - began > LEAVE_OUT_SECONDS:
            break
        limits = {"account": account, "count": count, "oldest": MAX_WAITING + OLDEST}
        with connection.transaction():
            connection.execute(_BY_INDEX)
            found = connection.execute(_LEAVE_OUT, limits).fetchall()
            batch = Batch(connection)
            batch.load_events({event for event, *_ in found})
            # Of an event that tells its state, nothing is lost between two matches.
            said = [
                (event, matches, at)
                for event, amid, matches, at in found
                if not amid or batch.tells_each(event)
            ]
            events, counts, times = map(list, zip(*said, strict=True)) if said else ([], [], [])
            lists = {"account": account, "events": events, "counts": counts, "times": times}
            connection.execute(_MERGE_LEFT_OUT, lists)


def look_at_due(connection: psycopg.Connection, most: int = BATCH, aside: Collection[int] = ()) -> int:
    """Looks at conditions that time may have changed, but for those of events that are set aside; returns how
    many."""
    counted: Counted = Counter()
    with connection.transaction():
        # Events are locked before their conditions, as by whoever changes or deletes an event.
        events = {event for (event,) in connection.execute(_EVENTS_DUE, [list(aside), most])}
        if not events:
            return 0
        batch = Batch(connection)
        batch.load_events(events)
        rows = [_row(each) for each in connection.execute(_DUE, [list(events), most])]
        if rows:
            batch.rows = {row.key: row for row in rows}
            batch.look()
            counted = batch.save()
    batch.settle()
    figures.count(connection, counted)
    return len(rows)


def next_event(connection: psycopg.Connection, aside: Collection[int]) -> int | None:
    """Whose turn it is."""
    return next((seen.event for seen in _next(connection, 1, aside)), None)


def next_event_due(connection: psycopg.Connection, aside: Collection[int]) -> int | None:
    return next((event for (event,) in connection.execute(_EVENTS_DUE, [list(aside), 1])), None)


def drop_observation(connection: psycopg.Connection, aside: Collection[int]) -> None:
    """The one whose turn it is, which can't be followed."""
    connection.execute(_FORGET, [[seen.id for seen in _next(connection, 1, aside)]])


def drop_due(connection: psycopg.Connection, aside: Collection[int]) -> None:
    connection.execute(
        """UPDATE events_condition SET due_at = NULL WHERE id = (SELECT id FROM events_condition
        WHERE due_at <= now() AND event_id <> ALL (%s) ORDER BY due_at LIMIT 1)""",
        [list(aside)],
    )


class Batch:
    """The conditions of one transaction: what it loads, and what it writes at its end."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._now: datetime = connection.execute("SELECT now()").fetchall()[0][0]
        self._events: dict[int, WatchedEvent] = {}
        self._windows: dict[UserPk, list[ActiveWindow]] = {}
        self.rows: dict[ConditionKey, ConditionRow] = {}
        self._device_ids: dict[int, str] = {}
        self._tags: dict[int, str] = {}
        self._hushes: dict[ConditionKey, Hush | None] = {}
        self._heard: dict[ConditionKey, datetime] = {}
        self._opened: dict[int, list[Any]] = {}  # new incidents by primary key, as columns
        self._closed: list[tuple[int, datetime, str]] = []
        self._incident_keys: list[int] = []
        self._outbox = Outbox(connection, self._now)
        self._changed: set[int] = set()  # events whose states did
        self._open_keys: set[ConditionKey] = set()

    def load_events(self, keys: Collection[int]) -> None:
        with self._connection.cursor(row_factory=class_row(WatchedEvent)) as cursor:
            self._events = {event.pk: event for event in cursor.execute(_EVENTS, [list(keys)])}
        for event, contact_point in self._connection.execute(
            """SELECT e.event_id, p.id FROM events_eventcontact e
            JOIN events_contactpoint p ON p.id = e.contact_point_id
            WHERE e.event_id = ANY (%s) AND p.enabled ORDER BY p.id""",
            [list(self._events)],
        ):
            self._events[event].contact_points.append(contact_point)
        for user, devices, ends_at in self._connection.execute(
            """SELECT user_id, devices, ends_at FROM events_maintenancewindow
            WHERE user_id = ANY (%s) AND starts_at <= now() AND ends_at > now()""",
            [list({event.user for event in self._events.values()})],
        ):
            self._windows.setdefault(user, []).append(ActiveWindow(devices, ends_at))

    @property
    def owed(self) -> int:
        """Deliveries."""
        return self._outbox.size

    def tells_each(self, event: int) -> bool:
        """Whether each match of the event is a message."""
        return event in self._events and self._events[event].policy.of_datapoints

    def load_conditions(self, keys: Collection[ConditionKey]) -> None:
        known = [key for key in keys if key[0] in self._events]
        columns = [list(column) for column in zip(*known, strict=True)] or [[], [], []]
        rows = [_row(each) for each in self._connection.execute(_KNOWN, columns)]
        self.rows = {row.key: row for row in rows}
        self._load_names(known)

    def _load_names(self, keys: Iterable[ConditionKey]) -> None:
        devices, tags = {key[1] for key in keys} - {0}, {key[2] for key in keys} - {0}
        self._device_ids = dict(
            self._connection.execute(
                "SELECT id, device_id FROM devices_device WHERE id = ANY (%s)", [list(devices)]
            ).fetchall()
        )
        self._tags = dict(
            self._connection.execute(
                "SELECT id, name FROM streams_tag WHERE id = ANY (%s)", [list(tags)]
            ).fetchall()
        )

    def follow(self, seen: WaitingObservation) -> None:
        event = self._events.get(seen.event)
        if event is None or (event.changed_at and seen.stored_at < event.changed_at):
            return  # it is deleted, disabled, or another one by now
        if seen.what == Observation.What.LEFT_OUT:
            message = Message(Notice.MATCH, Datapoint(seen.at, "null"))
            body = messages.body(event, self._subject(event), message, State.FIRING)
            self._outbox.say_left_out(event, body, seen.matches)
            return
        # A device's clock that is ahead must not make us deaf to what others send until then.
        at = min(seen.at, seen.stored_at)
        row = self.rows.get(seen.key)
        if row is None:
            if seen.what == Observation.What.CLEARED:
                return
            row = self.rows[seen.key] = ConditionRow(*seen.key, Standing(since=at, at=at))
        policy, before = event.policy, row.standing.state
        if seen.what == Observation.What.MATCHED:
            changed = states.match(row.standing, policy, Datapoint(at, seen.value), self._now)
        else:
            changed = states.clear(row.standing, Datapoint(at, seen.value), self._now)
        if changed:
            self._note_change(event, row, before)
        hush = self._hush(event, row)
        if not policy.of_datapoints:
            self._tell(event, row, states.tell_state(row.standing, policy, changed, self._now, hush))
        elif seen.what == Observation.What.MATCHED:
            datapoint = Datapoint(seen.at, seen.value)
            self._tell(event, row, states.tell_datapoint(row.standing, policy, datapoint, self._now, hush))

    def look(self) -> None:
        """At what time has changed."""
        self._load_names(self.rows)
        self._load_heard()
        for row in self.rows.values():
            event = self._events.get(row.event)
            if event is None:
                continue  # save() lets it rest
            policy, before = event.policy, row.standing.state
            changed = states.pass_time(row.standing, policy, self._now, self._heard.get(row.key))
            if changed:
                self._note_change(event, row, before)
            hush = self._hush(event, row)
            if policy.of_datapoints:
                message = states.tell_left_out(row.standing, policy, self._now, hush)
            else:
                message = states.tell_state(row.standing, policy, changed, self._now, hush)
            self._tell(event, row, message)

    def _load_heard(self) -> None:
        wanted = [
            (*row.key, self._events[row.event].channel)
            for row in self.rows.values()
            if row.event in self._events and self._events[row.event].no_data_after
        ]
        if not wanted:
            return
        # While the platform did not listen, and until all devices are back, it is not they who are silent.
        ((gap,),) = self._connection.execute(
            "SELECT max(coalesce(ended_at, now())) + %s FROM devices_listeninggap", [listening.RETURN]
        ).fetchall()
        columns = [list(column) for column in zip(*wanted, strict=True)]
        for *key, heard in self._connection.execute(_HEARD, columns):
            if known := [moment for moment in (heard, gap) if moment]:
                self._heard[tuple(key)] = max(known)

    def _hush(self, event: WatchedEvent, row: ConditionRow) -> Hush | None:
        if row.key not in self._hushes:
            quiet = Quiet(event.muted_until, self._windows.get(event.user, ()), event.quiet_hours, event.zone)
            device_id = self._device_ids.get(row.device, "")
            self._hushes[row.key] = quiet.hush(device_id, row.muted_until, self._now)
        return self._hushes[row.key]

    def _note_change(self, event: WatchedEvent, row: ConditionRow, before: State) -> None:
        it = row.standing
        self._changed.add(event.pk)
        if before == State.OK:
            self._open_keys.add(row.key)
        if it.state == State.FIRING:
            row.incident = self._next_incident_key()
            self._opened[row.incident] = [
                *(row.incident, event.user, event.pk, event.number, self._title(event), event.severity),
                *(event.channel, row.device, self._device_ids.get(row.device, "")),
                *(
                    self._tags.get(row.tag, ""),
                    event.source,
                    event.threshold,
                    messages.shown(it.value),
                    it.since,
                ),
                *(None, "", ""),
            ]
        elif before == State.FIRING and row.incident:
            over = Incident.Over.NO_DATA if it.state == State.NO_DATA else Incident.Over.CLEARED
            self._closed.append((row.incident, it.since, over))

    def _title(self, event: WatchedEvent) -> str:
        if event.description:
            return event.description
        if event.kind == Event.Kind.SILENCE:
            return f"Event {event.number}: silence"
        return f"Event {event.number}: {event.source} {event.operator} {event.threshold}"[:1000]

    def _next_incident_key(self) -> int:
        if not self._incident_keys:
            found = self._connection.execute(
                "SELECT nextval(pg_get_serial_sequence('events_incident', 'id')) FROM generate_series(1, 100)"
            )
            self._incident_keys = [key for (key,) in reversed(found.fetchall())]
        return self._incident_keys.pop()

    def _tell(self, event: WatchedEvent, row: ConditionRow, message: Message | None) -> None:
        if message is None:
            return
        it = row.standing
        body = messages.body(event, self._subject(event, row.device, row.tag), message, it.state)
        body["incident"] = (
            row.incident if it.state == State.FIRING or message.notice == Notice.RESOLVED else None
        )
        self._outbox.owe(event, ABOUT[message.notice], body, message.hush.why if message.hush else "")

    def _subject(self, event: WatchedEvent, device: int = 0, tag: int = 0) -> messages.Subject:
        return messages.Subject(
            event.channel_number,
            event.channel_name,
            self._device_ids.get(device, ""),
            self._tags.get(tag),
            event.zone,
        )

    def save(self) -> Counted:
        """Returns the deliveries that are recorded, and not sent."""
        for key, ended_at, over in self._closed:
            if key in self._opened:
                self._opened[key][14:16] = ended_at, over
        copy_rows(self._connection, "events_incident", INCIDENT_COLUMNS, self._opened.values())
        closed = [each for each in self._closed if each[0] not in self._opened]
        if closed:
            self._connection.execute(
                """UPDATE events_incident i SET ended_at = new.ended_at, over = new.over
                FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[]) AS new (id, ended_at, over)
                WHERE i.id = new.id AND i.ended_at IS NULL""",
                [list(column) for column in zip(*closed, strict=True)],
            )
        self._save_conditions()
        left_out = self._outbox.save()
        self._announce()
        return left_out

    def settle(self) -> None:
        """After the commit."""
        self._outbox.settle()

    def _save_conditions(self) -> None:
        rows = sorted(self.rows.values(), key=lambda row: row.key)
        columns: list[list[Any]] = [[] for _ in CONDITION_COLUMNS]
        for row in rows:
            it, event = row.standing, self._events.get(row.event)
            due = states.due_at(it, event.policy, self._heard.get(row.key)) if event else None
            values = (
                *(*row.key, it.state, it.since, it.at, it.value, it.notified_at, row.incident),
                *(json.dumps(it.changes), it.told, it.left_out, due),
            )
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        self._connection.execute(_SAVE, columns)

    def _announce(self) -> None:
        if self._changed:
            with self._connection.cursor() as cursor:
                mqtt_state.publish(cursor, self._changed)
        if self._open_keys:
            told = [
                f"{EVENT_OPEN}:{self._events[event].user}:{event}:{device}:{tag}"
                for event, device, tag in self._open_keys
            ]
            self._connection.execute(
                "SELECT pg_notify(%s, told) FROM unnest(%s::text[]) AS told", [CHANNEL, told]
            )


ABOUT = {
    Notice.MATCH: Delivery.About.MATCH,
    Notice.FIRING: Delivery.About.FIRING,
    Notice.FLAPPING: Delivery.About.FIRING,
    Notice.RESOLVED: Delivery.About.RESOLVED,
}
INCIDENT_COLUMNS = (
    *("id", "user_id", "event_id", "number", "title", "severity", "channel", "device", "device_id", "tag"),
    *("source", "threshold", "value", "started_at", "ended_at", "over", "acknowledged_by"),
)


def _row(columns: Sequence[Any]) -> ConditionRow:
    event, device, tag, muted_until, state, since, at, value, notified_at, incident, *rest = columns
    changes, told, left_out = rest
    standing = Standing(since, at, value, State(state), Told(told), left_out, notified_at, changes)
    return ConditionRow(event, device, tag, standing, muted_until, incident)
