"""Whether the PostgreSQL that DATABASE_URL names is one that the platform works with, directly or through a
pooler such as pgbouncer."""

from collections.abc import Callable

import psycopg

OLDEST = 15
TOO_OLD = "PostgreSQL {found} is too old: ThingScale needs {oldest} or later. Upgrade the server."
POOLED = (
    "DATABASE_URL leads to a pooler that gives several clients one session of PostgreSQL (pgbouncer:"
    " pool_mode = transaction or statement). LISTEN and advisory locks need a session that stays: set"
    " pool_mode = session for this database, or name PostgreSQL itself."
)
TRIES = 3


class Unsuitable(Exception):
    """The text says why, and what to do."""


def check(connection: psycopg.Connection, connect: Callable[[], psycopg.Connection]) -> None:
    """`connect` opens one more to the same server, in autocommit mode. Raises Unsuitable."""
    major = connection.info.server_version // 10_000
    if major < OLDEST:
        raise Unsuitable(TOO_OLD.format(found=major, oldest=OLDEST))
    # A pooler says another process id at the start than PostgreSQL does later.
    if _process(connection) != connection.info.backend_pid and shares_sessions(connect):
        raise Unsuitable(POOLED)


def is_statement_pooling(error: psycopg.Error) -> bool:
    """pgbouncer refuses the first transaction then."""
    return isinstance(error, psycopg.errors.ProtocolViolation) and "pooling mode" in str(error)


def shares_sessions(connect: Callable[[], psycopg.Connection]) -> bool:
    """Whether a session of PostgreSQL goes to another client while its first one is connected, or a client
    gets another session while a transaction holds its first one."""
    with connect() as first, connect() as second:
        for _ in range(TRIES):
            before = _process(first)
            with second.transaction():
                if _process(second) == before or _process(first) != before:
                    return True
    return False


def _process(connection: psycopg.Connection) -> int:
    process: int = connection.execute("SELECT pg_backend_pid()").fetchall()[0][0]
    return process
