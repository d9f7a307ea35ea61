"""Reads settings from environment variables. Each error names the variable."""

import os
import re
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

KNOWN_TO_ALL = "insecure: set THINGSCALE_SECRET_KEY"  # the default of earlier versions


Broker = tuple[str, int, str | None, str | None]
NO_BROKER: Broker = ("", 0, None, None)


class BadSetting(Exception):
    """An environment variable that can't be used. The text names it and never shows a password."""


def text(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def flag(name: str, default: bool = False) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value not in {"0", "1", "true", "false", "yes", "no"}:
        raise BadSetting(f"{name} must be 1 or 0.")
    return value in {"1", "true", "yes"}


def integer(name: str, default: int, low: int = 0, high: int = 2**31 - 1) -> int:
    value = text(name, str(default))
    if not value.isdecimal() or len(value) > 20 or not low <= int(value) <= high:
        raise BadSetting(f"{name} must be a whole number from {low} to {high}.")
    return int(value)


def networks(name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part) for part in text(name).replace(",", " ").split())
    except ValueError:
        raise BadSetting(
            f"{name} must list networks such as 10.0.0.0/8, fd00::/8 or 192.0.2.7, with commas between them."
        ) from None


def servers(name: str) -> str:
    """Names or addresses, each with or without a port, with spaces between them: the form in which an MQTT 5
    client gets them (section 4.11)."""
    listed = text(name).replace(",", " ").split()
    server = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:(\d{1,5}))?", re.ASCII)
    for each in listed:
        found = server.fullmatch(each)
        if not found or not 1 <= int(found[3] or 1) <= 65_535:
            raise BadSetting(f"{name} must list servers such as mqtt.example.com:8883 or [2001:db8::7]:1883.")
    return " ".join(listed)


def is_in(host: str, listed: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """IPv4 as IPv6 shows it (::ffff:192.0.2.1) is IPv4."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # a name, or nothing: a unix socket has no address
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in listed)


def secret_keys(stored: Path) -> list[str]:
    """Newest first: THINGSCALE_SECRET_KEYS, else THINGSCALE_SECRET_KEY, else the lines of the file that
    `manage.py up` made. Empty if there is none, or if the newest is the one that everybody knows."""
    several, one = text("THINGSCALE_SECRET_KEYS"), text("THINGSCALE_SECRET_KEY")
    listed = several.split(",") if several else []
    if not several and not one:
        try:
            listed = stored.read_text().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BadSetting(f"The secret key in {stored} can't be read: {error.strerror}.") from None
    keys = [key.strip() for key in listed if key.strip()] or [one] * bool(one)
    if several and one and one not in keys:
        raise BadSetting(
            "THINGSCALE_SECRET_KEYS has to list the key of THINGSCALE_SECRET_KEY, or unset that."
        )
    return keys if keys and keys[0] != KNOWN_TO_ALL else []


def url_secret(name: str) -> str:
    """A secret that may be part of a URL; empty if it is not set."""
    value = text(name)
    if value and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", value):
        raise BadSetting(f"{name} needs 16 characters or more, all of them letters, digits, - or _.")
    return value


def path(name: str, default: Path) -> Path:
    return Path(text(name, str(default))).expanduser().resolve()


def database(name: str = "DATABASE_URL") -> dict[str, Any]:
    """Django's connection settings from a PostgreSQL connection URI (libpq's form)."""
    try:
        parts = conninfo_to_dict(text(name, "postgresql:///thingscale"))
    except ProgrammingError:
        raise BadSetting(f"{name} must look like postgresql://user:password@host:5432/name.") from None
    known = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    settings: dict[str, Any] = {key: parts.pop(part, "") or "" for key, part in known.items()}
    return settings | {"ENGINE": "django.db.backends.postgresql", "OPTIONS": parts}


def database_of(valkey_url: str) -> int:
    """The number of the database that a `redis://` or `unix://` URL names."""
    found = re.search(r"^rediss?://[^/]*/(\d+)|[?&]db=(\d+)", valkey_url)
    return int(found[1] or found[2]) if found else 0


def broker(name: str, default: str = "") -> Broker:
    """Host, port, user name and password of an `mqtt://` URL."""
    return broker_of(text(name, default), name)


def broker_of(given: str, name: str) -> Broker:
    bad = BadSetting(f"{name} must look like mqtt://host:1883.")
    try:
        url = urlsplit(given)
        port = 1883 if url.port is None else url.port
    except ValueError:
        raise bad from None
    if url.scheme != "mqtt" or not url.hostname or not port:
        raise bad
    return url.hostname, port, _unquoted(url.username), _unquoted(url.password)


def unused_broker() -> str:
    """A sentence that says so, if the environment names a broker that is not used."""
    named = [name for name in ("MQTT_URL", "MQTT5_URL") if text(name)]
    if not named or text("THINGSCALE_INGEST") == "broker":
        return ""
    return (
        f"{named[0]} is not used: the gateway is the broker for its devices, and an own broker is for "
        "THINGSCALE_INGEST=broker; `manage.py import_broker` takes over what it keeps, then unset it."
    )


class Mail(NamedTuple):
    """The mail server. Without a host, no mails are sent."""

    host: str = ""
    port: int = 25
    user: str = ""
    password: str = ""
    tls: str = ""  # "starttls", "smtps" or "" for none


def mail(name: str) -> Mail:
    """From `smtp://user:password@host:587?tls=starttls` or `smtps://user:password@host`."""
    given = text(name)
    if not given:
        return Mail()
    bad = BadSetting(f"{name} must look like smtp://user:password@host:587?tls=starttls, or smtps://...")
    try:
        url = urlsplit(given)
        port = url.port
        options = dict(parse_qsl(url.query, strict_parsing=True)) if url.query else {}
    except ValueError:
        raise bad from None
    tls = "smtps" if url.scheme == "smtps" else options.pop("tls", "")
    if url.scheme not in {"smtp", "smtps"} or not url.hostname or options or port == 0:
        raise bad
    if tls not in {"", "starttls", "smtps"} or (tls == "smtps") != (url.scheme == "smtps"):
        raise bad
    default = {"": 25, "starttls": 587, "smtps": 465}[tls]
    return Mail(url.hostname, port or default, unquote(url.username or ""), unquote(url.password or ""), tls)


def sender(name: str, default: str) -> str:
    """An address with or without a name: `ThingScale <iot@example.com>`."""
    given = text(name, default)
    if "@" not in parseaddr(given)[1] or not given.isprintable():
        raise BadSetting(f"{name} must look like ThingScale <iot@example.com>.")
    return given


def _unquoted(part: str | None) -> str | None:
    return None if part is None else unquote(part)
