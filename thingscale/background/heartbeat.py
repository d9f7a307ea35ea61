"""A sign of life of Celery: its scheduler asks for it, its worker gives it."""

from django.core.cache import cache
from django.utils import timezone

KEY = "celery-heartbeat"
KEPT = 7 * 24 * 3600


def beat() -> None:
    cache.set(KEY, timezone.now(), KEPT)
