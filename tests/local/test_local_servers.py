"""The three private servers, for real."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import psycopg
import pytest
import redis
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from thingscale.local.home import LONGEST_SOCKET_PATH
from thingscale.local.servers import Servers

from .helpers import until


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers()
    with servers:
        yield servers


def rows(servers: Servers, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(servers.postgres.url, connect_timeout=5) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def setting(servers: Servers, name: str) -> object:
    return rows(servers, f"SHOW {name}")[0][0]


def valkey(servers: Servers) -> redis.Redis:
    return redis.Redis.from_url(servers.valkey.url, socket_timeout=5)


def round_trip(port: int, version: MQTTProtocolVersion) -> bytes:
    """A retained message, published and read back by an unmodified client."""
    received: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
    client.on_message = lambda _client, _data, message: received.append(bytes(message.payload))
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    client.publish(f"kept/{version}", b"21.5", qos=1, retain=True).wait_for_publish(5)
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


def test_the_database_and_its_user_are_ours(servers: Servers) -> None:
    assert rows(servers, "SELECT current_database(), current_user, current_setting('is_superuser')") == [
        ("thingscale", "thingscale", "on")
    ]


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
    info.wait_for_publish(10)
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


def test_fast_switches_fsync_off() -> None:
    servers = Servers(want={"postgres"}, fast=True)
    with servers as env:
        assert setting(servers, "fsync") == "off"
        assert "REDIS_URL" not in env
        home = servers.home.path
    assert not home.exists()


def test_a_given_home_continues(folder: Path) -> None:
    first = Servers(folder / "home", fast=True)
    with first:
        rows(first, "CREATE TABLE kept (n int)")
        ports = first.broker.ports
    second = Servers(folder / "home", fast=True)
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
