"""Time zones that both Python and PostgreSQL know, so that a person and the data agree."""

from functools import cache
from zoneinfo import available_timezones

from django.db import connection


@cache
def time_zones() -> list[str]:
    """In order of name. PostgreSQL reads hundreds of files for it: once a process."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_timezone_names")
        known = {name for (name,) in cursor.fetchall()}
    return sorted(known & available_timezones() - {"localtime", "Factory"})
