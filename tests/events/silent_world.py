"""Time that passes for silence: everything that is written is moved into the past. Negative seconds set the
clock back."""

from uuid import UUID

import psycopg
from django.db import connection
from django.utils import timezone
from support import Account

from thingscale.devices import listening
from thingscale.devices.listening import Door
from thingscale.devices.models import Activity, Device
from thingscale.events import silence
from thingscale.events.actions import create_event
from thingscale.events.models import Event, Observation

GATEWAY, WEB = UUID(int=1), UUID(int=2)
MOVED = {
    "devices_activity": ("last_seen", "silent_since"),
    "devices_listening": ("at", "until"),
    "devices_listeninggap": ("began_at", "ended_at"),
    "events_silencerule": ("followed_at",),
    "events_silencewatch": ("due_at", "silent_since", "seen"),
    "events_observation": ("at", "stored_at"),
    "events_condition": ("at", "since", "due_at"),
}


def pass_(seconds: float) -> None:
    with connection.cursor() as cursor:
        for table, columns in MOVED.items():
            moved = ", ".join(f"{column} = {column} - make_interval(secs => %s)" for column in columns)
            cursor.execute(f"UPDATE {table} SET {moved}", [seconds] * len(columns))


def listens(*doors: tuple[UUID, Door]) -> None:
    """Now: their marks."""
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    with raw.transaction(), raw.cursor() as cursor:
        for writer, door in doors or ((GATEWAY, Door.MQTT), (WEB, Door.HTTP)):
            listening.mark(cursor, writer, door, 0)


def listened(seconds: float) -> None:
    """Without a gap, all that time."""
    pass_(seconds)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE devices_listening SET at = clock_timestamp(), until = clock_timestamp()")


def hear(*devices: Device, door: Door | None = Door.MQTT) -> None:
    now = timezone.now()
    for device in devices:
        Activity.objects.update_or_create(
            device=device,
            defaults={"last_seen": now, "door": door},
            create_defaults={"last_seen": now, "door": door, "messages": 1},
        )


def quiet(account: Account, period: int = 60, grace: int = 30, **fields: object) -> Event:
    """An event for silence."""
    known = {"kind": Event.Kind.SILENCE, "notify_type": "none", "period": period, "grace": grace}
    return create_event(account.user, known | fields)


def said(connection: psycopg.Connection) -> list[tuple[str, int]]:
    """Looks, and returns what was observed since the last time: device id, and whether it is silent."""
    silence.look(connection)
    names = dict(Device.objects.values_list("pk", "device_id"))
    rows = list(Observation.objects.order_by("pk").values_list("device", "what"))
    Observation.objects.all().delete()
    return [(names.get(device, f"{device}"), what) for device, what in rows]


def silent_ones() -> set[str]:
    """As lists of devices show it."""
    found = Activity.objects.exclude(silent_since=None)
    return set(found.values_list("device__device_id", flat=True))
