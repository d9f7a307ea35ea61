"""Several gateways on one database and one Valkey: what is published at one reaches who is connected to
another, as with one."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from client import Client, Endpoint
from stack import Stack, free_port, wait_until
from support import Account

from ingest.mqtt.packets import V5, V311, Version

pytestmark = pytest.mark.e2e
EXPIRY, IDENTIFIER, MESSAGE_EXPIRY = 0x11, 0x0B, 0x02
LASTS = {EXPIRY: 600}


class Gateways:
    """Some, on one database and one Valkey, and their clients."""

    def __init__(self, ended: ExitStack, account: Account, stacks: list[Stack]) -> None:
        self.ended = ended
        self.account = account
        self.stacks = stacks
        for stack in stacks:
            stack.environment["THINGSCALE_METRICS_PORT"] = str(free_port())

    def start(self) -> "Gateways":
        for stack in self.stacks:
            self.ended.callback(stack.stop)
            stack.ensure("ingest")
        self.meet()
        return self

    def meet(self, count: int | None = None) -> None:
        """Until each hears of all others. (One of other tests may live, too.)"""
        others = (count or len(self.stacks)) - 1

        def all_met() -> bool:
            living = [
                place for place, each in enumerate(self.stacks) if each.processes["ingest"].poll() is None
            ]
            return all(self.figure(place, "peers") >= others for place in living)

        wait_until(all_met, 20, "the peers")

    def figure(self, place: int, name: str) -> float:
        """From the metrics page."""
        port = self.stacks[place].environment["THINGSCALE_METRICS_PORT"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                text = page.read().decode()
        except OSError:
            return -1
        found = re.search(rf"^thingscale_{name}(?:_total)? (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else -1

    def client(
        self, place: int, name: str, version: Version = V5, account: Account | None = None, **options: object
    ) -> Client:
        owner = account or self.account
        endpoint = Endpoint(self.stacks[place].mqtt, owner.user_id, owner.device_token.encode())
        client = Client(endpoint, name, version)
        self.ended.callback(client.vanish)
        client.connect(**options)  # type: ignore[arg-type]
        return client

    def lasting(self, place: int, name: str) -> Client:
        return self.client(place, name, clean=False, properties=LASTS)

    def topic(self, rest: str) -> str:
        return f"{self.account.device_token}/{rest}"


@pytest.fixture
def gateways(account: Account) -> Iterator[Gateways]:
    with ExitStack() as ended:
        yield Gateways(ended, account, [Stack(), Stack()]).start()


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
@pytest.mark.parametrize("filter_", ["d/subscribe", "+/subscribe", "#"])
def test_each_message_comes_once_and_in_order(gateways: Gateways, version: Version, filter_: str) -> None:
    topic = gateways.topic("d/subscribe")
    sender = gateways.client(0, "sender")
    for qos in (0, 1, 2):
        ears = [gateways.client(place, f"ear-{qos}-{place}", version) for place in (0, 1)]
        for ear in ears:
            assert ear.subscribe(gateways.topic(filter_), qos) == qos
        payloads = [b"%d-%d" % (qos, number) for number in range(60)]
        for number, payload in enumerate(payloads):
            sender.publish(topic, payload, number % 3)
        for ear in ears:
            got = [ear.message() for _ in payloads]
            assert [packet.payload for packet in got] == payloads
            assert [packet.qos for packet in got] == [min(qos, number % 3) for number in range(60)]
            ear.nothing()
        for ear in ears:
            ear.disconnect()
