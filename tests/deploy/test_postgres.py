"""PostgreSQL as people have it: each major version that is here, with TLS, a role that owns its database and
nothing else, and behind pgbouncer.

TEST_POSTGRES names more folders of programs, with colons between them, beside Debian's and the wheel's."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from mqtt_clients import certificate
from stack import ROOT, Stack, answers, free_port, wait_until

from thingscale.lib import database_server
from thingscale.local import bundled_servers

pytestmark = pytest.mark.e2e
SECONDS = 60
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
WHEEL = bundled_servers.postgres_install() / "bin"
EMAIL, PASSWORD = "owner@example.com", "correct horse battery"
TASKS = """
from thingscale.celery import app
from django.conf import settings
app.loader.import_default_modules()
for name in sorted(settings.CELERY_BEAT_SCHEDULE):
    app.tasks[name]()
"""


def folders() -> dict[str, Path]:
    """Of programs, by major version."""
    listed = [Path(each) for each in os.environ.get("TEST_POSTGRES", "").split(":") if each]
    found = {}
    for folder in (WHEEL, *Path("/usr/lib/postgresql").glob("*/bin"), *listed):
        if (folder / "initdb").exists():
            said = subprocess.check_output([folder / "postgres", "--version"], text=True)
            found[said.split()[2].partition(".")[0]] = folder
    return found


FOLDERS = folders()
SUPPORTED = sorted(version for version in FOLDERS if int(version) >= database_server.OLDEST)


class Server(NamedTuple):
    port: int
    folder: Path
    certificate: str  # "": without TLS

    def url(self, user: str = "owner", port: int = 0) -> str:
        """Over TLS, with the certificate verified, but for another port than its own."""
        tls = self.certificate and not port
        options = f"sslmode=verify-full&sslrootcert={self.certificate}" if tls else "sslmode=disable"
        return f"postgresql://{user}:secret@127.0.0.1:{port or self.port}/{user}?{options}"

    def empty(self, user: str) -> None:
        """The database of the role, anew."""
        with psycopg.connect(f"host={self.folder} port={self.port} user=admin dbname=postgres") as connection:
            connection.autocommit = True
            connection.execute(f"DROP DATABASE IF EXISTS {user} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {user} OWNER {user}")


def lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def start(version: str) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="thingscale-postgres-"))
    port = free_port()
    pair = certificate(folder)
    if NOBODY:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, NOBODY["user"], NOBODY["group"])  # type: ignore[call-overload]
    (folder / "key.pem").chmod(0o600)
    programs = FOLDERS[version]
    tls = programs != WHEEL  # which is built without
    made = ["-D", folder / "data", "-U", "admin", "--no-sync", "--encoding", "UTF8", "--auth-local", "trust"]
    subprocess.run(
        [programs / "initdb", *made, "--auth-host", "scram-sha-256", "--locale", "C"],
        check=True,
        stdout=subprocess.DEVNULL,
        **NOBODY,  # type: ignore[call-overload]
    )
    settings = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "ssl": "on" if tls else "off",
        "ssl_cert_file": pair["THINGSCALE_TLS_CERT"],
        "ssl_key_file": pair["THINGSCALE_TLS_KEY"],
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *words],
            stdout=log,
            stderr=log,
            **NOBODY,  # type: ignore[call-overload]
        )
    try:
        admin = f"host={folder} port={port} user=admin dbname=postgres"
        wait_until(lambda: lets_in(admin) or process.poll() is not None, SECONDS, "PostgreSQL")
        assert process.poll() is None, (folder / "log").read_text()
        with psycopg.connect(admin) as connection:
            connection.execute("CREATE ROLE owner LOGIN PASSWORD 'secret'")
            connection.execute("CREATE ROLE super LOGIN SUPERUSER PASSWORD 'secret'")
        yield Server(port, folder, pair["THINGSCALE_TLS_CERT"] if tls else "")
    finally:
        process.terminate()
        process.wait(SECONDS)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from start(request.param)


@pytest.fixture
def stack(django_db_setup: None) -> Iterator[Stack]:
    """Nothing of it uses the tests' own database."""
    given = os.environ["REDIS_URL"]
    running = Stack(REDIS_URL=f"{given}{'&' if '?' in given else '?'}db=7", THINGSCALE_LOG_LEVEL="WARNING")
    yield running
    running.stop()


def manage(stack: Stack, *arguments: str) -> tuple[int, str]:
    with stack.manage(*arguments) as process:
        output, errors = process.communicate(timeout=SECONDS)
    return process.returncode, output + errors


def main_job(stack: Stack) -> None:
    """Prepares the database, starts, lets the main job run, and each periodic task once."""
    assert manage(stack, "prepare")[0] == 0
    code, said = manage(
        stack, "create_account", "--email", EMAIL, f"--password={PASSWORD}", "--staff", "--json"
    )
    assert code == 0, said
    account = json.loads(said)
    assert manage(stack, "create_channel", account["user_id"], "0")[0] == 0
    stack.ensure("web", "ingest")
    known = [account[name] for name in ("user_id", "device_token", "api_token")]
    job = [ROOT / "scripts" / "rehearse_main_job.py", stack.url(""), str(stack.mqtt), EMAIL, PASSWORD, *known]
    done = subprocess.run([sys.executable, *job], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code, said = manage(stack, "shell", "--verbosity", "0", "-c", TASKS)
    assert code == 0, said
    for name in ("web", "ingest"):
        assert "ERROR" not in stack.log(name)
    stack.stop()


@pytest.mark.parametrize("server", SUPPORTED, indirect=True)
@pytest.mark.parametrize("user", ["owner", "super"])
def test_the_platform_works_with_it(server: Server, stack: Stack, user: str) -> None:
    """As a superuser, and as one who owns the database."""
    server.empty(user)
    stack.environment["DATABASE_URL"] = server.url(user)
    main_job(stack)


@pytest.mark.skipif("14" not in FOLDERS, reason="there is no PostgreSQL 14 here")
@pytest.mark.parametrize("server", ["14"], indirect=True)
def test_an_older_one_is_refused_with_a_sentence(server: Server, stack: Stack) -> None:
    server.empty("owner")
    stack.environment["DATABASE_URL"] = server.url()
    sentence = database_server.TOO_OLD.format(found=14, oldest=15)
    assert manage(stack, "prepare") == (3, f"{sentence}\n")


PGBOUNCER = """
[databases]
owner = host=127.0.0.1 port={server} dbname=owner password=secret
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = {mode}
"""


@pytest.fixture
def pooler(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """DATABASE_URL through pgbouncer in the mode of the parameter."""
    binary = shutil.which("pgbouncer", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    if binary is None:
        pytest.skip("pgbouncer is not installed")
    server.empty("owner")
    port = free_port()
    config = server.folder / f"{request.param}.ini"
    config.write_text(
        PGBOUNCER.format(server=server.port, port=port, folder=server.folder, mode=request.param)
    )
    (server.folder / "users").write_text('"owner" "secret"\n')
    process = subprocess.Popen([binary, "-q", config], **NOBODY)  # type: ignore[call-overload]
    try:
        wait_until(lambda: answers(port), SECONDS, "pgbouncer")
        yield server.url(port=port)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.parametrize("server", SUPPORTED[:1], indirect=True)
@pytest.mark.parametrize("pooler", ["session"], indirect=True)
def test_a_pooler_of_sessions_is_fine(server: Server, stack: Stack, pooler: str) -> None:
    stack.environment["DATABASE_URL"] = pooler
    main_job(stack)
    _, said = manage(stack, "doctor")
    assert "PROBLEM pooling" not in said
    assert "PROBLEM PostgreSQL" not in said
    assert "The database is ready" in manage(stack, "upgrade")[1]


@pytest.mark.parametrize("server", SUPPORTED[:1], indirect=True)
@pytest.mark.parametrize("pooler", ["transaction", "statement"], indirect=True)
def test_a_pooler_of_transactions_is_refused_with_a_sentence(
    server: Server, stack: Stack, pooler: str, tmp_path: Path
) -> None:
    """Before anything is locked: the lock would stay with the pooler."""
    stack.environment["DATABASE_URL"] = pooler
    for command in ("prepare", "ingest"):
        assert manage(stack, command) == (3, f"{database_server.POOLED}\n")
    assert f"PROBLEM pooling: {database_server.POOLED.partition('. ')[0]}." in manage(stack, "doctor")[1]
    stack.environment["THINGSCALE_HOME"] = str(tmp_path)
    code, said = manage(stack, "up", "--only", "web,ingest,celery")
    assert (code, said) == (1, f"DATABASE_URL: {database_server.POOLED}\n")
    with psycopg.connect(f"host={server.folder} port={server.port} user=admin dbname=owner") as connection:
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchall() == [
            (0,)
        ]
