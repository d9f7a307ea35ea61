"""The health of the platform's parts. Each look has a short time limit, and shows its own failure."""

import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import django
from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.db import Error, connection, transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from redis import Redis
from redis.exceptions import RedisError

from console.request import ConsoleRequest
from console.spans import in_words
from console.templatetags.console import ago
from thingscale.accounts import emails
from thingscale.background import heartbeat
from thingscale.devices import presence
from thingscale.devices.models import GatewayProcess
from thingscale.devices.overview import platform_minutes
from thingscale.events import figures
from thingscale.lib import clock
from thingscale.streams.models import Journal

DATABASE_LIMIT = "2s"
VALKEY_SECONDS = 1
BEAT_LATE = 180  # seconds
EVENTS_LATE = 60  # seconds
QUEUE = "celery"  # Celery's own name for it
_SIZE = """SELECT current_setting('server_version'), pg_database_size(current_database()),
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
    current_setting('max_connections')"""

SUMS = ("clients", "rate", "messages", "waiting", "dropped", "refused")

Rows = Iterable[tuple[str, Any]]


class Trouble(Exception):
    """A part that answers has trouble."""

    def __init__(self, sentence: str, rows: Rows) -> None:
        super().__init__(sentence)
        self.rows = rows


class PartHealth(NamedTuple):
    name: str
    rows: Rows
    trouble: str = ""

    @property
    def watched(self) -> bool:
        """Whether an answer means that the part works."""
        return self.name in {"Database", "Valkey", "Celery", "Ingest", "Notifications"}


def page(request: ConsoleRequest) -> HttpResponse:
    if request.method == "POST":  # a mail to try the mail server
        try:
            emails.send_test(request.actor.email)
        except OSError as error:
            messages.error(request, f"The mail was not taken: {type(error).__name__}: {error}")
        else:
            messages.success(request, f"A mail to {request.actor.email} was handed in.")
        return redirect("admin:health")
    parts = [_look(name, look) for name, look in LOOKS.items()]
    gateways: list[GatewayProcess] = []
    # While the database is away, its own part says so.
    with suppress(Error, OSError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{DATABASE_LIMIT}'")
        gateways = presence.living()
    sums = (
        {name: sum(getattr(each, name) for each in gateways) for name in SUMS} if len(gateways) > 1 else None
    )
    context = {"parts": parts, "gateways": gateways, "sums": sums}
    return render(request, "console/operator/health.html", context)


def _look(name: str, look: Callable[[], Rows]) -> PartHealth:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{DATABASE_LIMIT}'")
            return PartHealth(name, list(look()))
    except Trouble as trouble:
        return PartHealth(name, trouble.rows, str(trouble))
    except (Error, RedisError, OSError) as error:
        return PartHealth(name, [], f"No answer: {type(error).__name__}.")


def _web() -> Rows:
    yield "Python", platform.python_version()
    yield "Django", django.get_version()
    yield "Public address", settings.PUBLIC_URL or "not set"


def _database() -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(_SIZE)
        version, size, used, most = cursor.fetchone()
    yield "PostgreSQL", version
    yield "Size", filesizeformat(size)
    yield "Connections", f"{used} of {most}"


def _valkey() -> Rows:
    with _redis() as client:
        server, memory = client.info("server"), client.info("memory")
    yield "Version", server.get("valkey_version") or server.get("redis_version")
    yield "Memory", filesizeformat(memory["used_memory"])
    yield "Memory limit", filesizeformat(memory["maxmemory"]) if memory["maxmemory"] else "none"


def _celery() -> Rows:
    with _redis() as client:
        waiting = int(client.llen(QUEUE))
    seen = cache.get(heartbeat.KEY)
    rows = [("Tasks that wait", waiting), ("Last heartbeat", ago(seen))]
    if seen is None or (clock.now() - seen).total_seconds() > BEAT_LATE:
        raise Trouble("No heartbeat: the worker or its scheduler does not run, or is busy.", rows)
    return rows


def _ingest() -> Rows:
    """A writer's row in the journal has the time of its last batch."""
    gateways = presence.living()
    batches = list(Journal.objects.exclude(batch=0).values_list("at", flat=True))
    rows = [
        ("Gateways", len(gateways)),
        ("MQTT clients connected", sum(each.clients for each in gateways)),
        ("Writers that have stored", len(batches)),
        ("Last batch", ago(max(batches)) if batches else "none of the last week"),  # rows go after that
    ]
    if not gateways and settings.INGEST_MODE == "gateway":
        raise Trouble("No gateway runs: devices can't connect by MQTT.", rows)
    return rows


def _messages() -> Rows:
    last, hour = platform_minutes(clock.now())
    for name, counts in (("Last full minute", last), ("Last hour", hour)):
        yield name, f"{counts.stored:,} stored, {counts.held:,} held, {counts.rejected:,} rejected"


def _notifications() -> Rows:
    with connection.wrap_database_errors:
        found = figures.read(connection.connection)
    outcomes = [
        f"{sum(n for (name, label), n in found.counted.items() if label.endswith(f':{outcome}')):,} {outcome}"
        for outcome in figures.OUTCOMES
    ]
    rows = [
        ("Matches that wait", f"{found.observations:,}"),
        ("Notifications that wait", f"{found.deliveries:,}"),
        ("The first is late by", in_words(round(found.overdue))),
        ("Since the beginning", ", ".join(outcomes)),
    ]
    if found.oldest_observation > EVENTS_LATE:
        raise Trouble("Matches wait: no Celery worker runs, or it is busy.", rows)
    if found.overdue > EVENTS_LATE:
        raise Trouble("Notifications wait: no Celery worker runs, or more are owed than go out.", rows)
    return rows


def _mail() -> Rows:
    yield "From", settings.DEFAULT_FROM_EMAIL
    if settings.EMAIL_HOST:
        yield "Server", f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    else:
        yield "Server", f"none: mails are files in {settings.EMAIL_FILE_PATH}"


def _redis() -> Redis:
    limits = {"socket_timeout": VALKEY_SECONDS, "socket_connect_timeout": VALKEY_SECONDS}
    return Redis.from_url(settings.REDIS_URL, **limits)


LOOKS: dict[str, Callable[[], Rows]] = {
    "Web": _web,
    "Database": _database,
    "Valkey": _valkey,
    "Celery": _celery,
    "Ingest": _ingest,
    "Messages": _messages,
    "Notifications": _notifications,
    "Mail": _mail,
}
