"""Keeps the gauges of hosts (models.Host): a task looks at their newest values, which are in one small table,
never at their datapoints. Also a page shows by it what has come since.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from django.db import connection, transaction

from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.hosts import metrics
from thingscale.hosts.metrics import Gauges, Memory, Sender, Values
from thingscale.hosts.models import Host

BATCH = 500  # hosts of a transaction
LOOK_SECONDS = 2.0  # of a look, after which other tasks have their turn, such as activation
STALE = 900  # seconds behind a host's newest sample: of a disk or a plugin that is gone
LOCK = 7_474  # advisory lock: one look at a time
SILENT_AFTER = "5 minutes"
_SQL = Path(__file__).parent / "sql"
_NEWEST = (_SQL / "newest.sql").read_text()
_CANDIDATES = (_SQL / "candidates.sql").read_text()
_SAVE = (_SQL / "save.sql").read_text()
_WITH_NEWS = (_SQL / "with_news.sql").read_text()
_FIELDS = ("sender", "at", *Gauges._fields, "pain", "silent", "counters")
_SILENT = """UPDATE hosts_host h SET silent = true, pain = pain + %s FROM devices_activity a
    WHERE a.device_id = h.device_id AND NOT h.silent AND a.last_seen < now() - %s::interval"""
_GONE = (
    """DELETE FROM hosts_host h WHERE NOT EXISTS (SELECT FROM devices_device d WHERE d.id = h.device_id)"""
)
_NO_HOSTS = """UPDATE accounts_user u SET has_hosts = false
    WHERE has_hosts AND NOT EXISTS (SELECT FROM hosts_host h WHERE h.user_id = u.id)"""


@dataclass
class State:
    """What a host's newest values say."""

    sender: Sender | None
    at: float  # seconds since 1970
    values: Values  # all that a page shows
    gauges: Gauges
    counters: Memory
    sample: Any = None  # the newest value without a tag, which is our agent's if it is one
    tags: tuple[str, ...] = ()
    facts: dict[str, Any] | None = None  # that our agent sent by HTTP, where devices have no state
    newest: Sequence[tuple[str, float, Any]] = ()  # what it was read from


def state(newest: Sequence[tuple[str, float, Any]], before: Mapping[str, list[float]]) -> State:
    """`newest`: tag, time and value."""
    last = max((at for _, at, _ in newest), default=0.0)
    current = [each for each in newest if each[1] >= last - STALE]
    sender, values, counters = metrics.read(current, before)
    shown = metrics.combine(values)
    sample = next((value for tag, _, value in current if not tag), None)
    tags = tuple(tag for tag, _, _ in current if tag)
    facts = next((value for tag, _, value in newest if tag == metrics.FACTS), None)
    return State(
        sender,
        *(last, shown, metrics.gauges(shown), counters, sample, tags),
        facts if isinstance(facts, dict) else None,
        current,
    )


def states(before: Mapping[int, Mapping[str, list[float]]], tags: str = metrics.TAGS) -> dict[int, State]:
    """Of these devices, by primary key; each with its counters as of the last look. `tags`: a regular
    expression of those that are read."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, {"devices": list(before), "tags": tags})
        rows = cursor.fetchall()
    return {
        device: state([(tag, at, orjson.loads(text)) for _, tag, at, text in of_device], before[device])
        for device, of_device in groupby(rows, key=lambda row: row[0])
    }


def newest_of(host: Host) -> State:
    """What the host shows now; the gauges that it was read with are made to show it, too."""
    found = states({host.pk: host.counters}).get(host.pk) or state([], {})
    if found.gauges.is_host:
        _fill(host, found)
    return found


def refresh(hosts: Iterable[Host]) -> None:
    """What has come since the last look is shown, and not saved."""
    known = {host.pk: host for host in hosts}
    for device, found in states({pk: host.counters for pk, host in known.items()}).items():
        if found.gauges.is_host:
            _fill(known[device], found)


def look(after: int = 0) -> int:
    """The gauges of the hosts that have sent something since, those behind `after` (a primary key) first.
    Returns behind which the next look goes on, if there was no time for all of them."""
    deadline = time.monotonic() + LOOK_SECONDS
    with connection.cursor() as cursor:
        cursor.execute(_WITH_NEWS, [after])
        devices = [device for (device,) in cursor.fetchall()]
    for first in range(0, len(devices), BATCH):
        with transaction.atomic():
            if not _alone():
                break
            hosts = Host.objects.filter(pk__in=devices[first : first + BATCH]).order_by("pk")
            found = {host.pk: host for host in hosts}
            refresh(found.values())
            rows = [
                {"device": host.pk} | {name: getattr(host, name) for name in _FIELDS}
                for host in found.values()
            ]
            with connection.cursor() as cursor:
                cursor.execute(_SAVE, [orjson.dumps(rows).decode()])
        after = devices[first : first + BATCH][-1]
        if time.monotonic() > deadline:
            break
    with connection.cursor() as cursor:
        cursor.execute(_SILENT, [metrics.SILENT, SILENT_AFTER])
    return after


def find() -> None:
    """Devices that have become hosts, and what is left of those that are gone."""
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, {"keys": list(metrics.AGENT_KEYS), "tags": metrics.TAGS})
        devices = [device for (device,) in cursor.fetchall()]
    for first in range(0, len(devices), BATCH):
        with transaction.atomic():
            if not _alone():
                return
            owners = dict(
                Device.objects.filter(pk__in=devices[first : first + BATCH]).values_list("pk", "user")
            )
            found = states({device: {} for device in owners})
            new = [
                _fill(Host(device_id=device, user_id=owners[device]), each)
                for device, each in found.items()
                if each.gauges.is_host
            ]
            Host.objects.bulk_create(new, ignore_conflicts=True)
            User.objects.filter(pk__in={host.user_id for host in new}, has_hosts=False).update(has_hosts=True)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_GONE)
        cursor.execute(_NO_HOSTS)


def _alone() -> bool:
    """Nobody else looks until COMMIT."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        (free,) = cursor.fetchone()
    return bool(free)


def _fill(host: Host, found: State) -> Host:
    if host.at is not None and found.at <= host.at:
        return host  # there is nothing new, so it is as silent as before
    host.sender, host.at, host.counters = found.sender or "", found.at, found.counters
    for name, number in found.gauges._asdict().items():
        setattr(host, name, number)
    host.disk_name = host.disk_name[:200]
    host.pain, host.silent = metrics.pain(found.gauges), False
    return host
