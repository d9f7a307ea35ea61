"""A backup of a running system, restored beside it and started on other ports: all that was acknowledged
before the backup began is there, nothing twice; tokens and durable sessions work, and another ingest process
goes on with it.

In the long form devices send as fast as they can, and a flood of messages goes to a device beside them."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from drill_client import Gate, Load, Sender
from drill_load import ENDLESS, LONG, Mix
from drill_platform import SECONDS, Subscriber, publish
from private_place import Place
from stack import wait_until

from ingest.mqtt.packets import V311

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
log = logging.getLogger(__name__)

COPY = "restored"
BACKUP_SECONDS = 900 if LONG else 120  # of a database in which other drills have left their datapoints
COMMANDS = [b"first", b"second"]
FLOOD_PACE = 20_000 if LONG else 1_000  # messages a second besides the others


@pytest.fixture
def copy(place: Place) -> Iterator[str]:
    """The URL of an empty database."""
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {COPY}")
    yield place.url.replace("/thingscale?", f"/{COPY}?")
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {COPY} WITH (FORCE)")


def manage(place: Place, *arguments: str) -> str:
    with place.stack.manage(*arguments) as process:
        output, errors = process.communicate(timeout=BACKUP_SECONDS)
    assert process.returncode == 0, errors
    return output


def acknowledged(mix: Mix, flood: Sender) -> dict[str | None, set[int]]:
    kinds: dict[str | None, set[int]] = {
        device: set().union(*(sender.acked for sender in senders)) for device, senders in mix.mqtt.items()
    }
    kinds |= {kind: set(sender.acked) for kind, sender in mix.posts.items()}
    return kinds | {"flood": set(flood.acked)}


async def back_up(
    place: Place, mix: Mix, flood: Sender, gate: Gate, target: Path
) -> dict[str | None, set[int]]:
    """What was acknowledged when the backup began."""
    async with Load([flood]).flowing(SECONDS):
        async with mix.flowing(SECONDS):
            await mix.moves(SECONDS)
            before = acknowledged(mix, flood)
            loop = asyncio.get_running_loop()
            began = loop.time()
            output = await asyncio.to_thread(manage, place, "backup", str(target))
            after = acknowledged(mix, flood)
            rate = (sum(map(len, after.values())) - sum(map(len, before.values()))) / (loop.time() - began)
            log.info("%s Meanwhile %.0f messages a second were acknowledged.", output.splitlines()[0], rate)
            await mix.moves(SECONDS)
        gate.shut()
    return before


async def go_on(place: Place) -> Mix:
    mix = Mix(place)
    async with mix.flowing(SECONDS):
        await mix.moves(SECONDS)
    return mix


def ids(url: str, last: int = 0) -> tuple[int, int]:
    """Of the datapoints that arrived after that one: how many, and the last id."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), max(id) FROM datapoint WHERE id > %s", [last]).fetchone()
    assert row
    return row[0], row[1]


def test_a_backup_under_load_is_restored_beside_it(place: Place, copy: str, tmp_path: Path) -> None:
    with Subscriber(place, "d1"):
        pass  # its durable session stays
    for command in COMMANDS:
        assert publish(place, "d1", command.decode()) == 200
    mix = Mix(place)
    start = mix.numbers("flood")[-1:] or [0]
    gate = Gate(ENDLESS, start=start[0] + 1, pace=FLOOD_PACE)
    flood = Sender(
        place.stack.mqtt, place.user_id, place.token, "flood", gate, version=V311, window=2000, device="flood"
    )
    before = asyncio.run(back_up(place, mix, flood, gate, tmp_path))
    stored = mix.check()
    stack = place.stack.another(DATABASE_URL=copy)
    restored = place._replace(stack=stack, url=copy)
    log.info(manage(restored, "restore", str(tmp_path)).splitlines()[0])
    for kind, acked in before.items():
        numbers = restored.numbers(kind)
        assert acked <= set(numbers), f"{kind}: acknowledged before the backup, and not in it"
        assert len(numbers) == len(set(numbers))
    assert "No planned migration operations" in manage(restored, "migrate", "--plan")
    _, last = ids(copy)
    try:
        stack.ensure("ingest", "web")
        with Subscriber(restored, "d1") as subscriber:  # with the tokens of the other place
            wait_until(lambda: subscriber.received[: len(COMMANDS)] == COMMANDS, SECONDS, "what waited")
        later = asyncio.run(go_on(restored))
    finally:
        stack.stop()
    log.info("%d stored, %d of them before the backup", stored, sum(map(len, before.values())))
    assert later.check() == ids(copy, last)[0], "ids go on where the backup ended"
