"""Monthly partitions of `datapoint`: made ahead by a task, or by the first write that needs one."""

from datetime import UTC, datetime

import psycopg

LOCK = 7_465_001  # advisory lock: one process makes partitions at a time
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)  # bounds how many partitions clients can cause

Month = tuple[int, int]


def month_of(moment: datetime) -> Month:
    moment = moment.astimezone(UTC)
    return moment.year, moment.month


def following(month: Month) -> Month:
    year, number = month
    return (year + 1, 1) if number == 12 else (year, number + 1)


def name_of(month: Month) -> str:
    return f"datapoint_{month[0]:04d}_{month[1]:02d}"


def existing(connection: psycopg.Connection) -> set[Month]:
    rows = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'datapoint'::regclass"
    ).fetchall()
    return {(int(name[-7:-3]), int(name[-2:])) for (name,) in rows}


def make(connection: psycopg.Connection, month: Month) -> None:
    """Makes the partition unless it exists. Attaching a table blocks no writer, as CREATE ... PARTITION OF
    would."""
    if month in existing(connection):  # without the lock, which lasts as long as the caller's transaction
        return
    name = name_of(month)
    start, end = (f"{m[0]:04d}-{m[1]:02d}-01 00:00:00+00" for m in (month, following(month)))
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        if month in existing(connection):
            return
        connection.execute(f"CREATE TABLE {name} (LIKE datapoint INCLUDING DEFAULTS INCLUDING INDEXES)")
        connection.execute(
            f"ALTER TABLE datapoint ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')"
        )


def drop_if_empty(connection: psycopg.Connection, month: Month) -> bool:
    """Returns whether it did. Looks again under the lock that DROP takes anyway: a row may have come
    meanwhile."""
    if not _is_empty(connection, month):
        return False
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '5s'")
        connection.execute("LOCK TABLE ONLY datapoint IN ACCESS EXCLUSIVE MODE")
        if empty := _is_empty(connection, month):
            connection.execute(f"DROP TABLE {name_of(month)}")
    return empty


def _is_empty(connection: psycopg.Connection, month: Month) -> bool:
    row = connection.execute(f"SELECT EXISTS (SELECT FROM {name_of(month)})").fetchone()  # noqa: S608 (ours)
    return row == (False,)
