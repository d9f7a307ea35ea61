"""Two gateways on one database."""

from contextlib import ExitStack
from typing import NamedTuple

from client import Client, Endpoint
from stack import Stack
from support import Account

from ingest.mqtt.packets import V5, Version, Will

EXPIRY = 0x11
LASTS = {EXPIRY: 600}


class Pair(NamedTuple):
    a: Stack
    b: Stack
    ended: ExitStack
    account: Account

    def client(self, at: Stack, name: str, version: Version = V5) -> Client:
        endpoint = Endpoint(at.mqtt, self.account.user_id, self.account.device_token.encode())
        client = Client(endpoint, name, version)
        self.ended.callback(client.vanish)
        return client

    def lasting(self, at: Stack, name: str, version: Version = V5, *, will: Will | None = None) -> Client:
        client = self.client(at, name, version)
        client.connect(clean=False, properties=LASTS if version == V5 else None, will=will)
        return client

    def topic(self, rest: str) -> str:
        return f"{self.account.device_token}/{rest}"


def turned(pair: Pair) -> Pair:
    return pair._replace(a=pair.b, b=pair.a)
