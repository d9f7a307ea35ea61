"""Celery's heartbeat: its scheduler sends the task, and its worker runs it, so it shows that both work."""

from django.core.cache import cache

from thingscale.lib import clock

KEY = "celery-heartbeat"
SECONDS = 7 * 24 * 3600  # for which the last one is kept


def beat() -> None:
    cache.set(KEY, clock.now(), SECONDS)
