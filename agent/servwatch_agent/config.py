"""What the agent is told: a small file, or environment variables SERVWATCH_..., which go before it."""

from __future__ import annotations

import configparser
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

LEAST_INTERVAL, MOST_INTERVAL = 2.0, 3600.0
MQTT, HTTP, AUTO = "mqtt", "http", "auto"
SETTINGS = {
    *("server", "user", "token", "token_file", "host_id", "connector", "tls", "mqtt_port", "http_port"),
    *("ca_file", "interval", "buffer", "buffer_megabytes"),
}
_TOKEN = re.compile(r"[0-9A-F]{32}")
_OWN_NAMES = {"failed", "certificate_days"}  # of the group `checks`
_YES, _NO = {"yes", "true", "on", "1"}, {"no", "false", "off", "0"}


class BadConfig(Exception):
    """A sentence for who wrote it."""


class Check(NamedTuple):
    """Of a TCP port or a URL, at times of its own."""

    name: str
    host: str
    port: int
    url: str  # empty: only the port
    every: float
    seconds: float  # that it may take
    ca_file: str | None


class Config(NamedTuple):
    server: str
    user: str
    token: str
    host_id: str
    connector: str = AUTO
    tls: bool = True
    mqtt_port: int = 8883
    http_port: int = 443
    ca_file: str | None = None
    interval: float = 10.0
    buffer: Path = Path("buffer")
    buffer_bytes: int = 64 << 20
    units: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    def __repr__(self) -> str:
        """Without the token, wherever it may be printed."""
        return f"Config({self.host_id} at {self.server})"


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Raises BadConfig."""
    parser = configparser.ConfigParser(interpolation=None, allow_no_value=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment]  # units differ by case
    if path:
        try:
            parser.read_string(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"{path} can't be read: {error}.") from None
        except configparser.Error as error:
            # Its message may quote the line with the token.
            where = f", line {error.lineno}" if hasattr(error, "lineno") else ""
            raise BadConfig(f"{path} is no configuration{where}: {type(error).__name__}.") from None
    main = dict(parser["servwatch"]) if parser.has_section("servwatch") else {}
    if unknown := set(main) - SETTINGS:
        raise BadConfig(f"[servwatch] has no {_shown(unknown)}.")

    def text(name: str, standard: str = "") -> str:
        return (environment.get(f"SERVWATCH_{name.upper()}") or main.get(name) or standard).strip()

    tls = _yes("tls", text("tls", "yes"))
    for needed in ("server", "user"):
        if not text(needed):
            raise BadConfig(f"It needs {needed}: in [servwatch], or as SERVWATCH_{needed.upper()}.")
    return Config(
        server=text("server"),
        user=text("user"),
        token=_token(text("token"), text("token_file"), environment),
        host_id=_host_id(text("host_id", socket.gethostname())),
        connector=_one_of("connector", text("connector", AUTO), (AUTO, MQTT, HTTP)),
        tls=tls,
        mqtt_port=int(_number("mqtt_port", text("mqtt_port", "8883" if tls else "1883"), 1, 65535)),
        http_port=int(_number("http_port", text("http_port", "443" if tls else "8000"), 1, 65535)),
        ca_file=text("ca_file") or None,
        interval=_number("interval", text("interval", "10"), LEAST_INTERVAL, MOST_INTERVAL),
        buffer=_folder(text("buffer"), environment),
        buffer_bytes=int(_number("buffer_megabytes", text("buffer_megabytes", "64"), 1, 100_000) * (1 << 20)),
        units=tuple(parser["units"]) if parser.has_section("units") else (),
        checks=tuple(
            _check(section.partition(" ")[2].strip(), parser[section])
            for section in parser.sections()
            if section.startswith("check ")
        ),
    )


def _shown(settings: set[str]) -> str:
    """Not what may be a token in the wrong place."""
    return ", ".join(sorted(name if re.fullmatch(r"[a-z_]{1,30}", name) else "..." for name in settings))


def _token(token: str, token_file: str, environment: Mapping[str, str]) -> str:
    """From systemd's credentials, a file of its own, or the configuration."""
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    if not token and not token_file and credentials:
        token_file = str(Path(credentials) / "token")
    if not token and token_file:
        try:
            token = Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"The token's file can't be read: {error}.") from None
    if not token:
        raise BadConfig("It needs a device token: token_file or token in [servwatch], or SERVWATCH_TOKEN.")
    if not _TOKEN.fullmatch(token):
        raise BadConfig("The token is none: a device token has 32 digits and letters from A to F.")
    return token


def _host_id(name: str) -> str:
    if not 0 < len(name) <= 64 or name == "0" or re.search(r"[/+#\x00-\x1f\x7f]", name):
        raise BadConfig("host_id must have 1 to 64 characters, none of them / + #, and not be 0.")
    return name


def _folder(folder: str, environment: Mapping[str, str]) -> Path:
    """systemd says where its StateDirectory is. A user without a home has none but the temporary one."""
    if folder:
        return Path(folder)
    if state := environment.get("STATE_DIRECTORY"):
        return Path(state.partition(":")[0])
    if home := environment.get("HOME"):
        return Path(home) / ".local" / "state" / "servwatch-agent"
    raise BadConfig("It needs a folder to keep samples in: buffer in [servwatch], or SERVWATCH_BUFFER.")


def _check(name: str, section: Mapping[str, str]) -> Check:
    where = f"[check {name}]"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or name in _OWN_NAMES:
        raise BadConfig(f"{where}: a name has letters, digits, _ . - and is not {' or '.join(_OWN_NAMES)}.")
    if unknown := set(section) - {"tcp", "url", "every", "timeout", "ca_file"}:
        raise BadConfig(f"{where} has no {_shown(unknown)}.")
    url, tcp = section.get("url") or "", section.get("tcp") or ""
    if bool(url) == bool(tcp):
        raise BadConfig(f"{where} needs a url or a tcp = HOST:PORT.")
    found = re.fullmatch(r"(?:(https?)://)?(\[[^\]]+\]|[^/:?#@\s]+)(?::(\d{1,5}))?([/?]\S*)?", url or tcp)
    if not found or bool(url) != bool(found[1]) or (tcp and (found[4] or not found[3])):
        raise BadConfig(f"{where}: " + ("a url is http(s)://HOST..." if url else "tcp is HOST:PORT") + ".")
    port = int(found[3] or (443 if found[1] == "https" else 80))
    if not 0 < port < 65536:
        raise BadConfig(f"{where}: a port is a number from 1 to 65535.")
    return Check(
        name,
        found[2].strip("[]"),
        port,
        url,
        _number(f"{where} every", section.get("every") or "60", 5, 86400),
        _number(f"{where} timeout", section.get("timeout") or "10", 1, 60),
        section.get("ca_file") or None,
    )


def _number(name: str, text: str, least: float, most: float) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or not least <= float(text) <= most:
        raise BadConfig(f"{name} must be a number from {least:g} to {most:g}.")
    return float(text)


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise BadConfig(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}.")
    return text


def _yes(name: str, text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise BadConfig(f"{name} must be yes or no.")
    return text.lower() in _YES
