"""Deletes what is old or left behind, a little at a time, and closes what nothing else will close.

The tables of notifications have no constraints to accounts, events and devices: processes of the release
before delete those, and know nothing of them.
"""

from django.conf import settings
from django.db import connection, transaction

from thingscale.background import maintenance
from thingscale.events import mqtt_state
from thingscale.events.models import Condition, Event, Incident
from thingscale.events.reset import close_incidents, reset

BATCH = 5_000  # rows of a transaction

# Of `t`: its account is closed or gone, or its event is.
_NO_ACCOUNT = "NOT EXISTS (SELECT FROM accounts_user u WHERE u.id = t.user_id AND u.closed_at IS NULL)"
_NO_EVENT = """NOT EXISTS (SELECT FROM events_event e JOIN accounts_user u ON u.id = e.user_id
    WHERE e.id = t.{} AND u.closed_at IS NULL)"""
OBSOLETE = {
    "events_delivery": f"""{_NO_ACCOUNT} OR t.done_at < now() - interval '30 days'
        OR (t.status = 'sent' AND t.done_at < now() - interval '7 days')""",
    "events_condition": f"""{_NO_EVENT.format("event_id")} OR (t.state = 'ok' AND t.due_at IS NULL
        AND t.at < now() - interval '30 days' AND coalesce(t.muted_until < now(), true))""",
    "events_incident": f"{_NO_ACCOUNT} OR t.ended_at < now() - interval '1 day' * %(incident_days)s",
    "events_maintenancewindow": f"{_NO_ACCOUNT} OR t.ends_at < now() - interval '1 day' * %(incident_days)s",
    "events_observation": f"{_NO_EVENT.format('event')} AND t.stored_at < now() - interval '10 minutes'",
    "events_rule_memory": f"""{_NO_EVENT.format("event")}
        OR (t.device <> 0 AND NOT EXISTS (SELECT FROM devices_device d WHERE d.id = t.device))
        OR (t.tag <> 0 AND NOT EXISTS (SELECT FROM streams_tag s WHERE s.id = t.tag))""",  # noqa: S608
    "events_dismissedsuggestion": f"""{_NO_ACCOUNT}
        OR NOT EXISTS (SELECT FROM streams_channel c WHERE c.id = t.channel)""",
    "events_eventcontact": f"""{_NO_EVENT.format("event_id")}
        OR NOT EXISTS (SELECT FROM events_contactpoint p WHERE p.id = t.contact_point_id)""",
    "events_contactpoint": _NO_ACCOUNT,
}
# Its device or tag was deleted, or the device is mapped to another channel.
_LEFT_OPEN = """SELECT c.id, c.event_id
FROM events_condition c JOIN events_event e ON e.id = c.event_id
LEFT JOIN devices_device d ON d.id = c.device LEFT JOIN streams_tag t ON t.id = c.tag
WHERE c.state <> 'ok' AND ((c.tag <> 0 AND t.id IS NULL) OR (c.device <> 0 AND (d.id IS NULL
    OR (e.kind <> 'silence' AND d.mapped_channel_id IS DISTINCT FROM e.mapped_channel_id))))
LIMIT %s"""
_LOCK_LEFT_OPEN = """SELECT id, event_id, incident_id FROM events_condition
WHERE id = ANY (%s) AND state <> 'ok' ORDER BY id FOR UPDATE SKIP LOCKED"""

# From account to account in the index: first whether it has so many rows at all.
_WITH_TOO_MANY = """WITH RECURSIVE account AS (
    (SELECT user_id FROM events_delivery ORDER BY user_id LIMIT 1)
    UNION ALL
    SELECT next.user_id FROM account last CROSS JOIN LATERAL (
        SELECT user_id FROM events_delivery WHERE user_id > last.user_id ORDER BY user_id LIMIT 1) next)
SELECT user_id FROM account WHERE EXISTS (SELECT FROM events_delivery d WHERE d.user_id = account.user_id
    OFFSET %(kept)s)"""
_OLDEST_KEPT = """SELECT created_at, id FROM events_delivery
WHERE user_id = %(user)s AND status <> 'waiting' ORDER BY created_at DESC, id DESC
OFFSET %(kept)s - 1 LIMIT 1"""
_FORGET = """DELETE FROM events_delivery WHERE ctid = ANY (ARRAY(SELECT ctid FROM events_delivery
    WHERE user_id = %(user)s AND status <> 'waiting' AND (created_at, id) < (%(created_at)s, %(id)s)
    LIMIT %(batch)s))"""


def clean_up() -> None:
    """Also of closed accounts, so that there is little left when these are deleted. Raises
    maintenance.Interrupted."""
    for table, obsolete in OBSOLETE.items():
        left = True
        while left:
            maintenance.check_stop()
            with connection.cursor() as cursor:
                cursor.execute(
                    f"""DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM {table} t WHERE {obsolete} LIMIT %(batch)s
                    FOR UPDATE OF t SKIP LOCKED))""",  # noqa: S608
                    {"incident_days": settings.INCIDENT_DAYS, "batch": BATCH},
                )
                left = cursor.rowcount > 0


def forget_deliveries() -> None:
    """All but the newest of those of each account that are done: one that is told much has many in a day.
    Raises maintenance.Interrupted."""
    kept = settings.KEPT_DELIVERIES
    with connection.cursor() as cursor:
        cursor.execute(_WITH_TOO_MANY, {"kept": kept})
        for (user,) in cursor.fetchall():
            cursor.execute(_OLDEST_KEPT, {"user": user, "kept": kept})
            for created_at, key in cursor.fetchall():
                left = True
                while left:
                    maintenance.check_stop()
                    oldest = {"user": user, "created_at": created_at, "id": key, "batch": BATCH}
                    cursor.execute(_FORGET, oldest)
                    left = cursor.rowcount > 0


def close_left_open() -> None:
    """Of what fires though no datapoint can clear it any more. Events are locked first, and conditions in
    order, as by the worker."""
    _close_without_channel()
    _close_left_open()


@transaction.atomic
def _close_without_channel() -> None:
    is_open = Condition.objects.exclude(state=Condition.State.OK)
    without_channel = is_open.filter(event__mapped_channel=None).exclude(event__kind=Event.Kind.SILENCE)
    if events := set(without_channel.values_list("event", flat=True)[:BATCH]):
        locked = Event.objects.filter(pk__in=events).order_by("pk").select_for_update()
        reset(list(locked.values_list("pk", flat=True)))


@transaction.atomic
def _close_left_open() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_LEFT_OPEN, [BATCH])
        if not (found := cursor.fetchall()):
            return
        conditions, events = map(list, zip(*found, strict=True))
        cursor.execute("SELECT FROM events_event WHERE id = ANY (%s) ORDER BY id FOR SHARE", [events])
        cursor.execute(_LOCK_LEFT_OPEN, [conditions])
        if not (rows := cursor.fetchall()):
            return
        keys, changed, incidents = map(set, zip(*rows, strict=True))
        close_incidents(Incident.objects.filter(pk__in=incidents))
        Condition.objects.filter(pk__in=keys).delete()
        mqtt_state.publish(cursor, changed)
