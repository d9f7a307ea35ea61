"""Connections to Django's database for threads that outlive requests. Each thread has its own."""

from typing import Any, LiteralString

import psycopg
import psycopg.errors
from django.db import connections

from thingscale.lib.gc_tuning import drop_tracebacks

# What passes when the database is back.
UNWELL = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
# Of those: what another transaction, or the statement itself, has caused. The database is there.
IN_THE_WAY = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
)
# A thread that writes for everybody must not wait for ever, and nobody for it.
LIMITS: LiteralString = """SET statement_timeout = '60s'; SET lock_timeout = '20s';
    SET idle_in_transaction_session_timeout = '60s'"""


def is_away(error: Exception) -> bool:
    """Whether the database is, and not only this piece of work in trouble."""
    return isinstance(error, UNWELL) and not isinstance(error, IN_THE_WAY)


def parameters() -> dict[str, Any]:
    """Of psycopg, without what is Django's own."""
    params: dict[str, Any] = connections["default"].get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        params.pop(name, None)
    return params


def connect(application_name: str) -> psycopg.Connection:
    """In autocommit mode. Raises psycopg.Error."""
    defaults = {"connect_timeout": 5, "keepalives_idle": 10, "tcp_user_timeout": 20_000}
    connection = None
    try:
        connection = psycopg.connect(
            **(defaults | parameters()), autocommit=True, application_name=application_name
        )
        connection.execute(LIMITS)  # as options of the connection they would be refused by pgbouncer
    except psycopg.Error as error:
        if connection:
            connection.close()
        drop_tracebacks(error)
        raise
    return connection
