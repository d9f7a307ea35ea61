"""kill -9 of one part of a place."""

import os
import random
import signal
from collections.abc import Callable

import psycopg
from private_place import Place
from stack import wait_until

OURS = ("ingest", "web", "celery")
VALKEY = "valkey"
BACKEND = "a PostgreSQL backend"
POSTGRES = "PostgreSQL itself"


def kill(place: Place, victim: str) -> Callable[[], None]:
    """Returns what brings it back."""
    if victim in OURS:
        place.stack.kill(victim)
        return lambda: place.stack.start(victim)
    if victim == VALKEY:
        place.servers.valkey.kill()
        return place.servers.valkey.start
    if victim == POSTGRES:
        place.servers.postgres.kill()
        return place.servers.postgres.start
    os.kill(backend(place), signal.SIGKILL)  # PostgreSQL ends the others too, and recovers
    return lambda: wait_until(place.servers.postgres.ready, 60, "PostgreSQL's recovery")


def backend(place: Place) -> int:
    """A process of PostgreSQL that works for the ingest process or for web."""
    with psycopg.connect(place.url) as connection:
        rows = connection.execute(
            """SELECT pid FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
        ).fetchall()
    chosen: int = random.choice(rows)[0]
    return chosen
