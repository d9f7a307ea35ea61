"""`manage.py backup` and `manage.py restore`.

A backup is a folder: PostgreSQL's own dump of all tables as of one moment, and a manifest, which is written
last. What has no manifest is no backup. It holds no secret key: what the key encrypted is as unreadable in
the backup as in the database.
"""


class BackupError(Exception):
    """The text says what to do, in one sentence or two."""
