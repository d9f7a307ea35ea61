"""All that an account has, as files: what it has set up, one file of JSON lines a kind, and its datapoints,
one a channel and month. Secrets stay here: tokens, keys, passwords, and the addresses of receivers, which
often have one in them."""

import base64
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

from thingscale.accounts.models import User
from thingscale.devices.models import (
    ActivationRule,
    Command,
    Device,
    HeldMessage,
    RejectedMessage,
    Retained,
)
from thingscale.events.models import ContactPoint, Event, Incident, MaintenanceWindow
from thingscale.intakes.models import Intake
from thingscale.lib.clock import LATEST, OLDEST_DATAPOINT, from_us
from thingscale.streams import export, partitions, range_deletion
from thingscale.streams.models import Channel, Tag
from thingscale.streams.queries import Selection

# File -> model, the way from it to the account.
KINDS: dict[str, tuple[type[models.Model], str]] = {
    "account": (User, "pk"),
    "devices": (Device, "user"),
    "activation_rules": (ActivationRule, "user"),
    "channels": (Channel, "user"),
    "tags": (Tag, "channel__user"),
    "held_messages": (HeldMessage, "device__user"),
    "rejected_messages": (RejectedMessage, "user"),
    "commands": (Command, "user"),
    "retained_messages": (Retained, "account"),
    "intakes": (Intake, "user"),
    "events": (Event, "user"),
    "contact_points": (ContactPoint, "user"),
    "maintenance_windows": (MaintenanceWindow, "user"),
    "incidents": (Incident, "user"),
}
SECRETS = {
    "password",
    "ciphertext",
    "secret_ciphertext",
    "key_hash",
    "key_hint",
    "post_url",
}
MANIFEST = "export.json"


def export_account(user: User, target: Path, say: Callable[[str], None]) -> dict[str, int]:
    """Rows of each file. The folder comes into being whole; what is stored meanwhile may be in it or not.
    Raises OSError."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    counts: dict[str, int] = {}
    try:
        for kind, (model, path) in KINDS.items():
            rows = (_row(each) for each in model._default_manager.filter(**{path: user.pk}).iterator())
            counts[f"{kind}.ndjson"] = _write(partial / f"{kind}.ndjson", rows)
        for channel in Channel.objects.for_account(user).order_by("number"):
            for month, start, end in _months(channel):
                name = f"datapoints/{channel.number}/{month[0]:04d}-{month[1]:02d}.ndjson.gz"
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                count = _write_datapoints(partial / name, Selection(channel.id, "UTC", start, end))
                if count:
                    counts[name] = count
                else:
                    (partial / name).unlink()
            say(f"channel {channel.number}")
        told = {"account": user.user_id, "made_at": datetime.now(UTC).isoformat(), "rows": counts}
        (partial / MANIFEST).write_text(json.dumps(told, indent=1))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _row(each: models.Model) -> str:
    content: dict[str, Any] = {}
    for field in each._meta.concrete_fields:
        if field.name in SECRETS:
            continue
        value = getattr(each, field.attname)
        binary = isinstance(value, bytes | memoryview)
        content[field.attname] = base64.b64encode(bytes(value)).decode() if binary else value
    return json.dumps(content, cls=DjangoJSONEncoder, ensure_ascii=False)


def _write(path: Path, rows: Iterator[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(f"{row}\n")
            count += 1
    return count


def _write_datapoints(path: Path, selection: Selection) -> int:
    count = 0
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in export.lines(selection):
            file.write(part)
            count += part.count(b"\n")
    return count


def _months(channel: Channel) -> Iterator[tuple[partitions.Month, datetime, datetime]]:
    """From that of its first datapoint to that of its last one, with their first and last moment. Some in
    between may have none."""
    found = range_deletion.count_range(channel.id, from_us(OLDEST_DATAPOINT), LATEST)
    if not found.first or not found.last:
        return
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    first, last = partitions.month_of(found.first), partitions.month_of(found.last)
    for month in sorted(partitions.existing(raw)):
        if first <= month <= last:
            following = partitions.following(month)
            end = datetime(*following, 1, tzinfo=UTC) - timedelta(microseconds=1)
            yield month, datetime(*month, 1, tzinfo=UTC), end
