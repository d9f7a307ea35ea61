"""More retained messages than a page, a window or a queue holds."""

import time
from collections.abc import Callable, Iterator

import pytest
from brokers import Broker, Platform, begin
from client import Client
from django.db import connection
from stack import Stack
from support import Account

from ingest.mqtt.packets import PUBACK, V5, Ack, PingReq, Publish, SubAck, Subscribe, Subscription

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

COUNT = 25_000  # a client takes 10,000 at once, and as many may wait for it


@pytest.fixture
def broker(stack: Callable[..., Stack], account: Account) -> Iterator[Broker]:
    broker = Broker(Platform(stack("ingest"), account), "retained")
    yield broker
    broker.close()


def retain(account: Account, prefix: str, count: int, payload: bytes, qos: int = 1) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO mqtt_retained (account_id, topic, payload, qos, properties, at)
            SELECT %s, %s || '/' || n, %s, %s, '\\x00', now() FROM generate_series(1, %s) n""",
            [account.user.pk, prefix, payload, qos, count],
        )


def all_of(client: Client, count: int, seconds: float = 60) -> list[Publish]:
    """Acknowledges each."""
    got: list[Publish] = []
    deadline = time.monotonic() + seconds
    while len(got) < count:
        assert time.monotonic() < deadline, f"{len(got)} of {count}"
        packet = client.receive(seconds)
        assert isinstance(packet, Publish), packet
        got.append(packet)
        if packet.qos:
            client.send(Ack(PUBACK, packet.packet_id, 0, {}))
    return got


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("lasting", [False, True])
def test_all_of_them_come(broker: Broker, account: Account, qos: int, lasting: bool) -> None:
    prefix = f"all-{qos}-{lasting}"
    retain(account, prefix, COUNT, b"x")
    client = broker.client(prefix)
    if lasting:
        begin(client)
    else:
        client.connect()
    client.subscribe(f"{broker.server.prefix}{prefix}/+", qos)
    got = all_of(client, COUNT)
    assert len({packet.topic for packet in got}) == COUNT
    assert all(packet.retain and packet.qos == qos for packet in got)
    client.nothing()


def test_who_takes_none_of_them_is_served_otherwise(broker: Broker, account: Account) -> None:
    retain(account, "window", 500, b"x")
    client = broker.client("window", V5)
    client.connect(properties={0x21: 3})
    client.subscribe(f"{broker.server.prefix}window/#", 1)
    first = [client.expect(Publish) for _ in range(3)]
    client.nothing()
    client.subscribe(f"{broker.server.prefix}other", 1)
    client.publish(f"{broker.server.prefix}elsewhere", b"1", 1)
    client.unsubscribe(f"{broker.server.prefix}window/#")
    came, packets = 0, first
    while packets:
        came += len(packets)
        client.send(*(Ack(PUBACK, packet.packet_id, 0, {}) for packet in packets), PingReq())
        packets = []
        while isinstance(packet := client.receive(), Publish):
            packets.append(packet)
    assert 3 < came < 500, "what was on its way comes, but nothing is read for a filter that is gone"


def test_what_one_subscribe_reads_at_once_has_a_limit(broker: Broker, account: Account) -> None:
    """The longest payloads, by very many filters; another client's SUBACK does not wait for them."""
    retain(account, "large", 200, bytes(60_000))
    client = broker.client("large", V5)
    client.connect()
    filters = [f"{broker.server.prefix}large/{n}" for n in range(1, 101)]
    filters += [f"{broker.server.prefix}large/{'+' * (n % 2) or '#'}" for n in range(2)]
    wanted = [Subscription(each, 0, False, False, 0) for each in filters]
    client.send(Subscribe(1, wanted, {}))
    neighbour = broker.client("neighbour")
    neighbour.connect()
    neighbour.subscribe(f"{broker.server.prefix}neighbour", 1)
    assert len(client.answer(SubAck).codes) == len(filters)
    topics = [packet.topic for packet in all_of(client, 500)]
    assert len(set(topics)) == 200
    client.nothing()
