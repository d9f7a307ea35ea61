"""The memory of all our processes under a load of all kinds, with first contacts for Celery and readers for
the web process. (Floods are in test_overload.py.)"""

import asyncio
import itertools
import logging
import time

import psycopg
import pytest
from drill_client import until
from drill_load import LONG, STARTS, Mix
from drill_memory import Watch
from drill_platform import ask
from private_place import Place

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect, Publish

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

SECONDS = 180 if LONG else 2
WARM_SECONDS = 30 if LONG else 2
LIMIT = 60.0  # for what is still on its way
PAUSE = 0.05  # between two new devices, and between two readings
PROCESSES = ("ingest", "web", "celery")


class Contacts:
    """New devices, one after the other, each with one message: held, until a task has enabled the device."""

    def __init__(self, place: Place) -> None:
        self.sent = 0
        self._first = next(STARTS)
        self._place = place

    async def run(self) -> None:
        """Until cancelled."""
        place = self._place
        reader, writer = await asyncio.open_connection("127.0.0.1", place.stack.mqtt)
        try:
            writer.write(
                encode(Connect(V311, "", True, 0, place.user_id, place.token.encode(), None, {}), V311)
            )
            await reader.readexactly(4)
            while True:
                writer.write(self._publish())
                self.sent += 1  # what was written is stored, also if we are cancelled before its PUBACK
                await reader.readexactly(4)
                await asyncio.sleep(PAUSE)
        finally:
            writer.close()

    def _publish(self) -> bytes:
        number = self._first + self.sent
        topic, value = f"{self._place.token}/json/new-{number}", b'{"n":%d}' % number
        return encode(Publish(topic, value, 1, False, False, self.sent % 60_000 + 1, {}), V311)

    @property
    def stored(self) -> int:
        with psycopg.connect(self._place.url) as connection:
            row = connection.execute(
                """SELECT count(*) FROM datapoint d JOIN devices_device v ON v.id = d.device
                WHERE v.device_id LIKE 'new-%%' AND (d.value ->> 'n')::int BETWEEN %s AND %s""",
                [self._first, self._first + self.sent],
            ).fetchone()
        assert row
        return int(row[0])


async def read(place: Place) -> None:
    """What pages and apps ask for, until cancelled."""
    for path in itertools.cycle(("/v2/stream/0", "/v2/device/new-0", "/signin/")):
        headers = {"X_APITOKEN": place.api_token, "X_ENDTIME": "last"}
        status, text = await asyncio.to_thread(ask, place, path, None, **headers)
        assert status in {200, 404}, text
        await asyncio.sleep(PAUSE)


async def work(place: Place, mix: Mix, contacts: Contacts) -> Watch:
    tasks = [asyncio.create_task(contacts.run()), asyncio.create_task(read(place))]
    try:
        async with mix.flowing(LIMIT):
            await asyncio.sleep(WARM_SECONDS)
            watch = Watch(place.stack, *PROCESSES)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                watch.look()
                await asyncio.sleep(PAUSE)
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: contacts.stored >= contacts.sent, LIMIT, PAUSE)
    return watch


def test_memory_of_each_process_is_flat(place: Place) -> None:
    mix, contacts = Mix(place), Contacts(place)
    watch = asyncio.run(work(place, mix, contacts))
    log.info("%d stored, of %d new devices besides; %s", mix.check(), contacts.sent, watch)
    assert contacts.stored == contacts.sent
    assert {status for status, _, _ in mix.answers()} <= {200, 201}
    watch.check()
