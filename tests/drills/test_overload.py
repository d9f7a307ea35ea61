"""More than can be stored, and clients that do not read: memory stays flat, and each kind of message has its
own answer: QoS 0 is dropped and counted, QoS 1 and 2 are not read from the socket, HTTP gets 503.

The brake lets the store work for one eleventh of the time, and clients send as fast as they can: ten times
what is sustainable, and more. In the long form that goes on for ten minutes, for each of the three answers.
"""

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from drill_flood import Drain, Flood, HttpFlood, subscribe
from drill_load import LONG, STARTS
from drill_memory import Brake, Watch, figure
from private_place import Place
from stack import free_port, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

QUEUE = 2_000
SECONDS = 60.0 if LONG else 1.0  # of a flood, once it has warmed up
ENDURED = 600.0 if LONG else 1.0  # the same, where it is what is sustained that counts
RECOVERY = 10.0 if LONG else 60.0  # after which all is as if there had been no flood
WARM_SECONDS = 10.0 if LONG else 0.5
CONNECTIONS = 8
IN_FLIGHT_PAYLOAD = b'"%s"' % (b"x" * 500)  # so that the sockets hold fewer than there are packet ids
MOST_IN_FLIGHT = 60_000
HTTP_QUEUE = 20
POSTERS = 100
BIG = 10_000  # bytes
WARM_MESSAGES = 500
LIMIT = 60.0


@pytest.fixture
def small(place: Place) -> Iterator[tuple[Place, int]]:
    """With small queues; and the port of the gateway's figures."""
    port = free_port()
    stack = place.stack.another(THINGSCALE_QUEUE_MESSAGES=str(QUEUE), THINGSCALE_METRICS_PORT=str(port))
    stack.ensure("ingest")
    yield place._replace(stack=stack), port
    stack.stop()


def stored(place: Place, device: str) -> int:
    with psycopg.connect(place.url) as connection:
        row = connection.execute(
            """SELECT count(*) FROM datapoint d JOIN devices_device v ON v.id = d.device
            WHERE v.device_id = %s""",
            [device],
        ).fetchone()
    assert row
    return int(row[0])


def floods(stack: ExitStack, place: Place, qos: int) -> list[Flood]:
    return begun(
        stack,
        (
            Flood(place, f"flood-{number}", qos, "json/flood", IN_FLIGHT_PAYLOAD, MOST_IN_FLIGHT)
            if qos
            else Flood(place, f"flood-{number}", 0, "json/flood")
            for number in range(CONNECTIONS)
        ),
    )


def begun(stack: ExitStack, connecting: Iterable[Flood]) -> list[Flood]:
    """None of them sends before all are connected: what is tested is not who gets in during a flood."""
    senders = [stack.push(sender) for sender in connecting]
    for sender in senders:
        sender.start()
    return senders


def pulse_for(brake: Brake, seconds: float, watch: Watch | None = None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        brake.pulse(0.2, 0.02)
        if watch:
            watch.look()


def test_qos_0_is_dropped_and_counted(small: tuple[Place, int]) -> None:
    place, port = small
    before = stored(place, "flood")
    with Brake(place.url) as brake, ExitStack() as stack:
        brake.on()  # before the first of them sends
        senders = floods(stack, place, 0)
        pulse_for(brake, WARM_SECONDS)
        watch = Watch(place.stack, "ingest")
        pulse_for(brake, ENDURED, watch)
        brake.on()  # one after the other they end: until the last has, the flood is to go on as it was
        for sender in senders:
            sender.halt()
        brake.off()
        sent = sum(sender.sent for sender in senders)

        def settled() -> bool:
            return stored(place, "flood") - before + figure(port, "thingscale_dropped_total") == sent

        wait_until(settled, RECOVERY, "each message to be stored or counted as dropped")
        kept = stored(place, "flood") - before
    log.info("%d sent, %d stored, the rest dropped; %s", sent, kept, watch)
    assert sent > 10 * kept > 0
    assert not any(sender.broken for sender in senders)
    watch.check()


@pytest.mark.parametrize(("qos", "seconds"), [(1, ENDURED), (2, SECONDS)] if LONG else [(2, SECONDS / 2)])
def test_qos_1_and_2_have_to_wait(small: tuple[Place, int], qos: int, seconds: float) -> None:
    place, port = small
    before = stored(place, "flood")
    with Brake(place.url) as brake, ExitStack() as stack:
        senders = floods(stack, place, qos)
        pulse_for(brake, WARM_SECONDS)
        watch = Watch(place.stack, "ingest")
        brake.on()
        wait_until(lambda: stalled(senders), LIMIT, "the sockets to take no more")
        assert figure(port, "thingscale_queue_messages") < 2 * QUEUE + CONNECTIONS * QUEUE
        brake.off()
        pulse_for(brake, seconds, watch)
        for sender in senders:
            sender.halt()
        sent = sum(sender.sent for sender in senders)
        wait_until(lambda: sum(each.read_on() for each in senders) == sent, RECOVERY, "the acknowledgements")
    log.info("%d sent, %d stored; %s", sent, stored(place, "flood") - before, watch)
    assert stored(place, "flood") - before == sent
    assert figure(port, "thingscale_dropped_total") == 0
    watch.check()


def stalled(senders: list[Flood]) -> bool:
    """For half a second."""
    before = [sender.sent for sender in senders]
    time.sleep(0.5)
    return before == [sender.sent for sender in senders]


async def post(place: Place, posters: list[HttpFlood], brake: Brake) -> Watch:
    sending = [asyncio.create_task(poster.run()) for poster in posters]
    await asyncio.to_thread(pulse_for, brake, WARM_SECONDS)
    watch = Watch(place.stack, "web")
    await asyncio.to_thread(pulse_for, brake, ENDURED, watch)
    for poster in posters:
        poster.over = True
    await asyncio.wait_for(asyncio.gather(*sending), RECOVERY)
    return watch


def test_http_is_told_to_come_later(place: Place) -> None:
    stack = place.stack.another(THINGSCALE_QUEUE_MESSAGES=str(HTTP_QUEUE))
    stack.ensure("web")
    numbers = itertools.count(next(STARTS))
    posters = [HttpFlood(place._replace(stack=stack), "flood", numbers) for _ in range(POSTERS)]
    with Brake(place.url) as brake:
        watch = asyncio.run(post(place._replace(stack=stack), posters, brake))
    stack.stop()
    answers = sum((poster.answers for poster in posters), Counter())
    log.info("answers %s; %s", answers, watch)
    assert answers.keys() == {(200, ""), (503, "1")}
    acked, sent = (set().union(*(getattr(each, name) for each in posters)) for name in ("acked", "maybe"))
    found = place.numbers("flood", min(sent))
    assert len(found) == len(set(found))
    assert acked <= set(found) <= sent
    watch.check()


def test_what_nobody_stores(small: tuple[Place, int]) -> None:
    """A flood on topics that are not stored, and that nobody subscribes to."""
    place, _ = small
    topics = [f"drill-{number}/subscribe" for number in range(CONNECTIONS)]
    with ExitStack() as stack:
        senders = begun(
            stack, (Flood(place, topic.replace("/", "-"), 0, topic, IN_FLIGHT_PAYLOAD) for topic in topics)
        )
        watch = Watch(place.stack, "ingest")
        look_for(watch, SECONDS)
        assert not any(sender.broken for sender in senders)
    log.info("%d sent; %s", sum(sender.sent for sender in senders), watch)
    watch.check()


def look_for(watch: Watch, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch.look()
        time.sleep(0.05)


def test_a_subscriber_that_does_not_read(small: tuple[Place, int]) -> None:
    """What is published for it waits as far as there is room; another reads on."""
    place, _ = small
    with (
        subscribe(place, "asleep", "json/flood"),
        subscribe(place, "awake", "json/flood") as awake,
        Flood(place, "teller", 0, "json/flood", IN_FLIGHT_PAYLOAD) as teller,
    ):
        reading = Drain(awake)
        reading.start()
        look_for(Watch(place.stack), WARM_SECONDS)
        watch = Watch(place.stack, "ingest")
        look_for(watch, SECONDS)
        read = reading.bytes
        wait_until(lambda: reading.bytes > read, LIMIT, "more to arrive")
        teller.halt()
    log.info("%d sent, %d bytes read by one of two; %s", teller.sent, reading.bytes, watch)
    watch.check()
