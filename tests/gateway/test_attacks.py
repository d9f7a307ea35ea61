"""Nothing that one account's clients send ends the connection of another client, of whatever version and
account, or slows it beyond what it has to share."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from client import Client, Endpoint
from django.db import connection
from stack import Stack
from support import Account

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V5, V31, V311, Publish, Subscribe, Subscription, Version

log = logging.getLogger(__name__)
pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]

SECONDS = 2.0  # that an attack lasts, at least
ROUNDS = 1  # of the neighbour, at least
MOST_SECONDS = 2.5  # that the gateway may compute for others before a neighbour's message is back
USER_PROPERTY = 0x26


class Attackers:
    """An account's clients; what they send is repeated, as fast as it is taken, while the attack lasts."""

    def __init__(self, running: Stack, account: Account) -> None:
        self.account = account
        self.token = account.device_token
        self._endpoint = Endpoint(running.mqtt, account.user_id, account.device_token.encode())
        self._over = threading.Event()
        self._clients: list[Client] = []
        self._threads: list[threading.Thread] = []

    def connect(self, name: str, version: Version = V311, **options: Any) -> Client:
        made = Client(self._endpoint, name, version)
        self._clients.append(made)
        made.connect(**options)
        return made

    def flood(self, client: Client, data: bytes) -> None:
        """It reads nothing."""
        client.wire.socket.settimeout(0.1)
        thread = threading.Thread(target=self._send, args=(client, data), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _send(self, client: Client, data: bytes) -> None:
        rest = memoryview(data)
        with suppress(OSError):
            while not self._over.is_set():
                with suppress(TimeoutError):
                    rest = rest[client.wire.socket.send(rest) :] or memoryview(data)

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        for client in self._clients:
            client.vanish()


class Neighbour:
    """A client of each version, subscribed to what it sends itself: datapoints, retained or not, and
    commands."""

    def __init__(self, running: Stack, account: Account) -> None:
        self._running = running
        account.device("neighbour")
        endpoint = Endpoint(running.mqtt, account.user_id, account.device_token.encode())
        self.clients = [Client(endpoint, f"neighbour-{version}", version) for version in (V31, V311, V5)]
        self.topics = []
        for each in self.clients:
            each.connect()
            rests = f"json/neighbour/{each.version}", f"neighbour-{each.version}/subscribe"
            self.topics.append([f"{account.device_token}/{rest}" for rest in rests])
            for topic in self.topics[-1]:
                assert each.subscribe(topic, 1) == 1
        self.rounds = 0
        self.longest = 0.0  # in seconds that the gateway computes

    def live(self) -> None:
        """Each message is acknowledged, and comes back, before the next one."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or self.rounds < ROUNDS:
            for client, topics in zip(self.clients, self.topics, strict=True):
                for topic in topics:
                    begun, payload = self._running.cpu_seconds("ingest"), b"%d" % self.rounds
                    assert client.publish(topic, payload, 1, retain=self.rounds % 2 == 0) == 0
                    client.message(payload)
                    self.longest = max(self.longest, self._running.cpu_seconds("ingest") - begun)
            self.rounds += 1

    def close(self) -> None:
        for client in self.clients:
            client.vanish()


class Scene:
    def __init__(self, running: Stack, account: Account, outsider: Account) -> None:
        self.attackers = Attackers(running, account)
        self.neighbour = Neighbour(running, outsider)

    def act(self) -> None:
        """During the attack, the neighbour lives on."""
        self.neighbour.live()
        log.info("%d rounds, %.3f s at most", self.neighbour.rounds, self.neighbour.longest)
        assert self.neighbour.longest < MOST_SECONDS

    def close(self) -> None:
        self.attackers.close()
        self.neighbour.close()


@pytest.fixture
def scene(stack: Start, account: Account, outsider: Account) -> Iterator[Scene]:
    made = Scene(stack("ingest"), account, outsider)
    yield made
    made.close()


def test_filters_that_all_match(scene: Scene) -> None:
    """Thousands for one topic, and each topic is another one."""
    attackers, token = scene.attackers, scene.attackers.token
    filters = ["/".join(levels) for levels in itertools.product("a+", repeat=9)]
    for number in range(20):
        each = attackers.connect(f"s-{number}", V5)
        wanted = [Subscription(f"{token}/json/d/{name}/#", 0, False, False, 2) for name in filters]
        assert set(each.subscribe_all(wanted).codes) == {0}
    topic = f"{token}/json/d/" + "/".join("a" * 9)
    packets = [encode(Publish(f"{topic}/{n}", b"1", 0, False, False, 0, {}), V311) for n in range(500)]
    attackers.flood(attackers.connect("sender"), b"".join(packets))
    scene.act()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_fan_out_to_many_that_do_not_read(scene: Scene, qos: int) -> None:
    attackers, token = scene.attackers, scene.attackers.token
    for number in range(400):
        attackers.connect(f"s-{number}").subscribe(f"{token}/+/subscribe", qos)
    packet = encode(Publish(f"{token}/d/subscribe", b"1", qos, False, False, qos * 7, {}), V311)
    attackers.flood(attackers.connect("sender"), packet * 100)
    scene.act()


def test_copies_for_many_sessions_that_are_away(scene: Scene) -> None:
    attackers, token = scene.attackers, scene.attackers.token
    for number in range(400):
        each = attackers.connect(f"s-{number}", clean=False)
        each.subscribe(f"{token}/+/subscribe", 1)
        each.disconnect()
    packets = [
        encode(Publish(f"{token}/d/subscribe", b"1", 1, False, False, n, {}), V311) for n in range(1, 1000)
    ]
    attackers.flood(attackers.connect("sender"), b"".join(packets))
    scene.act()


@pytest.mark.parametrize("kind", ["properties", "filters"])
def test_packets_full_of_small_things(scene: Scene, kind: str) -> None:
    attackers, token = scene.attackers, scene.attackers.token
    packet = {
        "properties": encode(
            Publish(f"{token}/d/subscribe", b"1", 0, False, False, 0, {USER_PROPERTY: [("", "")] * 40_000}),
            V5,
        ),
        "filters": encode(Subscribe(1, [Subscription("a", 0, False, False, 0)] * 40_000, {}), V5),
        "own filters": b"",
    }[kind]
    for number in range(20):
        attackers.flood(attackers.connect(f"s-{number}", V5), packet)
    scene.act()


def test_many_filters_for_many_retained_messages(scene: Scene) -> None:
    attackers, token = scene.attackers, scene.attackers.token
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO mqtt_retained (account_id, topic, payload, qos, properties, at)
            SELECT %s, 'json/d' || n || '/' || n %% 10 || '/x', '1', 0, '\\x00', now()
            FROM generate_series(1, 50000) n""",
            [attackers.account.user.pk],
        )
    wanted = [Subscription(f"{token}/json/+/{n}/y", 0, False, False, 0) for n in range(500)]
    for number in range(4):
        attackers.flood(attackers.connect(f"s-{number}", V5), encode(Subscribe(1, wanted, {}), V5))
    scene.act()
