"""kill -9 of one part after the other while each datapoint that is stored is owed to a webhook: each is sent,
with one delivery_id, and nothing else is."""

import asyncio
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
from drill_client import until
from drill_kills import BACKEND, OURS, POSTGRES, kill
from drill_load import DEVICES, LONG, REST, Mix
from private_place import Place, manage, private_place
from stack import wait_until

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(1800)]

KILLS = 20 if LONG else 5
MATCHES = 10_000 if LONG else 400
AWAY_SECONDS = 2.0 if LONG else 0.3
PACES = (60, 20) if LONG else (40, 15)
SENT_SECONDS = 600  # a worker that was killed has claimed some for a minute

EVENTS = """
from thingscale.accounts.models import User
from thingscale.events.actions import create_event
user = User.objects.get(email="drill@example.com")
for channel in user.channels.filter(number__in=(0, 1)):
    fields = {{"mapped_channel": channel, "source": "n", "operator": ">=", "threshold": "0"}}
    create_event(user, {{**fields, "notify_type": "http", "post_url": {url!r}}})
"""


class Receiver(BaseHTTPRequestHandler):
    """Takes webhooks, and now and then is killed before its answer, as it were."""

    received: Counter[str]  # by delivery_id
    chance: random.Random

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received[body["delivery_id"]] += 1
        if self.chance.random() < 0.01:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, Counter[str]]]:
    """A receiver's address, and how often it got each delivery_id."""
    counts: Counter[str] = Counter()
    handler = type("Counting", (Receiver,), {"received": counts, "chance": random.Random()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", counts
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@pytest.fixture
def place(django_db_setup: None, receiver: tuple[str, Counter[str]]) -> Iterator[Place]:
    """All that it stores is owed to the receiver."""
    want = ("postgres", "valkey")
    with private_place(*DEVICES, want=want, THINGSCALE_NOTIFY_NETWORKS="127.0.0.0/8") as place:
        manage(place.stack, "shell", "--verbosity", "0", "-c", EVENTS.format(url=receiver[0]))
        place.stack.ensure(*OURS)
        yield place


async def drill(place: Place, mix: Mix, chance: random.Random) -> None:
    kinds = (*OURS, BACKEND, POSTGRES)
    victims = [kinds[number % len(kinds)] for number in range(KILLS)]
    chance.shuffle(victims)
    async with mix.flowing(120):
        for victim in victims:
            goal = mix.count + chance.randrange(1, 2 * MATCHES // KILLS)
            await until(lambda goal=goal: mix.count >= goal, 120)  # type: ignore[misc]
            come_back = await asyncio.to_thread(kill, place, victim)
            await asyncio.sleep(chance.uniform(0, AWAY_SECONDS))
            await asyncio.to_thread(come_back)
        await until(lambda: mix.count >= MATCHES, 600)
        await mix.moves(60)


def waiting(place: Place) -> int:
    with psycopg.connect(place.url) as connection:
        ((count,),) = connection.execute(
            """SELECT (SELECT count(*) FROM events_observation)
            + (SELECT count(*) FROM events_delivery WHERE status = 'waiting')"""
        ).fetchall()
        return int(count)


def owed(place: Place) -> list[tuple[str, int, str, int]]:
    """delivery_id, number of the event, status, and the number of its datapoint."""
    with psycopg.connect(place.url) as connection:
        return connection.execute(
            """SELECT d.body ->> 'delivery_id', e.number, d.status, (d.body ->> 'current')::int
            FROM events_delivery d JOIN events_event e ON e.id = d.event_id"""
        ).fetchall()


def test_each_datapoint_is_notified(place: Place, receiver: tuple[str, Counter[str]]) -> None:
    _, received = receiver
    seed = time.time_ns()
    log.info("seed %d", seed)
    mix = Mix(place, paces=PACES)
    asyncio.run(drill(place, mix, random.Random(seed)))
    began = time.monotonic()
    wait_until(lambda: not waiting(place), SENT_SECONDS, "all to be sent")
    stored = mix.check()
    deliveries = owed(place)
    log.info(
        "%d kills, %d stored, %d sent (%d of them more than once), the last ones after %.0f s",
        *(KILLS, stored, len(deliveries), sum(count > 1 for count in received.values())),
        time.monotonic() - began,
    )
    assert stored >= MATCHES
    assert {status for _, _, status, _ in deliveries} == {"sent"}
    for event, kinds in ((1, DEVICES), (2, [REST])):
        datapoints = Counter(number for kind in kinds for number in mix.numbers(kind))
        assert Counter(number for _, its, _, number in deliveries if its == event) == datapoints
    assert set(received) == {key for key, _, _, _ in deliveries}
