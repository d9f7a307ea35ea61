"""Settings from the environment: what is read, and errors that name the variable and hide the password."""

from collections.abc import Callable
from pathlib import Path

import pytest

from thingscale.lib import env
from thingscale.lib.env import BadSetting

SECRET = "hunter2"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda value: monkeypatch.setenv("NAME", value)


@pytest.mark.parametrize(
    ("value", "flag"),
    [("1", True), ("true", True), ("Yes", True), ("0", False), ("FALSE", False), ("", False)],
)
def test_flags(given: Callable[[str], None], value: str, flag: bool) -> None:
    given(value)
    assert env.flag("NAME") is flag


@pytest.mark.parametrize("value", ["on", "2", "maybe"])
def test_a_flag_that_is_none(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must be 1 or 0"):
        env.flag("NAME")


@pytest.mark.parametrize("value", ["-1", "65536", "1.5", "x", " ", "9" * 5000, "1e3"])
def test_a_number_that_is_none(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must be a whole number from 0 to 65535"):
        env.integer("NAME", 1, 0, 65535)


def test_numbers_and_defaults(given: Callable[[str], None]) -> None:
    assert env.integer("NAME", 7) == 7
    given("65535")
    assert env.integer("NAME", 7, 0, 65535) == 65535
    assert env.text("NAME") == "65535"


def test_paths_are_absolute(given: Callable[[str], None]) -> None:
    given("~/x/../y")
    assert env.path("NAME", Path("/tmp")) == Path.home() / "y"


def test_a_database_url(given: Callable[[str], None]) -> None:
    given("postgresql://u:p%40ss@db.example.com:5433/name?sslmode=require&connect_timeout=3")
    found = env.database("NAME")
    assert {key: found[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")} == {
        "NAME": "name",
        "USER": "u",
        "PASSWORD": "p@ss",
        "HOST": "db.example.com",
        "PORT": "5433",
    }
    assert found["OPTIONS"] == {"sslmode": "require", "connect_timeout": "3"}


def test_a_database_url_of_a_socket(given: Callable[[str], None]) -> None:
    given("postgresql://thingscale@/thingscale?host=/run/pg")
    assert env.database("NAME")["HOST"] == "/run/pg"


def test_a_database_url_of_a_primary_and_its_standby(given: Callable[[str], None]) -> None:
    given("postgresql://u@one:5433,[2001:db8::7]:5434/name?target_session_attrs=read-write")
    found = env.database("NAME")
    assert (found["HOST"], found["PORT"]) == ("one,2001:db8::7", "5433,5434")
    assert found["OPTIONS"] == {"target_session_attrs": "read-write"}


@pytest.mark.parametrize(
    "value",
    [
        f"mysql://u:{SECRET}@h/db",
        f"postgresql://u:{SECRET}@[::1/db",
        f"postgresql://u:{SECRET}@h/db?unknown=1",
        f"postgresql://u:{SECRET}%zz@h/db",
        f"u:{SECRET}@h",
        f"password={SECRET} nonsense",
    ],
)
def test_a_bad_database_url_hides_its_password(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must look like postgresql://") as caught:
        env.database("NAME")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_broker_url(given: Callable[[str], None]) -> None:
    given("mqtt://user:p%40ss@broker.example.com:1884")
    assert env.broker("NAME") == ("broker.example.com", 1884, "user", "p@ss")
    given("mqtt://h")
    assert env.broker("NAME") == ("h", 1883, None, None)


def test_a_broker_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAME", raising=False)
    assert env.broker("NAME", "mqtt://other:1") == ("other", 1, None, None)
    with pytest.raises(env.BadSetting):
        env.broker("NAME")


@pytest.mark.parametrize(
    "value",
    [
        f"mqtts://u:{SECRET}@h",
        f"mqtt://u:{SECRET}@h:99999",
        f"mqtt://u:{SECRET}@h:0",
        f"mqtt://u:{SECRET}@h:x",
        f"mqtt://u:{SECRET}@[::1",
        f"mqtt://u:{SECRET}@",
        f"u:{SECRET}@h:1883",
    ],
)
def test_a_bad_broker_url_hides_its_password(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must look like mqtt://") as caught:
        env.broker("NAME")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("redis://host:6379", 0),
        ("redis://host:6379/3", 3),
        ("rediss://:secret@host/12", 12),
        ("unix:///run/7/valkey.sock", 0),
        ("unix:///run/valkey.sock?db=2", 2),
    ],
)
def test_the_database_of_a_valkey_url(url: str, number: int) -> None:
    assert env.database_of(url) == number


@pytest.mark.parametrize(
    ("value", "mail"),
    [
        ("", ("", 25, "", "", "")),
        ("smtp://relay", ("relay", 25, "", "", "")),
        ("smtp://u:p%40ss@h:2525?tls=starttls", ("h", 2525, "u", "p@ss", "starttls")),
        ("smtp://h?tls=starttls", ("h", 587, "", "", "starttls")),
        ("smtps://u%40example.com:x@h", ("h", 465, "u@example.com", "x", "smtps")),
    ],
)
def test_a_mail_server(given: Callable[[str], None], value: str, mail: tuple[object, ...]) -> None:
    given(value)
    assert env.mail("NAME") == mail


@pytest.mark.parametrize(
    "value",
    [
        f"http://u:{SECRET}@h",
        f"smtp://u:{SECRET}@",
        f"smtp://u:{SECRET}@h:x",
        f"smtp://u:{SECRET}@h:0",
        f"smtp://u:{SECRET}@h:99999",
        f"smtp://u:{SECRET}@h?tls=yes",
        f"smtp://u:{SECRET}@h?tls=smtps",
        f"smtp://u:{SECRET}@h?tls",
        f"smtp://u:{SECRET}@h?other=1",
        f"smtps://u:{SECRET}@h?tls=starttls",
        f"smtp://u:{SECRET}@[::1",
    ],
)
def test_a_bad_mail_server_hides_its_password(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must look like smtp://") as caught:
        env.mail("NAME")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_senders(given: Callable[[str], None]) -> None:
    given("Lab <lab@example.com>")
    assert env.sender("NAME", "") == "Lab <lab@example.com>"
    for bad in ("nobody", "Lab <>", "a@example.com\nBcc: b@example.com"):
        given(bad)
        with pytest.raises(BadSetting, match="NAME must look like"):
            env.sender("NAME", "")


def test_networks(given: Callable[[str], None]) -> None:
    given("10.0.0.0/8, 192.0.2.7,fd00::/8 ::1")
    networks = env.networks("NAME")
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "fd00::1", "fd00::1%eth0", "::1"):
        assert env.is_in(host, networks), host
    for host in ("11.0.0.1", "192.0.2.8", "::2", "::ffff:11.0.0.1", "", "localhost", "/run/socket"):
        assert not env.is_in(host, networks), host
    given("")
    assert env.networks("NAME") == ()


def test_servers(given: Callable[[str], None]) -> None:
    given("mqtt.example.com:8883, 192.0.2.7 [2001:db8::7]:1883")
    assert env.servers("NAME") == "mqtt.example.com:8883 192.0.2.7 [2001:db8::7]:1883"
    given("")
    assert env.servers("NAME") == ""


@pytest.mark.parametrize(
    "value", ["mqtt://a", "a:0", "a:65536", "a:", "2001:db8::7", "a/b", ":1883", "bücher.example"]
)
def test_servers_that_are_none(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must list servers such as"):
        env.servers("NAME")


@pytest.mark.parametrize("value", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example.com", "10.0.0.0/8;::1", "*"])
def test_networks_that_are_none(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(BadSetting, match="NAME must list networks such as"):
        env.networks("NAME")
