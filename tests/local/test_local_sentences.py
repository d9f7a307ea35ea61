"""What `manage.py up` says, in one sentence each, when it can't start."""

import socket
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from thingscale.checks import check_settings
from thingscale.lib.env import BadSetting, unused_broker
from thingscale.local import banner, bundled_servers, config, external_servers, ports
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.servers import Servers

from .helpers import run_local


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with Servers(fast=True) as env:
        yield env


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def sentence(folder: Path, *options: str, **variables: str) -> str:
    done = run_local("up", *options, THINGSCALE_HOME=str(folder / "home"), **free_ports(), **variables)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def free_ports() -> dict[str, str]:
    names = ("THINGSCALE_HTTP_PORT", "THINGSCALE_MQTT_PORT", "THINGSCALE_MQTT_WS_PORT")
    chosen: dict[str, int] = {}
    for name in names:
        chosen[name] = ports.free_port(frozenset(chosen.values()))
    return {name: str(port) for name, port in chosen.items()}


def test_a_second_copy(folder: Path) -> None:
    home = Home(folder / "home")
    home.create()
    home.lock()
    assert sentence(folder).startswith(f"A copy is already running in {home.path} (process ")
    home.unlock()


@pytest.mark.parametrize(
    "variable", ["THINGSCALE_HTTP_PORT", "THINGSCALE_MQTT_PORT", "THINGSCALE_MQTT_WS_PORT"]
)
def test_a_taken_port(monkeypatch: pytest.MonkeyPatch, taken: int, variable: str) -> None:
    for name, value in (free_ports() | {variable: str(taken)}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartError, match=f"Port {taken} on 127.0.0.1 is taken: .* set {variable} to"):
        config.check_ports(config.read())


def test_a_taken_port_at_the_terminal(folder: Path, taken: int) -> None:
    done = run_local("up", THINGSCALE_HOME=str(folder), **free_ports() | {"THINGSCALE_HTTP_PORT": str(taken)})
    assert done.returncode == 1
    assert done.stderr == (
        f"Port {taken} on 127.0.0.1 is taken: stop what uses it, "
        "or set THINGSCALE_HTTP_PORT to a free port.\n"
    )


def test_one_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports()["THINGSCALE_HTTP_PORT"]
    monkeypatch.setenv("THINGSCALE_HTTP_PORT", port)
    monkeypatch.setenv("THINGSCALE_MQTT_PORT", port)
    with pytest.raises(BadSetting, match="THINGSCALE_MQTT_PORT and THINGSCALE_HTTP_PORT are both"):
        config.check_ports(config.read())


def test_an_address_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSCALE_BIND", "192.0.2.1")
    with pytest.raises(StartError, match="set THINGSCALE_BIND to an address of this machine"):
        config.check_ports(config.read())


def test_a_port_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSCALE_HTTP_PORT", "http")
    with pytest.raises(BadSetting, match="THINGSCALE_HTTP_PORT must be a whole number"):
        config.read()


def test_servers_that_are_right_pass(monkeypatch: pytest.MonkeyPatch, servers: dict[str, str]) -> None:
    for name, value in servers.items():
        monkeypatch.setenv(name, value)
    external_servers.check(servers)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://user:hunter2@localhost/db"),
        ("DATABASE_URL", "postgresql://user:hunter2%zz@localhost/db"),
        ("DATABASE_URL", "postgresql://user:hunter2@127.0.0.1:1/db"),
        ("DATABASE_URL", "postgresql:///thingscale?host=/nowhere"),
        ("REDIS_URL", "nonsense"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:port/0"),
        ("REDIS_URL", "unix:///nowhere/valkey.sock"),
    ],
)
def test_a_wrong_url(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises((BadSetting, StartError), match=f"^{variable}") as caught:
        external_servers.check({variable: value})
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MQTT_URL", ""),
        ("MQTT_URL", "nonsense"),
        ("MQTT_URL", "http://127.0.0.1:1883"),
        ("MQTT_URL", "mqtt://user:hunter2@127.0.0.1:1"),
        ("MQTT5_URL", "mqtt://127.0.0.1:99999"),
    ],
)
def test_a_wrong_broker_of_broker_mode(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as right:
        given_urls = {"MQTT_URL": f"mqtt://127.0.0.1:{right.getsockname()[1]}", variable: value}
        for name, url in given_urls.items():
            monkeypatch.setenv(name, url)
        with pytest.raises((BadSetting, StartError), match=variable) as caught:
            external_servers.check(given_urls | {"THINGSCALE_INGEST": "broker"})
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:1", "mqtt://user:hunter2@own.example", "nonsense"])
@pytest.mark.parametrize("variable", ["MQTT_URL", "MQTT5_URL"])
def test_a_broker_named_in_gateway_mode_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    """Whatever is behind it: nothing looks there."""
    for name in ("MQTT_URL", "MQTT5_URL", "THINGSCALE_INGEST"):
        monkeypatch.delenv(name, raising=False)
    assert unused_broker() == ""
    monkeypatch.setenv(variable, url)
    external_servers.check({variable: url})
    assert unused_broker().startswith(f"{variable} is not used: ")
    assert "import_broker" in unused_broker()
    assert "hunter2" not in unused_broker()
    assert [message.id for message in check_settings(None) if "MQTT" in message.msg] == ["thingscale.W004"]
    monkeypatch.setenv("THINGSCALE_INGEST", "broker")
    assert unused_broker() == ""


def test_a_wrong_user_of_a_given_database(monkeypatch: pytest.MonkeyPatch, servers: dict[str, str]) -> None:
    url = servers["DATABASE_URL"].replace("thingscale_app@", "stranger:hunter2@")
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(StartError, match=r'^DATABASE_URL: .*role "stranger" does not exist') as caught:
        external_servers.check({"DATABASE_URL": url})
    assert "hunter2" not in str(caught.value)


def test_a_wrong_url_at_the_terminal(folder: Path) -> None:
    assert sentence(folder, DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/db").startswith(
        "DATABASE_URL: "
    )
    assert sentence(folder, REDIS_URL="nonsense").startswith("REDIS_URL must look like ")


def test_a_missing_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_servers, "find_spec", lambda _name: None)
    for look, variable in (
        (bundled_servers.postgres_install, "DATABASE_URL"),
        (bundled_servers.valkey_server, "REDIS_URL"),
        (bundled_servers.check_broker, "MQTT_URL"),
    ):
        with pytest.raises(StartError, match=f"for this platform is not installed: .* set {variable} to"):
            look()


PORTS = {
    "THINGSCALE_MQTT_PORT": 1883,
    "THINGSCALE_MQTT_WS_PORT": 8083,
    "THINGSCALE_MQTT_TLS_PORT": 8883,
    "THINGSCALE_MQTT_WSS_PORT": 8084,
}


@pytest.mark.parametrize("off", [names for n in range(5) for names in combinations(PORTS, n)], ids=str)
@pytest.mark.parametrize("tls", [True, False])
def test_i4_port_0_is_off(monkeypatch: pytest.MonkeyPatch, off: tuple[str, ...], tls: bool) -> None:
    """I4: in every combination, as documented: refused by none, checked for by none, told of by none."""
    if tls:
        monkeypatch.setenv("THINGSCALE_TLS_CERT", "cert.pem")
    for name in off:
        monkeypatch.setenv(name, "0")
    read = config.read()
    served = list(PORTS) if tls else list(PORTS)[:2]
    expected = {name: PORTS[name] for name in served if name not in off}
    assert {name: port for name, port in read.listens.items() if "MQTT" in name} == expected
    assert ("mosquitto_pub" in banner.ready(read, None)) == ("THINGSCALE_MQTT_PORT" not in off)


def test_i4_the_http_port_can_not_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSCALE_HTTP_PORT", "0")
    with pytest.raises(BadSetting, match="from 1 to"):
        config.read()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "web"], "--only starts no postgres and no valkey: set DATABASE_URL and REDIS_URL to"),
        (
            ["--only", "web,postgres"],
            "--only starts no valkey: set REDIS_URL to what the parts elsewhere use,",
        ),
        (["--only", "celery, valkey"], "--only starts no postgres: set DATABASE_URL to what the parts"),
        (
            ["--only", "web,gateway"],
            "--only takes names of postgres, valkey, web, ingest, celery: 'gateway' is",
        ),
        (["--workers", "0"], "--workers takes a number from 1 to 99."),
        (["--workers", "two"], "--workers takes a number from 1 to 99."),
        (["--workers", "100"], "--workers takes a number from 1 to 99."),
    ],
)
def test_parts_that_can_t_be_started(folder: Path, options: list[str], said: str) -> None:
    assert sentence(folder, *options).startswith(said)
    assert not (folder / "home").exists()


def test_several_workers_are_for_gateways(folder: Path) -> None:
    said = sentence(folder, "--workers", "2", THINGSCALE_INGEST="broker", MQTT_URL="mqtt://127.0.0.1:1")
    assert said.startswith("--workers is for gateways.")


def test_a_taken_port_of_a_part_that_runs_elsewhere(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setenv("THINGSCALE_HTTP_PORT", str(taken))
    for name in ("MQTT", "MQTT_WS"):
        monkeypatch.setenv(f"THINGSCALE_{name}_PORT", str(ports.free_port()))
    config.check_ports(config.read("ingest,celery"))
    with pytest.raises(StartError, match="is taken"):
        config.check_ports(config.read("web"))
