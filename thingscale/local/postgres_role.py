"""The database role of the platform: it owns its database, and may do nothing else.

A superuser may read the server's files and run programs. With such a role, so could anybody who finds a
mistake in our SQL. Each statement can be repeated, and is on one line, as a single-user server reads it.
"""

DATABASE = "thingscale"
SUPERUSER = "thingscale"  # earlier versions connected as this one
ROLE = "thingscale_app"
# In front of pg_hba.conf. The first line says that the role is made; an administrator may remove the other.
MADE = (
    f"# ThingScale: the platform connects as {ROLE}. Without the next line one can connect as the superuser."
)
NO_SUPERUSER = f"{MADE}\nlocal all {SUPERUSER} reject\n"

_MAKE = (
    f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN"
    f" CREATE ROLE {ROLE} LOGIN; END IF; END $$;",
    f"ALTER ROLE {ROLE} NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS NOCREATEDB;",
    f"ALTER DATABASE {DATABASE} OWNER TO {ROLE};",
)
# Objects that the superuser (10) made in earlier versions; PostgreSQL's own objects are below 16384. The
# owner of a column's sequence changes with its table.
_TAKE_OVER = (
    "DO $$ DECLARE thing record; BEGIN FOR thing IN"  # noqa: S608 (constants)
    " SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name"
    " FROM pg_class c WHERE relowner = 10 AND c.oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
    " AND NOT (relkind = 'S' AND EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass"
    " AND objid = c.oid AND deptype IN ('a', 'i')))"
    " UNION ALL SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc WHERE proowner = 10 AND oid >= 16384"
    " UNION ALL SELECT 'SCHEMA', quote_ident(nspname) FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384"
    " LOOP EXECUTE format('ALTER %s %s OWNER TO " + ROLE + "', thing.kind, thing.name); END LOOP; END $$;",
)
# Databases of their own, checkpoints, and a setting that only a superuser may change.
_FOR_TESTS = (
    f"ALTER ROLE {ROLE} CREATEDB;",
    f"GRANT pg_checkpoint TO {ROLE};",
    f"GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO {ROLE};",
)
_FOR_TESTS_IN_NEW_DATABASES = (f"GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {ROLE};",)


def statements(database: str, for_tests: bool = False) -> str:
    if database != DATABASE:
        lines = _FOR_TESTS_IN_NEW_DATABASES
    else:
        lines = (*_MAKE, *_TAKE_OVER, *(_FOR_TESTS if for_tests else ()))
    return "\n".join(lines) + "\n"
