"""What the agent is told, from a file, the environment and systemd; and what it says about what is wrong."""

from pathlib import Path

import pytest
from servwatch_agent.config import BadConfig, Config, load

TOKEN = "0123456789ABCDEF" * 2
GOOD = {"SERVWATCH_SERVER": "h", "SERVWATCH_USER": "U000001", "SERVWATCH_TOKEN": TOKEN, "HOME": "/home/me"}
EXAMPLE = Path(__file__).parents[2] / "agent" / "servwatch-agent.ini"


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.ini"
    path.write_text(text)
    return path


def test_the_environment_is_enough() -> None:
    config = load(None, GOOD | {"SERVWATCH_HOST_ID": "web-1"})
    assert config == Config(
        "h", "U000001", TOKEN, "web-1", buffer=Path("/home/me/.local/state/servwatch-agent")
    )


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[servwatch]\nserver = file\nuser = U000002\ninterval = 30\ntls = no\n")
    config = load(path, {**GOOD, "SERVWATCH_SERVER": "environment"})
    assert (config.server, config.user, config.interval) == ("environment", "U000001", 30)
    assert (config.mqtt_port, config.http_port) == (1883, 8000)


def test_the_example_is_a_configuration_and_so_it_is_with_all_of_it(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    load(EXAMPLE, {"SERVWATCH_TOKEN": TOKEN, "HOME": "/"})
    (tmp_path / "token").write_text(TOKEN)
    text = text.replace("\n;", "\n").replace("/etc/servwatch-agent.token", str(tmp_path / "token"))
    config = load(written(tmp_path, text), {})
    assert config.units == ("nginx.service", "postgresql.service")
    assert [(each.name, each.host, each.port, each.every) for each in config.checks] == [
        ("shop", "shop.example.com", 443, 60),
        ("database", "127.0.0.1", 5432, 30),
    ]


def test_systemd_gives_the_token_and_the_folder(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": "/var/lib/agent"}
    config = load(None, {"SERVWATCH_SERVER": "h", "SERVWATCH_USER": "U000001"} | environment)
    assert (config.token, config.buffer) == (TOKEN, Path("/var/lib/agent"))


def test_the_token_is_not_printed(tmp_path: Path) -> None:
    assert TOKEN not in repr(load(None, GOOD))
    with pytest.raises(BadConfig) as raised:
        load(written(tmp_path, f"[servwatch]\ntoken = {TOKEN}\n{TOKEN}\n[broken\n"), {})
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "needs server"),
        ("[servwatch]\nserver = h\n", "needs user"),
        ("[servwatch]\nserver = h\nuser = U1\n", "needs a device token"),
        ("[servwatch]\nserver = h\nuser = U1\ntoken = abc\n", "The token is none"),
        ("[servwatch]\nserver = h\nuser = U1\ntoken_file = /nowhere\n", "token's file can't be read"),
        ("[servwatch]\nsever = h\n", "has no sever"),
        ("[servwatch]\ninterval = 1\n", "interval must be a number from 2 to 3600"),
        ("[servwatch]\ninterval = nan\n", "interval must be a number"),
        ("[servwatch]\ntls = maybe\n", "tls must be yes or no"),
        ("[servwatch]\nconnector = smtp\n", "connector must be auto, mqtt or http"),
        ("[servwatch]\nhost_id = a/b\n", "host_id must have"),
        ("[servwatch]\nhost_id = 0\n", "host_id must have"),
        ("[servwatch]\nmqtt_port = 65536\n", "mqtt_port must be"),
        ("[servwatch]\nbuffer_megabytes = 0\n", "buffer_megabytes must be"),
        ("[check web]\n", "needs a url or a tcp"),
        ("[check web]\nurl = ftp://h/\n", "a url is http"),
        ("[check web]\ntcp = h\n", "tcp is HOST:PORT"),
        ("[check web]\ntcp = h:70000\n", "a port is"),
        ("[check failed]\ntcp = h:1\n", "a name has letters"),
        ("[check a:b]\ntcp = h:1\n", "a name has letters"),
        ("[check web]\ntcp = h:1\nsilently = yes\n", "has no silently"),
        ("[check web]\ntcp = h:1\ntimeout = 600\n", "timeout must be"),
        ("no section", "is no configuration"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    environment = {} if "needs" in sentence and "check" not in text else GOOD
    environment = {} if "oken" in sentence else environment
    with pytest.raises(BadConfig, match=sentence):
        load(written(tmp_path, text), environment)


def test_a_folder_is_needed() -> None:
    with pytest.raises(BadConfig, match="needs a folder"):
        load(None, {key: value for key, value in GOOD.items() if key != "HOME"})
