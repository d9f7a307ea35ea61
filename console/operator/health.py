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
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from redis import Redis
from redis.exceptions import RedisError

from console.request import ConsoleRequest
from console.spans import in_words
from console.templatetags.console import ago
from console.vocabulary import word
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
    name: Any
    rows: Rows
    watched: bool  # an answer means that the part works
    trouble: str = ""


def page(request: ConsoleRequest) -> HttpResponse:
    if request.method == "POST":  # a mail to try the mail server
        try:
            emails.send_test(request.actor.email)
        except OSError as error:
            messages.error(
                request,
                _("The mail was not taken: %(name)s: %(error)s")
                % {"name": type(error).__name__, "error": error},
            )
        else:
            messages.success(
                request, _("A mail to %(email)s was handed in.") % {"email": request.actor.email}
            )
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


def _look(name: Any, look: Callable[[], Rows]) -> PartHealth:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{DATABASE_LIMIT}'")
            return PartHealth(name, list(look()), look in WATCHED)
    except Trouble as trouble:
        return PartHealth(name, trouble.rows, look in WATCHED, str(trouble))
    except (Error, RedisError, OSError) as error:
        return PartHealth(
            name, [], look in WATCHED, _("No answer: %(name)s.") % {"name": type(error).__name__}
        )


def _web() -> Rows:
    yield "Python", platform.python_version()
    yield "Django", django.get_version()
    yield _("Public address"), settings.PUBLIC_URL or _("not set")


def _database() -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(_SIZE)
        version, size, used, most = cursor.fetchone()
    yield "PostgreSQL", version
    yield _("Size"), filesizeformat(size)
    yield _("Connections"), _("%(used)s of %(most)s") % {"used": used, "most": most}


def _valkey() -> Rows:
    with _redis() as client:
        server, memory = client.info("server"), client.info("memory")
    yield _("Version"), server.get("valkey_version") or server.get("redis_version")
    yield _("Memory"), filesizeformat(memory["used_memory"])
    yield _("Memory limit"), filesizeformat(memory["maxmemory"]) if memory["maxmemory"] else _("none")


def _celery() -> Rows:
    with _redis() as client:
        waiting = int(client.llen(QUEUE))
    seen = cache.get(heartbeat.KEY)
    rows = [(_("Tasks that wait"), waiting), (_("Last heartbeat"), ago(seen))]
    if seen is None or (clock.now() - seen).total_seconds() > BEAT_LATE:
        raise Trouble(_("No heartbeat: the worker or its scheduler does not run, or is busy."), rows)
    return rows


def _ingest() -> Rows:
    """A writer's row in the journal has the time of its last batch."""
    gateways = presence.living()
    batches = list(Journal.objects.exclude(batch=0).values_list("at", flat=True))
    rows = [
        (_("Gateways"), len(gateways)),
        (_("MQTT clients connected"), sum(each.clients for each in gateways)),
        (_("Writers that have stored"), len(batches)),
        (_("Last batch"), ago(max(batches)) if batches else _("none of the last week")),  # rows go after that
    ]
    if not gateways and settings.INGEST_MODE == "gateway":
        raise Trouble(_("No gateway runs: devices can't connect by MQTT."), rows)
    return rows


def _messages() -> Rows:
    last, hour = platform_minutes(clock.now())
    for name, counts in ((_("Last full minute"), last), (_("Last hour"), hour)):
        yield (
            name,
            _("%(stored)s stored, %(held)s held, %(rejected)s rejected")
            % {
                "stored": f"{counts.stored:,}",
                "held": f"{counts.held:,}",
                "rejected": f"{counts.rejected:,}",
            },
        )


def _notifications() -> Rows:
    with connection.wrap_database_errors:
        found = figures.read(connection.connection)
    sums = {
        outcome: sum(n for (_name, label), n in found.counted.items() if label.endswith(f":{outcome}"))
        for outcome in figures.OUTCOMES
    }
    outcomes = [f"{count:,} {word(outcome)}" for outcome, count in sums.items()]
    rows = [
        (_("Matches that wait"), f"{found.observations:,}"),
        (_("Notifications that wait"), f"{found.deliveries:,}"),
        (_("The first is late by"), in_words(round(found.overdue))),
        (_("Since the beginning"), ", ".join(outcomes)),
    ]
    if found.oldest_observation > EVENTS_LATE:
        raise Trouble(_("Matches wait: no Celery worker runs, or it is busy."), rows)
    if found.overdue > EVENTS_LATE:
        raise Trouble(_("Notifications wait: no Celery worker runs, or more are owed than go out."), rows)
    return rows


def _mail() -> Rows:
    yield "From", settings.DEFAULT_FROM_EMAIL
    if settings.EMAIL_HOST:
        yield "Server", f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    else:
        yield (
            "Server",
            _("none: mails are files in %(email_file_path)s") % {"email_file_path": settings.EMAIL_FILE_PATH},
        )


def _redis() -> Redis:
    limits = {"socket_timeout": VALKEY_SECONDS, "socket_connect_timeout": VALKEY_SECONDS}
    return Redis.from_url(settings.REDIS_URL, **limits)


LOOKS: dict[Any, Callable[[], Rows]] = {
    gettext_lazy("Web"): _web,
    gettext_lazy("Database"): _database,
    "Valkey": _valkey,
    "Celery": _celery,
    gettext_lazy("Ingest"): _ingest,
    gettext_lazy("Messages"): _messages,
    gettext_lazy("Notifications"): _notifications,
    gettext_lazy("Mail"): _mail,
}
WATCHED = {_database, _celery, _valkey, _ingest, _notifications}
