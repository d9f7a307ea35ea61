"""The private servers, for real, and the broker that tests of broker mode have."""

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import psycopg
import pytest
import redis
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from thingscale.local.home import LONGEST_SOCKET_PATH
from thingscale.local.postgres import Postgres
from thingscale.local.servers import ALL, Servers

from .helpers import until


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers(want=ALL)
    with servers:
        yield servers


COMPUTING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"


def rows(servers: Servers, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(servers.postgres.url, connect_timeout=60) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def compute(servers: Servers) -> None:
    with contextlib.suppress(psycopg.OperationalError):  # its server is killed
        rows(servers, "SELECT sum(n) FROM (SELECT generate_series(1, 20000000) n) numbers")


def setting(servers: Servers, name: str) -> object:
    return rows(servers, f"SHOW {name}")[0][0]


def valkey(servers: Servers) -> redis.Redis:
    return redis.Redis.from_url(servers.valkey.url, socket_timeout=60)


def round_trip(port: int, version: MQTTProtocolVersion) -> bytes:
    """A retained message, published and read back by an unmodified client."""
    received: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
    client.on_message = lambda _client, _data, message: received.append(bytes(message.payload))
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    until(client.is_connected)
    client.publish(f"kept/{version}", b"21.5", qos=1, retain=True).wait_for_publish(60)
    client.subscribe(f"kept/{version}", qos=1)
    until(lambda: received)
    client.disconnect()
    client.loop_stop()
    return received[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("wal_compression", "pglz"),
        ("shared_buffers", "128MB"),
        ("max_wal_size", "4GB"),
        ("max_connections", "100"),
        ("timezone", "UTC"),
    ],
)
def test_postgres_settings(servers: Servers, name: str, value: str) -> None:
    if name == "lc_collate":
        assert rows(servers, "SELECT datcollate FROM pg_database WHERE datname = 'thingscale'") == [(value,)]
    else:
        assert setting(servers, name) == value


def test_postgres_knows_unicode_and_sorts_by_code_point(servers: Servers) -> None:
    assert rows(servers, "SELECT upper('été'), 'Z' < 'a', 'é' ~ '[[:alpha:]]'") == [("ÉTÉ", True, True)]


def test_s8_the_platform_owns_its_database_only(servers: Servers) -> None:
    """S8: it was the superuser, who may read the server's files and run its programs."""
    asked = "SELECT current_database(), current_user, current_setting('is_superuser')"
    assert rows(servers, asked) == [("thingscale", "thingscale_app", "off")]
    (rights,) = rows(
        servers,
        """SELECT rolsuper, rolcreaterole, rolreplication, rolbypassrls, pg_get_userbyid(datdba)
        FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()""",
    )
    assert rights == (False, False, False, False, "thingscale_app")


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT * FROM pg_authid",
        "CREATE ROLE another SUPERUSER",
        "SET ROLE thingscale",
        "SET SESSION AUTHORIZATION thingscale",
        "ALTER ROLE thingscale_app SUPERUSER",
        "ALTER SYSTEM SET archive_command = 'id'",
        "CREATE TABLE pg_catalog.mine ()",
    ],
)
def test_s8_what_only_a_superuser_may(servers: Servers, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), servers_connection(servers) as connection:
        connection.execute(statement)


def servers_connection(servers: Servers) -> psycopg.Connection:
    return psycopg.connect(servers.postgres.url, connect_timeout=60, autocommit=True)


@pytest.mark.parametrize("database", ["thingscale", "postgres", "template1"])
def test_s8_nobody_connects_as_the_superuser(servers: Servers, database: str) -> None:
    url = servers.postgres.url.replace("thingscale_app@/thingscale", f"thingscale@/{database}")
    with pytest.raises(psycopg.OperationalError, match="rejects connection"):
        psycopg.connect(url, connect_timeout=60)


OLD_TABLES = """CREATE TABLE device (id bigint GENERATED BY DEFAULT AS IDENTITY, name text);
    CREATE TABLE serial (id serial, at date) PARTITION BY RANGE (at);
    CREATE TABLE part PARTITION OF serial FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE SEQUENCE counter; CREATE VIEW names AS SELECT name FROM device;
    CREATE MATERIALIZED VIEW kept AS SELECT 1;
    CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE SCHEMA other; CREATE TABLE other.t (); INSERT INTO device (name) VALUES ('d1')"""


@pytest.mark.parametrize("killed", [False, True])
def test_s8_a_home_of_an_earlier_version_is_upgraded_at_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """S8: it was made, and its tables are owned, by the superuser. Also where it ended by kill -9."""
    with monkeypatch.context() as earlier:
        earlier.setattr(Postgres, "_make_role", lambda *_: None)
        earlier.setattr(Postgres, "_has_role", lambda *_: True)
        earlier.setattr("thingscale.local.postgres.ROLE", "thingscale")
        servers = Servers(folder / "home", want=["postgres"])
        with servers:
            assert setting(servers, "is_superuser") == "on"
            rows(servers, OLD_TABLES)
            if killed:
                # A backend that computes does not look whether its server is there, and holds the memory.
                Thread(target=compute, args=[servers], daemon=True).start()
                until(lambda: rows(servers, COMPUTING) == [(1,)])
                servers.postgres.kill()
    with Servers(folder / "home", want=["postgres"]) as environment:
        assert "thingscale_app@" in environment["DATABASE_URL"]
        with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
            assert connection.execute("SELECT current_setting('is_superuser')").fetchone() == ("off",)
            assert connection.execute("SELECT name FROM names").fetchall() == [("d1",)]
            for statement in (
                "INSERT INTO device (name) VALUES ('d2')",
                "ALTER TABLE device ADD COLUMN more int",
                "DROP TABLE part",
                "CREATE TABLE part2 PARTITION OF serial FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
                "INSERT INTO serial (at) VALUES ('2027-05-05')",
                "ALTER SEQUENCE counter RESTART",
                "REFRESH MATERIALIZED VIEW kept",
                "DROP FUNCTION one()",
                "TRUNCATE device, serial CASCADE",
                "CREATE TABLE other.new ()",
                "CREATE TABLE new ()",
            ):
                connection.execute(statement)
            owners = connection.execute(
                "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384"
            )
            assert owners.fetchall() == [("thingscale_app",)]
    with Servers(folder / "home", want=["postgres"]) as environment:  # and once only
        rules = (folder / "home" / "postgres" / "data" / "pg_hba.conf").read_text()
        assert rules.count("thingscale reject") == 1


def test_the_socket_folder_is_private(servers: Servers) -> None:
    assert stat.S_IMODE(servers.postgres.sockets.stat().st_mode) == 0o700


def test_data_survive_a_stop(servers: Servers) -> None:
    rows(servers, "CREATE TABLE stopped (n int); INSERT INTO stopped VALUES (1)")
    servers.postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        rows(servers, "SELECT 1")
    servers.postgres.start()
    assert rows(servers, "SELECT n FROM stopped") == [(1,)]


def test_data_survive_a_kill(servers: Servers) -> None:
    rows(servers, "CREATE TABLE killed (n int)")
    with psycopg.connect(servers.postgres.url) as busy:
        busy.execute("INSERT INTO killed SELECT generate_series(1, 100000)")
        busy.commit()
        servers.postgres.kill()
        servers.postgres.start()
    assert rows(servers, "SELECT count(*) FROM killed") == [(100_000,)]


def test_postgres_starts_over_a_lock_file_of_an_unrelated_process(servers: Servers) -> None:
    """As after a restart of a container, where process ids begin anew."""
    servers.postgres.kill()
    lock = servers.postgres.data / "postmaster.pid"
    _, rest = lock.read_text().split("\n", 1)
    with lock.open("r+") as file:
        file.write(f"{servers.broker.process.pid if servers.broker.process else 1}\n{rest}")
    servers.postgres.start()
    assert rows(servers, "SELECT 1") == [(1,)]


def test_valkey_keeps_its_data_and_has_no_port(servers: Servers) -> None:
    valkey(servers).set("kept", "yes")
    servers.valkey.kill()
    servers.valkey.start()
    client = valkey(servers)
    assert client.get("kept") == b"yes"
    assert client.config_get("port", "maxmemory-policy", "appendonly") == {
        "port": "0",
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
    }
    client.close()


def test_broker_speaks_both_versions(servers: Servers) -> None:
    port, port5 = servers.broker.ports
    assert round_trip(port, MQTTProtocolVersion.MQTTv311) == b"21.5"
    assert round_trip(port5, MQTTProtocolVersion.MQTTv5) == b"21.5"


def test_broker_takes_a_large_payload(servers: Servers) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", servers.broker.ports[0])
    client.loop_start()
    info = client.publish("large", b"x" * 1_000_000, qos=1)
    info.wait_for_publish(60)
    assert info.is_published()
    client.disconnect()
    client.loop_stop()


def test_broker_comes_back_on_its_ports_under_connected_clients(servers: Servers) -> None:
    ports = servers.broker.ports
    clients = [socket.create_connection(("127.0.0.1", port)) for port in ports for _ in range(5)]
    servers.broker.kill()
    servers.broker.start()
    assert servers.broker.ports == ports
    assert round_trip(ports[0], MQTTProtocolVersion.MQTTv311) == b"21.5"
    for client in clients:
        client.close()


def test_broker_listens_on_loopback_only(servers: Servers) -> None:
    text = (servers.home.path / "broker.toml").read_text()
    listens = [line for line in text.splitlines() if line.startswith("listen")]
    assert len(listens) == 2
    assert all('"127.0.0.1:' in line for line in listens)


def test_the_platform_needs_no_broker(folder: Path) -> None:
    with Servers(folder / "home", fast=True) as env:
        assert {"DATABASE_URL", "REDIS_URL"} <= set(env)
        assert not [name for name in env if "MQTT" in name]
    assert not (folder / "home" / "broker.toml").exists()


def test_fast_switches_fsync_off() -> None:
    servers = Servers(want={"postgres"}, fast=True)
    with servers as env:
        assert setting(servers, "fsync") == "off"
        assert "REDIS_URL" not in env
        home = servers.home.path
    assert not home.exists()


def test_a_given_home_continues(folder: Path) -> None:
    first = Servers(folder / "home", ALL, fast=True)
    with first:
        rows(first, "CREATE TABLE kept (n int)")
        ports = first.broker.ports
    second = Servers(folder / "home", ALL, fast=True)
    with second:
        assert rows(second, "SELECT count(*) FROM kept") == [(0,)]
        assert second.broker.ports == ports


def test_sockets_of_a_deep_home_move_to_a_short_folder(folder: Path) -> None:
    servers = Servers(
        folder / ("deep-" * 10) / ("folder-" * 10) / "home", fast=True, want={"postgres", "valkey"}
    )
    with servers as env:
        assert rows(servers, "SELECT 1") == [(1,)]
        assert valkey(servers).ping()
        sockets = servers.home.sockets()
        assert len(urlsplit(env["REDIS_URL"]).path) <= LONGEST_SOCKET_PATH
        assert not sockets.is_relative_to(servers.home.path)
        assert servers.postgres.data.is_relative_to(servers.home.path)
        assert stat.S_IMODE(sockets.stat().st_mode) & 0o066 == 0
    assert not sockets.exists()
