"""The first lines of code that send a value: what each of them needs to know, and where it goes."""

from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest

from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import Account
from thingscale.lib.kinds import ENDPOINTS, Kind
from thingscale.web.base_url import base_url

JSON = ENDPOINTS[Kind.JSON]  # what the snippets send
MASK = "•" * 8
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Snippet(NamedTuple):
    """A file in templates/console/start/snippets/."""

    key: str
    label: str
    mqtt: bool = True

    @property
    def template(self) -> str:
        return f"console/start/snippets/{self.key}.txt"


SNIPPETS = [
    Snippet("curl", "curl", mqtt=False),
    Snippet("mosquitto", "mosquitto_pub"),
    Snippet("paho", "Python"),
    Snippet("requests", "requests", mqtt=False),
    Snippet("arduino", "Arduino"),
    Snippet("node", "Node"),
    Snippet("esphome", "ESPHome"),
]


class BrokerAddress(NamedTuple):
    """Where devices speak MQTT. `port` 0: nowhere."""

    host: str
    port: int
    tls: bool

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}"


def offered(broker: BrokerAddress) -> list[Snippet]:
    return [snippet for snippet in SNIPPETS if broker.port or not snippet.mqtt]


def broker(request: HttpRequest) -> BrokerAddress:
    """The gateway on the host that the browser came to; in broker mode the user's own broker."""
    host = urlsplit(base_url(request)).hostname or "localhost"
    if settings.INGEST_MODE == "broker":
        own, port, _, _ = settings.BROKER
        return BrokerAddress(host if own in LOOPBACK else own, port, tls=False)
    if settings.TLS_CERT and settings.MQTT_TLS_PORT:
        return BrokerAddress(host, settings.MQTT_TLS_PORT, tls=True)
    return BrokerAddress(host, settings.MQTT_PORT, tls=False)


def context(request: HttpRequest, account: Account, device_id: str) -> dict[str, object]:
    """What the snippets are filled with."""
    shown = credentials(account)
    return {
        "base_url": base_url(request),
        "broker": broker(request),
        "user_id": shown["user_id"],
        "token": shown["device_token"],
        "topic": f"{shown['device_token']}/{JSON.topic(device_id)}",
        "http_path": f"{JSON.http_paths[0]}/",
        "device_id": device_id,
        "value": '{"temp": 21.5}',
    }
