"""Checks of PostgreSQL: whether it is one on which the platform can keep its promise, and what is in it.

Each gets a connection of the doctor's own, in autocommit mode, whose statements have a time limit.
"""

import math
import socket
import time
from typing import Any, LiteralString

import psycopg
import psycopg.errors
from django.conf import settings

from thingscale.accounts import encryption
from thingscale.lib import clock, database_server
from thingscale.lib.plurals import counted
from thingscale.local import config, ports
from thingscale.operations.doctor.findings import Finding, Findings, problem, warning
from thingscale.processes import compatibility, secret_key
from thingscale.streams import partitions
from thingscale.version import RELEASE

CONNECT_SECONDS = 5
NEWEST = 18  # of PostgreSQL, that this release was tried with
NEEDED_CONNECTIONS = 40  # of a gateway, a web process and a worker, and for the operator
CLOCK_SECONDS, CLOCK_PROBLEM_SECONDS = 2.0, 30.0
PROBE_BYTES = 256 * 1024
HOURS_OF_A_TRANSACTION = 1
PARTS = {"web": "web process", "ingest": "gateway or ingest worker", "celery": "Celery worker"}


def unreachable(error: psycopg.Error, parameters: dict[str, Any]) -> Finding:
    """libpq has no codes for what goes wrong before a session, only the server's text."""
    text = str(error)
    if password := parameters.get("password"):
        text = text.replace(password, "***")
    name, user = parameters.get("dbname"), parameters.get("user")
    if "password authentication failed" in text or "no password supplied" in text:
        return problem(f"PostgreSQL refuses the password of {user}.", "Correct the password in DATABASE_URL.")
    if "does not exist" in text and "role" in text:
        return problem(f"PostgreSQL knows no role {user}.", "Make it, or correct the user in DATABASE_URL.")
    if "does not exist" in text and "database" in text:
        return problem(
            f"There is no database {name}.",
            f"Make it (`createdb --owner={user} --encoding=UTF8 {name}`), or correct DATABASE_URL.",
        )
    if "unsupported startup parameter" in text:
        return problem(
            "A pooler refuses the options in DATABASE_URL.",
            "Leave them out, or let it ignore them (pgbouncer: ignore_startup_parameters = options).",
        )
    if "too many" in text or "remaining connection slots" in text:
        return problem(
            "PostgreSQL has no connection left.",
            "Raise max_connections, or the limit of the role or database, and look at pg_stat_activity for"
            " who has them.",
        )
    line = (text.strip().splitlines() or ["no answer"])[0].rpartition("failed: ")[2].strip()
    remedy = "Look whether it runs, and at host and port in DATABASE_URL and at firewalls."
    if not parameters.get("host") or str(settings.THINGSCALE_HOME) in str(parameters.get("host")):
        remedy = "Start the platform with its private PostgreSQL (`manage.py up`), or set DATABASE_URL."
    return problem(f"PostgreSQL does not answer ({line.rstrip('.')}).", remedy)


def check_version(connection: psycopg.Connection) -> Findings:
    major = connection.info.server_version // 10_000
    if major < database_server.OLDEST:
        yield problem(
            f"This is PostgreSQL {major}, and the platform needs {database_server.OLDEST} or later.",
            "Upgrade it (pg_upgrade), or restore a backup into a newer one.",
        )
    elif major > NEWEST:
        yield warning(
            f"This is PostgreSQL {major}. This release was tried with {database_server.OLDEST} to {NEWEST}.",
            "Look into CHANGELOG.md for a release that was tried with it.",
        )


def check_encoding(connection: psycopg.Connection) -> Findings:
    encoding = _value(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        yield problem(
            f"The database's encoding is {encoding}: names and values in other alphabets can't be stored.",
            "Make a database with ENCODING 'UTF8' TEMPLATE template0, and restore a backup into it.",
        )


def check_durability(connection: psycopg.Connection) -> Findings:
    """What is acknowledged is on the disk: only with these."""
    risks = {
        "fsync": "when the machine fails, the whole database may be lost",
        "full_page_writes": "when the machine fails, the database may be damaged",
        "synchronous_commit": "when the machine fails, datapoints that were acknowledged are lost",
    }
    for name, risk in risks.items():
        if _value(connection, "SELECT current_setting(%s)", name) == "off":
            yield problem(
                f"PostgreSQL's {name} is off: {risk}.",
                f"Set {name} = on in postgresql.conf, and look for ALTER ROLE or ALTER DATABASE ... SET.",
            )


def check_connections(connection: psycopg.Connection) -> Findings:
    """The least of what the server, the database and the role allow."""
    most, reserved, used = connection.execute(
        """SELECT current_setting('max_connections')::int,
            current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true)::int, 0),
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int"""
    ).fetchall()[0]
    limits = connection.execute(
        """SELECT 'the database allows', datconnlimit FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT 'the role allows', rolconnlimit FROM pg_roles WHERE rolname = current_user"""
    ).fetchall()
    allowed = [("max_connections allows", most - reserved), *(each for each in limits if each[1] >= 0)]
    who, least = min(allowed, key=lambda each: each[1])
    if least < NEEDED_CONNECTIONS:
        yield problem(
            f"PostgreSQL has too few connections: {who} {least}, and one gateway, one web process and one"
            f" worker take up to {NEEDED_CONNECTIONS}.",
            "Raise max_connections (a gateway takes up to 10, a web process up to 20), or the limit of the"
            " role or database.",
        )
    elif used > 0.9 * (most - reserved):
        yield warning(
            f"{used} of PostgreSQL's {most - reserved} connections are in use.",
            "Raise max_connections before there is none for a process that starts.",
        )


def check_pooling(parameters: dict[str, Any]) -> Findings:
    """As each process looks at its start."""
    known = {"connect_timeout": CONNECT_SECONDS} | parameters
    try:
        shared = database_server.shares_sessions(lambda: psycopg.connect(**known, autocommit=True))
    except psycopg.Error as error:
        if not database_server.is_statement_pooling(error):
            raise
        shared = True
    if shared:
        sentence, _, remedy = database_server.POOLED.partition(". ")
        yield problem(f"{sentence}.", remedy)


def check_writing(connection: psycopg.Connection) -> Findings:
    """Whether there is room, and the server takes writes."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("CREATE TEMPORARY TABLE doctor (filling text) ON COMMIT DROP")
            connection.execute(
                "INSERT INTO doctor SELECT md5(n::text) FROM generate_series(1, %s) n", [PROBE_BYTES // 32]
            )
    except psycopg.errors.ReadOnlySqlTransaction:
        yield problem(
            "PostgreSQL takes no writes: it is a standby, or default_transaction_read_only is on.",
            "Let DATABASE_URL name the primary (or all, with target_session_attrs=read-write).",
        )
    except psycopg.errors.DiskFull:
        yield problem(
            "PostgreSQL's disk is full.",
            "Make room on it or enlarge it. What waits is stored then: nothing that was acknowledged is"
            " lost.",
        )
    except psycopg.errors.InsufficientPrivilege:
        yield problem(
            "The role may not make temporary tables in the database.",
            "Let it own the database (ALTER DATABASE ... OWNER TO ...), or GRANT TEMPORARY.",
        )


def check_rights(connection: psycopg.Connection) -> Findings:
    ((superuser, user, create),) = connection.execute(
        """SELECT rolsuper, current_user, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
        FROM pg_roles WHERE rolname = current_user"""
    ).fetchall()
    if superuser:
        yield warning(
            f"The platform connects as {user}, a superuser of PostgreSQL: whoever finds a mistake in its SQL"
            " can read files of the server.",
            "Make a role that owns the database and nothing else, and name it in DATABASE_URL.",
        )
    if not create:
        yield problem(
            f"{user} may not make tables in its schema: migrations and new months fail.",
            f"Let {user} own the database (ALTER DATABASE ... OWNER TO {user}).",
        )


def check_clock(connection: psycopg.Connection) -> Findings:
    """All processes go by the database's clock, but sessions, links, one-time codes and certificates by the
    machine's."""
    asked = time.time()
    there = float(_value(connection, "SELECT extract(epoch FROM clock_timestamp())"))
    answered = time.time()
    if asked <= there <= answered:
        return
    off = min(there - asked, there - answered, key=abs)
    if abs(off) > CLOCK_SECONDS:
        found = problem if abs(off) > CLOCK_PROBLEM_SECONDS else warning
        seconds = counted(math.ceil(abs(off)), "second")
        yield found(
            f"This machine's clock is {seconds} {'behind' if off > 0 else 'ahead of'} PostgreSQL's.",
            "Set both by NTP (chrony, systemd-timesyncd). One-time codes of authenticators fail when a clock"
            " is"
            " half a minute off.",
        )


def check_schema(connection: psycopg.Connection) -> Findings:
    if not compatibility.has_table(connection, "django_migrations"):
        yield problem("The database is empty.", "Run `manage.py upgrade`, or `manage.py up`.")
        return
    try:
        compatibility.check_schema(connection)
        if compatibility.has_table(connection, "processes_installation"):
            compatibility.check_releases(connection)
    except compatibility.StartRefused as refused:
        sentence, _, remedy = str(refused).partition(": ")
        yield problem(f"{sentence}.", f"{remedy[0].upper()}{remedy[1:]}")
        return
    ours = compatibility.migrations()
    labels = {app for app, _ in ours}
    rows = connection.execute("SELECT app, name FROM django_migrations")
    if newer := sorted((app, name) for app, name in rows if app in labels and (app, name) not in ours):
        app, name = newer[0]
        yield warning(
            f"The database has {counted(len(newer), 'migration')} of a newer release (the first one:"
            f" {app}.{name}).",
            f"This is release {RELEASE}: finish the upgrade of all machines, or go back only as far as"
            " CHANGELOG.md says.",
        )


def check_keys(connection: psycopg.Connection) -> Findings:
    """By what processes have recorded, and by trying to read the newest token."""
    if not compatibility.has_table(connection, "accounts_token") or secret_key.is_missing():
        return
    try:
        if compatibility.has_table(connection, "processes_secretkey"):
            compatibility.check_keys(connection)
        for (ciphertext,) in connection.execute(
            "SELECT ciphertext FROM accounts_token ORDER BY id DESC LIMIT 1"
        ):
            encryption.decrypt(bytes(ciphertext), encryption.Purpose.TOKEN)
    except (compatibility.StartRefused, encryption.Undecryptable) as refused:
        sentence, _, remedy = str(refused).partition(". ")
        yield problem(
            f"{sentence.rstrip('.')}.",
            remedy or "List the key that encrypted them in THINGSCALE_SECRET_KEYS, too.",
        )


def check_partitions(connection: psycopg.Connection) -> Findings:
    if not compatibility.has_table(connection, "datapoint"):
        return
    now = clock.now()
    have = partitions.existing(connection)
    for needed in sorted({partitions.month_of(now), partitions.month_of(now + clock.DAY)}):
        if needed not in have:
            yield warning(
                f"The table of the month {needed[0]}-{needed[1]:02d} is missing: the first datapoint of it"
                " has to wait until it is made.",
                "Look whether the Celery worker runs: it makes them ahead, once an hour.",
            )


def check_processes(connection: psycopg.Connection) -> Findings:
    if not compatibility.has_table(connection, "processes_process"):
        return
    rows = connection.execute(
        """SELECT part, release FROM processes_process
        WHERE seen_at > now() - make_interval(secs => %s)""",
        [compatibility.ENDED_AFTER_SECONDS],
    ).fetchall()
    parts = {part for part, _ in rows}
    if not parts:
        yield warning("No process of the platform runs.", "Start it: `manage.py up`, or its units.")
        return
    for part in PARTS.keys() - parts:
        yield problem(
            f"No {PARTS[part]} runs.",
            f"Start it, and look into its log (log/{part}.log of the home, or the journal) for why it ended.",
        )
    if len({release for _, release in rows}) > 1:
        yield warning(
            "Processes of two releases run.",
            "This is well while machines are updated one by one. Otherwise restart the older ones.",
        )


def check_ports(connection: psycopg.Connection | None) -> Findings:
    """Ports that our own processes on this machine listen on are taken, and well."""
    ours: set[str] = set()
    if connection and compatibility.has_table(connection, "processes_process"):
        rows = connection.execute(
            """SELECT part FROM processes_process
            WHERE host = %s AND seen_at > now() - make_interval(secs => %s)""",
            [socket.gethostname()[:255], compatibility.ENDED_AFTER_SECONDS],
        )
        ours = {part for (part,) in rows}
    configuration = config.read()
    for variable, port in configuration.listens.items():
        part = "ingest" if "_MQTT_" in variable else "web"
        if part in ours or ports.bind_error(configuration.bind, port) is None:
            continue
        if ports.answers(configuration.host, port):
            yield problem(
                f"Port {port} is taken by another program ({variable}).",
                f"Stop that program (`ss -ltnp 'sport = {port}'` names it), or set {variable} to a free"
                " port.",
            )
        else:
            yield problem(
                f"Nothing can listen on {configuration.bind} port {port} ({variable}).",
                "Choose a port above 1023, or give the process the right to lower ones, and an address of"
                " this machine as THINGSCALE_BIND.",
            )


def check_long_transactions(connection: psycopg.Connection) -> Findings:
    """They keep VACUUM from what others delete, and migrations from their tables."""
    ((count,),) = connection.execute(
        """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND xact_start < now() - make_interval(hours => %s)""",
        [HOURS_OF_A_TRANSACTION],
    ).fetchall()
    if count:
        yield warning(
            f"{counted(count, 'transaction')} of the database {'is' if count == 1 else 'are'} open for more"
            " than"
            " an hour: tables grow meanwhile, and migrations wait.",
            "Look for it in pg_stat_activity (xact_start), and end it with pg_terminate_backend.",
        )


def _value(connection: psycopg.Connection, question: LiteralString, *values: Any) -> Any:
    return connection.execute(question, values or None).fetchall()[0][0]
