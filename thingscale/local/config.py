"""The configuration of `manage.py up`, from its options and the environment."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from thingscale.lib import env
from thingscale.local import ports

PARTS = ("postgres", "valkey", "web", "ingest", "celery")
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Config:
    home: Path
    bind: str
    http_port: int
    mqtt_port: int  # 0: off
    parts: frozenset[str]  # of PARTS: what runs here
    workers: int  # gateways
    gateway: bool  # devices connect to us, not to a broker of the user's own
    proxied: bool  # connections from this machine have to begin with a PROXY header
    listens: Mapping[str, int]  # by variable, the ports that must be free; without those that are off

    @property
    def host(self) -> str:
        """The address at which programs on this machine reach what listens on `bind`."""
        return reached_at(self.bind)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.http_port}"


def reached_at(bind: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104


def read(only: str = "", workers: str = "1") -> Config:
    """Raises env.BadSetting."""
    parts = frozenset(filter(None, only.replace(" ", "").split(","))) or frozenset(PARTS)
    if unknown := sorted(parts - set(PARTS)):
        raise env.BadSetting(f"--only takes names of {', '.join(PARTS)}: {unknown[0]!r} is none of them.")
    if not workers.isdecimal() or not 1 <= len(workers) <= 2 or not int(workers):
        raise env.BadSetting("--workers takes a number from 1 to 99.")
    gateway = env.text("THINGSCALE_INGEST", "gateway") != "broker"
    if int(workers) > 1 and not gateway:
        raise env.BadSetting(
            "--workers is for gateways. Behind a broker start `manage.py ingest` as often as you want,"
            " with a THINGSCALE_BROKER_CLIENT_ID each."
        )
    http_port = env.integer("THINGSCALE_HTTP_PORT", 8000, 1, 65535)
    listens = {"THINGSCALE_HTTP_PORT": http_port}
    off_with_0: dict[str, int] = {}
    if gateway:
        off_with_0 |= {"THINGSCALE_MQTT_PORT": 1883, "THINGSCALE_MQTT_WS_PORT": 8083}
    if gateway and env.text("THINGSCALE_TLS_CERT"):
        off_with_0 |= {"THINGSCALE_MQTT_TLS_PORT": 8883, "THINGSCALE_MQTT_WSS_PORT": 8084}
    if env.text("THINGSCALE_TLS_CERT"):
        off_with_0["THINGSCALE_HTTPS_PORT"] = 8443
    for variable, default in off_with_0.items():
        if port := env.integer(variable, default, 0, 65535):
            listens[variable] = port
    listens = {
        name: port for name, port in listens.items() if ("ingest" if "_MQTT_" in name else "web") in parts
    }
    bind = env.text("THINGSCALE_BIND", "127.0.0.1")
    return Config(
        home=env.path("THINGSCALE_HOME", PROJECT / "var"),
        bind=bind,
        http_port=http_port,
        mqtt_port=listens.get("THINGSCALE_MQTT_PORT", 0),
        parts=parts,
        workers=int(workers),
        gateway=gateway,
        proxied=env.is_in(reached_at(bind), env.networks("THINGSCALE_PROXY_NETWORKS")),
        listens=listens,
    )


def check_ports(config: Config, patience: float = 0) -> None:
    """Raises StartError for the first port that is still taken after `patience` seconds."""
    deadline = time.monotonic() + patience
    seen: dict[int, str] = {}
    for variable, port in config.listens.items():
        if port in seen:
            raise env.BadSetting(f"{variable} and {seen[port]} are both {port}: give them different ports.")
        seen[port] = variable
        while ports.bind_error(config.bind, port) and time.monotonic() < deadline:
            time.sleep(0.1)
        ports.check_free(config.bind, port, variable)


def child_environment(config: Config, servers: Mapping[str, str]) -> dict[str, str]:
    """The environment of the platform's processes: our own, and the addresses of the servers. They read the
    secret key from the home themselves."""
    ours = {
        "THINGSCALE_HOME": str(config.home),
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **ours, **servers}
