"""A user with very many retained messages: one client reads them all, another asks for them and reads
nothing. The gateway's memory is bounded, and others are served meanwhile."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from drill_flood import CONNACK_BYTES, connect, subscribe
from drill_load import LONG
from drill_memory import Watch
from mosquitto import needs_mosquitto, run_mosquitto
from private_place import Place
from stack import wait_until

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import V311, Connect, Publish

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

COUNT = 100_000 if LONG else 5_000
CHUNK = 100
PAYLOAD = b"x" * 500
SECONDS = 120.0
MOST_SECONDS = 2.0  # that a neighbour's message may take
ACK_BYTES = 4


@pytest.fixture
def retaining(place: Place) -> Iterator[Place]:
    """A gateway in front of a Mosquitto that has the messages. (The embedded broker gives a subscription 200
    retained messages at most.)"""
    with run_mosquitto() as port:
        url = f"mqtt://127.0.0.1:{port}"
        stack = place.stack.another(MQTT_URL=url, MQTT5_URL=url)
        stack.ensure("ingest")
        retain(place, port)
        yield place._replace(stack=stack)
        stack.stop()


def retain(place: Place, port: int) -> None:
    """Past the gateway."""
    with socket.create_connection(("127.0.0.1", port), 20) as broker:
        broker.sendall(encode(Connect(V311, "retainer", True, 120, None, None, None, {}), V311))
        assert receive(broker, CONNACK_BYTES) == b"\x20\x02\x00\x00"
        for start in range(0, COUNT, CHUNK):
            broker.sendall(b"".join(retained(place, start + number) for number in range(CHUNK)))
            receive(broker, CHUNK * ACK_BYTES)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data


def retained(place: Place, number: int) -> bytes:
    topic = f"{place.user_id}/{number}/subscribe"
    return encode(Publish(topic, PAYLOAD, 1, True, False, number % CHUNK + 1, {}), V311)


class Reader(threading.Thread):
    """Keeps the topics of what it gets."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.topics: list[str] = []
        self._socket = connection

    def run(self) -> None:
        frames = FrameReader(2**20)
        try:
            while data := self._socket.recv(2**20):
                for first, body in frames.feed(data):
                    packet = decode(first, body, V311)
                    if isinstance(packet, Publish) and packet.retain:
                        self.topics.append(packet.topic)
        except OSError:
            return


class Neighbour(threading.Thread):
    """Publishes one message after the other, and notes the longest that one took."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.acked = 0
        self.longest = 0.0
        self.leaving = threading.Event()
        self._place = place

    def run(self) -> None:
        with connect(self._place, "neighbour") as connection:
            connection.settimeout(SECONDS)
            while not self.leaving.is_set():
                self._publish(connection)
                self.leaving.wait(0.01)

    def _publish(self, connection: socket.socket) -> None:
        begun = time.monotonic()
        topic, value = f"{self._place.token}/json/crowd", b'{"n":%d}' % self.acked
        connection.sendall(encode(Publish(topic, value, 1, False, False, self.acked % 60_000 + 1, {}), V311))
        assert receive(connection, ACK_BYTES)[0] == 0x40
        self.acked += 1
        self.longest = max(self.longest, time.monotonic() - begun)


@needs_mosquitto
def test_all_retained_messages_arrive(retaining: Place) -> None:
    place, neighbour = retaining, Neighbour(retaining)
    neighbour.start()
    wait_until(lambda: neighbour.acked > 20, 20, "the neighbour to be served")
    before, watch = neighbour.acked, Watch(place.stack, "ingest")
    with closing(subscribe(place, "asleep", "#")), closing(subscribe(place, "awake", "#")) as awake:
        reader = Reader(awake)
        reader.start()

        def complete() -> bool:
            watch.look()
            return len(reader.topics) >= COUNT

        try:
            wait_until(complete, SECONDS, "the retained messages")
        finally:
            log.info("%d of %d arrived; %s", len(reader.topics), COUNT, watch)
        neighbour.leaving.set()
        neighbour.join(20)
    log.info("%d messages of a neighbour, %.3f s at most", neighbour.acked - before, neighbour.longest)
    assert len(set(reader.topics)) == len(reader.topics) == COUNT
    assert neighbour.longest < MOST_SECONDS
    watch.check()
