"""Silence: which devices are watched, which of them are not heard for too long, and which are heard again.

`events_silencerule` has the events that watch, as they were followed last, and `events_silencewatch` a row
for each device of each of them, with the time at which it has to be looked at again. That is when its silence
would be too long, as of what was known the last time: a device that speaks is looked at once in its period.

Only time counts in which the platform listened (thingscale/devices/listening.py). As far as all processes
that listen at a door have written what they heard, so far one can say that a device was silent. After the
first gap a device gets its whole time again, since it may have spoken in it; each further gap is added. So a
platform that restarts every night still notices who is silent for days.

All times are the database's.
"""

import time
import weakref
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from thingscale.devices import listening
from thingscale.processes.change_notifications import CHANNEL

FOLLOW_SECONDS = 60  # between two comparisons of an event with all devices of its account
CHANGED_SECONDS = 5  # the same, if a device of the account has changed
FOLLOW_AT_ONCE = 50  # events
FOLLOW_BUDGET = 0.5  # seconds of a look, after which other events wait for the next
SHARE = 20_000  # devices of an account that are looked at in one look
RECENT = timedelta(minutes=10)  # a device that is silent for longer is looked for every few seconds only
TURNS = 10

# The rows of an event come and go faster than the statistics of the tables follow.
_BY_INDEX = "SET LOCAL enable_seqscan = off"

_RULES = r"""SELECT e.id AS event, e.user_id AS "user", e.mapped_channel_id AS channel,
    CASE WHEN e.devices = '' THEN '%%' ELSE replace(replace(
        regexp_replace(e.devices, '([\\%%_])', '\\\1', 'g'), '*', '%%'), '?', '_') END AS devices,
    make_interval(secs => e.period::float8 + e.grace) AS silence, e.changed_at
FROM events_event e JOIN accounts_user u ON u.id = e.user_id
WHERE e.kind = 'silence' AND e.enabled AND e.period > 0 AND u.closed_at IS NULL"""

# Who changes an event resets its conditions (reset.py), so that all is to be said again.
_DIFFERS = """(s."user", s.channel, s.devices, s.silence, s.changed_at)
    IS DISTINCT FROM (n."user", n.channel, n.devices, n.silence, n.changed_at)"""
_TO_FOLLOW = f"""SELECT n.*, s.event IS NULL OR {_DIFFERS} AS changed
FROM ({_RULES}) n LEFT JOIN events_silencerule s ON s.event = n.event
WHERE s.event IS NULL OR {_DIFFERS}
    OR s.followed_at NOT BETWEEN %(now)s - make_interval(secs => {FOLLOW_SECONDS}) AND %(now)s
    OR (n."user" = ANY (%(accounts)s) AND s.followed_at < %(now)s - make_interval(secs => {CHANGED_SECONDS}))
ORDER BY changed DESC, s.followed_at LIMIT {FOLLOW_AT_ONCE}"""  # noqa: S608

_OVER = f"""SELECT s.event FROM events_silencerule s
WHERE NOT EXISTS (SELECT FROM ({_RULES}) n WHERE n.event = s.event)"""  # noqa: S608

_SAVE_RULE = """INSERT INTO events_silencerule
    (event, "user", channel, devices, silence, changed_at, followed_at)
VALUES (%(event)s, %(user)s, %(channel)s, %(devices)s, %(silence)s, %(changed_at)s, %(now)s)
ON CONFLICT (event) DO UPDATE SET "user" = excluded."user", channel = excluded.channel,
    devices = excluded.devices, silence = excluded.silence, changed_at = excluded.changed_at,
    followed_at = excluded.followed_at"""

_WATCHED = """d.user_id = r."user" AND d.enabled AND (r.channel IS NULL OR d.mapped_channel_id = r.channel)
    AND d.device_id LIKE r.devices"""

_WATCH_NEW = f"""INSERT INTO events_silencewatch (device, event, due_at)
SELECT new.device, %(event)s, %(now)s FROM (
    SELECT d.id AS device FROM events_silencerule r JOIN devices_device d ON {_WATCHED}
    WHERE r.event = %(event)s
    EXCEPT SELECT w.device FROM events_silencewatch w WHERE w.event = %(event)s
) AS new
ON CONFLICT DO NOTHING"""  # noqa: S608

_LOOK_AT_ALL = "UPDATE events_silencewatch SET due_at = %(now)s WHERE event = %(event)s"
# Of a clock that was set back.
_LOOK_AT_LATE = """UPDATE events_silencewatch SET due_at = %(now)s WHERE event = %(event)s
    AND due_at > %(now)s + %(silence)s + %(pause)s"""

_UNWATCH = """WITH gone AS (DELETE FROM events_silencewatch WHERE event = ANY (%(events)s)
    RETURNING device, event, silent_since),
rules AS (DELETE FROM events_silencerule WHERE event = ANY (%(events)s) RETURNING event, "user"),
said AS (
    INSERT INTO events_observation (account, event, device, tag, what, at, value)
    SELECT coalesce("user", 0), event, device, 0, 0, %(now)s, 'not watched any more'
    FROM gone LEFT JOIN rules USING (event) WHERE silent_since IS NOT NULL
)
SELECT device FROM gone WHERE silent_since IS NOT NULL"""

# Silent devices that were heard again, or are not to be watched any more.
_FIND_ENDED = f"""UPDATE events_silencewatch w SET due_at = %(now)s
FROM (
    SELECT w.device, w.event FROM events_silencewatch w
    LEFT JOIN events_silencerule r ON r.event = w.event
    LEFT JOIN devices_device d ON d.id = w.device AND {_WATCHED}
    LEFT JOIN devices_activity a ON a.device_id = d.id
    WHERE w.silent_since IS NOT NULL AND w.due_at IS NULL
        AND (w.silent_since > %(now)s - %(recent)s OR w.device %% {TURNS} = %(turn)s)
        AND a.last_seen IS DISTINCT FROM w.seen
) AS ended
WHERE w.device = ended.device AND w.event = ended.event"""  # noqa: S608
_HEARD = """to_char(last_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""

# `heard`: when the device was heard last; a time in the future is from before the clock was set back, and
# counts as just before the end of the gap that this has left. `until`: up to when is known who spoke at its
# door.
_JUDGE = f"""WITH doors AS MATERIALIZED (
    SELECT door, min(until) AS until FROM devices_listening GROUP BY door
), due AS MATERIALIZED (
    SELECT r.silence, r."user" AS account, w.* FROM (
        SELECT *, {SHARE} / count(*) OVER (PARTITION BY "user") AS share FROM events_silencerule
        WHERE EXISTS (SELECT FROM events_silencewatch w WHERE w.event = events_silencerule.event
            AND w.due_at <= %(now)s)
    ) AS r CROSS JOIN LATERAL (
        SELECT w.device, w.event, w.silent_since, w.seen, w.unheard FROM events_silencewatch w
        WHERE w.event = r.event AND w.due_at <= %(now)s ORDER BY w.due_at LIMIT greatest(r.share, 1)
    ) AS w
), known AS (
    SELECT due.*, d.id IS NOT NULL AS watched, a.last_seen, a.door,
        CASE WHEN a.last_seen > %(now)s + interval '1 s' THEN coalesce((
            SELECT max(ended_at) - interval '1 us' FROM devices_listeninggap g WHERE g.ended_at <= %(now)s
                AND g.door = coalesce(a.door, g.door)), %(now)s) ELSE a.last_seen END AS heard,
        (SELECT min(until) FROM doors WHERE doors.door = coalesce(a.door, doors.door)) AS until
    FROM due
    JOIN events_silencerule r ON r.event = due.event
    LEFT JOIN devices_device d ON d.id = due.device AND {_WATCHED}
    LEFT JOIN devices_activity a ON a.device_id = d.id
), deadlines AS (
    SELECT known.*, greatest(heard, gaps.ends[1] + %(pause)s)
        + silence + coalesce(gaps.total - gaps.lengths[1], interval '0') AS deadline
    FROM known LEFT JOIN LATERAL (
        SELECT array_agg(g.ended_at ORDER BY g.ended_at) AS ends,
            array_agg(g.ended_at - g.began_at + %(pause)s ORDER BY g.ended_at) AS lengths,
            sum(g.ended_at - g.began_at + %(pause)s) AS total
        FROM devices_listeninggap g
        WHERE g.ended_at > known.heard AND g.door = coalesce(known.door, g.door)
    ) AS gaps ON true
), judged AS (
    SELECT *, watched AND last_seen IS NOT NULL AND coalesce(
        CASE WHEN silent_since IS NULL THEN until >= deadline
            ELSE seen = last_seen AND heard + silence <= %(now)s END, false) AS silent
    FROM deadlines
), unheard AS (
    INSERT INTO events_condition (event_id, device, tag, state, since, at, value, told, left_out, changes)
    SELECT event, device, 0, 'no data', %(now)s, %(now)s, 'never heard', '', 0, '[]'
    FROM judged WHERE watched AND last_seen IS NULL
    ON CONFLICT (event_id, device, tag) DO NOTHING
), gone AS (
    DELETE FROM events_silencewatch w USING judged j
    WHERE w.device = j.device AND w.event = j.event AND NOT j.watched
), kept AS (
    UPDATE events_silencewatch w SET
        silent_since = CASE WHEN j.silent THEN coalesce(j.silent_since, j.deadline) END,
        seen = CASE WHEN j.silent THEN j.last_seen END,
        unheard = j.last_seen IS NULL,
        due_at = CASE
            WHEN j.silent THEN NULL
            WHEN j.last_seen IS NULL THEN %(now)s + j.silence
            WHEN j.until IS NULL THEN %(now)s + make_interval(secs => 15 + 15 * random())
            ELSE greatest(j.deadline, %(now)s + interval '0.5 s') END
    FROM judged j WHERE w.device = j.device AND w.event = j.event AND j.watched
), said AS (
    INSERT INTO events_observation (account, event, device, tag, what, at, value)
    SELECT account, event, device, 0, silent::int,
        CASE WHEN silent THEN coalesce(silent_since, deadline)
            WHEN seen <> last_seen THEN greatest(silent_since, least(last_seen, %(now)s)) ELSE %(now)s END,
        CASE WHEN silent THEN 'not heard since ' || {_HEARD}
            WHEN NOT watched THEN 'not watched any more'
            WHEN seen <> last_seen THEN 'heard again at ' || {_HEARD}
            ELSE 'last heard at ' || {_HEARD} END
    FROM judged
    WHERE silent OR silent_since IS NOT NULL OR (unheard AND (NOT watched OR last_seen IS NOT NULL))
    ORDER BY deadline, device
)
SELECT device FROM judged WHERE silent OR silent_since IS NOT NULL"""  # noqa: S608

# In the order in which ingest locks the rows.
_MARK_DEVICES = """WITH found AS MATERIALIZED (
    SELECT a.device_id, (SELECT min(w.silent_since) FROM events_silencewatch w WHERE w.device = a.device_id)
        AS since
    FROM devices_activity a WHERE a.device_id = ANY (%s) ORDER BY a.device_id FOR UPDATE
)
UPDATE devices_activity a SET silent_since = found.since FROM found
WHERE a.device_id = found.device_id AND a.silent_since IS DISTINCT FROM found.since"""


class Looker:
    """What is remembered between two looks."""

    def __init__(self) -> None:
        self.changed: dict[int, float] = {}  # accounts whose devices were, with the time.monotonic()
        self.turn = 0

    def on_change(self, notification: psycopg.Notify) -> None:
        noun, _, rest = notification.payload.partition(":")
        account = rest.partition(":")[0]
        if noun in {"device", "devices"} and account.isdecimal():
            self.changed[int(account)] = time.monotonic()

    def next(self) -> None:
        self.turn = (self.turn + 1) % TURNS
        for account, at in list(self.changed.items()):
            if time.monotonic() - at > 2 * CHANGED_SECONDS:
                del self.changed[account]


_lookers: "weakref.WeakKeyDictionary[psycopg.Connection, Looker]" = weakref.WeakKeyDictionary()


def look(connection: psycopg.Connection) -> int:
    """To be called every second. Writes observations of the devices that have become silent, or are not any
    more, and returns how many."""
    looker = _lookers.get(connection)
    if looker is None:
        _lookers[connection] = looker = Looker()
        connection.add_notify_handler(looker.on_change)
        connection.execute(f"LISTEN {CHANNEL}")
    looker.next()
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_BY_INDEX)
        (now,) = cursor.execute("SELECT clock_timestamp()").fetchall()[0]
        listening.note_ended(cursor)
        changed = _unwatch(cursor, now)
        _follow_events(cursor, now, list(looker.changed))
        limits = {"now": now, "recent": RECENT, "pause": listening.RETURN, "turn": looker.turn}
        cursor.execute(_FIND_ENDED, limits)
        changed += [device for (device,) in cursor.execute(_JUDGE, limits).fetchall()]
        if changed:
            cursor.execute(_MARK_DEVICES, [changed])
    return len(changed)


def _unwatch(cursor: psycopg.Cursor, now: datetime) -> list[int]:
    """For events that are deleted, disabled or changed to another kind. Returns the devices that were
    silent."""
    events = [event for (event,) in cursor.execute(_OVER, {}).fetchall()]
    if not events:
        return []
    return [device for (device,) in cursor.execute(_UNWATCH, {"events": events, "now": now}).fetchall()]


def _follow_events(cursor: psycopg.Cursor, now: datetime, accounts: list[int]) -> None:
    """Lets the rows follow events and devices. Devices that are not to be watched any more go when they are
    looked at."""
    with cursor.connection.cursor(row_factory=dict_row) as rules:
        found: list[dict[str, Any]] = rules.execute(_TO_FOLLOW, {"now": now, "accounts": accounts}).fetchall()
    began = time.monotonic()
    for rule in found:
        if time.monotonic() - began > FOLLOW_BUDGET:
            break
        parameters = rule | {"now": now, "pause": listening.RETURN}
        cursor.execute(_SAVE_RULE, parameters)
        cursor.execute(_LOOK_AT_ALL if rule["changed"] else _LOOK_AT_LATE, parameters)
        cursor.execute(_WATCH_NEW, parameters)
