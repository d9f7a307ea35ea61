"""Checks the servers that the environment names, before anything is started."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import unquote, urlsplit

import psycopg

from thingscale.lib import database_server, env
from thingscale.local import ports
from thingscale.local.errors import StartError


def check(environment: Mapping[str, str]) -> None:
    """Raises BadSetting for a malformed variable, StartError if a server does not answer."""
    for variable, look in LOOKS.items():
        if environment.get(variable):
            look(variable, environment[variable])
    if environment.get("THINGSCALE_INGEST") == "broker":
        check_broker(environment)


def check_database(variable: str, url: str) -> None:
    env.database(variable)
    connect = partial(psycopg.connect, url, connect_timeout=5)
    try:
        with connect() as connection:
            database_server.check(connection, partial(connect, autocommit=True))
    except database_server.Unsuitable as unsuitable:
        raise StartError(f"{variable}: {unsuitable}") from None
    except psycopg.OperationalError as error:
        if database_server.is_statement_pooling(error):
            raise StartError(f"{variable}: {database_server.POOLED}") from None
        raise _unreachable(variable, url, str(error)) from None


def check_redis(variable: str, url: str) -> None:
    import redis  # loaded only where it is needed, to keep the supervisor small

    form = f"{variable} must look like redis://host:6379/0 or unix:///path/to/valkey.sock."
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
    except ValueError:
        raise env.BadSetting(form) from None
    if not urlsplit(url).hostname and not urlsplit(url).path.strip("/"):
        raise env.BadSetting(form)
    try:
        client.ping()
    except redis.RedisError as error:
        raise _unreachable(variable, url, str(error)) from None
    finally:
        client.close()


def check_broker(environment: Mapping[str, str]) -> None:
    """For broker mode: in gateway mode there is no broker."""
    if not environment.get("MQTT_URL"):
        raise env.BadSetting("THINGSCALE_INGEST=broker needs MQTT_URL, such as mqtt://host:1883.")
    for variable in ("MQTT_URL", "MQTT5_URL"):
        if environment.get(variable):
            host, port, _, _ = env.broker(variable)
            if not ports.answers(host, port):
                raise StartError(f"{variable}: no MQTT broker answers on {host} port {port}.")


LOOKS: dict[str, Callable[[str, str], None]] = {
    "DATABASE_URL": check_database,
    "REDIS_URL": check_redis,
}


def _unreachable(variable: str, url: str, reason: str) -> StartError:
    text = (reason.strip().splitlines() or ["no answer"])[0].rstrip(".")
    try:
        password = urlsplit(url).password or os.environ.get("PGPASSWORD", "")
    except ValueError:
        text, password = "no details, since they may hold the password", ""
    for secret in filter(None, {password, unquote(password)}):
        text = text.replace(secret, "***")
    return StartError(f"{variable}: the server can't be used ({text}).")
