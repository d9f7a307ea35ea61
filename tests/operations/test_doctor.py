"""`manage.py doctor` on one installation, which is broken in one way after the other, for real."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.cache import cache
from psycopg.conninfo import conninfo_to_dict
from pytest_django import Settings
from stack import ROOT, free_port
from transaction_pooler import read_message, transaction_pooler

from thingscale.background import heartbeat
from thingscale.lib import clock, env
from thingscale.local.postgres_role import DATABASE, ROLE
from thingscale.local.servers import Servers, memory_folder
from thingscale.operations.doctor import database, examination, machine
from thingscale.operations.doctor.examination import Examination
from thingscale.operations.doctor.findings import Finding, Level
from thingscale.streams import partitions

PORTS = ("HTTP", "MQTT", "MQTT_WS")
DISK = 600 * 2**20


class Installation:
    def __init__(self, servers: Servers, environment: dict[str, str]) -> None:
        self.servers = servers
        self.environment = environment
        self.database: dict[str, Any] = dict(conninfo_to_dict(servers.postgres.url))

    def manage(self, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment, **changes, "MQTT_URL": "", "MQTT5_URL": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def examine(self, database: dict[str, Any] | None = None, valkey: str = "") -> list[Finding]:
        return list(Examination(database or self.database, valkey or self.servers.valkey.url).run())

    def query(self, *statements: str, dbname: str = DATABASE) -> None:
        place = self.database | {"dbname": dbname}
        with psycopg.connect(**place, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path | None]:
    """Only root may mount one."""
    folder = Path(tempfile.mkdtemp(prefix="thingscale-doctor-", dir=memory_folder()))
    folder.chmod(0o711)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=711", "doctor", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def built(small_disk: Path) -> Iterator[Installation]:
    """A sound installation, of which no process runs: the rows say that they do elsewhere."""
    servers = Servers(small_disk / "home")
    with servers as environment:
        environment |= {f"THINGSCALE_{name}_PORT": str(free_port()) for name in PORTS}
        environment |= {"THINGSCALE_MAX_CONNECTIONS": "1000", "THINGSCALE_HTTP_CONNECTIONS": "1000"}
        installation = Installation(servers, environment)
        for command in (["upgrade"], ["create_account", "--email", "a@example.com", "--password=good one"]):
            done = installation.manage(*command)
            assert not done.returncode, done.stderr
        with psycopg.connect(**installation.database, autocommit=True) as connection:
            month = partitions.month_of(clock.now())
            partitions.make(connection, month)
            partitions.make(connection, partitions.following(month))
            connection.execute(
                """INSERT INTO processes_process (part, host, pid, version, release, secret_key, seen_at)
                SELECT part, 'another machine', 1, '', 1, '', now() + interval '1 day'
                FROM unnest(array['web', 'ingest', 'celery']) part"""
            )
        installation.query(f"CREATE DATABASE sound TEMPLATE {DATABASE}", dbname="postgres")
        yield installation


@pytest.fixture
def installation(
    built: Installation, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    for name in PORTS:
        monkeypatch.setenv(f"THINGSCALE_{name}_PORT", built.environment[f"THINGSCALE_{name}_PORT"])
    settings.THINGSCALE_HOME = built.servers.home.path
    for name in ("MQTT_URL", "MQTT5_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "LITTLE_BYTES", DISK // 2)
    settings.MAX_CONNECTIONS = settings.HTTP_CONNECTIONS = 1000
    heartbeat.beat()
    yield built
    cache.delete(heartbeat.KEY)


@pytest.fixture
def copy(installation: Installation) -> Iterator[dict[str, Any]]:
    """Parameters of a copy of the database."""
    installation.query("CREATE DATABASE copy TEMPLATE sound", dbname="postgres")
    yield {**installation.database, "dbname": "copy"}
    installation.query("DROP DATABASE copy WITH (FORCE)", dbname="postgres")


def only(found: list[Finding], level: Level = Level.PROBLEM) -> Finding:
    """The one there is, besides that there is no mail server."""
    (finding,) = [finding for finding in found if finding.check != "mail"]
    assert finding.level is level
    assert finding.remedy
    return finding


def test_a_sound_installation_has_no_problem(installation: Installation) -> None:
    assert [finding.check for finding in installation.examine()] == ["mail"]


def test_the_command_says_so(installation: Installation) -> None:
    """The process of the command sees the Valkey of the installation, in which no heartbeat is."""
    done = installation.manage("doctor", THINGSCALE_EMAIL_URL="")
    assert done.returncode == 1, done.stdout
    assert "PROBLEM heartbeat: No periodic task was run yet" in done.stdout
    assert re.search(r"\n\d\d checks: 1 problem, \d warnings?\.\n$", done.stdout)
    servers = (installation.servers.valkey.url, os.environ["REDIS_URL"])
    there, here = (redis.Redis.from_url(url) for url in servers)
    with closing(there), closing(here):
        (key,) = here.keys(f"*{heartbeat.KEY}")
        there.set(key, here.get(key) or b"")
    done = installation.manage("doctor", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert told["well"]
    assert len(told["checks"]) > 20
    assert told["findings"][0]["level"] == "warning"


# PostgreSQL, where it can't be used at all


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"host": "127.0.0.1", "port": "1"}, "PostgreSQL does not answer (Connection refused)."),
        ({"user": "somebody"}, "PostgreSQL knows no role somebody."),
        ({"dbname": "nothing"}, "There is no database nothing."),
    ],
)
def test_no_way_to_postgres(installation: Installation, changes: dict[str, str], sentence: str) -> None:
    found = only(installation.examine(database={**installation.database, **changes}))
    assert found.check == "PostgreSQL"
    assert found.sentence == sentence


def test_a_wrong_password_is_not_shown(installation: Installation, copy: dict[str, Any]) -> None:
    postgres = installation.servers.postgres
    server, rules = postgres.process, postgres.data / "pg_hba.conf"
    assert server
    before = rules.read_text()
    rules.write_text(f"local copy all scram-sha-256\n{before}")
    try:
        server.signal(signal.SIGHUP)
        wrong = {**copy, "password": "hunter2"}
        deadline = time.monotonic() + 60
        while (found := installation.examine(database=wrong))[-1].check != "PostgreSQL":
            assert time.monotonic() < deadline  # it reads the file soon
        assert only(found).sentence == f"PostgreSQL refuses the password of {ROLE}."
        assert "hunter2" not in str(found)
    finally:
        rules.write_text(before)
        server.signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while [finding.check for finding in installation.examine(database=copy)] != ["mail"]:
            assert time.monotonic() < deadline


def test_a_server_that_says_nothing_holds_nobody_up(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {"host": "127.0.0.1", "port": silent.getsockname()[1], "connect_timeout": 1}
        found = only(installation.examine(database={**installation.database, **place}))
    assert found.check == "PostgreSQL"
    assert "timeout" in found.sentence


def test_a_table_that_is_locked_holds_nobody_up(
    installation: Installation, copy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "LIMITS", "SET lock_timeout = '100ms'")
    with psycopg.connect(**copy) as other:
        other.execute("LOCK TABLE accounts_token")
        found = only(installation.examine(database=copy))
    assert found.check == "keys"
    assert "LockNotAvailable" in found.sentence


def test_a_check_that_hangs_is_left_behind(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a server whose machine was cut off: the operating system still waits for its answer."""
    monkeypatch.setattr(examination, "CHECK_SECONDS", 1.0)
    hung = threading.Event()

    def wait(_connection: psycopg.Connection) -> Iterator[Finding]:
        hung.wait(60)
        yield from ()

    monkeypatch.setattr(examination, "DATABASE", {"hung": wait, "later": wait})
    examined = Examination(installation.database, installation.servers.valkey.url)
    problems = [finding for finding in examined.run() if finding.level is Level.PROBLEM]
    hung.set()
    if examined.connection:
        examined.connection.close()
    assert [finding.check for finding in problems] == ["hung", "PostgreSQL"]
    assert "later" not in examined.looked
    assert examined.looked[-1] == "heartbeat"


# PostgreSQL, as it is set up


@contextmanager
def old_server() -> Iterator[dict[str, Any]]:
    """Says that it is PostgreSQL 13, and no more."""

    def status(name: str, value: str) -> bytes:
        words = f"{name}\0{value}\0".encode()
        return b"S" + struct.pack("!i", len(words) + 4) + words

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            (size,) = struct.unpack("!i", client.recv(4))
            client.recv(size - 4)
            told = b"R" + struct.pack("!ii", 8, 0) + status("server_version", "13.4")
            told += status("client_encoding", "UTF8") + b"Z" + struct.pack("!i", 5) + b"I"
            client.sendall(told)
            read_message(client.makefile("rb"))  # type: ignore[arg-type]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        yield {"host": "127.0.0.1", "port": port, "user": "x", "sslmode": "disable", "gssencmode": "disable"}
        thread.join(10)


def test_a_version_that_is_too_old(db: None) -> None:
    with old_server() as parameters, psycopg.connect(**parameters) as connection:
        (found,) = database.check_version(connection)
    assert found.sentence == "This is PostgreSQL 13, and the platform needs 15 or later."


@pytest.mark.parametrize(
    ("check", "statement", "sentence"),
    [
        ("durability", "ALTER DATABASE copy SET synchronous_commit = off", "synchronous_commit is off"),
        ("connections", "ALTER DATABASE copy CONNECTION LIMIT 5", "too few connections: the database allows"),
        ("writing", "ALTER DATABASE copy SET default_transaction_read_only = on", "takes no writes"),
        (
            "rights",
            "REVOKE CREATE ON SCHEMA public FROM pg_database_owner",
            "may not make tables in its schema",
        ),
        ("schema", "DELETE FROM django_migrations WHERE name = '0002_datapoint'", "lacks 1 migration"),
        ("schema", "UPDATE processes_installation SET release = 99", "the database is one of release 99"),
        ("schema", "DROP TABLE django_migrations", "The database is empty."),
        ("keys", "UPDATE processes_secretkey SET fingerprint = 'another'", "with another secret key"),
        ("keys", "UPDATE accounts_token SET ciphertext = 'made with another'", "A secret can't be read"),
        ("processes", "DELETE FROM processes_process WHERE part = 'celery'", "No Celery worker runs."),
    ],
)
def test_a_database_that_is_wrong(
    installation: Installation, copy: dict[str, Any], check: str, statement: str, sentence: str
) -> None:
    installation.query(statement, dbname="copy")
    found = only(installation.examine(database=copy))
    assert found.check == check
    assert sentence in found.sentence


@pytest.mark.parametrize(
    ("check", "statement", "sentence"),
    [
        (
            "schema",
            "INSERT INTO django_migrations (app, name, applied) VALUES ('streams', '9_new', now())",
            "1 migration of a newer release (the first one: streams.9_new)",
        ),
        ("processes", "DELETE FROM processes_process", "No process of the platform runs."),
        ("processes", "UPDATE processes_process SET release = 0 WHERE id = 1", "Processes of two releases"),
    ],
)
def test_a_database_to_look_at(
    installation: Installation, copy: dict[str, Any], check: str, statement: str, sentence: str
) -> None:
    installation.query(statement, dbname="copy")
    found = only(installation.examine(database=copy), Level.WARNING)
    assert found.check == check
    assert sentence in found.sentence


def test_a_month_without_a_table(installation: Installation, copy: dict[str, Any]) -> None:
    month = partitions.month_of(clock.now() + clock.DAY)
    installation.query(f"DROP TABLE {partitions.name_of(month)}", dbname="copy")
    found = only(installation.examine(database=copy), Level.WARNING)
    assert found.sentence.startswith(f"The table of the month {month[0]}-{month[1]:02d} is missing")


def test_an_encoding_that_lacks_letters(installation: Installation) -> None:
    installation.query(
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0",
        dbname="postgres",
    )
    problems = installation.examine(database={**installation.database, "dbname": "latin"})
    installation.query("DROP DATABASE latin", dbname="postgres")
    found = [finding for finding in problems if finding.check == "encoding"]
    assert "The database's encoding is LATIN1" in found[0].sentence


def test_a_server_that_does_not_wait_for_its_disk(installation: Installation) -> None:
    postgres = installation.servers.postgres
    postgres.fast = True
    postgres.restart()
    problems = installation.examine()
    postgres.fast = False
    postgres.restart()
    assert [problem.sentence.split(":")[0] for problem in problems if problem.check == "durability"] == [
        "PostgreSQL's fsync is off",
        "PostgreSQL's full_page_writes is off",
        "PostgreSQL's synchronous_commit is off",
    ]


def test_a_pooler_in_transaction_mode(installation: Installation) -> None:
    path = str(installation.servers.postgres.sockets / ".s.PGSQL.5432")
    with transaction_pooler(path, ROLE, DATABASE) as port:
        place = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "gssencmode": "disable"}
        found = only(installation.examine(database={**installation.database, **place}))
    assert found.check == "pooling"
    assert "a pooler that gives several clients one session of PostgreSQL" in found.sentence
    assert "set pool_mode = session" in found.remedy


@pytest.mark.parametrize(("seconds", "way"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_clock_that_is_wrong(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, seconds: int, way: str
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + seconds)
    found = [finding for finding in installation.examine() if finding.check == "clock"]
    assert found[0].sentence == f"This machine's clock is 3,600 seconds {way} PostgreSQL's."


def test_a_full_disk(installation: Installation, small_disk: Path) -> None:
    if not os.path.ismount(small_disk):
        pytest.skip("only root may mount a small disk")
    ballast = small_disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for block in (bytes(2**20), bytes(4096)):
            try:
                while file.write(block):
                    pass
            except OSError:
                continue
    problems = {finding.check: finding.sentence for finding in installation.examine()}
    ballast.unlink()
    assert problems["writing"] == "PostgreSQL's disk is full."
    assert "has 0 MiB left" in problems["disk"]
    assert problems["home"].endswith("No space left on device.")


# Valkey


@contextmanager
def configured(installation: Installation, **values: str) -> Iterator[None]:
    with closing(redis.Redis.from_url(installation.servers.valkey.url)) as client:
        names = [name.replace("_", "-") for name in values]
        before = {name: client.config_get(name)[name] or "" for name in names}
        for name, value in zip(names, values.values(), strict=True):
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


@pytest.mark.parametrize(
    ("check", "values", "sentence"),
    [
        ("persistence", {"appendonly": "no", "save": ""}, "Valkey keeps nothing when it ends"),
        ("eviction", {"maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}, "deletes what it likes"),
        ("Valkey", {"requirepass": "x" * 20}, "Valkey refuses the password."),
    ],
)
def test_a_valkey_that_is_wrong(
    installation: Installation, check: str, values: dict[str, str], sentence: str
) -> None:
    with configured(installation, **values):
        found = only(installation.examine())
    assert found.check == check
    assert sentence in found.sentence


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://127.0.0.1:1/0", "Valkey does not answer (ConnectionError)."),
        ("http://127.0.0.1/", "REDIS_URL is no address of a Valkey."),
    ],
)
def test_no_way_to_valkey(installation: Installation, url: str, sentence: str) -> None:
    assert only(installation.examine(valkey=url)).sentence == sentence


def test_a_schedule_that_does_not_run(installation: Installation) -> None:
    cache.set(heartbeat.KEY, clock.now() - timedelta(hours=1))
    assert only(installation.examine()).check == "heartbeat"


# This machine and the settings


def test_a_key_that_everybody_knows(installation: Installation) -> None:
    done = installation.manage("doctor", THINGSCALE_SECRET_KEY=env.KNOWN_TO_ALL)
    assert "PROBLEM secret key: The secret key is the example that everybody knows" in done.stdout
    done = installation.manage("doctor", THINGSCALE_SECRET_KEY="", THINGSCALE_HOME="/nowhere")
    assert "PROBLEM secret key: There is no secret key" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_key_file_that_others_can_read(installation: Installation) -> None:
    key = installation.servers.home.path / "secret_key"
    key.write_text("x" * 40)
    key.chmod(0o644)
    try:
        found = only(installation.examine())
    finally:
        key.unlink()
    assert found.remedy == f"Run `chmod 600 {key}`."


def test_too_few_open_files(installation: Installation) -> None:
    limited = ["sh", "-c", f"ulimit -n 1024; exec {sys.executable} manage.py doctor"]
    environment = {**os.environ, **installation.environment}
    done = subprocess.run(
        limited, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    sentence = "A process may have 1,024 files open, and THINGSCALE_MAX_CONNECTIONS allows 1,000 connections."
    assert f"PROBLEM open files: {sentence}" in done.stdout


def test_a_port_that_is_taken(installation: Installation) -> None:
    port = int(os.environ["THINGSCALE_MQTT_PORT"])
    with socket.create_server(("127.0.0.1", port)):
        found = only(installation.examine())
    assert found.sentence == f"Port {port} is taken by another program (THINGSCALE_MQTT_PORT)."


def test_a_port_that_our_own_process_has(installation: Installation, copy: dict[str, Any]) -> None:
    installation.query(f"UPDATE processes_process SET host = '{socket.gethostname()}'", dbname="copy")
    with socket.create_server(("127.0.0.1", int(os.environ["THINGSCALE_MQTT_PORT"]))):
        assert [finding.check for finding in installation.examine(database=copy)] == ["mail"]


def test_an_address_of_another_machine(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSCALE_BIND", "192.0.2.1")
    assert {f.check for f in installation.examine() if f.level is Level.PROBLEM} == {"ports"}


def test_a_home_that_can_not_be_written(installation: Installation, settings: Settings) -> None:
    settings.THINGSCALE_HOME = Path("/proc/self")
    found = [finding for finding in installation.examine() if finding.check == "home"]
    assert "Nothing can be written to the home folder /proc/self" in found[0].sentence


def test_static_files_that_are_missing(
    installation: Installation, settings: Settings, tmp_path: Path
) -> None:
    settings.STATICFILES_DIRS = [tmp_path]
    found = only(installation.examine())
    assert found.sentence.startswith("The console's vendor/htmx/htmx.min.js is missing, and 2 other files.")


def test_a_mail_server_that_is_away(installation: Installation, settings: Settings) -> None:
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    (found,) = [finding for finding in installation.examine() if finding.level is Level.PROBLEM]
    assert found.sentence == "The mail server 127.0.0.1 port 1 can't be used: ConnectionRefusedError."


def make_certificate(folder: Path, days: int) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=90))
    made = builder.not_valid_after(now + timedelta(days=days)).sign(key, hashes.SHA256())
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(cert), str(private)


def spoil_key(cert: str, key: str) -> None:
    Path(key).write_text(Path(cert).read_text())


def remove_key(cert: str, key: str) -> None:
    Path(key).unlink()


@pytest.mark.parametrize(
    ("days", "spoil", "level", "sentence"),
    [
        (-1, None, Level.PROBLEM, "has expired on"),
        (5, None, Level.WARNING, "expires on"),
        (60, spoil_key, Level.PROBLEM, "are no certificate and key that go together"),
        (60, remove_key, Level.PROBLEM, "can't be read: No such file or directory."),
    ],
)
def test_a_certificate_that_is_wrong(
    installation: Installation,
    settings: Settings,
    tmp_path: Path,
    days: int,
    spoil: Callable[[str, str], None] | None,
    level: Level,
    sentence: str,
) -> None:
    settings.TLS_CERT, settings.TLS_KEY = make_certificate(tmp_path, days)
    if spoil:
        spoil(settings.TLS_CERT, settings.TLS_KEY)
    found = only(installation.examine(), level)
    assert found.check == "certificate"
    assert sentence in found.sentence


@pytest.mark.parametrize(
    ("url", "hosts", "sentence"),
    [
        ("iot.example.com", ["*"], "which is no address of a console"),
        ("https://iot.example.com/console", ["*"], "which is no address of a console"),
        ("https://iot.example.com", ["other.example.com", ".example.org"], "refuses them"),
    ],
)
def test_addresses_that_are_wrong(
    installation: Installation, settings: Settings, url: str, hosts: list[str], sentence: str
) -> None:
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = url, hosts
    found = only(installation.examine())
    assert found.check == "addresses"
    assert sentence in found.sentence


def test_settings_that_the_system_checks_refuse(installation: Installation, settings: Settings) -> None:
    settings.WHEN_FULL = "explode"
    assert only(installation.examine()).check == "settings"
