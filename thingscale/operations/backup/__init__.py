"""`manage.py backup` and `manage.py restore`.

A backup is a folder: PostgreSQL's own dump of all tables as of one moment, and a manifest, which is written
last. What has no manifest is no backup. It holds no secret key: what the key encrypted is as unreadable in
the backup as in the database.
"""

import os

import psycopg


class BackupError(Exception):
    """The text says what to do, in one sentence or two."""


def what_postgresql_says(error: psycopg.Error) -> str:
    said = f"PostgreSQL: {str(error).strip()}"
    if isinstance(error, psycopg.OperationalError) and "DATABASE_URL" not in os.environ:
        return f"{said}\nIf it is the platform's own one, start it: `manage.py up --only postgres,valkey`."
    return said
