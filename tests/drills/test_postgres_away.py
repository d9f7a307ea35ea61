"""PostgreSQL stops, or is killed, under load. It is a private one, with real fsync, and so is the stack."""

import asyncio
import logging
import time
from contextlib import ExitStack

import pytest
from drill_client import Gate, HttpSender, Load, Sender, until
from drill_flood import connect
from drill_load import LONG
from drill_memory import Watch
from private_place import Place

from ingest.mqtt.packets import V5, V311

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

AWAY_SECONDS = 300 if LONG else 6
CATCH_UP_SECONDS = 10 if LONG else 30
WATCHED = ("ingest", "web") if LONG else ("ingest",)  # each of web's threads needs its time to warm up
IDLE = 200  # clients that only stay connected


class Drill:
    """Two MQTT clients and two HTTP clients that send without a pause, until the gates are shut."""

    def __init__(self, place: Place, mqtt_device: str, http_device: str) -> None:
        self.mqtt_gate, self.http_gate = Gate(10_000_000), Gate(10_000_000)
        self.load = Load(
            [
                Sender(
                    place.stack.mqtt,
                    place.user_id,
                    place.token,
                    f"{mqtt_device}-{version}",
                    self.mqtt_gate,
                    version=version,
                    device=mqtt_device,
                )
                for version in (V311, V5)
            ]
        )
        self.http = [HttpSender(place.stack.http, place.token, self.http_gate, http_device) for _ in range(2)]

    @property
    def http_acked(self) -> set[int]:
        return self.http[0].acked | self.http[1].acked

    def shut(self) -> None:
        self.mqtt_gate.shut()
        self.http_gate.shut()

    def answers(self, start: float, end: float) -> list[tuple[int, str, str]]:
        return [
            (status, body, retry)
            for sender in self.http
            for status, body, retry, at in sender.answers
            if start < at < end
        ]


async def outage(drill: Drill, place: Place, crash: bool, seconds: float) -> tuple[float, float]:
    """From when to when there was no database. In between the load goes on."""
    postgres = place.servers.postgres
    await until(lambda: drill.load.count > 1000 and len(drill.http_acked) > 20, 60)
    await asyncio.to_thread(postgres.kill if crash else postgres.stop)
    await asyncio.sleep(0.5)  # for the acknowledgements that were on their way
    gone, acked = time.monotonic(), drill.load.acked
    await asyncio.sleep(seconds / 3)
    watch = Watch(place.stack, *WATCHED)
    await asyncio.sleep(seconds * 2 / 3)
    watch.look()
    log.info("%s", watch)
    watch.check()
    assert drill.load.acked == acked, "acknowledged while there was no database"
    assert drill.load.in_flight > 0
    until_then = time.monotonic()
    await asyncio.to_thread(postgres.start)
    return gone, until_then


async def catch_up(drill: Drill, back: float) -> None:
    """What waited is acknowledged, and both connectors take new messages."""
    waited = drill.load.count + drill.load.in_flight
    await until(lambda: drill.load.count > waited, CATCH_UP_SECONDS)
    await until(lambda: drill.answers(back, back + 60)[-1:] == [(200, "OK", "")], CATCH_UP_SECONDS)


async def flow(drill: Drill, place: Place, crash: bool, seconds: float) -> set[tuple[int, str, str]]:
    """The HTTP answers of the time without a database."""
    posting = [asyncio.create_task(sender.run()) for sender in drill.http]
    async with drill.load.flowing(30):
        gone, end = await outage(drill, place, crash, seconds)
        back = time.monotonic()
        await catch_up(drill, back)
        caught_up = time.monotonic() - back
        log.info("%.0f s away, all is served %.1f s after it is back", seconds, caught_up)
        assert caught_up < CATCH_UP_SECONDS
        drill.shut()
    await asyncio.wait_for(asyncio.gather(*posting), 30)
    return set(drill.answers(gone, end))


@pytest.mark.parametrize(
    ("crash", "seconds", "devices"),
    [
        pytest.param(False, AWAY_SECONDS, ("d1", "d2"), id="stopped"),
        pytest.param(True, 1, ("d3", "d4"), id="killed"),
    ],
)
def test_postgres_goes_and_comes_back(
    place: Place, crash: bool, seconds: float, devices: tuple[str, str]
) -> None:
    drill = Drill(place, *devices)
    with ExitStack() as idle:
        for number in range(IDLE):
            idle.enter_context(connect(place, f"idle-{number}"))
        answers = asyncio.run(flow(drill, place, crash, seconds))
    assert answers <= {(503, "TRY_AGAIN", "1")}
    assert answers or crash
    assert [sender.connections for sender in drill.load.senders] == [1, 1], "MQTT clients have to wait"
    for device, acked in zip(devices, (drill.load.acked, drill.http_acked), strict=True):
        numbers = place.numbers(device)
        assert len(numbers) == len(set(numbers)), "stored twice"
        assert set(numbers) == acked, "lost"
        log.info("%s: %d acknowledged and stored", device, len(numbers))
