"""A user with very many retained messages: one client reads them all, another asks for them and reads
nothing. The gateway's memory is bounded, and others are served meanwhile."""

import logging
import socket
import threading
from contextlib import closing

import pytest
from drill_flood import connect, subscribe
from drill_load import LONG
from drill_memory import Watch
from private_place import Place
from stack import wait_until

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import V311, Publish

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

COUNT = 100_000 if LONG else 5_000
CHUNK = 100
PAYLOAD = b"x" * 500
SECONDS = 120.0
MOST_SECONDS = 0.5  # that the gateway may compute for others before a neighbour's message is acknowledged
ACK_BYTES = 4


def retain(place: Place, payload: bytes = PAYLOAD) -> None:
    """The messages; or none any more, if it is empty."""
    with connect(place, "retainer") as connection:
        connection.settimeout(SECONDS)
        for start in range(0, COUNT, CHUNK):
            chunk = (retained(place, start + number, payload) for number in range(CHUNK))
            connection.sendall(b"".join(chunk))
            receive(connection, CHUNK * ACK_BYTES)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data


def retained(place: Place, number: int, payload: bytes) -> bytes:
    topic = f"{place.token}/d{number}/subscribe"
    return encode(Publish(topic, payload, 1, True, False, number % CHUNK + 1, {}), V311)


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
    """Publishes one message after the other, and notes how much the gateway did before it answered."""

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
        begun = self._place.stack.cpu_seconds("ingest")
        topic, value = f"{self._place.token}/json/crowd", b'{"n":%d}' % self.acked
        connection.sendall(encode(Publish(topic, value, 1, False, False, self.acked % 60_000 + 1, {}), V311))
        assert receive(connection, ACK_BYTES)[0] == 0x40
        self.acked += 1
        self.longest = max(self.longest, self._place.stack.cpu_seconds("ingest") - begun)


def test_all_retained_messages_arrive(place: Place) -> None:
    retain(place)
    place.stack.kill("ingest")  # they are not in its memory
    place.stack.ensure("ingest")
    neighbour = Neighbour(place)
    neighbour.start()
    wait_until(lambda: neighbour.acked > 20, 60, "the neighbour to be served")
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
        neighbour.join(60)
    log.info("%d messages of a neighbour, %.3f s at most", neighbour.acked - before, neighbour.longest)
    assert len(set(reader.topics)) == len(reader.topics) == COUNT
    assert neighbour.longest < MOST_SECONDS
    watch.check()
    retain(place, b"")  # other drills have none
